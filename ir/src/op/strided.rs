//! Moving elements: bytes in, bytes out, whatever they mean.

use crate::types::Shape;

/// For each row of a result (all axes but the last), the index of its first element and the offsets of what the
/// operands have there; `strides` are those of the operands, aligned to the axes of the result, 0 along axes that
/// are broadcast.
pub(crate) fn for_each_row<const N: usize>(
    shape: &[usize],
    strides: [&[isize]; N],
    starts: [isize; N],
    mut row: impl FnMut(usize, [isize; N]),
) {
    if shape.contains(&0) {
        return;
    }
    let outer = shape.len().saturating_sub(1);
    let len = shape.get(outer).copied().unwrap_or(1);
    let mut index = vec![0usize; outer];
    let mut offsets = starts;
    let mut first = 0;
    loop {
        row(first, offsets);
        first += len;
        let mut axis = outer;
        loop {
            if axis == 0 {
                return;
            }
            axis -= 1;
            index[axis] += 1;
            for (offset, s) in offsets.iter_mut().zip(&strides) {
                *offset += s[axis];
            }
            if index[axis] < shape[axis] {
                break;
            }
            for (offset, s) in offsets.iter_mut().zip(&strides) {
                *offset -= s[axis] * shape[axis] as isize;
            }
            index[axis] = 0;
        }
    }
}

/// Strides of a dense tensor of shape `from` along the axes of the shape `to` that it broadcasts to.
pub(crate) fn broadcast_strides(from: &Shape, to: &[usize]) -> Vec<isize> {
    let dense = from.strides();
    let skip = to.len() - from.rank();
    (0..to.len())
        .map(|axis| match axis.checked_sub(skip) {
            Some(a) if from[a] != 1 => dense[a] as isize,
            _ => 0,
        })
        .collect()
}

/// The elements of a dense tensor of shape `from`, repeated so that they fill the shape `to`.
pub(crate) fn broadcast_to<T: Copy>(values: &[T], from: &Shape, to: &[usize]) -> Vec<T> {
    let strides = broadcast_strides(from, to);
    let (len, step) = last(to, &strides);
    let mut out = Vec::new();
    for_each_row(to, [&strides], [0], |_, [offset]| {
        out.extend((0..len).map(|i| values[(offset + i as isize * step) as usize]));
    });
    out
}

/// Extent and stride of the last axis.
pub(crate) fn last(shape: &[usize], strides: &[isize]) -> (usize, isize) {
    (shape.last().copied().unwrap_or(1), strides.last().copied().unwrap_or(0))
}

/// A dense copy of a strided view of `bytes`, whose elements take `size` bytes each.
pub(crate) fn copy(bytes: &[u8], size: usize, shape: &[usize], start: usize, strides: &[isize]) -> Vec<u8> {
    match size {
        1 => copy_of::<1>(bytes, shape, start, strides),
        2 => copy_of::<2>(bytes, shape, start, strides),
        4 => copy_of::<4>(bytes, shape, start, strides),
        _ => copy_of::<8>(bytes, shape, start, strides),
    }
}

/// The same for elements of a known size, which is much faster where they are moved one by one.
fn copy_of<const SIZE: usize>(bytes: &[u8], shape: &[usize], start: usize, strides: &[isize]) -> Vec<u8> {
    let elems = bytes.as_chunks::<SIZE>().0;
    let mut out = Vec::with_capacity(shape.iter().product());
    let (len, step) = last(shape, strides);
    for_each_row(shape, [strides], [start as isize], |_, [offset]| {
        if step == 1 {
            let at = offset as usize;
            out.extend_from_slice(&elems[at..at + len]);
        } else {
            out.extend((0..len as isize).map(|i| elems[(offset + i * step) as usize]));
        }
    });
    out.into_flattened()
}

/// Where a strided view of a dense tensor of that shape begins, if it is one piece of it.
pub(crate) fn piece(from: &Shape, shape: &[usize], start: usize, strides: &[isize]) -> Option<usize> {
    let dense = from.strides();
    // Behind the first axis with several elements, the view has all of them.
    let first = shape.iter().position(|&extent| extent != 1).unwrap_or(shape.len());
    let whole = (first + 1..shape.len()).all(|axis| shape[axis] == from[axis]);
    let steps = (first..shape.len()).all(|axis| shape[axis] == 1 || strides[axis] == dense[axis] as isize);
    (whole && steps).then_some(start)
}

/// Extents before, of, and after an axis: a tensor seen as [outer, axis, inner].
pub(crate) fn around(shape: &[usize], axis: usize) -> (usize, usize, usize) {
    (shape[..axis].iter().product(), shape[axis], shape[axis + 1..].iter().product())
}

/// The elements of one axis picked by index; `None` picks `fill`.
pub(crate) fn pick(
    bytes: &[u8],
    size: usize,
    shape: &[usize],
    axis: usize,
    indices: &[Option<usize>],
    fill: &[u8],
) -> Vec<u8> {
    let (outer, extent, inner) = around(shape, axis);
    let block = inner * size;
    let mut out = Vec::with_capacity(outer * indices.len() * block);
    for o in 0..outer {
        for index in indices {
            match index {
                Some(i) => {
                    let at = (o * extent + i) * block;
                    out.extend_from_slice(&bytes[at..at + block]);
                }
                None => (0..inner).for_each(|_| out.extend_from_slice(fill)),
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_is_a_piece_where_its_elements_follow_one_another() {
        let from = Shape::from(vec![3, 4, 5]);
        assert_eq!(piece(&from, &[2, 4, 5], 20, &[20, 5, 1]), Some(20));
        assert_eq!(piece(&from, &[1, 2, 5], 25, &[0, 5, 1]), Some(25));
        assert_eq!(piece(&from, &[1, 1, 3], 7, &[0, 0, 1]), Some(7));
        assert_eq!(piece(&from, &[1, 1, 1], 7, &[0, 0, 0]), Some(7));
        assert_eq!(piece(&from, &[2, 2, 5], 0, &[20, 5, 1]), None);
        assert_eq!(piece(&from, &[3, 1, 1], 0, &[20, 0, 0]), None);
        assert_eq!(piece(&from, &[1, 1, 2], 0, &[0, 0, 2]), None);
        assert_eq!(piece(&from, &[1, 1, 5], 4, &[0, 0, -1]), None);
    }
}
