//! Operators that read an image where data point: GridSample, RoiAlign, MaxRoiPool, DeformConv.

use super::Results;
use super::convolution;
use crate::onnx::attribute::value;
use crate::onnx::error::NodeFault;
use crate::onnx::node::NodeReader;
use crate::op::{Cast, DeformConv, Det, GridSample, MaxRoiPool, RoiAlign, SampleMode, SamplePadding};
use crate::types::DType;

/// GridSample, since 16; since 20 of any number of axes and with other names of the modes.
pub(in crate::onnx) fn grid_sample(n: &mut NodeReader<'_, '_>) -> Results {
    let (x, grid) = (n.operand(0, "X")?, n.operand(1, "grid")?);
    let [linear, cubic] = if n.opset < 20 { ["bilinear", "bicubic"] } else { ["linear", "cubic"] };
    let modes = [(linear, SampleMode::Linear), (cubic, SampleMode::Cubic), ("nearest", SampleMode::Nearest)];
    let mode = n.attributes.choice("mode", SampleMode::Linear, &modes)?;
    let rank = n.ty(x).shape.rank();
    if n.opset < 20 && rank != 4 {
        return Err(NodeFault::invalid(format!("X has rank {rank}; before opset 20 it must be 4")));
    }
    let padding = n.attributes.choice(
        "padding_mode",
        SamplePadding::Zeros,
        &[
            ("zeros", SamplePadding::Zeros),
            ("border", SamplePadding::Border),
            ("reflection", SamplePadding::Reflection),
        ],
    )?;
    let align_corners = n.attributes.flag("align_corners", false)?;
    Ok(vec![n.emit(GridSample { mode, padding, align_corners }, &[x, grid])?])
}

/// RoiAlign, since 10; the version of 16 has regions around half coordinates by default.
pub(in crate::onnx) fn roi_align(n: &mut NodeReader<'_, '_>) -> Results {
    let (x, rois, batches) = (n.operand(0, "X")?, n.operand(1, "rois")?, n.operand(2, "batch_indices")?);
    let half_pixel = n.attributes.choice(
        "coordinate_transformation_mode",
        n.opset >= 16,
        &[("half_pixel", true), ("output_half_pixel", false)],
    )?;
    let op = RoiAlign {
        bins: [n.attributes.count("output_height", 1)?, n.attributes.count("output_width", 1)?],
        samples: match n.attributes.int("sampling_ratio")?.unwrap_or(0) {
            ratio if ratio <= 0 => 0,
            ratio => usize::try_from(ratio).map_err(|_| value("sampling_ratio", "is too large"))?,
        },
        scale: n.attributes.float("spatial_scale")?.unwrap_or(1.0),
        half_pixel,
        max: n.attributes.choice("mode", false, &[("avg", false), ("max", true)])?,
    };
    let batches =
        if n.dtype(batches) == DType::I64 { batches } else { n.emit(Cast { to: DType::I64 }, &[batches])? };
    Ok(vec![n.emit(op, &[x, rois, batches])?])
}

/// MaxRoiPool, since 1.
pub(in crate::onnx) fn max_roi_pool(n: &mut NodeReader<'_, '_>) -> Results {
    let (x, rois) = (n.operand(0, "X")?, n.operand(1, "rois")?);
    let scale = n.attributes.float("spatial_scale")?.unwrap_or(1.0);
    let bins = match n.attributes.ints("pooled_shape")? {
        Some(&[height, width]) if height > 0 && width > 0 => [height as usize, width as usize],
        Some(list) => {
            return Err(value("pooled_shape", format!("must be two positive numbers, it is {list:?}")));
        }
        None => return Err(value("pooled_shape", "is missing")),
    };
    Ok(vec![n.emit(MaxRoiPool { bins, scale }, &[x, rois])?])
}

/// DeformConv, since 19.
pub(in crate::onnx) fn deform_conv(n: &mut NodeReader<'_, '_>) -> Results {
    let (x, w, offset) = (n.operand(0, "X")?, n.operand(1, "W")?, n.operand(2, "offset")?);
    let (b, mask) = (n.optional(3)?, n.optional(4)?);
    let (window, groups) = convolution::window(n, x, w)?;
    let offset_groups = n.attributes.count("offset_group", 1)?;
    let op = DeformConv { window, groups, offset_groups };
    Ok(vec![n.emit_optional(op, &[Some(x), Some(w), Some(offset), b, mask])?])
}

/// Det, since 11.
pub(in crate::onnx) fn det(n: &mut NodeReader<'_, '_>) -> Results {
    let x = n.operand(0, "X")?;
    Ok(vec![n.emit(Det, &[x])?])
}
