//! Operators that only give a tensor another shape, or another order of axes.

use std::collections::BTreeSet;

use super::{Results, product, reshaped};
use crate::onnx::attribute::value;
use crate::onnx::error::NodeFault;
use crate::onnx::node::{NodeReader, axes, axis};
use crate::onnx::varying::Amount;
use crate::op::{OpError, Reshape, Transpose};

/// Reshape; the shape is an operand since 5.
pub(in crate::onnx) fn reshape(n: &mut NodeReader<'_, '_>) -> Results {
    let x = n.operand(0, "data")?;
    n.attributes.ignore("consumed_inputs");
    let wanted = n.amounts_of_version("shape", 5, 1)?.ok_or(OpError::Missing { index: 1, name: "shape" })?;
    let allow_zero = n.attributes.flag("allowzero", false)?;
    let known: Option<Vec<i64>> = wanted.iter().map(Amount::known).collect();
    let Some(wanted) = known.filter(|_| !n.varies(x)) else {
        let shape = n.resolved(&n.extents(x), &wanted, allow_zero)?;
        return Ok(vec![n.regrouped(x, &shape)?]);
    };
    let shape = resolve(&n.shape(x), &wanted, allow_zero)?;
    Ok(vec![reshaped(n, x, shape)?])
}

/// The shape that is meant: 0 keeps an extent (unless zeros are allowed), one -1 takes what is left.
fn resolve(from: &[usize], wanted: &[i64], allow_zero: bool) -> Result<Vec<usize>, NodeFault> {
    let cannot = || NodeFault::invalid(format!("shape {wanted:?} does not fit data of shape {from:?}"));
    let mut shape = Vec::with_capacity(wanted.len());
    let mut open = None;
    for (i, &extent) in wanted.iter().enumerate() {
        shape.push(match extent {
            0 if !allow_zero => *from.get(i).ok_or_else(cannot)?,
            -1 if open.is_none() => {
                open = Some(i);
                1
            }
            _ => usize::try_from(extent).map_err(|_| cannot())?,
        });
    }
    let (total, known) = (product(from)?, product(&shape)?);
    if let Some(i) = open {
        if allow_zero && known == 0 {
            return Err(NodeFault::invalid(format!("shape {wanted:?} has both 0 and -1")));
        }
        // Nothing to distribute: any extent would do, 0 keeps the number of elements.
        shape[i] = total.checked_div(known).unwrap_or(0);
    }
    if product(&shape)? == total { Ok(shape) } else { Err(cannot()) }
}

/// Flatten, since 1: all axes before one, and all from it on.
pub(in crate::onnx) fn flatten(n: &mut NodeReader<'_, '_>) -> Results {
    let x = n.operand(0, "input")?;
    let shape = n.shape(x);
    let at = n.attributes.int("axis")?.unwrap_or(1);
    // The axis may be the rank itself: everything before it.
    let at = if at == shape.rank() as i64 { shape.rank() } else { axis(at, shape.rank())? };
    for axes in [&shape[..at], &shape[at..]] {
        product(axes)?;
    }
    let extents = n.extents(x);
    let all = |extents: &[Amount]| extents.iter().fold(Amount::from(1i64), |all, extent| all.product(extent));
    Ok(vec![n.regrouped(x, &[all(&extents[..at]), all(&extents[at..])])?])
}

/// Squeeze, since 1; axes are an operand since 13.
pub(in crate::onnx) fn squeeze(n: &mut NodeReader<'_, '_>) -> Results {
    let x = n.operand(0, "data")?;
    let (shape, extents) = (n.shape(x), n.extents(x));
    let gone = match n.ints_of_version("axes", 13, 1)? {
        Some(list) => axes(&list, shape.rank())?,
        None => (0..shape.rank()).filter(|&a| extents[a].is_one()).collect(),
    };
    if let Some(a) = gone.iter().find(|&&a| !extents[a].is_one()) {
        return Err(NodeFault::invalid(format!("axis {a} of shape {shape} cannot be squeezed, it is not 1")));
    }
    let kept: Vec<Amount> =
        (0..shape.rank()).filter(|a| gone.binary_search(a).is_err()).map(|a| extents[a].clone()).collect();
    Ok(vec![n.regrouped(x, &kept)?])
}

/// Unsqueeze, since 1; axes are an operand since 13.
pub(in crate::onnx) fn unsqueeze(n: &mut NodeReader<'_, '_>) -> Results {
    let x = n.operand(0, "data")?;
    let Some(list) = n.ints_of_version("axes", 13, 1)? else {
        return Err(NodeFault::invalid("has no axes"));
    };
    let shape = n.shape(x);
    let rank = shape.rank().checked_add(list.len()).ok_or(OpError::Overflow)?;
    let new = axes(&list, rank)?;
    let mut old = n.extents(x).into_iter();
    let one = || Amount::from(1i64);
    let expanded: Vec<Amount> = (0..rank)
        .map(|a| if new.binary_search(&a).is_ok() { one() } else { old.next().unwrap_or_else(one) })
        .collect();
    Ok(vec![n.regrouped(x, &expanded)?])
}

/// Transpose, since 1.
pub(in crate::onnx) fn transpose(n: &mut NodeReader<'_, '_>) -> Results {
    let x = n.operand(0, "data")?;
    let rank = n.ty(x).shape.rank();
    let perm: Vec<usize> = match n.attributes.ints("perm")? {
        None => (0..rank).rev().collect(),
        Some(list) => {
            let wrong =
                || value("perm", format!("must name each of {rank} axes once, from 0, it is {list:?}"));
            // Axes do not count from the end here.
            let perm: Vec<usize> =
                list.iter().map(|&a| usize::try_from(a)).collect::<Result<_, _>>().map_err(|_| wrong())?;
            if !(0..rank).eq(perm.iter().copied().collect::<BTreeSet<_>>()) || perm.len() != rank {
                return Err(wrong());
            }
            perm
        }
    };
    Ok(vec![n.emit(Transpose { perm }, &[x])?])
}

/// DepthToSpace, since 1: blocks of channels become squares of pixels.
///
/// ```text
///   DCR  [N, b, b, C, H, W] ─ 0 3 4 1 5 2 ─▶ [N, C, H, b, W, b]
///   CRD  [N, C, b, b, H, W] ─ 0 1 4 2 5 3 ─▶ [N, C, H, b, W, b]
/// ```
pub(in crate::onnx) fn depth_to_space(n: &mut NodeReader<'_, '_>) -> Results {
    let x = n.operand(0, "input")?;
    let b = block_size(n)?;
    let depth_first = n.attributes.choice("mode", true, &[("DCR", true), ("CRD", false)])?;
    let [batch, channels, height, width] = image(n, x)?;
    let c = channels / b / b;
    if c.checked_mul(b).and_then(|n| n.checked_mul(b)) != Some(channels) {
        return Err(NodeFault::invalid(format!("{channels} channels are not divisible by {b}·{b}")));
    }
    let (split, perm) = if depth_first {
        (vec![batch, b, b, c, height, width], vec![0, 3, 4, 1, 5, 2])
    } else {
        (vec![batch, c, b, b, height, width], vec![0, 1, 4, 2, 5, 3])
    };
    let split = n.emit(Reshape { shape: split }, &[x])?;
    let turned = n.emit(Transpose { perm }, &[split])?;
    let shape = vec![batch, c, product(&[height, b])?, product(&[width, b])?];
    Ok(vec![n.emit(Reshape { shape }, &[turned])?])
}

/// SpaceToDepth, since 1: squares of pixels become blocks of channels (since 28 in either order).
///
/// ```text
///   DCR  [N, C, H/b, b, W/b, b] ─ 0 3 5 1 2 4 ─▶ [N, b, b, C, H/b, W/b]
///   CRD  [N, C, H/b, b, W/b, b] ─ 0 1 3 5 2 4 ─▶ [N, C, b, b, H/b, W/b]
/// ```
pub(in crate::onnx) fn space_to_depth(n: &mut NodeReader<'_, '_>) -> Results {
    let x = n.operand(0, "input")?;
    let b = block_size(n)?;
    let depth_first = n.attributes.choice("mode", true, &[("DCR", true), ("CRD", false)])?;
    let [batch, channels, height, width] = image(n, x)?;
    if !height.is_multiple_of(b) || !width.is_multiple_of(b) {
        return Err(NodeFault::invalid(format!("{height} by {width} pixels are not divisible by {b}")));
    }
    let (h, w) = (height / b, width / b);
    let split = n.emit(Reshape { shape: vec![batch, channels, h, b, w, b] }, &[x])?;
    let perm = if depth_first { vec![0, 3, 5, 1, 2, 4] } else { vec![0, 1, 3, 5, 2, 4] };
    let turned = n.emit(Transpose { perm }, &[split])?;
    let shape = vec![batch, product(&[channels, b, b])?, h, w];
    Ok(vec![n.emit(Reshape { shape }, &[turned])?])
}

fn block_size(n: &mut NodeReader<'_, '_>) -> Result<usize, NodeFault> {
    if !n.attributes.has("blocksize") {
        return Err(value("blocksize", "is missing"));
    }
    n.attributes.count("blocksize", 1)
}

fn image(n: &NodeReader<'_, '_>, x: crate::graph::Value) -> Result<[usize; 4], NodeFault> {
    let shape = &n.ty(x).shape;
    <[usize; 4]>::try_from(&shape[..])
        .map_err(|_| NodeFault::invalid(format!("needs an image [N, C, H, W], its operand is {shape}")))
}

#[cfg(test)]
mod tests {
    use super::resolve;

    #[test]
    fn zero_keeps_and_minus_one_takes_the_rest() {
        assert_eq!(resolve(&[2, 3, 4], &[0, -1], false).unwrap(), [2, 12]);
        assert_eq!(resolve(&[2, 3, 4], &[-1, 0, 4], false).unwrap(), [2, 3, 4]);
        assert_eq!(resolve(&[0, 4], &[0, -1], false).unwrap(), [0, 0]);
        assert_eq!(resolve(&[0, 4], &[0, 7], true).unwrap(), [0, 7]);
        assert_eq!(resolve(&[1, 1], &[], false).unwrap(), [0usize; 0]);
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        for wanted in [&[5, 5][..], &[-1, 5], &[-1, -1], &[0, 0, 0, 0], &[-2, 12], &[i64::MAX, i64::MAX]] {
            assert!(resolve(&[2, 3, 4], wanted, false).is_err(), "{wanted:?}");
        }
        assert!(resolve(&[0, 4], &[0, -1], true).is_err());
    }
}
