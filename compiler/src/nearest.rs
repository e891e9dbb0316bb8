//! The nearest right name, for errors about names that do not exist.

use std::fmt;

/// What to say after an unknown name: the nearest known one, or all of them when none is near.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hint(String);

impl Hint {
    /// Looks for `name` among `known`.
    pub fn new<S: AsRef<str>>(name: &str, known: &[S]) -> Hint {
        let near = known
            .iter()
            .map(AsRef::as_ref)
            .map(|k| (distance(&name.to_lowercase(), &k.to_lowercase()), k))
            .filter(|(d, k)| *d <= k.chars().count().max(name.chars().count()) / 3 + 1)
            .min();
        Hint(match (near, known) {
            (Some((_, near)), _) => format!("did you mean \"{near}\"?"),
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

/// Levenshtein distance: insertions, deletions and substitutions from `a` to `b`.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, cb) in b.iter().enumerate() {
            let substitute = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_count_edits() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("same", "same"), 0);
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
