//! Work shared out over threads, with results in the order of the work: who computed what, and when, shows nowhere.

use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{panic, thread};

/// One thread for each core that this process may use.
pub fn available() -> usize {
    thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// `work` of each item, in the order of the items, on up to `threads` threads, of which the caller's is one.
///
/// A thread takes the next item when it is done with its last one, so items may differ in size. Where the operating
/// system gives no more threads, those that there are do all the work.
pub fn map<T: Sync, R: Send>(threads: usize, items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let helpers = threads.min(items.len()).saturating_sub(1);
    if helpers == 0 {
        return items.iter().map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let take = || {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(index) else { return done };
            done.push((index, work(item)));
        }
    };
    let mut results = thread::scope(|scope| {
        let spawn = |_| thread::Builder::new().name("nnc compile".into()).spawn_scoped(scope, take).ok();
        let helpers: Vec<_> = (0..helpers).map_while(spawn).collect();
        let mut results = take();
        for helper in helpers {
            results.extend(helper.join().unwrap_or_else(|reason| panic::resume_unwind(reason)));
        }
        results
    });
    results.sort_unstable_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

/// Like [`map`], of items that `work` takes: each is gone when its result is there.
pub fn consume<T: Send, R: Send>(threads: usize, items: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
    let items: Vec<Mutex<Option<T>>> = items.into_iter().map(|item| Mutex::new(Some(item))).collect();
    let results = map(threads, &items, |item| {
        // Each item is taken once, so nobody waits here.
        let item = item.lock().ok().and_then(|mut item| item.take());
        item.map(&work)
    });
    results.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_items_for_any_number_of_threads() {
        let items: Vec<u64> = (0..1000).collect();
        let expected: Vec<u64> = items.iter().map(|n| n * n).collect();
        for threads in [0, 1, 2, 3, 16] {
            assert_eq!(map(threads, &items, |n| n * n), expected, "{threads} threads");
        }
        assert_eq!(map(4, &[] as &[u64], |n| n * n), Vec::<u64>::new());
    }

    #[test]
    fn items_that_are_consumed_are_gone_with_their_results() {
        use std::sync::Arc;
        for threads in [1, 3] {
            let shared = Arc::new(());
            let items: Vec<_> = (0..100).map(|n| (n, Arc::clone(&shared))).collect();
            let alive = consume(threads, items, |(n, mine): (usize, Arc<()>)| {
                drop(mine);
                (n, Arc::strong_count(&shared))
            });
            assert!(alive.iter().enumerate().all(|(i, (n, _))| i == *n));
            // All others may be at work on one item each.
            assert!(alive.iter().any(|(_, count)| *count <= threads), "{threads} threads");
        }
    }

    #[test]
    fn each_item_is_worked_on_once() {
        let seen: Vec<AtomicUsize> = (0..500).map(|_| AtomicUsize::new(0)).collect();
        map(4, &seen, |count| count.fetch_add(1, Ordering::Relaxed));
        assert!(seen.iter().all(|count| count.load(Ordering::Relaxed) == 1));
    }
}
