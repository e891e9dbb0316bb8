//! The checksum of an artefact: BLAKE3 of what is loaded, from nnc's header on, without the bytes that hold it.
//!
//! Most of a large artefact are weights, and most of the time until its first result goes into bringing them into memory
//! and hashing them. BLAKE3 is a tree: blocks can be read and hashed in any order, by several threads, each block while
//! it lies in the cache of the core that has read it.
//!
//! ```text
//!   header    0 … 96 ┆checksum┆ 128 …               2 MiB + 32 …       4 MiB + 32 …
//!   hashed    └──────── block 0 ──────────────────┘ └── block 1 ──┘    └ block 2 ┘
//!                          └────────── parent ────────────┘                │
//!                                        └──────────── root ───────────────┘
//! ```

use std::convert::Infallible;
use std::io;
use std::ops::Range;
use std::sync::Mutex;
use std::thread;

use blake3::Hasher;
use blake3::hazmat::{self, ChainingValue, HasherExt, Mode};

/// Where the checksum is, from the start of the header.
const CHECKSUM: Range<usize> = 96..128;
/// What one thread takes at a time: a whole subtree, so a power of two of 1 KiB; about what a core's cache holds.
const BLOCK: usize = 2 << 20;
/// Memory is saturated by few threads.
const MOST_THREADS: usize = 4;

/// The checksum of a file whose bytes are at hand, all of it from the header on.
pub(super) fn of(file: &[u8]) -> [u8; 32] {
    match hash(blocks(file), file.len(), threads(), |_, block| Ok::<_, Infallible>(block)) {
        Ok(hash) => hash,
        Err(never) => match never {},
    }
}

/// Fills `file`, all of it from the header on, by `read`, which gets an offset and the bytes to read there, and tells the checksum of what
/// it has read.
pub(super) fn of_filled(
    file: &mut [u8],
    read: impl Fn(usize, &mut [u8]) -> io::Result<()> + Sync,
) -> io::Result<[u8; 32]> {
    let len = file.len();
    hash(blocks_mut(file), len, threads(), |offset, block: &mut [u8]| {
        read(offset, block)?;
        Ok::<&[u8], _>(block)
    })
}

/// Where a block begins in the file. The first one has the checksum inside, which is not hashed.
fn place(index: usize) -> usize {
    if index == 0 { 0 } else { index * BLOCK + CHECKSUM.len() }
}

fn blocks(file: &[u8]) -> impl Iterator<Item = &[u8]> + Send {
    let (first, rest) = file.split_at(place(1).min(file.len()));
    std::iter::once(first).chain(rest.chunks(BLOCK))
}

fn blocks_mut(file: &mut [u8]) -> impl Iterator<Item = &mut [u8]> + Send {
    let (first, rest) = file.split_at_mut(place(1).min(file.len()));
    std::iter::once(first).chain(rest.chunks_mut(BLOCK))
}

/// How many threads are worth having.
fn threads() -> usize {
    thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS)
}

/// Hashes all blocks of a file of `len` bytes on up to `threads` threads, each block as soon as `fetch` has it.
fn hash<'a, B: Send, E: Send>(
    blocks: impl Iterator<Item = B> + Send,
    len: usize,
    threads: usize,
    fetch: impl Fn(usize, B) -> Result<&'a [u8], E> + Sync,
) -> Result<[u8; 32], E> {
    let mut blocks = blocks.enumerate();
    // A file without a whole checksum has none to leave out.
    let hashed = if len < CHECKSUM.end { len } else { len - CHECKSUM.len() };
    if hashed <= BLOCK {
        let mut hasher = Hasher::new();
        for (index, block) in blocks {
            update(&mut hasher, index, fetch(place(index), block)?);
        }
        return Ok(hasher.finalize().into());
    }
    let count = hashed.div_ceil(BLOCK);
    let queue = Mutex::new(&mut blocks);
    // A function of its own, so that the lock is not held while a block is read. A thread that panics has no block; the
    // others take what is left.
    let take = || queue.lock().unwrap_or_else(|e| e.into_inner()).next();
    let subtrees = || {
        let mut done: Vec<(usize, ChainingValue)> = Vec::new();
        while let Some((index, block)) = take() {
            let mut hasher = Hasher::new();
            hasher.set_input_offset((index * BLOCK) as u64);
            update(&mut hasher, index, fetch(place(index), block)?);
            done.push((index, hasher.finalize_non_root()));
        }
        Ok(done)
    };
    let mut done = thread::scope(|scope| {
        // Where there are no more threads to be had, those that are there do it.
        let helpers: Vec<_> = (1..threads.min(count))
            .map_while(|_| thread::Builder::new().name("nnc-load".into()).spawn_scoped(scope, subtrees).ok())
            .collect();
        let mut done = subtrees()?;
        for helper in helpers {
            done.extend(helper.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
        }
        Ok(done)
    })?;
    done.sort_unstable_by_key(|(index, _)| *index);
    let subtrees: Vec<ChainingValue> = done.into_iter().map(|(_, value)| value).collect();
    let (left, right) = halves(&subtrees, hashed);
    Ok(hazmat::merge_subtrees_root(&left, &right, Mode::Hash).into())
}

/// Hashes a block, but for the checksum, which lies in the first one.
fn update(hasher: &mut Hasher, index: usize, block: &[u8]) {
    match (index, block.get(..CHECKSUM.start), block.get(CHECKSUM.end..)) {
        (0, Some(before), Some(behind)) => hasher.update(before).update(behind),
        _ => hasher.update(block),
    };
}

/// What the two subtrees of a node over `len` bytes come to; there is more than one block.
fn halves(subtrees: &[ChainingValue], len: usize) -> (ChainingValue, ChainingValue) {
    let left = hazmat::left_subtree_len(len as u64) as usize;
    let (first, second) = subtrees.split_at(left / BLOCK);
    (merged(first, left), merged(second, len - left))
}

fn merged(subtrees: &[ChainingValue], len: usize) -> ChainingValue {
    if let [one] = subtrees {
        return *one;
    }
    let (left, right) = halves(subtrees, len);
    hazmat::merge_subtrees_non_root(&left, &right, Mode::Hash)
}

#[cfg(test)]
#[cfg(not(miri))]
mod tests {
    use super::*;

    /// As the format says: everything but the checksum, at once.
    fn plain(file: &[u8]) -> [u8; 32] {
        let mut hash = Hasher::new();
        hash.update(file.get(..CHECKSUM.start).filter(|_| file.len() >= CHECKSUM.end).unwrap_or(file));
        hash.update(file.get(CHECKSUM.end..).unwrap_or_default());
        hash.finalize().into()
    }

    #[test]
    fn blocks_in_any_order_have_the_hash_of_the_whole() {
        let around = [0, 1, 95, 96, 127, 128, 129, 1024, BLOCK, BLOCK + 31, BLOCK + 32, BLOCK + 33];
        let larger = [2, 3, 4, 5, 7, 8].map(|n| n * BLOCK + 32);
        for len in around.into_iter().chain(larger.iter().flat_map(|n| [n - 1, *n, n + 1, n + 5000])) {
            let file: Vec<u8> = (0..len as u32).map(|i| (i.wrapping_mul(0x9e37_79b9) >> 24) as u8).collect();
            assert_eq!(of(&file), plain(&file), "{len} bytes");
            let mut filled = vec![0; len];
            let read = |offset: usize, to: &mut [u8]| {
                to.copy_from_slice(&file[offset..offset + to.len()]);
                Ok(())
            };
            assert_eq!(of_filled(&mut filled, read).unwrap(), plain(&file), "{len} bytes");
            assert_eq!(filled, file);
        }
    }

    #[test]
    fn the_checksum_itself_does_not_count() {
        let mut file = vec![7; 3 * BLOCK];
        let before = of(&file);
        file[CHECKSUM].fill(1);
        assert_eq!(of(&file), before);
        file[CHECKSUM.end] = 1;
        assert_ne!(of(&file), before);
    }

    #[test]
    fn a_block_that_cannot_be_read_is_an_error() {
        let read = |offset: usize, _: &mut [u8]| match offset {
            0 => Ok(()),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        };
        let error = of_filled(&mut vec![0; 3 * BLOCK], read).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn blocks_are_fetched_at_the_same_time() {
        let file = vec![7; 2 * BLOCK + 32];
        let (started, both) = (Mutex::new(0), std::sync::Condvar::new());
        let hash = hash(blocks(&file), file.len(), 2, |_, block| {
            let mut count = started.lock().unwrap();
            *count += 1;
            both.notify_all();
            let minute = std::time::Duration::from_secs(60);
            let (_count, late) = both.wait_timeout_while(count, minute, |count| *count < 2).unwrap();
            if late.timed_out() { Err("one after the other") } else { Ok(block) }
        });
        assert_eq!(hash, Ok(plain(&file)));
    }
}
