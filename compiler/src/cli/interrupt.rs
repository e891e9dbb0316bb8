//! Ctrl-C and its like: temporary files go, then the command ends as if nobody had caught the signal.
//!
//! A signal that is ignored when the command begins stays so: `nohup` ignores SIGHUP, and a script SIGINT for what it starts with `&`.

use std::fs;
use std::io;
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

/// Waits for signals, on a thread of its own.
pub fn watch() -> io::Result<()> {
    let ignored = ignored();
    let ends = [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| ignored >> (signal - 1) & 1 == 0);
    let mut signals = Signals::new(ends)?;
    let end = move || {
        if let Some(signal) = signals.forever().next() {
            nnc::temporary::remove_all();
            // It does not come back; if it did, there would be nothing more to do.
            let _ = emulate_default_handler(signal);
        }
    };
    thread::Builder::new().name("nnc signals".into()).spawn(end).map(drop)
}

/// The signals that are ignored, signal 1 being the lowest bit. Linux tells; elsewhere none is taken to be.
fn ignored() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
