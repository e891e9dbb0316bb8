//! The threads of a process: sessions that ask for the same number of them share a pool, as an application with several models
//! has no more cores than one with a single model.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use nnc::Pool;
use nnc_runtime::PoolError;

/// Pools by the process that made them, as threads stay behind when a process forks, and their number.
static POOLS: Mutex<BTreeMap<(u32, usize), Pool>> = Mutex::new(BTreeMap::new());

/// The pool of so many threads; 0 is one for each core that this process may use.
pub fn pool(threads: usize) -> Result<Pool, PoolError> {
    let mut pools = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
    let key = (std::process::id(), threads);
    if let Some(pool) = pools.get(&key) {
        return Ok(pool.clone());
    }
    let pool = if threads == 0 { Pool::for_this_machine() } else { Pool::new(threads) }?;
    pools.insert(key, pool.clone());
    Ok(pool)
}
