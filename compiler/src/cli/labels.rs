//! Names of classes, in the forms that people have them in.
//!
//! | file | form |
//! |---|---|
//! | text | one name a line, as torchvision and Caffe's lists |
//! | JSON list | `["tench", "goldfish", …]`, as torchvision's `weights.meta["categories"]` |
//! | JSON object | `{"0": "tench", …}`, or `{"0": ["n01440764", "tench"], …}` as Keras's index of ImageNet |
//! | JSON object of a model | one with such an object under `id2label`, as in `config.json` of Hugging Face |

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;

/// Names of classes by index.
#[derive(Clone, Debug, Default)]
pub struct Labels {
    names: Vec<String>,
    path: PathBuf,
}

impl Labels {
    /// Reads a file of names.
    pub fn read(path: &Path) -> Result<Labels> {
        let shown = path.display();
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read the labels \"{shown}\""))?;
        let names = match text.trim_start().chars().next() {
            Some('[' | '{') => {
                let value = serde_json::from_str(&text);
                value.map_err(anyhow::Error::from).and_then(|value| of_json(&value))
            }
            _ => Ok(text.lines().map(|line| line.trim().to_string()).collect()),
        };
        let names = names.with_context(|| format!("the labels \"{shown}\""))?;
        Ok(Labels { names, path: path.to_owned() })
    }

    /// Refuses labels that are not as many as the classes.
    pub fn check(&self, classes: usize) -> Result<()> {
        if !self.names.is_empty() && self.names.len() != classes {
            bail!(
                "\"{}\" has {} labels, the model has {classes} classes; give a file with one for each class",
                self.path.display(),
                self.names.len()
            );
        }
        Ok(())
    }

    /// The name of a class, if there is one.
    pub fn get(&self, class: usize) -> Option<&str> {
        self.names.get(class).map(String::as_str)
    }
}

fn of_json(value: &Value) -> Result<Vec<String>> {
    match value {
        Value::Array(names) => names.iter().map(name).collect(),
        Value::Object(object) => match object.get("id2label") {
            Some(inner @ Value::Object(_)) => of_json(inner),
            _ => {
                let at = |index: usize| {
                    let entry = object.get(&index.to_string());
                    name(
                        entry
                            .ok_or_else(|| anyhow!("there is no class \"{index}\" among {}", object.len()))?,
                    )
                };
                (0..object.len()).map(at).collect()
            }
        },
        _ => bail!("expected a list of names, or an object of names by number"),
    }
}

/// A name, or the last of several names of one class.
fn name(value: &Value) -> Result<String> {
    match value {
        Value::String(name) => Ok(name.clone()),
        Value::Array(names) => {
            name(names.last().ok_or_else(|| anyhow!("a class has an empty list of names"))?)
        }
        other => bail!("expected a name, found {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<String>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Labels::read(file.path()).map(|labels| labels.names)
    }

    #[test]
    fn every_form_gives_the_same_names() {
        for text in [
            "tench\ngold fish\n",
            "tench\r\ngold fish",
            r#"["tench", "gold fish"]"#,
            r#"{"1": "gold fish", "0": "tench"}"#,
            r#"{"0": ["n01440764", "tench"], "1": ["n01443537", "gold fish"]}"#,
            r#" {"model_type": "resnet", "id2label": {"0": "tench", "1": "gold fish"}}"#,
        ] {
            assert_eq!(read(text).unwrap(), ["tench", "gold fish"], "{text}");
        }
    }

    #[test]
    fn what_is_no_list_of_names_is_refused() {
        for (text, word) in [
            (r#"{"0": "a", "2": "b"}"#, "no class \"1\" among 2"),
            (r#"["a", 3]"#, "expected a name, found 3"),
            (r#"[["a"], []]"#, "empty list"),
            (r#"["a""#, "EOF"),
        ] {
            let error = format!("{:#}", read(text).unwrap_err());
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn a_number_of_labels_that_does_not_fit_is_refused() {
        let labels = Labels { names: vec!["a".into(), "b".into()], path: "l.txt".into() };
        assert!(labels.check(2).is_ok());
        assert!(Labels::default().check(1000).is_ok());
        let error = labels.check(3).unwrap_err().to_string();
        assert!(error.contains("\"l.txt\" has 2 labels, the model has 3 classes"), "{error}");
    }
}
