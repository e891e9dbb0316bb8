//! Ends a test that waits for ever.
//!
//! A claim or a wake-up that is lost leaves threads that wait for what never comes, and with them a test binary that
//! neither fails nor says a word. A test of several threads holds a [`Watchdog`] while they may wait:
//!
//! ```text
//!   let _watchdog = Watchdog::seconds(60);
//! ```
//!
//! Threads that wait cannot be told to stop and use what the test owns, so when the time is over the whole binary ends
//! as a failed test ends it, with a line that names the test.

use std::io::Write;
use std::process;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// The thread that watches has not come up.
    Starting,
    Watching,
    /// The test is over.
    Released,
}

type Shared = (Mutex<State>, Condvar);

/// While this lives, time runs. Dropping it is how a test says that it is through.
pub struct Watchdog {
    shared: Option<Arc<Shared>>,
}

impl Watchdog {
    /// Gives the test of the current thread so long. Ask for far more than it takes on a slow and busy machine.
    ///
    /// An interpreter of Rust (Miri) needs no watchdog: it sees by itself that all threads wait.
    pub fn seconds(limit: u64) -> Watchdog {
        if cfg!(miri) {
            return Watchdog { shared: None };
        }
        let shared: Arc<Shared> = Arc::new((Mutex::new(State::Starting), Condvar::new()));
        let test = thread::current().name().unwrap_or("a thread of a test").to_owned();
        let watched = Arc::clone(&shared);
        thread::spawn(move || watch(&watched, &test, Duration::from_secs(limit)));
        // Once it watches, the thread allocates nothing, which tests that count allocations rely on.
        wait_while(&shared, Duration::MAX, |state| state == State::Starting);
        Watchdog { shared: Some(shared) }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        if let Some(shared) = &self.shared {
            set(shared, State::Released);
        }
    }
}

fn watch(shared: &Shared, test: &str, limit: Duration) {
    set(shared, State::Watching);
    if wait_while(shared, limit, |state| state == State::Watching) == State::Watching {
        // Not `eprintln!`: the harness keeps what that says until a test ends, and this one does not.
        let _ = writeln!(std::io::stderr(), "\n{test} waits for ever: not done in {} s", limit.as_secs());
        process::exit(101);
    }
}

fn lock(shared: &Shared) -> MutexGuard<'_, State> {
    shared.0.lock().unwrap_or_else(PoisonError::into_inner)
}

fn set(shared: &Shared, state: State) {
    *lock(shared) = state;
    shared.1.notify_all();
}

/// The state once `unchanged` no longer holds, or at the end of the time.
fn wait_while(shared: &Shared, limit: Duration, unchanged: impl Fn(State) -> bool) -> State {
    let waited = shared.1.wait_timeout_while(lock(shared), limit, |state| unchanged(*state));
    *waited.unwrap_or_else(PoisonError::into_inner).0
}
