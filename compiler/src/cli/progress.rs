//! What is being done, shown on a terminal once it takes longer than a second.

use std::io::IsTerminal;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

const PATIENCE: Duration = Duration::from_secs(1);

/// A line on stderr that says what is being done. It appears after a second, on terminals only, and goes away when
/// dropped.
#[derive(Debug)]
pub struct Progress {
    says: Option<Sender<String>>,
    shown_by: Option<JoinHandle<()>>,
}

impl Progress {
    /// Starts with this text.
    pub fn new(text: &str) -> Progress {
        if !std::io::stderr().is_terminal() {
            return Progress { says: None, shown_by: None };
        }
        let (says, heard) = mpsc::channel::<String>();
        let mut text = text.to_string();
        let shown_by = std::thread::spawn(move || {
            let started = std::time::Instant::now();
            loop {
                match heard.recv_timeout(PATIENCE.saturating_sub(started.elapsed())) {
                    Ok(next) => text = next,
                    Err(RecvTimeoutError::Timeout) => break,
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
            let bar = ProgressBar::new_spinner().with_message(text);
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(100));
            while let Ok(next) = heard.recv() {
                bar.set_message(next);
            }
            bar.finish_and_clear();
        });
        Progress { says: Some(says), shown_by: Some(shown_by) }
    }

    /// Says what is being done now.
    pub fn say(&self, text: impl Into<String>) {
        if let Some(says) = &self.says {
            // The thread only ends when this sender is dropped.
            let _ = says.send(text.into());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.says = None;
        if let Some(thread) = self.shown_by.take() {
            let _ = thread.join();
        }
    }
}
