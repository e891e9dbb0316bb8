//! The process in which cases run, and what it tells the one that watches it.
//!
//! ```text
//!   campaign ── spawn: exe worker networks SEED FIRST LAST SECONDS ──▶ worker
//!            ◀── case 17 ─ case 18 ─ … ─ tally … ─ found 23 what is wrong ─
//!            ── spawn: exe check FILE TURN ──▶ worker
//!            ◀── fine, or: found 0 what is wrong ─
//! ```

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::case::{Case, Cases, Kind};
use super::stages::Tally;

/// Bytes of address space that a worker may take.
const MEMORY: u64 = 4 << 30;

/// Time after which a case is taken to be without end.
const PATIENCE: Duration = Duration::from_secs(120);

/// Cases after which a worker tells what it has counted.
const OFTEN: u64 = 64;

/// What a worker says.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// A case begins.
    Case(u64),
    /// So many times something was done.
    Counted(String, u64),
    /// A case has failed.
    Found(u64, String),
    /// The worker is gone, or has to be: why, unless all is well.
    Gone(Option<String>),
}

/// Does what the arguments of the process ask a worker for. Says whether they do.
pub fn serve(arguments: &[String]) -> bool {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let number = |word: &str| word.parse::<u64>().unwrap_or_default();
    match words[..] {
        ["worker", kind, seed, first, last, seconds] => {
            let Some(kind) = Kind::named(kind) else { return false };
            let end = Instant::now().checked_add(Duration::from_secs(number(seconds)));
            cases(kind, number(seed), number(first)..number(last), end);
        }
        ["check", path, turn] => {
            let turn = turn.parse().ok();
            let checked = Case::load(Path::new(path))
                .and_then(|case| Cases::default().check(&case, turn, &mut Tally::default()));
            tell(&checked.err().map_or("fine".into(), |what| format!("found 0 {}", one_line(&what))));
        }
        _ => return false,
    }
    true
}

/// Cases one after another, until one fails.
fn cases(kind: Kind, seed: u64, numbers: std::ops::Range<u64>, end: Option<Instant>) {
    let mut cases = Cases::default();
    let mut tally = Tally::default();
    let mut found = None;
    for number in numbers {
        if end.is_some_and(|end| Instant::now() >= end) {
            break;
        }
        tell(&format!("case {number}"));
        let case = cases.make(kind, seed, number);
        if let Err(what) = cases.check(&case, Some(number), &mut tally) {
            found = Some((number, what));
            break;
        }
        if number % OFTEN == OFTEN - 1 {
            tell_tally(&mut tally);
        }
    }
    tell_tally(&mut tally);
    if let Some(spent) = cpu_milliseconds() {
        tell(&format!("tally {spent} {MILLISECONDS}"));
    }
    match found {
        Some((number, what)) => tell(&format!("found {number} {}", one_line(&what))),
        None => tell("fine"),
    }
}

/// What a worker counts its time under.
pub const MILLISECONDS: &str = "milliseconds of all cores";

/// The processor time of this process; `None` where the system does not tell.
fn cpu_milliseconds() -> Option<u64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // Behind the name, which may have spaces: user and system time are fields 14 and 15, in hundredths of a second.
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    Some((fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?) * 10)
}

fn tell_tally(tally: &mut Tally) {
    for (what, n) in std::mem::take(tally) {
        tell(&format!("tally {n} {what}"));
    }
}

/// One line; who does not listen any more is gone, and so should this process be.
fn tell(line: &str) {
    let mut out = std::io::stdout();
    if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
        std::process::exit(1);
    }
}

fn one_line(text: &str) -> String {
    text.replace('\n', " ⏎ ")
}

/// A worker that is being watched.
#[derive(Debug)]
pub struct Worker {
    child: Child,
    lines: Receiver<String>,
    /// The case that it is at.
    at: u64,
    done: bool,
}

impl Worker {
    /// Starts a worker with limited memory.
    ///
    /// # Errors
    ///
    /// The process cannot be started.
    pub fn start(arguments: &[String]) -> std::io::Result<Worker> {
        let exe = std::env::current_exe()?;
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("ulimit -v {} -c 0; exec \"$@\"", MEMORY >> 10)).arg("sh").arg(exe);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn()?;
        let (sender, lines) = mpsc::channel();
        if let Some(stdout) = child.stdout.take() {
            std::thread::spawn(move || {
                // Who has stopped watching needs no more lines.
                let lines = BufReader::new(stdout).lines().map_while(Result::ok);
                let _ = lines.map(|line| sender.send(line)).take_while(Result::is_ok).count();
            });
        }
        Ok(Worker { child, lines, at: 0, done: false })
    }

    /// What it says next.
    pub fn listen(&mut self) -> Told {
        loop {
            if self.done {
                return Told::Gone(None);
            }
            let line = match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) => {
                    let seconds = PATIENCE.as_secs();
                    return self.lost(format!("hang: still at it after {seconds} s"));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let status =
                        self.child.wait().map_or_else(|e| e.to_string(), |status| status.to_string());
                    return self.lost(format!("crash: the process ended ({status})"));
                }
            };
            let (word, rest) = line.split_once(' ').unwrap_or((&line, ""));
            let (number, text) = rest.split_once(' ').unwrap_or((rest, ""));
            let number = number.parse().unwrap_or_default();
            match word {
                "case" => {
                    self.at = number;
                    return Told::Case(number);
                }
                "tally" => return Told::Counted(text.into(), number),
                "found" => {
                    self.done = true;
                    return Told::Found(number, text.into());
                }
                "fine" => self.done = true,
                // Nobody else writes to its output but what prints for debugging.
                _ => {}
            }
        }
    }

    fn lost(&mut self, why: String) -> Told {
        self.done = true;
        Told::Gone(Some(why))
    }

    /// The case that it was at.
    pub fn at(&self) -> u64 {
        self.at
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Checks a file in a process of its own.
///
/// # Errors
///
/// What is wrong, a crash or a hang included.
pub fn check(path: &Path, turn: Option<u64>) -> Result<(), String> {
    let turn = turn.map_or("all".to_string(), |turn| turn.to_string());
    let arguments = ["check".to_string(), path.display().to_string(), turn];
    match Worker::start(&arguments).map_err(|e| e.to_string())?.listen() {
        Told::Found(_, what) | Told::Gone(Some(what)) => Err(what),
        _ => Ok(()),
    }
}
