//! Writes one network, without the compiler:
//! `cargo run -p nnc-models --example write -- NAME [--width W] [--resolution R] [--groups G] [--classes N]
//! [--seed S] -o FILE`. `nnc models write` takes the same arguments.

use std::error::Error;
use std::str::FromStr;

use nnc_models::{Spec, encode};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut spec = Spec::new(&arguments.next().ok_or("usage: write NAME [--option value]... -o FILE")?);
    let mut file = None;
    while let Some(option) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{option} lacks its value"))?;
        match option.as_str() {
            "--width" => spec.width = Some(number(&option, &value)?),
            "--resolution" => spec.resolution = Some(number(&option, &value)?),
            "--groups" => spec.groups = Some(number(&option, &value)?),
            "--classes" => spec.classes = Some(number(&option, &value)?),
            "--seed" => spec.seed = number(&option, &value)?,
            "-o" => file = Some(value),
            _ => return Err(format!("there is no option {option}").into()),
        }
    }
    let file = file.ok_or("say where to write: -o FILE")?;
    std::fs::write(file, encode(&spec)?)?;
    Ok(())
}

fn number<T: FromStr>(option: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{option} takes a number, not \"{text}\""))
}
