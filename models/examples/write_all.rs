//! Writes every network into a folder: `cargo run -p nnc-models --example write_all -- FOLDER [small|full]`.
//!
//! `small` (the default) has low resolutions and ten classes, for quick tests; `full` has the published sizes.

use std::error::Error;
use std::path::PathBuf;

use nnc_models::{Spec, encode, list};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().ok_or("usage: write_all FOLDER [small|full]")?);
    let full = match arguments.next().as_deref() {
        None | Some("small") => false,
        Some("full") => true,
        Some(other) => return Err(format!("\"{other}\" is neither small nor full").into()),
    };
    std::fs::create_dir_all(&folder)?;
    for mut spec in variants() {
        if !full {
            spec.resolution = Some(if spec.name == "alexnet" { 63 } else { 64 });
            let architecture = list().iter().find(|a| a.name == spec.name);
            spec.classes = architecture.and_then(|a| a.classes.as_ref()).map(|_| 10);
        }
        let path = folder.join(format!("{}.onnx", file_stem(&spec)));
        std::fs::write(&path, encode(&spec)?)?;
        println!("{}", path.display());
    }
    Ok(())
}

/// Every architecture, with each of its listed widths and groups.
fn variants() -> Vec<Spec> {
    let mut specs = vec![];
    for architecture in list() {
        let base = Spec::new(architecture.name);
        match architecture.name {
            "mobilenet-v1" | "mobilenet-v2" => specs.extend([base.clone(), base.width(0.5)]),
            "shufflenet-v1" => {
                for groups in [1, 2, 3, 4, 8] {
                    specs.extend([0.5, 1.0, 1.5, 2.0].map(|width| base.clone().groups(groups).width(width)));
                }
            }
            "shufflenet-v2" => specs.extend([0.5, 1.0, 1.5, 2.0].map(|width| base.clone().width(width))),
            _ => specs.push(base),
        }
    }
    specs
}

fn file_stem(spec: &Spec) -> String {
    let width = spec.width.map(|w| format!("-x{w}")).unwrap_or_default();
    let groups = spec.groups.map(|g| format!("-g{g}")).unwrap_or_default();
    format!("{}{groups}{width}", spec.name)
}
