//! Repeats: which steps run again and again, how often, and what lives through all of their iterations.
//!
//! ```text
//!   step       0   1 ┌ 2   3   4 ┐ 5
//!   counter    ●───────●                 touched outside and inside: it lives on until step 4
//!   sum                ●───●             the body's alone: it begins anew in each iteration
//! ```

use std::collections::BTreeMap;
use std::ops::Range;

use super::buffer::BufferId;

/// Neighbouring steps that run for each iteration.
#[derive(Clone, Debug)]
pub(super) struct RepeatDraft {
    /// The steps.
    pub steps: Range<usize>,
    /// The most iterations.
    pub trips: u64,
    /// The byte that says whether there is another one.
    pub going: Option<(BufferId, u64)>,
}

/// How often a step runs, as far as that is known.
pub(super) fn times(repeats: &[RepeatDraft], step: usize) -> u64 {
    let around = repeats.iter().filter(|repeat| repeat.steps.contains(&step) && repeat.going.is_none());
    around.fold(1, |times, repeat| times.saturating_mul(repeat.trips))
}

/// Lengthens lives of buffers that iterations of a loop share: what is touched inside and outside of it is alive all the
/// time. A buffer of which only the body knows begins anew in each iteration. Conditions live as long as they are looked at.
pub(super) fn live_through(
    repeats: &[RepeatDraft],
    lives: &mut BTreeMap<BufferId, (usize, usize)>,
    touched_by: &BTreeMap<BufferId, Vec<usize>>,
) {
    for repeat in repeats.iter().rev() {
        let steps = &repeat.steps;
        let mut through = |id: BufferId, end: usize| {
            if let Some((first, last)) = lives.get_mut(&id) {
                *first = steps.start.min(*first);
                *last = end.max(*last);
            }
        };
        if let Some((going, _)) = repeat.going {
            through(going, if repeat.trips == 1 { steps.start } else { steps.end - 1 });
        }
        if repeat.trips == 1 {
            continue;
        }
        for (&id, touched) in touched_by {
            let inside = touched.partition_point(|&step| step < steps.end)
                - touched.partition_point(|&step| step < steps.start);
            if inside > 0 && inside < touched.len() {
                through(id, steps.end - 1);
            }
        }
    }
}
