//! Operators about the rows and columns of matrices and images: crops, grids, norms.

use super::Results;
use crate::onnx::attribute::value;
use crate::onnx::error::NodeFault;
use crate::onnx::node::{NodeReader, axis};
use crate::op::elementwise::BinaryFn;
use crate::op::{OpError, ReduceKind};
use crate::tensor::Tensor;
use crate::types::DType;

/// CenterCropPad, since 18: the middle of a tensor, with zeros around it where it is too small.
pub(in crate::onnx) fn center_crop_pad(n: &mut NodeReader<'_, '_>) -> Results {
    let mut x = n.operand(0, "input_data")?;
    let wanted = n.ints(1, "shape")?.ok_or(OpError::Missing { index: 1, name: "shape" })?;
    let rank = n.ty(x).shape.rank();
    let axes = match n.attributes.ints("axes")? {
        Some(list) => list.iter().map(|&a| axis(a, rank)).collect::<Result<Vec<_>, _>>()?,
        None => (0..rank).collect(),
    };
    if axes.len() != wanted.len() {
        return Err(NodeFault::invalid(format!("has {} extents for {} axes", wanted.len(), axes.len())));
    }
    for (&along, &wanted) in axes.iter().zip(&wanted) {
        let wanted = usize::try_from(wanted)
            .map_err(|_| NodeFault::invalid(format!("an extent of {wanted} makes no sense")))?;
        let extent = n.ty(x).shape[along];
        x = if wanted <= extent {
            n.part(x, along, (extent - wanted) / 2, wanted, 1)?
        } else {
            let more = wanted - extent;
            n.pad(x, along, more / 2, more - more / 2, 0.0)?
        };
    }
    Ok(vec![x])
}

/// AffineGrid, since 20: where each point of an image or a volume comes from, by a matrix for each image.
///
/// ```text
///   theta [N, 2, 3] · points (x, y, 1) [3, H·W] ─▶ [N, 2, H·W] ─▶ [N, H, W, 2]        points from −1 to 1
/// ```
pub(in crate::onnx) fn affine_grid(n: &mut NodeReader<'_, '_>) -> Results {
    let theta = n.operand(0, "theta")?;
    let size = n.ints(1, "size")?.ok_or(OpError::Missing { index: 1, name: "size" })?;
    let corners = n.attributes.flag("align_corners", false)?;
    let size = size
        .iter()
        .map(|&d| usize::try_from(d).map_err(|_| NodeFault::invalid(format!("size {size:?} makes no sense"))))
        .collect::<Result<Vec<_>, _>>()?;
    let [batch, _, image @ ..] = &size[..] else {
        return Err(NodeFault::invalid(format!("size {size:?} must be [N, C, H, W] or [N, C, D, H, W]")));
    };
    let rank = image.len();
    if !(2..=3).contains(&rank) || n.shape(theta)[..] != [*batch, rank, rank + 1] {
        return Err(NodeFault::invalid(format!(
            "theta of shape {} does not fit size {size:?}",
            n.shape(theta)
        )));
    }
    let count = super::product(image)?;
    n.make(super::product(&[count, rank + 1])?, DType::F32)?;
    // The innermost axis is x.
    let mut points: Vec<f32> = Vec::new();
    for along in (0..rank).rev() {
        let extent = image[along];
        let inner: usize = image[along + 1..].iter().product();
        for i in 0..count {
            let at = (i / inner.max(1) % extent.max(1)) as f64;
            points.push(match corners {
                true if extent == 1 => -1.0,
                true => (2.0 * at / (extent - 1) as f64 - 1.0) as f32,
                false => ((2.0 * at + 1.0) / extent as f64 - 1.0) as f32,
            });
        }
    }
    points.resize(points.len() + count, 1.0);
    let points = n.add_constant(Tensor::new([rank + 1, count], &points)?);
    let points = n.cast(points, n.dtype(theta))?;
    let moved = n.mat_mul(theta, points)?;
    let moved = n.transpose(moved, &[0, 2, 1])?;
    let shape = [&[*batch], image, &[rank]].concat();
    Ok(vec![n.reshape(moved, shape)?])
}

/// LpNormalization, since 1: divided by the norm along an axis; 0 where that is 0.
pub(in crate::onnx) fn lp_norm(n: &mut NodeReader<'_, '_>) -> Results {
    let x = n.operand(0, "input")?;
    let along = axis(n.attributes.int("axis")?.unwrap_or(-1), n.ty(x).shape.rank())?;
    let kind = match n.attributes.int("p")?.unwrap_or(2) {
        1 => ReduceKind::L1,
        2 => ReduceKind::L2,
        other => return Err(value("p", format!("must be 1 or 2, it is {other}"))),
    };
    let norm = n.reduce(kind, x, vec![along], true)?;
    let none = n.binary_with(BinaryFn::Equal, norm, 0.0)?;
    let (zero, one) = (n.scalar(n.dtype(x), 0.0)?, n.scalar(n.dtype(x), 1.0)?);
    let divisor = n.choose(none, one, norm)?;
    let y = n.binary(BinaryFn::Div, x, divisor)?;
    Ok(vec![n.choose(none, zero, y)?])
}
