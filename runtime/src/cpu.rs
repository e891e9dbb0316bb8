//! Names for what a program needs of the CPU, and what this CPU has.
//!
//! The numbers of the bits are part of the artefact format: they are never reused, new ones go to the end.

use std::env;
use std::fmt;

use crate::abi::CpuFeatures;

/// `bit "name" where detection`, in the order of the bits.
macro_rules! features {
    ($($constant:ident = $bit:literal, $name:literal, $arch:literal, $($detect:ident)::*!($feature:tt);)*) => {
        impl CpuFeatures {
            $(
                #[doc = concat!("`", $name, "`, on ", $arch, ".")]
                pub const $constant: CpuFeatures = CpuFeatures(1 << $bit);
            )*

            /// What this CPU has and the operating system has switched on.
            pub fn detect() -> CpuFeatures {
                let mut found = CpuFeatures::default();
                $(
                    #[cfg(target_arch = $arch)]
                    if $($detect)::*!($feature) {
                        found = found.with(CpuFeatures::$constant);
                    }
                )*
                found
            }
        }

        /// Bit and name, sorted by bit.
        const NAMES: &[(u32, &str)] = &[$(($bit, $name)),*];
    };
}

features! {
    SSE3 = 0, "sse3", "x86_64", std::arch::is_x86_feature_detected!("sse3");
    SSSE3 = 1, "ssse3", "x86_64", std::arch::is_x86_feature_detected!("ssse3");
    SSE4_1 = 2, "sse4.1", "x86_64", std::arch::is_x86_feature_detected!("sse4.1");
    SSE4_2 = 3, "sse4.2", "x86_64", std::arch::is_x86_feature_detected!("sse4.2");
    POPCNT = 4, "popcnt", "x86_64", std::arch::is_x86_feature_detected!("popcnt");
    AVX = 5, "avx", "x86_64", std::arch::is_x86_feature_detected!("avx");
    AVX2 = 6, "avx2", "x86_64", std::arch::is_x86_feature_detected!("avx2");
    FMA = 7, "fma", "x86_64", std::arch::is_x86_feature_detected!("fma");
    F16C = 8, "f16c", "x86_64", std::arch::is_x86_feature_detected!("f16c");
    BMI1 = 9, "bmi1", "x86_64", std::arch::is_x86_feature_detected!("bmi1");
    BMI2 = 10, "bmi2", "x86_64", std::arch::is_x86_feature_detected!("bmi2");
    LZCNT = 11, "lzcnt", "x86_64", std::arch::is_x86_feature_detected!("lzcnt");
    AVX512F = 12, "avx512f", "x86_64", std::arch::is_x86_feature_detected!("avx512f");
    AVX512BW = 13, "avx512bw", "x86_64", std::arch::is_x86_feature_detected!("avx512bw");
    AVX512DQ = 14, "avx512dq", "x86_64", std::arch::is_x86_feature_detected!("avx512dq");
    AVX512VL = 15, "avx512vl", "x86_64", std::arch::is_x86_feature_detected!("avx512vl");
    AVX512CD = 16, "avx512cd", "x86_64", std::arch::is_x86_feature_detected!("avx512cd");
    AVX512VNNI = 17, "avx512vnni", "x86_64", std::arch::is_x86_feature_detected!("avx512vnni");
    AVX512VBMI = 18, "avx512vbmi", "x86_64", std::arch::is_x86_feature_detected!("avx512vbmi");
    AVX512BITALG = 19, "avx512bitalg", "x86_64", std::arch::is_x86_feature_detected!("avx512bitalg");
    AVXVNNI = 20, "avxvnni", "x86_64", std::arch::is_x86_feature_detected!("avxvnni");
    AVX512BF16 = 21, "avx512bf16", "x86_64", std::arch::is_x86_feature_detected!("avx512bf16");
    AMX_TILE = 22, "amx-tile", "x86_64", crate::amx::has_amx!(TILE);
    AMX_INT8 = 23, "amx-int8", "x86_64", crate::amx::has_amx!(INT8);
    AMX_BF16 = 24, "amx-bf16", "x86_64", crate::amx::has_amx!(BF16);
    NEON = 40, "neon", "aarch64", std::arch::is_aarch64_feature_detected!("neon");
    FP16 = 41, "fp16", "aarch64", std::arch::is_aarch64_feature_detected!("fp16");
    DOTPROD = 42, "dotprod", "aarch64", std::arch::is_aarch64_feature_detected!("dotprod");
    LSE = 43, "lse", "aarch64", std::arch::is_aarch64_feature_detected!("lse");
}

impl CpuFeatures {
    /// These and those.
    pub const fn with(self, more: CpuFeatures) -> CpuFeatures {
        CpuFeatures(self.0 | more.0)
    }

    /// Whether all of `needed` are among these.
    pub const fn contains(self, needed: CpuFeatures) -> bool {
        needed.0 & !self.0 == 0
    }

    /// Those of these that `available` lacks.
    pub const fn missing_from(self, available: CpuFeatures) -> CpuFeatures {
        CpuFeatures(self.0 & !available.0)
    }

    /// The feature called `name`, such as `avx2` or `sse4.1`.
    pub fn named(name: &str) -> Option<CpuFeatures> {
        NAMES.iter().find(|(_, known)| *known == name).map(|(bit, _)| CpuFeatures(1 << bit))
    }
}

/// Names, separated by commas, of features that programs are loaded without, as if the processor lacked them: to test a version for a
/// lesser processor on a better one.
pub const WITHOUT: &str = "NNC_CPU_WITHOUT";

/// A value of [`WITHOUT`] that names no feature.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{WITHOUT} names \"{name}\", which is no feature of a processor; known are {}", known())]
pub struct MaskError {
    /// The name.
    pub name: String,
}

fn known() -> String {
    NAMES.iter().map(|(_, name)| *name).collect::<Vec<_>>().join(", ")
}

impl CpuFeatures {
    /// What this CPU has but for what [`WITHOUT`] names.
    pub fn usable() -> Result<CpuFeatures, MaskError> {
        let without = env::var_os(WITHOUT).unwrap_or_default();
        let masked = CpuFeatures::masked_by(&without.to_string_lossy())?;
        Ok(CpuFeatures::detect().missing_from(masked))
    }

    /// Those of these that this process may use, of which `wanted` are about to be: the operating system gives matrix registers to
    /// processes that ask for them, which makes the memory that signals need larger.
    pub fn permitted(self, wanted: CpuFeatures) -> CpuFeatures {
        let matrices = CpuFeatures::AMX_TILE.with(CpuFeatures::AMX_INT8).with(CpuFeatures::AMX_BF16);
        let asks = self.0 & wanted.0 & matrices.0 != 0;
        if asks && !crate::amx::permitted() { self.missing_from(matrices) } else { self }
    }

    /// The features that a list names.
    fn masked_by(list: &str) -> Result<CpuFeatures, MaskError> {
        let mut names = list.split(',').map(str::trim).filter(|name| !name.is_empty());
        names.try_fold(CpuFeatures::default(), |all, name| {
            let feature = CpuFeatures::named(name).ok_or_else(|| MaskError { name: name.to_string() })?;
            Ok(all.with(feature))
        })
    }
}

/// The names, separated by commas; a bit that has no name here (a newer compiler's) shows as its number.
impl fmt::Display for CpuFeatures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        for bit in (0..u64::BITS).filter(|bit| self.0 & 1 << bit != 0) {
            f.write_str(comma)?;
            comma = ", ";
            match NAMES.iter().find(|(known, _)| *known == bit) {
                Some((_, name)) => f.write_str(name)?,
                None => write!(f, "feature {bit}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_feature_has_its_own_bit_and_name() {
        for (at, (bit, name)) in NAMES.iter().enumerate() {
            assert_eq!(CpuFeatures::named(name), Some(CpuFeatures(1 << bit)));
            assert!(NAMES[..at].iter().all(|(other, known)| other < bit && known != name));
        }
        assert_eq!(CpuFeatures::named("avx3"), None);
    }

    #[test]
    fn missing_features_are_listed_by_name() {
        let needed = CpuFeatures::AVX2.with(CpuFeatures::FMA).with(CpuFeatures(1 << 63));
        assert_eq!(needed.missing_from(CpuFeatures::FMA).to_string(), "avx2, feature 63");
        assert!(CpuFeatures::AVX2.with(CpuFeatures::FMA).contains(CpuFeatures::FMA));
        assert!(!CpuFeatures::FMA.contains(needed));
    }

    #[test]
    fn a_list_of_names_is_what_programs_are_loaded_without() {
        let masked = CpuFeatures::masked_by;
        assert_eq!(masked(""), Ok(CpuFeatures::default()));
        assert_eq!(masked("avx2, sse4.1,"), Ok(CpuFeatures::AVX2.with(CpuFeatures::SSE4_1)));
        let error = masked("avx2,avx3").unwrap_err().to_string();
        assert!(error.starts_with(
            "NNC_CPU_WITHOUT names \"avx3\", which is no feature of a processor; known are sse3, ssse3, "
        ));
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn detection_agrees_with_the_standard_library() {
        let found = CpuFeatures::detect();
        assert_eq!(found.contains(CpuFeatures::AVX2), is_x86_feature_detected!("avx2"));
        assert_eq!(found.contains(CpuFeatures::SSE4_1), is_x86_feature_detected!("sse4.1"));
        assert!(!found.contains(CpuFeatures::NEON));
    }
}
