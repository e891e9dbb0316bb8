//! Failing cases made small: a network's recipe first, then its graph node by node; a model by its parts, then its bytes.

mod graph;
mod model;

use std::time::{Duration, Instant};

pub use graph::simpler as simpler_graphs;
pub use model::simpler as simpler_models;

/// The smallest case that is found on the way from `start` by simplifications that still fail, within some time.
pub fn shrink<T>(
    start: T,
    patience: Duration,
    simpler: impl Fn(&T) -> Vec<T>,
    mut fails: impl FnMut(&T) -> bool,
) -> T {
    let end = Instant::now() + patience;
    let mut smallest = start;
    // Where the last one was found, so that what does not help is not tried again and again.
    let mut from = 0;
    loop {
        let all = simpler(&smallest);
        let from_here = from.min(all.len());
        let mut order = (from_here..all.len()).chain(0..from_here).take_while(|_| Instant::now() < end);
        let Some(index) = order.find(|&index| fails(&all[index])) else { return smallest };
        from = index;
        smallest = all.into_iter().nth(index).unwrap_or(smallest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_failing_case_is_found() {
        let simpler = |n: &u32| [n / 2, n.saturating_sub(1)].into_iter().filter(|m| m < n).collect();
        assert_eq!(shrink(1000, Duration::from_secs(60), simpler, |n| *n >= 37), 37);
        assert_eq!(shrink(1000, Duration::from_secs(60), simpler, |_| false), 1000);
    }
}
