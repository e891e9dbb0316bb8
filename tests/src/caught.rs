//! Panics as errors.

use std::any::Any;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Mutex, Once, PoisonError};

/// Where the last panic was, on whichever thread.
static PLACE: Mutex<String> = Mutex::new(String::new());

/// The result of some work, or where it panicked and what it said. From the first call on, panics are not printed.
///
/// # Errors
///
/// The work panics.
pub fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        panic::set_hook(Box::new(|info| {
            let place = info.location().map(ToString::to_string).unwrap_or_default();
            *PLACE.lock().unwrap_or_else(PoisonError::into_inner) = place;
        }));
    });
    panic::catch_unwind(AssertUnwindSafe(work)).map_err(|payload| {
        let place = std::mem::take(&mut *PLACE.lock().unwrap_or_else(PoisonError::into_inner));
        format!("panic at {place}: {}", message(&*payload))
    })
}

fn message(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("no message")
}
