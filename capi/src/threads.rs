//! Threads for models of C hosts.

use nnc_runtime::{Pool, PoolError};

use crate::failure::{close, into_handle};

/// `nnc_pool`.
#[derive(Debug)]
pub struct Threads(pub(crate) Pool);

/// So many threads; 0 stands for one for each core.
pub(crate) fn pool(threads: u32) -> Result<Pool, PoolError> {
    match threads {
        0 => Pool::for_this_machine(),
        some => Pool::new(some as usize),
    }
}

/// Starts threads; see `nnc.h`.
#[unsafe(no_mangle)]
pub extern "C" fn nnc_pool_open(threads: u32) -> *mut Threads {
    into_handle(pool(threads).map(Threads).map_err(Into::into))
}

/// Closes a pool; see `nnc.h`.
///
/// # Safety
///
/// `pool` is null or an open pool that is not used any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nnc_pool_close(pool: *mut Threads) {
    // SAFETY: the caller's promise.
    unsafe { close(pool) }
}
