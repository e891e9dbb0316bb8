//! Indices from data that lead outside of what they point into: what the steps of a run have told of them.
//!
//! Steps keep records in the arena ([`IndexCheck`]), which are zero before a run and are read once behind it.

use crate::abi::{IndexCheck, ProgramDesc};
use crate::session::RunError;

/// Makes the records ready for a run.
pub(crate) fn clear(desc: &ProgramDesc, arena: &mut [u8]) {
    let range = desc.index_records();
    if let Some(records) = arena.get_mut(range.start as usize..range.end as usize) {
        records.fill(0);
    }
}

/// The first index outside, of the first step that has found one.
pub(crate) fn check(desc: &ProgramDesc, arena: &[u8]) -> Result<(), RunError> {
    desc.index_checks.iter().try_for_each(|check| match first(check, arena) {
        Some((position, index)) => Err(error(check, position, index)),
        None => Ok(()),
    })
}

/// Position and index of the record with the lowest position.
fn first(check: &IndexCheck, arena: &[u8]) -> Option<(u64, i64)> {
    let range = check.range()?;
    let (words, _) = arena.get(range.start as usize..range.end as usize)?.as_chunks::<8>();
    let (records, _) = words.as_chunks::<2>();
    let found = records.iter().filter_map(|&[position, index]| {
        Some((u64::from_ne_bytes(position).checked_sub(1)?, i64::from_ne_bytes(index)))
    });
    found.min_by_key(|&(position, _)| position)
}

fn error(check: &IndexCheck, position: u64, index: i64) -> RunError {
    let axis = check.axes.get(position.checked_rem(check.axes.len() as u64).unwrap_or(0) as usize);
    let (axis, extent) = axis.copied().unwrap_or_default();
    RunError::Index { node: check.node.clone(), axis: axis as usize, index, extent: extent as usize }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_of(records: &[(u64, i64)]) -> Option<String> {
        let check = IndexCheck { node: "g".into(), at: 16, records: 3, axes: vec![(1, 5), (2, 7)] };
        let mut arena = vec![0; 16];
        for &(position, index) in records {
            arena.extend(position.to_ne_bytes());
            arena.extend(index.to_ne_bytes());
        }
        first(&check, &arena).map(|(position, index)| error(&check, position, index).to_string())
    }

    #[test]
    fn the_lowest_position_is_told_of() {
        assert_eq!(check_of(&[(0, 0), (0, 0), (0, 0)]), None);
        assert_eq!(
            check_of(&[(0, 0), (4, 9), (3, -6)]).unwrap(),
            "node \"g\": index -6 lies outside of axis 1, which has 5 elements; correct the data that it comes from, or \
             compile the model so that such indices are clamped"
        );
        assert!(
            check_of(&[(6, 9), (0, 0), (9, 9)])
                .unwrap()
                .contains("index 9 lies outside of axis 2, which has 7")
        );
    }
}
