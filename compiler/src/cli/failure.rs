//! How a command fails: one paragraph on stderr, and exit code 1 when the model or the data are at fault, 2 when
//! the command line is.

use std::io::ErrorKind;
use std::process::ExitCode;

/// An error in how the command was called, as opposed to what it was called with.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// Ends a command with [`UsageError`].
macro_rules! usage {
    ($($text:tt)*) => {
        return Err($crate::cli::failure::UsageError(format!($($text)*)).into())
    };
}
pub(super) use usage;

/// Writes the error and says which code to exit with. A reader that went away (`nnc inspect … | head`) is no error.
pub fn report(error: &anyhow::Error) -> ExitCode {
    let io = error.chain().find_map(|e| e.downcast_ref::<std::io::Error>());
    if io.is_some_and(|e| e.kind() == ErrorKind::BrokenPipe) {
        return ExitCode::SUCCESS;
    }
    let red = clap::builder::styling::AnsiColor::Red.on_default().bold();
    anstream::eprintln!("{red}error:{red:#} {}", sentence(error));
    ExitCode::from(if is_usage(error) { 2 } else { 1 })
}

/// The chain of causes as one sentence. Some errors already tell their cause; it is not told twice.
fn sentence(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        // Messages of other libraries may have several lines, and they end as they like.
        let cause = cause.to_string();
        let cause = cause.split_whitespace().collect::<Vec<_>>().join(" ");
        let cause = cause.trim_end_matches(['.', ':']);
        if text.is_empty() {
            text.push_str(cause);
        } else if !text.contains(cause) {
            text.push_str(": ");
            text.push_str(cause);
        }
    }
    shortened(&harmless(&text))
}

/// A text without what could move the cursor, change colours, or turn the direction of writing: names in it come from
/// models.
fn harmless(text: &str) -> String {
    let moves = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
    };
    text.chars().map(|c| if moves(c) { c.escape_unicode().to_string() } else { c.to_string() }).collect()
}

/// Characters of an error, at most; names have no limit.
const LONGEST: usize = 2000;

/// Beginning and end of a text that is too long.
fn shortened(text: &str) -> String {
    let length = text.chars().count();
    if length <= LONGEST {
        return text.to_string();
    }
    let head: String = text.chars().take(LONGEST / 2).collect();
    let tail: String = text.chars().skip(length - LONGEST / 2).collect();
    format!("{head} … {tail}")
}

/// Whether another command line would have helped: a flag that names what does not exist, or one that is missing.
fn is_usage(error: &anyhow::Error) -> bool {
    error.chain().any(|e| {
        e.is::<UsageError>()
            || e.is::<nnc_models::Error>()
            || e.downcast_ref::<nnc::Error>().is_some_and(nnc::Error::is_usage)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;

    #[test]
    fn causes_are_told_once_and_in_one_line() {
        let error = anyhow!("bad magic\n  at 0.").context("node \"a\": bad magic at 0").context("x.onnx");
        assert_eq!(sentence(&error), "x.onnx: node \"a\": bad magic at 0");
    }

    #[test]
    fn names_cannot_write_over_the_terminal_or_fill_it() {
        let error = anyhow!("node \"\u{1b}[2J\u{202e}a\u{7}\"");
        assert_eq!(sentence(&error), "node \"\\u{1b}[2J\\u{202e}a\\u{7}\"");
        let error = anyhow!("node \"{}\": bad", "n".repeat(1 << 20));
        let text = sentence(&error);
        assert!(
            text.starts_with("node \"nnn") && text.ends_with("nnn\": bad") && text.chars().count() < 2010
        );
    }

    #[test]
    fn a_usage_error_is_recognised_below_its_context() {
        assert!(is_usage(&anyhow::Error::new(UsageError("no".into())).context("x.onnx")));
        assert!(!is_usage(&anyhow!("no")));
    }
}
