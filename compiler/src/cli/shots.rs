//! The pictures that a command is given: files, folders of files, standard input, or the one that comes with nnc.

use std::borrow::Cow;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::failure::usage;

/// The picture that the built-in network sees: drawn by `assets/draw.py`.
const BUILT_IN: &[u8] = include_bytes!("../../assets/harbour.png");
/// How files of a folder end that are pictures.
const ENDINGS: [&str; 3] = ["jpg", "jpeg", "png"];

/// One picture, not yet read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shot {
    /// A file.
    File(PathBuf),
    /// Standard input.
    Stdin,
    /// A harbour.
    BuiltIn,
}

impl Shot {
    /// What it is called.
    pub fn name(&self) -> String {
        match self {
            Shot::File(path) => path.display().to_string(),
            Shot::Stdin => "standard input".into(),
            Shot::BuiltIn => "a harbour, built in".into(),
        }
    }

    /// The bytes of its file.
    pub fn bytes(&self) -> Result<Cow<'static, [u8]>> {
        match self {
            Shot::File(path) => {
                let bytes = std::fs::read(path);
                Ok(bytes.with_context(|| format!("cannot read the picture \"{}\"", path.display()))?.into())
            }
            Shot::Stdin => {
                let mut bytes = Vec::new();
                std::io::stdin().lock().read_to_end(&mut bytes).context("cannot read the picture")?;
                Ok(bytes.into())
            }
            Shot::BuiltIn => Ok(BUILT_IN.into()),
        }
    }
}

/// The pictures that arguments name; a folder names those in it, in the order of their names.
pub fn shots(given: &[PathBuf]) -> Result<Vec<Shot>> {
    let mut shots = Vec::new();
    for path in given {
        if path.as_os_str() == "-" {
            if shots.contains(&Shot::Stdin) {
                usage!("--image - is given twice, but standard input holds one picture; give it once");
            }
            shots.push(Shot::Stdin);
        } else if path.is_dir() {
            let files =
                in_folder(path).with_context(|| format!("cannot read the folder \"{}\"", path.display()))?;
            if files.is_empty() {
                usage!(
                    "the folder \"{}\" has no pictures; give a folder with .jpg, .jpeg or .png files",
                    path.display()
                );
            }
            shots.extend(files.into_iter().map(Shot::File));
        } else {
            shots.push(Shot::File(path.clone()));
        }
    }
    Ok(shots)
}

fn in_folder(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let ending = path.extension().map(|e| e.to_string_lossy().to_lowercase());
        if path.is_file() && ending.is_some_and(|e| ENDINGS.contains(&e.as_str())) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_its_pictures_by_name() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.PNG", "a.jpg", "notes.txt", "c.jpeg"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        std::fs::create_dir(folder.path().join("d.png")).unwrap();
        let names =
            |given: &[PathBuf]| -> Vec<String> { shots(given).unwrap().iter().map(Shot::name).collect() };
        let path = |name: &str| folder.path().join(name);
        let expected: Vec<String> =
            ["a.jpg", "b.PNG", "c.jpeg"].iter().map(|n| path(n).display().to_string()).collect();
        assert_eq!(names(&[folder.path().to_owned()]), expected);
        assert_eq!(
            names(&[path("x.png"), "-".into()]),
            [path("x.png").display().to_string(), "standard input".into()]
        );
        assert!(shots(&["-".into(), "-".into()]).is_err());
        assert!(shots(&[path("d.png")]).unwrap_err().to_string().contains("no pictures"));
    }
}
