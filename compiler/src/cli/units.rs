//! Numbers for people: bytes, counts and times at three significant digits or so.

/// `512 B`, `14.0 KiB`, `3.36 MiB`
pub fn bytes(n: u64) -> String {
    let (value, unit) = match n {
        0..1024 => return format!("{n} B"),
        1024..0x10_0000 => (n as f64 / 1024.0, "KiB"),
        0x10_0000..0x4000_0000 => (n as f64 / 1_048_576.0, "MiB"),
        _ => (n as f64 / 1_073_741_824.0, "GiB"),
    };
    format!("{} {unit}", digits(value))
}

/// `512`, `14.0 k`, `3.36 M`, `1.82 G`
pub fn count(n: u64) -> String {
    match n {
        0..1000 => n.to_string(),
        1000..1_000_000 => format!("{} k", digits(n as f64 / 1e3)),
        1_000_000..1_000_000_000 => format!("{} M", digits(n as f64 / 1e6)),
        _ => format!("{} G", digits(n as f64 / 1e9)),
    }
}

/// `0.412 ms`, `12.3 ms`, `1.52 s`
pub fn ms(value: f64) -> String {
    if value >= 1000.0 { format!("{} s", digits(value / 1e3)) } else { format!("{} ms", digits(value)) }
}

/// `1 thread`, `2 threads`
pub fn threads(n: usize) -> String {
    format!("{n} thread{}", if n == 1 { "" } else { "s" })
}

fn digits(value: f64) -> String {
    match value {
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v if v >= 1.0 => format!("{v:.2}"),
        v => format!("{v:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_three_digits() {
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(14 * 1024), "14.0 KiB");
        assert_eq!(bytes(3_523_215), "3.36 MiB");
        assert_eq!(count(999), "999");
        assert_eq!(count(300_774_272), "301 M");
        assert_eq!(ms(0.4123), "0.412 ms");
        assert_eq!(ms(1521.0), "1.52 s");
    }
}
