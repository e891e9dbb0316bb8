//! Cranelift's view of a target: the settings and features that layer functions and kernels are compiled with.

use std::sync::Arc;

use cranelift_codegen::isa::{self, OwnedTargetIsa};
use cranelift_codegen::settings::{self, Configurable, SetError};

use crate::target::{Target, TargetError};

/// The code generator for tile kernels over Cranelift IR: its register allocator is the thorough one, because a spill in an
/// innermost loop costs more than all of compilation.
pub fn for_kernels(target: &Target) -> Result<OwnedTargetIsa, TargetError> {
    with(target, ("none", "backtracking"), false)
}

/// The code generator for layer functions that call kernels. `pic` is true for object files and false for the JIT. They gain nothing
/// from the optimiser, which moves loads early and then spills.
pub fn for_layers(target: &Target, pic: bool) -> Result<OwnedTargetIsa, TargetError> {
    with(target, ("none", "single_pass"), pic)
}

/// The code generator for layer functions that do the work themselves. What does not change in a loop leaves it, which is most of how
/// addresses are computed.
pub fn for_loops(target: &Target, pic: bool) -> Result<OwnedTargetIsa, TargetError> {
    with(target, ("speed", "backtracking"), pic)
}

/// The code generator for functions that are called on any processor, to find out what it has: without any feature.
pub fn for_any(target: &Target) -> Result<OwnedTargetIsa, TargetError> {
    for_layers(&target.without_features(), true)
}

fn with(
    target: &Target,
    (effort, allocator): (&str, &str),
    pic: bool,
) -> Result<OwnedTargetIsa, TargetError> {
    let refused = |message: String| TargetError::CodeGenerator { name: target.name.clone(), message };
    let mut flags = settings::builder();
    let pic = if pic { "true" } else { "false" };
    for (flag, value) in [
        ("opt_level", effort),
        ("regalloc_algorithm", allocator),
        ("is_pic", pic),
        ("enable_verifier", if cfg!(debug_assertions) { "true" } else { "false" }),
        ("enable_probestack", "false"),
        ("unwind_info", "false"),
        ("preserve_frame_pointers", "false"),
        ("use_colocated_libcalls", "false"),
    ] {
        flags.set(flag, value).map_err(|e| refused(format!("{flag}: {e}")))?;
    }
    let mut builder = isa::lookup(target.triple().clone()).map_err(|e| refused(e.to_string()))?;
    for feature in target.features {
        let flag = format!("has_{}", feature.replace('.', ""));
        match builder.enable(&flag) {
            // Cranelift has no name for features that it never uses.
            Ok(()) | Err(SetError::BadName(_)) => {}
            Err(e) => return Err(refused(format!("{flag}: {e}"))),
        }
    }
    let isa: Arc<_> = builder.finish(settings::Flags::new(flags)).map_err(|e| refused(e.to_string()))?;
    Ok(isa)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn cranelift_may_use_what_a_target_has() {
        let isa = for_kernels(&Target::named("x86-64-v4").unwrap()).unwrap();
        let on =
            |name: &str| isa.isa_flags().iter().any(|flag| flag.name == name && flag.as_bool() == Some(true));
        for flag in [
            "has_sse3",
            "has_ssse3",
            "has_sse41",
            "has_sse42",
            "has_popcnt",
            "has_avx",
            "has_avx2",
            "has_fma",
            "has_bmi1",
            "has_bmi2",
            "has_lzcnt",
            "has_avx512f",
            "has_avx512vl",
            "has_avx512dq",
        ] {
            assert!(on(flag), "{flag}");
        }
    }
}
