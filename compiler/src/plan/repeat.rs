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
    /// Whose first byte says whether there is another one.
    pub going: Option<BufferId>,
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
        if let Some(going) = repeat.going {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Lives of buffers 0 to 3 that steps 2, 4, 2 to 3, and 0 and 3 touch, with a repeat of steps 1 to 4.
    fn lives(trips: u64, going: Option<BufferId>) -> Vec<(usize, usize)> {
        let touched = [vec![2], vec![4], vec![2, 3], vec![0, 3]];
        let touched_by: BTreeMap<_, _> =
            touched.into_iter().enumerate().map(|(id, steps)| (BufferId(id as u32), steps)).collect();
        let mut lives =
            touched_by.iter().map(|(&id, steps)| (id, (steps[0], steps[steps.len() - 1]))).collect();
        live_through(&[RepeatDraft { steps: 1..5, trips, going }], &mut lives, &touched_by);
        lives.into_values().collect()
    }

    #[test]
    fn what_is_touched_inside_and_outside_lives_through_all_iterations() {
        assert_eq!(lives(3, None), [(2, 2), (4, 4), (2, 3), (0, 4)]);
    }

    #[test]
    fn what_runs_once_lengthens_no_life() {
        assert_eq!(lives(1, None), [(2, 2), (4, 4), (2, 3), (0, 3)]);
    }

    #[test]
    fn a_condition_lives_until_it_was_looked_at_for_the_last_time() {
        assert_eq!(lives(3, Some(BufferId(0)))[0], (1, 4), "before each iteration");
        assert_eq!(lives(1, Some(BufferId(1)))[1], (1, 4), "it is touched later");
        assert_eq!(lives(1, Some(BufferId(0)))[0], (1, 2), "before the only one");
    }

    #[test]
    fn a_step_runs_as_often_as_all_loops_around_it_that_data_do_not_end() {
        let of = |steps, trips, going| RepeatDraft { steps, trips, going };
        let repeats = [of(1..9, 3, None), of(2..5, 4, None), of(3..4, 5, Some(BufferId(0)))];
        assert_eq!([0, 1, 2, 3, 8, 9].map(|step| times(&repeats, step)), [1, 3, 12, 12, 3, 1]);
    }
}
