//! What the code is compiled for: instruction set, caches, and the constants of kernels that were measured on it.
//!
//! A target is named (`x86-64-v3`) or the machine at hand (`native`, which is the best named target that it can run,
//! with its own caches). Code generation depends on nothing else, so compiling for a named target gives the same bytes
//! on every machine. Other names of targets, such as triples, are in [`alias`].

pub mod alias;

use std::str::FromStr;

use nnc_ir::Setting;
use nnc_ir::nearest::nearest;
use nnc_runtime::abi::{CpuFeatures, Denormals};
use target_lexicon::{Architecture, Triple};

/// Processor architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Arch {
    /// 64-bit x86.
    X86_64,
    /// 64-bit Arm.
    Aarch64,
}

/// How tile programs are lowered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Isa {
    /// Cranelift IR over 128-bit vectors, on every architecture.
    Clif128,
    /// AVX2, FMA and F16C machine code.
    Avx2,
    /// AVX-512 (F, VL, BW) machine code.
    Avx512,
}

impl Isa {
    /// The widest vector that is one machine register, in f32 lanes.
    pub const fn lanes(self) -> u32 {
        match self {
            Isa::Clif128 => 4,
            Isa::Avx2 => 8,
            Isa::Avx512 => 16,
        }
    }

    /// Number of vector registers.
    pub const fn registers(self, arch: Arch) -> u32 {
        match (self, arch) {
            (Isa::Avx512, _) | (_, Arch::Aarch64) => 32,
            (Isa::Avx2 | Isa::Clif128, Arch::X86_64) => 16,
        }
    }
}

/// Multiply-adds that a core starts in one cycle: two vectors on all cores that nnc was measured on, but for 512-bit
/// vectors on Zen 4, where blocks that keep two busy are good for one as well.
pub const FMA_PER_CYCLE: u32 = 2;
/// Cycles from the start of a multiply-add to its result.
pub const FMA_LATENCY: u32 = 4;
/// Bytes that a core streams from its second-level cache in one cycle, measured with dense kernels.
pub const L2_BYTES_PER_CYCLE: u32 = 40;

/// A machine to compile for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// The name it was asked for by, such as `x86-64-v4` or `native`.
    pub name: String,
    /// Architecture.
    pub arch: Arch,
    /// How tile programs are lowered.
    pub isa: Isa,
    /// Whether multiply-add rounds once.
    pub fma: bool,
    /// Whether products of pairs of `bf16` are twice as fast as those of `f32`, where there is an instruction for them: they are half as
    /// fast on other processors.
    pub fast_halves: bool,
    /// What becomes of denormals: instructions for `bf16` take them for zero whatever the thread does.
    pub denormals: Denormals,
    /// CPU features that the code uses, by the names of `is_x86_feature_detected!` and its kin.
    pub features: &'static [&'static str],
    /// First-level data cache of a core, in bytes.
    pub l1d: u64,
    /// Second-level cache of a core, in bytes.
    pub l2: u64,
    /// Last-level cache, in bytes; 0 if there is none.
    pub l3: u64,
    /// Cores that share the work.
    pub cores: u32,
    triple: Triple,
}

/// Why there is no such target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// The name is not known.
    #[error("unknown target \"{name}\"; {}known are {}", meant(name), names().join(", "))]
    Unknown {
        /// The name.
        name: String,
    },
    /// The machine at hand is none that code can be generated for.
    #[error("this machine ({machine}) is not supported; name another with {}", Setting::Target)]
    UnsupportedHost {
        /// What it is.
        machine: String,
    },
    /// Cranelift refused the target.
    #[error("cannot generate code for target \"{name}\": {message}")]
    CodeGenerator {
        /// The target's name.
        name: String,
        /// What Cranelift said.
        message: String,
    },
}

/// A named target: everything but caches.
struct Named {
    name: &'static str,
    about: &'static str,
    arch: Arch,
    isa: Isa,
    fma: bool,
    fast_halves: bool,
    features: &'static [&'static str],
    l1d: u64,
    l2: u64,
    l3: u64,
    cores: u32,
}

/// The feature that adds up products of pairs of `bf16`, and rounds to them.
const BF16: &str = "avx512bf16";

/// The feature that is matrix registers.
const MATRICES: &str = "amx-tile";

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
/// Features of x86-64 in the order in which levels and processors came to have them: each list is the start of a longer one.
const X86_64: &[&str] = &[
    "sse3",
    "ssse3",
    "sse4.1",
    "sse4.2",
    "popcnt",
    "avx",
    "avx2",
    "fma",
    "f16c",
    "bmi1",
    "bmi2",
    "lzcnt",
    "avx512f",
    "avx512vl",
    "avx512dq",
    "avx512bw",
    "avx512vnni",
    BF16,
    "avx512vbmi",
    MATRICES,
    "amx-int8",
    "amx-bf16",
];
const V2: &[&str] = X86_64.split_at(5).0;
const V3: &[&str] = X86_64.split_at(12).0;
const V4: &[&str] = X86_64.split_at(16).0;
const V4_VNNI: &[&str] = X86_64.split_at(17).0;
const V4_BF16: &[&str] = X86_64.split_at(18).0;
const V4_VBMI_BF16: &[&str] = X86_64.split_at(19).0;
const V4_AMX: &[&str] = X86_64;
/// Intel's servers had the lookup of bytes before products of `bf16`.
const ICELAKE: &[&str] = &[
    "sse3",
    "ssse3",
    "sse4.1",
    "sse4.2",
    "popcnt",
    "avx",
    "avx2",
    "fma",
    "f16c",
    "bmi1",
    "bmi2",
    "lzcnt",
    "avx512f",
    "avx512vl",
    "avx512dq",
    "avx512bw",
    "avx512vnni",
    "avx512vbmi",
];
/// Products of bytes in vectors of 256 bits are a feature of their own.
const V3_VNNI: &[&str] = &[
    "sse3", "ssse3", "sse4.1", "sse4.2", "popcnt", "avx", "avx2", "fma", "f16c", "bmi1", "bmi2", "lzcnt",
    "avxvnni",
];

/// The levels of the x86-64 psABI, without and with the instructions for products of bytes and of halves, what processors are that have them, and
/// Armv8-A. The best comes last of each architecture. Caches are those of a common server of each level.
const NAMED: [Named; 11] = [
    Named {
        name: "x86-64-v2",
        about: "SSE4.2: 128-bit vectors; any x86-64 since 2009",
        arch: Arch::X86_64,
        isa: Isa::Clif128,
        fma: false,
        fast_halves: false,
        features: V2,
        l1d: 32 * KIB,
        l2: 256 * KIB,
        l3: 8 * MIB,
        cores: 4,
    },
    Named {
        name: "x86-64-v3",
        about: "AVX2, FMA, F16C: 256-bit vectors; servers and PCs since 2013",
        arch: Arch::X86_64,
        isa: Isa::Avx2,
        fma: true,
        fast_halves: false,
        features: V3,
        l1d: 32 * KIB,
        l2: 512 * KIB,
        l3: 16 * MIB,
        cores: 4,
    },
    Named {
        name: "x86-64-v3+vnni",
        about: "the same, and products of bytes (AVX-VNNI)",
        arch: Arch::X86_64,
        isa: Isa::Avx2,
        fma: true,
        fast_halves: false,
        features: V3_VNNI,
        l1d: 32 * KIB,
        l2: 512 * KIB,
        l3: 16 * MIB,
        cores: 4,
    },
    Named {
        name: "alderlake",
        about: "the same, with the caches of Intel's Core since 2021",
        arch: Arch::X86_64,
        isa: Isa::Avx2,
        fma: true,
        fast_halves: false,
        features: V3_VNNI,
        l1d: 48 * KIB,
        l2: 1280 * KIB,
        l3: 30 * MIB,
        cores: 8,
    },
    Named {
        name: "x86-64-v4",
        about: "AVX-512 F, VL, DQ, BW: 512-bit vectors",
        arch: Arch::X86_64,
        isa: Isa::Avx512,
        fma: true,
        fast_halves: false,
        features: V4,
        l1d: 32 * KIB,
        l2: MIB,
        l3: 32 * MIB,
        cores: 4,
    },
    Named {
        name: "x86-64-v4+vnni",
        about: "the same, and products of bytes (AVX512-VNNI)",
        arch: Arch::X86_64,
        isa: Isa::Avx512,
        fma: true,
        fast_halves: false,
        features: V4_VNNI,
        l1d: 32 * KIB,
        l2: MIB,
        l3: 32 * MIB,
        cores: 4,
    },
    Named {
        name: "x86-64-v4+bf16",
        about: "the same, and products of bf16 (AVX512-BF16) that are twice as fast as those of f32",
        arch: Arch::X86_64,
        isa: Isa::Avx512,
        fma: true,
        fast_halves: true,
        features: V4_BF16,
        l1d: 32 * KIB,
        l2: MIB,
        l3: 32 * MIB,
        cores: 4,
    },
    Named {
        name: "icelake-server",
        about: "AVX-512 with VNNI, VBMI: Intel's servers since 2021",
        arch: Arch::X86_64,
        isa: Isa::Avx512,
        fma: true,
        fast_halves: false,
        features: ICELAKE,
        l1d: 48 * KIB,
        l2: 1280 * KIB,
        l3: 48 * MIB,
        cores: 16,
    },
    Named {
        name: "znver4",
        about: "AVX-512 with VNNI, BF16, VBMI: AMD since 2022",
        arch: Arch::X86_64,
        isa: Isa::Avx512,
        fma: true,
        fast_halves: true,
        features: V4_VBMI_BF16,
        l1d: 32 * KIB,
        l2: MIB,
        l3: 32 * MIB,
        cores: 8,
    },
    Named {
        name: "sapphirerapids",
        about: "AVX-512 with VNNI, BF16, VBMI, and AMX: Intel's servers since 2023",
        arch: Arch::X86_64,
        isa: Isa::Avx512,
        fma: true,
        fast_halves: false,
        features: V4_AMX,
        l1d: 48 * KIB,
        l2: 2 * MIB,
        l3: 105 * MIB,
        cores: 16,
    },
    Named {
        name: "aarch64",
        about: "NEON: 128-bit vectors; 64-bit Arm under Linux",
        arch: Arch::Aarch64,
        isa: Isa::Clif128,
        fma: true,
        fast_halves: false,
        features: &[],
        l1d: 64 * KIB,
        l2: 512 * KIB,
        l3: 8 * MIB,
        cores: 4,
    },
];

/// The targets that are levels: what all code for the better ones of their architecture needs, too.
const LEVELS: [&str; 4] = ["x86-64-v2", "x86-64-v3", "x86-64-v4", "aarch64"];

/// Appended to a name, lowers tile programs through Cranelift even where there is machine code for them.
const FORCE_CLIF: &str = "-clif";

/// The machine at hand, by name.
pub const NATIVE: &str = "native";

/// A target's name, with what a reader wants to know who chooses one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TargetChoice {
    /// The name.
    pub name: &'static str,
    /// What code for it needs and is for, in a line.
    pub about: &'static str,
}

/// The targets there are, each under one name; [`alias`] has the others.
pub fn choices() -> impl Iterator<Item = TargetChoice> {
    let native = TargetChoice { name: NATIVE, about: "the machine at hand: the best of these that it runs" };
    let named = NAMED.iter().map(|named| TargetChoice { name: named.name, about: named.about });
    named.chain([native])
}

/// What a wrong name was probably meant to be.
fn meant(name: &str) -> String {
    let mut known: Vec<&str> = NAMED.iter().map(|named| named.name).chain([NATIVE]).collect();
    known.extend(alias::aliases());
    nearest(name, &known).map(|near| format!("did you mean \"{near}\"? ")).unwrap_or_default()
}

/// All names that [`Target::named`] knows, but for aliases.
pub fn names() -> Vec<String> {
    let forced = NAMED.iter().filter(|n| n.isa != Isa::Clif128).map(|n| format!("{}{FORCE_CLIF}", n.name));
    let all = NAMED.iter().map(|n| n.name.to_string());
    all.chain(forced).chain([NATIVE.to_string(), format!("{NATIVE}{FORCE_CLIF}")]).collect()
}

impl Target {
    /// The machine at hand.
    pub fn host() -> Result<Target, TargetError> {
        let triple = Triple::host();
        let best = match triple.architecture {
            Architecture::X86_64 => {
                let runs = |n: &&Named| n.arch == Arch::X86_64 && n.features.iter().all(|f| host_has(f));
                NAMED.iter().rev().find(runs)
            }
            Architecture::Aarch64(_) => NAMED.iter().find(|n| n.arch == Arch::Aarch64),
            _ => None,
        };
        let named = best.ok_or_else(|| TargetError::UnsupportedHost { machine: triple.to_string() })?;
        let mut target = named.target(triple);
        target.name = NATIVE.into();
        let cache = |level, fallback| host_cache(level).unwrap_or(fallback);
        target.fast_halves = target.features.contains(&BF16) && host_is_amd();
        (target.l1d, target.l2) = (cache(1, target.l1d), cache(2, target.l2));
        target.l3 = cache(3, target.l3);
        target.cores = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
        Ok(target)
    }

    /// A target by its name or an alias; see [`names`] and [`alias`].
    pub fn named(name: &str) -> Result<Target, TargetError> {
        let name = alias::resolve(name);
        let unknown = || TargetError::Unknown { name: name.into() };
        let plain = name.strip_suffix(FORCE_CLIF).unwrap_or(name);
        let mut target = match plain {
            NATIVE => Target::host()?,
            _ => {
                let named = NAMED.iter().find(|n| n.name == plain).ok_or_else(unknown)?;
                let triple = match named.arch {
                    Arch::X86_64 => "x86_64-unknown-linux-gnu",
                    Arch::Aarch64 => "aarch64-unknown-linux-gnu",
                };
                named.target(Triple::from_str(triple).map_err(|_| unknown())?)
            }
        };
        if plain != name {
            target.isa = Isa::Clif128;
            target.name = name.into();
        }
        Ok(target)
    }

    /// The name of the level that code for this target needs at least, whatever its layers are: one that has all of the target's
    /// features but those that only some layers have a use for.
    pub fn level(&self) -> &'static str {
        let levels = NAMED.iter().filter(|named| LEVELS.contains(&named.name) && named.arch == self.arch);
        let has = |named: &&Named| named.features.iter().all(|feature| self.features.contains(feature));
        levels.rev().find(has).map_or("", |named| named.name)
    }

    /// The features of [`Target::level`].
    pub fn level_features(&self) -> &'static [&'static str] {
        NAMED.iter().find(|named| named.name == self.level()).map_or(&[], |named| named.features)
    }

    /// Whether four products of bytes are added up by one instruction.
    pub fn has_dot(&self) -> bool {
        let needed = match self.isa {
            Isa::Avx512 => "avx512vnni",
            Isa::Avx2 => "avxvnni",
            Isa::Clif128 => return false,
        };
        self.features.contains(&needed)
    }

    /// Whether two products of `bf16` are added up by one instruction, and fast.
    pub fn has_dot_of_halves(&self) -> bool {
        self.fast_halves && self.rounds_to_halves()
    }

    /// Whether there is an instruction that rounds to `bf16`, for code that may use it.
    pub fn rounds_to_halves(&self) -> bool {
        let flushes = self.denormals == Denormals::Flush;
        flushes && self.isa == Isa::Avx512 && self.features.contains(&BF16)
    }

    /// Whether there are matrix registers, whose products are those of bytes and of `bf16`.
    pub fn has_matrices(&self) -> bool {
        self.isa == Isa::Avx512 && self.features.contains(&MATRICES)
    }

    /// The same target, for programs that treat denormals so.
    pub fn treating(&self, denormals: Denormals) -> Target {
        Target { denormals, ..self.clone() }
    }

    /// The same target, with nothing that not every machine of its architecture has.
    pub(crate) fn without_features(&self) -> Target {
        Target { features: &[], ..self.clone() }
    }

    /// Whether bytes are looked up in a table of 128 by one instruction.
    pub fn looks_up_bytes(&self) -> bool {
        self.isa == Isa::Avx512 && self.features.contains(&"avx512vbmi")
    }

    /// Whether code for this target runs on the machine at hand.
    pub fn runs_here(&self) -> bool {
        let here = Triple::host().architecture;
        here == self.triple.architecture && self.features.iter().all(|f| host_has(f))
    }

    /// What the target is to linkers and loaders.
    pub fn triple(&self) -> &Triple {
        &self.triple
    }
}

impl Named {
    fn target(&self, triple: Triple) -> Target {
        Target {
            name: self.name.into(),
            arch: self.arch,
            isa: self.isa,
            fma: self.fma,
            fast_halves: self.fast_halves,
            denormals: Denormals::Flush,
            features: self.features,
            l1d: self.l1d,
            l2: self.l2,
            l3: self.l3,
            cores: self.cores,
            triple,
        }
    }
}

/// Whether the machine at hand has a feature of [`NAMED`], by the runtime's name for it, and lets this process use it: if that is matrix
/// registers, it is asked for them.
fn host_has(feature: &str) -> bool {
    CpuFeatures::named(feature).is_some_and(|needed| CpuFeatures::detect().permitted(needed).contains(needed))
}

/// Whether the machine at hand is AMD's, whose processors start a product of pairs wherever they start one of `f32`; Intel's take twice as long.
#[cfg(target_arch = "x86_64")]
fn host_is_amd() -> bool {
    let vendor = std::arch::x86_64::__cpuid(0);
    [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes).as_flattened() == b"AuthenticAMD"
}

/// None is.
#[cfg(not(target_arch = "x86_64"))]
fn host_is_amd() -> bool {
    false
}

/// Size of the data cache of a level of the first core, from sysfs; `None` where there is none.
fn host_cache(level: u32) -> Option<u64> {
    (0..8).find_map(|index| {
        let read = |file: &str| {
            let path = format!("/sys/devices/system/cpu/cpu0/cache/index{index}/{file}");
            std::fs::read_to_string(path).ok().map(|text| text.trim().to_string())
        };
        if read("level")?.parse() != Ok(level) || read("type")? == "Instruction" {
            return None;
        }
        let size = read("size")?;
        let (number, unit) = match size.strip_suffix('M') {
            Some(number) => (number, MIB),
            None => (size.strip_suffix('K').unwrap_or(&size), KIB),
        };
        Some(number.parse::<u64>().ok()? * unit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alias_is_another_name_of_a_target() {
        let known = names();
        let mut seen = std::collections::BTreeSet::new();
        for alias in alias::aliases() {
            assert!(seen.insert(alias) && !known.iter().any(|name| name == alias), "{alias} is there twice");
            assert!(known.iter().any(|name| name == alias::resolve(alias)), "{alias}");
        }
        for (alias, name) in [
            ("arm64", "aarch64"),
            ("aarch64-unknown-linux-gnu", "aarch64"),
            ("x86_64-unknown-linux-gnu", "x86-64-v2"),
            ("haswell", "x86-64-v3"),
            ("graniterapids", "sapphirerapids"),
        ] {
            assert_eq!(Target::named(alias), Target::named(name));
            assert!(alias::aliases_of(name).any(|other| other == alias));
        }
    }

    #[test]
    fn a_target_has_the_level_whose_features_it_has() {
        for (name, level) in [
            ("x86-64-v2", "x86-64-v2"),
            ("alderlake", "x86-64-v3"),
            ("znver4", "x86-64-v4"),
            ("x86-64-v4-clif", "x86-64-v4"),
            ("aarch64", "aarch64"),
        ] {
            let target = Target::named(name).unwrap();
            assert_eq!(target.level(), level);
            assert!(target.level_features().iter().all(|feature| target.features.contains(feature)));
        }
    }

    #[test]
    fn a_misspelt_target_gets_the_nearest_name() {
        let error = |name| Target::named(name).unwrap_err().to_string();
        assert!(error("sapphirerapid").starts_with(
            "unknown target \"sapphirerapid\"; did you mean \"sapphirerapids\"? known are x86-64-v2, x86-64-v3, "
        ));
        assert!(error("arm46").contains("did you mean \"arm64\"?"));
        assert!(error("pdp-11").starts_with("unknown target \"pdp-11\"; known are "));
    }

    #[test]
    fn the_runtime_has_a_name_for_every_feature_of_a_target() {
        for named in NAMED {
            let unknown: Vec<_> = named.features.iter().filter(|f| CpuFeatures::named(f).is_none()).collect();
            assert!(unknown.is_empty(), "{}: {unknown:?}", named.name);
        }
    }
}
