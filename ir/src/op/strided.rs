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
    let mut out = Vec::with_capacity(shape.iter().product::<usize>() * size);
    let (len, step) = last(shape, strides);
    for_each_row(shape, [strides], [start as isize], |_, [offset]| {
        if step == 1 {
            let at = offset as usize * size;
            out.extend_from_slice(&bytes[at..at + len * size]);
        } else {
            for i in 0..len {
                let at = (offset + i as isize * step) as usize * size;
                out.extend_from_slice(&bytes[at..at + size]);
            }
        }
    });
    out
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
