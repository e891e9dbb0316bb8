//! Settings that errors name, in the words of whoever is spoken to.
//!
//! A host sets fields, somebody at a terminal gives flags, and both meet the same errors. An error holds the settings that its text
//! names, and each text is in one place:
//!
//! ```text
//!                            ┌─ Bindings::dims["batch"] = ?     the library
//!   Setting::Dim { batch } ──┤
//!                            └─ --dim batch=?                   the command: inside of worded(flag, …)
//! ```
//!
//! Errors nest, and `Display` has no parameter by which the outermost could tell the innermost whom it speaks to. So the words
//! are a state of the thread that writes, for as long as [`worded`] runs.

use std::cell::Cell;
use std::fmt;

use crate::limits::LimitName;

/// What somebody who reads an error may set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Setting {
    /// The extent of a named dim.
    Dim {
        /// Its name.
        name: String,
        /// The extent; `None` is for the reader to fill in.
        extent: Option<usize>,
    },
    /// The shape of an input.
    Shape {
        /// The input's name.
        input: String,
        /// The extents, `None` being for the reader to fill in; `None` for any number of them.
        dims: Option<Vec<Option<usize>>>,
    },
    /// The tensor of an input that is a constant.
    Constant {
        /// The input's name.
        input: String,
    },
    /// Where the graph ends.
    Until {
        /// The node or value; `None` is for the reader to fill in.
        name: Option<String>,
    },
    /// One of the [`Limits`](crate::Limits).
    Limit(LimitName),
    /// The machine to compile for.
    Target,
}

/// How somebody calls a setting.
pub type Words = fn(&Setting) -> String;

thread_local! {
    static WORDS: Cell<Words> = const { Cell::new(fields) };
}

/// Does something with settings called by other words than the library's, in all that this thread writes meanwhile.
pub fn worded<R>(words: Words, work: impl FnOnce() -> R) -> R {
    struct Before(Words);
    impl Drop for Before {
        fn drop(&mut self) {
            WORDS.set(self.0);
        }
    }
    let _before = Before(WORDS.replace(words));
    work()
}

impl Setting {
    /// The shape of an input, of which all is known.
    pub fn shape(input: &str, dims: &[usize]) -> Setting {
        Setting::Shape { input: input.to_string(), dims: Some(dims.iter().copied().map(Some).collect()) }
    }

    /// The tensor of an input that is a constant.
    pub fn constant(input: &str) -> Setting {
        Setting::Constant { input: input.to_string() }
    }

    /// The value, as it is written behind the name: `2`, `1x3x?x?`, a question mark for what is not known.
    pub fn value(&self) -> String {
        let extent = |extent: &Option<usize>| extent.map_or("?".to_string(), |n| n.to_string());
        match self {
            Setting::Dim { extent: n, .. } => extent(n),
            Setting::Shape { dims: None, .. } => "?x?x…".into(),
            Setting::Shape { dims: Some(dims), .. } => dims.iter().map(extent).collect::<Vec<_>>().join("x"),
            Setting::Until { name } => name.clone().unwrap_or_else(|| "?".into()),
            Setting::Constant { .. } | Setting::Limit(_) | Setting::Target => "?".into(),
        }
    }
}

/// The library's words: the field that holds the setting.
fn fields(setting: &Setting) -> String {
    let value = setting.value();
    match setting {
        Setting::Dim { name, .. } => format!("Bindings::dims[\"{name}\"] = {value}"),
        Setting::Shape { input, .. } => format!("Bindings::shapes[\"{input}\"] = {value}"),
        Setting::Constant { input } => format!("Bindings::constants[\"{input}\"]"),
        Setting::Until { name: Some(name) } => format!("Bindings::until = [\"{name}\"]"),
        Setting::Until { name: None } => "Bindings::until".into(),
        Setting::Limit(limit) => format!("Limits::{limit}"),
        Setting::Target => "Options::target".into(),
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&WORDS.get()(self))
    }
}

/// `a and b`
pub fn listed(settings: &[Setting]) -> String {
    settings.iter().map(Setting::to_string).collect::<Vec<_>>().join(" and ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_called_by_its_field_with_what_is_open_marked() {
        let dim = Setting::Dim { name: "batch".into(), extent: None };
        let shape = Setting::Shape { input: "x".into(), dims: Some(vec![Some(1), Some(3), None]) };
        assert_eq!(
            listed(&[dim, shape]),
            "Bindings::dims[\"batch\"] = ? and Bindings::shapes[\"x\"] = 1x3x?"
        );
        assert_eq!(Setting::shape("x", &[4, 0]).to_string(), "Bindings::shapes[\"x\"] = 4x0");
        assert_eq!(
            Setting::Shape { input: "x".into(), dims: None }.to_string(),
            "Bindings::shapes[\"x\"] = ?x?x…"
        );
        assert_eq!(Setting::Limit(LimitName::Parts).to_string(), "Limits::parts");
    }

    #[test]
    fn other_words_hold_on_this_thread_until_the_work_is_done() {
        fn target() -> String {
            Setting::Target.to_string()
        }
        let inside = worded(
            |_| "outer".into(),
            || {
                let elsewhere = std::thread::spawn(target).join().unwrap();
                [worded(|_| "inner".into(), target), target(), elsewhere]
            },
        );
        assert_eq!(inside, ["inner", "outer", "Options::target"]);
        let panics = std::panic::catch_unwind(|| worded(|_| "never".into(), || panic!("at work")));
        assert!(panics.is_err());
        assert_eq!(target(), "Options::target");
    }
}
