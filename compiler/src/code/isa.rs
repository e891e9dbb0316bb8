//! Cranelift's view of a target: the settings and features that layer functions and kernels are compiled with.

use std::sync::Arc;

use cranelift_codegen::isa::{self, OwnedTargetIsa};
use cranelift_codegen::settings::{self, Configurable};

use crate::target::{Target, TargetError};

/// The code generator for tile kernels over Cranelift IR: its register allocator is the thorough one, because a spill in an
/// innermost loop costs more than all of compilation.
pub fn for_kernels(target: &Target) -> Result<OwnedTargetIsa, TargetError> {
    with(target, "backtracking", false)
}

/// The code generator for layer functions. `pic` is true for object files and false for the JIT.
pub fn for_layers(target: &Target, pic: bool) -> Result<OwnedTargetIsa, TargetError> {
    with(target, "single_pass", pic)
}

fn with(target: &Target, allocator: &str, pic: bool) -> Result<OwnedTargetIsa, TargetError> {
    let refused = |message: String| TargetError::CodeGenerator { name: target.name.clone(), message };
    let mut flags = settings::builder();
    let pic = if pic { "true" } else { "false" };
    for (flag, value) in [
        // Loops over kernel calls gain nothing from the optimiser, which moves loads early and then spills.
        ("opt_level", "none"),
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
        // Cranelift has no name for features that it never uses.
        if let Some(flag) = cranelift_flag(feature) {
            builder.enable(flag).map_err(|e| refused(format!("{flag}: {e}")))?;
        }
    }
    let isa: Arc<_> = builder.finish(settings::Flags::new(flags)).map_err(|e| refused(e.to_string()))?;
    Ok(isa)
}

fn cranelift_flag(feature: &str) -> Option<&'static str> {
    Some(match feature {
        "sse3" => "has_sse3",
        "ssse3" => "has_ssse3",
        "sse4.1" => "has_sse41",
        "sse4.2" => "has_sse42",
        "popcnt" => "has_popcnt",
        "avx" => "has_avx",
        "avx2" => "has_avx2",
        "fma" => "has_fma",
        "bmi1" => "has_bmi1",
        "bmi2" => "has_bmi2",
        "lzcnt" => "has_lzcnt",
        "avx512f" => "has_avx512f",
        "avx512vl" => "has_avx512vl",
        "avx512dq" => "has_avx512dq",
        _ => return None,
    })
}
