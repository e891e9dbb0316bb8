//! Ctrl-C and its like: temporary files go, then the command ends as if nobody had caught the signal.

use std::io;
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

/// Waits for signals, on a thread of its own.
pub fn watch() -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let end = move || {
        if let Some(signal) = signals.forever().next() {
            nnc::temporary::remove_all();
            // It does not come back; if it did, there would be nothing more to do.
            let _ = emulate_default_handler(signal);
        }
    };
    thread::Builder::new().name("nnc signals".into()).spawn(end).map(drop)
}
