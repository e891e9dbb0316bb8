//! The nearest right name, for errors about names that do not exist.

use std::fmt;

/// What to say after an unknown name: the nearest known one, or all of them when none is near.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hint(String);

impl Hint {
    /// Looks for `name` among `known`.
    pub fn new<S: AsRef<str>>(name: &str, known: &[S]) -> Hint {
        Hint(match (nearest(name, known), known) {
            (Some(near), _) => format!("did you mean \"{near}\"?"),
            (None, []) => "there are none".to_string(),
            (None, _) => {
                let names: Vec<String> = known.iter().map(|k| format!("\"{}\"", k.as_ref())).collect();
                format!("known: {}", names.join(", "))
            }
        })
    }
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name that was probably meant: the one with the fewest edits (Levenshtein's distance), if they are few.
pub fn nearest<'a, S: AsRef<str>>(name: &str, known: &'a [S]) -> Option<&'a str> {
    let name = simplified(name);
    let distances = known.iter().map(AsRef::as_ref).map(|known| {
        let other = simplified(known);
        let most = other.chars().count().max(name.chars().count()) / 3 + 1;
        (strsim::levenshtein(&name, &other), most, known)
    });
    distances.filter(|(distance, most, _)| distance <= most).min().map(|(.., known)| known)
}

/// Lower case, and no longer than what edits are counted in: names come from files that anybody can have written.
fn simplified(name: &str) -> String {
    const LONGEST: usize = 64;
    name.chars().take(LONGEST).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_the_one_with_fewest_edits() {
        assert_eq!(nearest("btach", &["height", "batch"]), Some("batch"));
        assert_eq!(nearest("input", &["x", "mask"]), None);
        assert_eq!(nearest(&"a".repeat(1 << 20), &["b"]), None);
    }

    #[test]
    fn a_misspelt_name_gets_the_nearest_one() {
        let known = ["batch", "height", "width"];
        assert_eq!(Hint::new("heigth", &known).to_string(), "did you mean \"height\"?");
        assert_eq!(Hint::new("Batch", &known).to_string(), "did you mean \"batch\"?");
    }

    #[test]
    fn a_name_near_none_gets_them_all() {
        assert_eq!(Hint::new("zzzzzz", &["batch", "width"]).to_string(), "known: \"batch\", \"width\"");
        assert_eq!(Hint::new::<&str>("x", &[]).to_string(), "there are none");
    }
}
