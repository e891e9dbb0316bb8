//! The note that a file which was compiled for the machine at hand does not run everywhere.

use nnc::Compilation;
use nnc::target::{NATIVE, Target};
use nnc_runtime::abi::CpuFeatures;

/// Levels that a note may tell of, the least first.
const LEAST: &str = "x86-64-v2";

/// Says on stderr what a program in a file needs, if it was compiled for this machine because nothing else was asked for, and many
/// processors lack that.
pub fn note(compilation: &Compilation, needed: CpuFeatures) {
    if let Some(text) = text(compilation.target(), needed) {
        eprintln!("note: {text}");
    }
}

fn text(target: &Target, needed: CpuFeatures) -> Option<String> {
    let level = target.level();
    if target.name != NATIVE || level.is_empty() || level == LEAST || target.level_features().is_empty() {
        return None;
    }
    let named = |names: &[&str]| {
        let known = names.iter().filter_map(|name| CpuFeatures::named(name));
        known.fold(CpuFeatures::default(), CpuFeatures::with)
    };
    let more = needed.missing_from(named(target.level_features()));
    let more = if more == CpuFeatures::default() { String::new() } else { format!(" with {more}") };
    Some(format!(
        "compiled for this machine, the program needs {level}{more}; for other machines name the least of them, as in \
         --target x86-64-v3, or several, as in --target x86-64-v2,x86-64-v3,x86-64-v4"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, as_if: &str, needed: CpuFeatures) -> Option<String> {
        let mut target = Target::named(name).unwrap();
        target.name = as_if.into();
        text(&target, needed)
    }

    #[test]
    fn a_file_for_this_machine_says_what_other_machines_lack() {
        let note = of("znver4", NATIVE, CpuFeatures::AVX512F.with(CpuFeatures::AVX512VNNI)).unwrap();
        assert!(note.starts_with(
            "compiled for this machine, the program needs x86-64-v4 with avx512vnni; for other machines"
        ));
        let note = of("alderlake", NATIVE, CpuFeatures::AVX2).unwrap();
        assert!(note.contains("needs x86-64-v3; for"), "{note}");
    }

    #[test]
    fn nothing_is_said_where_it_was_asked_for_or_every_machine_has_it() {
        assert_eq!(of("znver4", "znver4", CpuFeatures::AVX512F), None);
        assert_eq!(of("x86-64-v2", NATIVE, CpuFeatures::SSE4_2), None);
        assert_eq!(of("aarch64", NATIVE, CpuFeatures::default()), None);
    }
}
