//! Text as JSON writes it.

use std::fmt::Write as _;

/// `text` in quotes (RFC 8259, section 7). Control characters are escaped, all else stays as it is.
pub(super) fn string(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            // Writing to a string cannot fail.
            control if u32::from(control) < 0x20 => {
                let _ = write!(out, "\\u{:04x}", u32::from(control));
            }
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn quotes_backslashes_and_control_characters_are_escaped() {
        assert_eq!(super::string("a\"b\\c\nd\u{7f}é\0"), "\"a\\\"b\\\\c\\u000ad\u{7f}é\\u0000\"");
    }
}
