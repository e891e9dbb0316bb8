//! The programs of a dynamic model: compiled once for each shape, kept until others were used later.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use nnc_runtime::Program;

use super::DynamicError;
use super::shapes::Key;

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Capacity {
    pub programs: usize,
    /// Of constants.
    pub bytes: u64,
}

impl Default for Capacity {
    fn default() -> Capacity {
        Capacity { programs: 64, bytes: 1 << 30 }
    }
}

/// What a [`DynamicModel`](super::DynamicModel) keeps, and what it has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Programs that are kept.
    pub programs: usize,
    /// Bytes of memory that their constants take, those that several share counted once.
    pub constant_bytes: u64,
    /// Programs that were compiled, or loaded from a cache folder, so far.
    pub compiled: u64,
    /// Programs that went because others came, so far.
    pub evicted: u64,
}

/// Programs by the shapes of their inputs.
pub(super) struct Programs {
    capacity: Capacity,
    entries: Mutex<BTreeMap<Key, Arc<ProgramEntry>>>,
    /// Counts uses.
    clock: AtomicU64,
    compiled: AtomicU64,
    evicted: AtomicU64,
}

/// The place of a program, which may still be compiled.
#[derive(Default)]
pub(super) struct ProgramEntry {
    program: OnceLock<Program>,
    /// Held by who compiles it.
    compiling: Mutex<()>,
    /// When it was used last, by the clock.
    used: AtomicU64,
}

impl Programs {
    pub fn new(capacity: Capacity) -> Programs {
        Programs {
            capacity,
            entries: Mutex::default(),
            clock: AtomicU64::new(0),
            compiled: AtomicU64::new(0),
            evicted: AtomicU64::new(0),
        }
    }

    pub fn capacity(&self) -> Capacity {
        self.capacity
    }

    /// The program of some shapes. If there is none, `compile` makes it; whoever wants the same one meanwhile waits for it. After
    /// an error the next one tries again.
    pub fn get(
        &self,
        key: &Key,
        compile: impl FnOnce() -> Result<Program, DynamicError>,
    ) -> Result<(Arc<ProgramEntry>, Program), DynamicError> {
        let entry = Arc::clone(self.entries().entry(key.clone()).or_default());
        self.used(&entry);
        if let Some(program) = entry.program.get() {
            return Ok((Arc::clone(&entry), program.clone()));
        }
        let turn = entry.compiling.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(program) = entry.program.get() {
            return Ok((Arc::clone(&entry), program.clone()));
        }
        match compile() {
            Ok(program) => {
                let program = entry.program.get_or_init(|| program).clone();
                drop(turn);
                self.compiled.fetch_add(1, Ordering::Relaxed);
                self.keep(key, &entry);
                Ok((entry, program))
            }
            Err(error) => {
                let mut entries = self.entries();
                if entries.get(key).is_some_and(|kept| Arc::ptr_eq(kept, &entry)) {
                    entries.remove(key);
                }
                Err(error)
            }
        }
    }

    /// Notes that a program is used.
    pub fn used(&self, entry: &ProgramEntry) {
        entry.used.store(self.clock.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
    }

    pub fn usage(&self) -> Usage {
        let entries = self.entries();
        Usage {
            programs: ready(&entries).count(),
            constant_bytes: constant_bytes(&entries),
            compiled: self.compiled.load(Ordering::Relaxed),
            evicted: self.evicted.load(Ordering::Relaxed),
        }
    }

    /// Keeps a new program, and lets those go for which there is no room any more: never the new one.
    fn keep(&self, key: &Key, new: &Arc<ProgramEntry>) {
        let mut gone = Vec::new();
        let mut entries = self.entries();
        // Somebody who failed on these shapes may have taken it away.
        entries.insert(key.clone(), Arc::clone(new));
        loop {
            let full = ready(&entries).count() > self.capacity.programs
                || constant_bytes(&entries) > self.capacity.bytes;
            let others = ready(&entries).filter(|(_, entry)| !Arc::ptr_eq(entry, new));
            let oldest = others.min_by_key(|(_, entry)| entry.used.load(Ordering::Relaxed));
            let Some(oldest) = oldest.map(|(key, _)| key.clone()).filter(|_| full) else { break };
            gone.extend(entries.remove(&oldest));
            self.evicted.fetch_add(1, Ordering::Relaxed);
        }
        // Memory is given back after the others may go on.
        drop(entries);
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<Key, Arc<ProgramEntry>>> {
        // Each change of the map is one call, so a thread that panicked has left it whole.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Entries whose programs are there.
fn ready(entries: &BTreeMap<Key, Arc<ProgramEntry>>) -> impl Iterator<Item = (&Key, &Arc<ProgramEntry>)> {
    entries.iter().filter(|(_, entry)| entry.program.get().is_some())
}

/// Bytes of all blocks that constants lie in.
fn constant_bytes(entries: &BTreeMap<Key, Arc<ProgramEntry>>) -> u64 {
    let programs = entries.values().filter_map(|entry| entry.program.get());
    let pieces = programs.flat_map(|program| program.constants().pieces());
    let blocks: BTreeMap<usize, u64> =
        pieces.map(|piece| (Arc::as_ptr(&piece.block).addr(), piece.block.mapped())).collect();
    blocks.values().sum()
}
