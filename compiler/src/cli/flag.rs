//! The command's words for settings: the errors of the library name flags here, and no fields.

use nnc_ir::{LimitName, Setting};

/// The flag that sets a setting, with its value where there is one: `--dim batch=?`.
pub fn flag(setting: &Setting) -> String {
    let value = setting.value();
    match setting {
        Setting::Dim { name, .. } => format!("--dim {name}={value}"),
        Setting::Shape { input, .. } => format!("--shape {input}={value}"),
        Setting::Constant { input } => format!("--const {input}=FILE.npy"),
        Setting::Until { name: Some(name) } => format!("--until {name}"),
        Setting::Until { name: None } => "--until NAME".into(),
        Setting::Limit(limit) => limit_flag(*limit).into(),
        Setting::Target => "--target".into(),
    }
}

/// The flag that sets a limit.
pub fn limit_flag(limit: LimitName) -> &'static str {
    match limit {
        LimitName::FileBytes => "--limit-file",
        LimitName::TensorBytes => "--limit-tensor",
        LimitName::WeightBytes => "--limit-weights",
        LimitName::ArenaBytes => "--limit-arena",
        LimitName::Nodes => "--limit-nodes",
        LimitName::Parts => "--limit-parts",
        LimitName::Ports => "--limit-ports",
        LimitName::Rank => "--limit-rank",
        LimitName::Depth => "--limit-depth",
        LimitName::CompileTime => "--limit-time",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::CommandFactory;
    use nnc::artefact::LinkError;
    use nnc::target::TargetError;
    use nnc_ir::Exceeded;
    use nnc_ir::onnx::{Fault, NodeFault, Origin, Remedy, UnboundInput};
    use nnc_ir::setting::worded;

    use super::*;

    /// Every error of the library that names settings, with each setting that it can name.
    fn errors() -> Vec<Box<dyn std::error::Error>> {
        let dim = |extent| Setting::Dim { name: "batch".into(), extent };
        let shape = |dims| Setting::Shape { input: "x".into(), dims };
        let until = |name: Option<&str>| Setting::Until { name: name.map(str::to_string) };
        let constant = || Setting::constant("n");
        let mut errors: Vec<Box<dyn std::error::Error>> = Vec::new();
        for name in LimitName::ALL {
            errors.push(Box::new(Exceeded { what: "it".into(), limit: 1, name }));
        }
        for setting in [dim(Some(2)), Setting::shape("x", &[1, 3]), constant(), until(Some("end"))] {
            errors.push(Box::new(Fault::Binding { setting, what: "no".into(), by: None }));
        }
        for by in [dim(Some(2)), Setting::shape("x", &[1, 3]), constant()] {
            errors.push(Box::new(Fault::Binding { setting: constant(), what: "no".into(), by: Some(by) }));
        }
        for setting in [dim(None), shape(None), shape(Some(vec![Some(1), None]))] {
            let unbound =
                UnboundInput { input: "x".into(), declared: "f32[?]".into(), settings: vec![setting] };
            errors.push(Box::new(Fault::Unbound(vec![unbound])));
        }
        for origin in
            [Origin::Input(constant()), Origin::Data("image".into()), Origin::Inputs(vec![constant()])]
        {
            errors.push(Box::new(NodeFault::NotConstant {
                index: 1,
                operand: "shape",
                value: "v".into(),
                origin,
                inputs: Vec::new(),
            }));
        }
        for remedy in [Remedy::Bind(vec![constant(), constant()]), Remedy::EndBefore] {
            errors.push(Box::new(NodeFault::RunTime { what: "it".into(), remedy }));
        }
        errors.push(Box::new(TargetError::UnsupportedHost { machine: "m".into() }));
        errors.push(Box::new(LinkError::Undefined { name: "ceilf".into() }));
        errors
    }

    /// The flags that a text names.
    fn named(text: &str) -> BTreeSet<String> {
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
        words.filter_map(|word| word.strip_prefix("--")).map(str::to_string).collect()
    }

    /// The commands that compile models, each with its flags.
    fn commands() -> Vec<(String, BTreeSet<String>)> {
        let mut nnc = super::super::Cli::command();
        nnc.build();
        let flags = |command: &clap::Command| -> BTreeSet<String> {
            command.get_arguments().filter_map(|arg| arg.get_long()).map(str::to_string).collect()
        };
        let all = nnc.get_subcommands().map(|command| (command.get_name().to_string(), flags(command)));
        all.filter(|(_, flags)| flags.contains("until")).collect()
    }

    #[test]
    fn errors_name_flags_that_each_command_has() {
        let commands = commands();
        assert_eq!(commands.len(), 6, "{commands:?}");
        for error in errors() {
            let text = worded(flag, || error.to_string());
            let flags = named(&text);
            assert!(!flags.is_empty(), "{text}");
            assert!(!text.contains("::"), "{text}");
            for (command, known) in &commands {
                let missing: Vec<_> = flags.difference(known).collect();
                assert!(missing.is_empty(), "nnc {command} has no {missing:?}: {text}");
            }
        }
    }

    #[test]
    fn the_same_errors_name_no_flags_in_the_library() {
        for error in errors() {
            let text = error.to_string();
            assert!(text.contains("::") && !text.contains("--"), "{text}");
        }
    }
}
