//! Indices from data that lead outside of what they point into: what the steps of a run have told of them.
//!
//! Steps keep records in the arena ([`IndexCheck`]), which are zero before a run and are read once behind it.

use crate::abi::{IndexCheck, ProgramDesc};
use crate::run_error::RunError;

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
        Some(found) => Err(error(check, &found)),
        None => Ok(()),
    })
}

/// What a record says.
struct Found {
    position: u64,
    index: i64,
    extent: u64,
}

/// The record with the lowest position.
fn first(check: &IndexCheck, arena: &[u8]) -> Option<Found> {
    let range = check.range()?;
    let (words, _) = arena.get(range.start as usize..range.end as usize)?.as_chunks::<8>();
    let (records, _) = words.as_chunks::<3>();
    let found = records.iter().filter_map(|&[position, index, extent]| {
        let position = u64::from_ne_bytes(position).checked_sub(1)?;
        Some(Found { position, index: i64::from_ne_bytes(index), extent: u64::from_ne_bytes(extent) })
    });
    found.min_by_key(|found| found.position)
}

fn error(check: &IndexCheck, found: &Found) -> RunError {
    let axis = check.axes.get(found.position.checked_rem(check.axes.len() as u64).unwrap_or(0) as usize);
    let (axis, extent) =
        (axis.copied().unwrap_or_default(), usize::try_from(found.extent).unwrap_or(usize::MAX));
    RunError::Index { node: check.node.clone(), axis: axis as usize, index: found.index, extent }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_of(records: &[(u64, i64, u64)]) -> Option<String> {
        let check = IndexCheck { node: "g".into(), at: 16, records: 3, axes: vec![1, 2] };
        let mut arena = vec![0; 16];
        for &(position, index, extent) in records {
            arena.extend(position.to_ne_bytes());
            arena.extend(index.to_ne_bytes());
            arena.extend(extent.to_ne_bytes());
        }
        first(&check, &arena).map(|found| error(&check, &found).to_string())
    }

    #[test]
    fn the_lowest_position_is_told_of() {
        assert_eq!(check_of(&[(0, 0, 0), (0, 0, 0), (0, 0, 0)]), None);
        assert_eq!(
            check_of(&[(0, 0, 0), (4, 9, 7), (3, -6, 5)]).unwrap(),
            "node \"g\": index -6 lies outside of axis 1, which has 5 elements; correct the data that it comes from, or \
             compile the model so that such indices are clamped"
        );
        assert!(
            check_of(&[(6, 9, 7), (0, 0, 0), (9, 9, 5)])
                .unwrap()
                .contains("index 9 lies outside of axis 2, which has 7")
        );
    }
}
