//! Resize and its predecessor Upsample.

use super::Results;
use crate::graph::Value;
use crate::onnx::attribute::value;
use crate::onnx::error::NodeFault;
use crate::onnx::node::{NodeReader, axis, numbers};
use crate::op::{CoordinateMode, Crop, NearestMode, OpError, Resize, ResizeMode};

/// Upsample of opset 1: scales of the last two axes, as attributes.
pub(in crate::onnx) fn upsample_image(n: &mut NodeReader<'_, '_>) -> Results {
    let x = n.operand(0, "X")?;
    let shape = n.shape(x);
    let mode = mode_of_upsample(n)?;
    let mut scales = vec![1.0f32; shape.rank()];
    let Some(first) = shape.rank().checked_sub(2) else {
        return Err(NodeFault::invalid(format!(
            "operand X needs a height and a width, its shape is {shape}"
        )));
    };
    for (at, name) in [(first, "height_scale"), (first + 1, "width_scale")] {
        scales[at] = n.attributes.float(name)?.ok_or_else(|| value(name, "is missing"))?;
    }
    let sizes = scaled(&shape, &scales)?;
    grows(&scales)?;
    emit(n, x, Resize::new(sizes, scales, mode, CoordinateMode::Asymmetric))
}

fn mode_of_upsample(n: &mut NodeReader<'_, '_>) -> Result<ResizeMode, NodeFault> {
    let nearest = ResizeMode::Nearest(NearestMode::Floor);
    let modes = [("nearest", nearest), ("linear", ResizeMode::Linear), ("bilinear", ResizeMode::Linear)];
    n.attributes.choice("mode", nearest, &modes)
}

/// Upsample (7: scales as attribute, 9: as operand): element `o` of the result comes from `o / scale`, rounded down for
/// the nearest.
pub(in crate::onnx) fn upsample(n: &mut NodeReader<'_, '_>) -> Results {
    let x = n.operand(0, "X")?;
    let mode = mode_of_upsample(n)?;
    let scales = if n.opset < 9 {
        n.attributes.floats("scales")?.map(<[f32]>::to_vec)
    } else {
        floats(n, 1, "scales")?
    };
    let (sizes, scales) = of_scales(&n.shape(x), scales)?;
    grows(&scales)?;
    emit(n, x, Resize::new(sizes, scales, mode, CoordinateMode::Asymmetric))
}

/// Resize of opset 10. The nearest element is that of Upsample where an axis grows, and the one above where it shrinks:
/// ONNX does not say so, but its test of that version and ONNX Runtime do.
pub(in crate::onnx) fn resize_by_scales(n: &mut NodeReader<'_, '_>) -> Results {
    let x = n.operand(0, "X")?;
    let mode = mode_of_upsample(n)?;
    let scales = floats(n, 1, "scales")?;
    let shape = n.shape(x);
    let (sizes, scales) = of_scales(&shape, scales)?;
    let at = CoordinateMode::Asymmetric;
    if !matches!(mode, ResizeMode::Nearest(_)) {
        return emit(n, x, Resize::new(sizes, scales, mode, at));
    }
    // Axes are independent: first those that grow, then those that shrink.
    let part = |shrinks: bool, from: &[usize]| -> (Vec<usize>, Vec<f32>) {
        let axes = (0..from.len()).map(|a| match (scales[a] < 1.0) == shrinks {
            true => (sizes[a], scales[a]),
            false => (from[a], 1.0),
        });
        axes.unzip()
    };
    let (larger, growth) = part(false, &shape);
    let (smaller, shrinkage) = part(true, &larger);
    let grown = emit(n, x, Resize::new(larger, growth, ResizeMode::Nearest(NearestMode::Floor), at))?;
    let Some(&grown) = grown.first() else { return Ok(grown) };
    emit(n, grown, Resize::new(smaller, shrinkage, ResizeMode::Nearest(NearestMode::Ceil), at))
}

/// Extents and scales of all axes.
fn of_scales(shape: &[usize], scales: Option<Vec<f32>>) -> Result<(Vec<usize>, Vec<f32>), NodeFault> {
    let scales = scales.ok_or_else(|| NodeFault::invalid("has no scales"))?;
    if scales.len() != shape.len() {
        let count = scales.len();
        let shape = crate::types::Shape::from(shape);
        return Err(NodeFault::invalid(format!("has {count} scales for data of shape {shape}")));
    }
    Ok((scaled(shape, &scales)?, scales))
}

/// Refuses what Upsample does not do.
fn grows(scales: &[f32]) -> Result<(), NodeFault> {
    match scales.iter().find(|&&scale| scale < 1.0) {
        None => Ok(()),
        Some(scale) => {
            Err(value("scales", format!("must be 1 or more, one is {scale}; Resize makes data smaller")))
        }
    }
}

/// Resize, since 11.
pub(in crate::onnx) fn resize(n: &mut NodeReader<'_, '_>) -> Results {
    let x = n.operand(0, "X")?;
    let shape = n.shape(x);
    let rank = shape.rank();
    // No coordinates are those of a crop.
    let coordinates = n.attributes.choice(
        "coordinate_transformation_mode",
        Some(CoordinateMode::HalfPixel),
        &[
            ("half_pixel", Some(CoordinateMode::HalfPixel)),
            ("half_pixel_symmetric", Some(CoordinateMode::HalfPixelSymmetric)),
            ("pytorch_half_pixel", Some(CoordinateMode::PytorchHalfPixel)),
            ("align_corners", Some(CoordinateMode::AlignCorners)),
            ("asymmetric", Some(CoordinateMode::Asymmetric)),
            ("tf_half_pixel_for_nn", Some(CoordinateMode::TfHalfPixelForNn)),
            ("tf_crop_and_resize", None),
        ],
    )?;
    let nearest = n.attributes.choice(
        "nearest_mode",
        NearestMode::RoundPreferFloor,
        &[
            ("round_prefer_floor", NearestMode::RoundPreferFloor),
            ("round_prefer_ceil", NearestMode::RoundPreferCeil),
            ("floor", NearestMode::Floor),
            ("ceil", NearestMode::Ceil),
        ],
    )?;
    let coeff_a = n.attributes.float("cubic_coeff_a")?.unwrap_or(-0.75);
    let exclude_outside = n.attributes.flag("exclude_outside", false)?;
    let antialias = n.attributes.flag("antialias", false)?;
    let extrapolation = n.attributes.float("extrapolation_value")?.unwrap_or(0.0);
    let mode = n.attributes.choice(
        "mode",
        ResizeMode::Nearest(nearest),
        &[
            ("nearest", ResizeMode::Nearest(nearest)),
            ("linear", ResizeMode::Linear),
            ("cubic", ResizeMode::Cubic { coeff_a }),
        ],
    )?;
    let policy = n.attributes.choice(
        "keep_aspect_ratio_policy",
        None,
        &[("stretch", None), ("not_larger", Some(false)), ("not_smaller", Some(true))],
    )?;
    let axes: Vec<usize> = match n.attributes.ints("axes")? {
        None => (0..rank).collect(),
        Some(list) => list.iter().map(|&a| axis(a, rank)).collect::<Result<_, _>>()?,
    };
    // Only a crop looks outside, and only a crop reads the region of interest.
    let crop = match coordinates {
        Some(_) => {
            n.optional(1)?;
            None
        }
        None => {
            let roi = floats(n, 1, "roi")?.ok_or_else(|| NodeFault::invalid("has no region to crop"))?;
            Some(region(&roi, &axes, rank, extrapolation)?)
        }
    };
    let mut given_scales = floats(n, 2, "scales")?;
    let given_sizes = n.ints(3, "sizes")?.filter(|list| !list.is_empty());
    if given_sizes.is_some() {
        given_scales = given_scales.filter(|list| !list.is_empty());
    }
    let mut sizes = shape.to_vec();
    let mut scales = vec![1.0f32; rank];
    let count = |got: usize| NodeFault::invalid(format!("has {got} scales or sizes for {} axes", axes.len()));
    match (given_scales, given_sizes) {
        (Some(list), None) if list.len() == axes.len() => {
            axes.iter().zip(list).for_each(|(&a, s)| scales[a] = s);
            let part = |a: usize| crop.as_ref().map_or(1.0, |c| c.end[a] - c.begin[a]);
            let factors: Vec<f32> = (0..rank).map(|a| part(a) * scales[a]).collect();
            sizes = scaled(&shape, &factors)?;
        }
        (None, Some(list)) if list.len() == axes.len() => {
            let list = list
                .iter()
                .map(|&s| {
                    usize::try_from(s)
                        .map_err(|_| NodeFault::invalid(format!("sizes {list:?} make no sense")))
                })
                .collect::<Result<Vec<_>, _>>()?;
            fit(&shape, &axes, &list, policy, &mut sizes, &mut scales)?;
        }
        (Some(list), None) => return Err(count(list.len())),
        (None, Some(list)) => return Err(count(list.len())),
        (Some(_), Some(_)) => return Err(NodeFault::invalid("has both scales and sizes")),
        (None, None) => return Err(NodeFault::invalid("has neither scales nor sizes")),
    }
    let coordinates = coordinates.unwrap_or(CoordinateMode::HalfPixel);
    let plain = Resize::new(sizes, scales, mode, coordinates);
    emit(n, x, Resize { exclude_outside, antialias, crop, ..plain })
}

/// The region of interest: begins of the axes, then ends; whole along all others.
fn region(roi: &[f32], axes: &[usize], rank: usize, extrapolation: f32) -> Result<Crop, NodeFault> {
    if roi.len() != 2 * axes.len() || !roi.iter().all(|v| v.is_finite()) {
        return Err(NodeFault::invalid(format!("has a region {roi:?} for {} axes", axes.len())));
    }
    let (mut begin, mut end) = (vec![0.0; rank], vec![1.0; rank]);
    for (i, &a) in axes.iter().enumerate() {
        (begin[a], end[a]) = (roi[i], roi[i + axes.len()]);
    }
    Ok(Crop { begin, end, extrapolation })
}

fn emit(n: &mut NodeReader<'_, '_>, x: Value, op: Resize) -> Results {
    if op.crop.is_none() && op.scales.iter().all(|&s| s == 1.0) && op.sizes[..] == n.ty(x).shape[..] {
        return Ok(vec![x]);
    }
    Ok(vec![n.emit(op, &[x])?])
}

fn floats(
    n: &mut NodeReader<'_, '_>,
    index: usize,
    name: &'static str,
) -> Result<Option<Vec<f32>>, NodeFault> {
    match n.constant(index, name)? {
        Some(t) => Ok(Some(numbers(&t)?.into_iter().map(|v| v as f32).collect())),
        None => Ok(None),
    }
}

/// `⌊extent · scale⌋` for each axis, in single precision as other implementations do.
fn scaled(shape: &[usize], scales: &[f32]) -> Result<Vec<usize>, NodeFault> {
    /// Up to here every integer is a float of single precision.
    const EXACT: f32 = (1 << 24) as f32;
    shape
        .iter()
        .zip(scales)
        .map(|(&extent, &scale)| {
            if !(scale > 0.0 && scale.is_finite()) {
                return Err(value("scales", format!("must be positive, it has {scale}")));
            }
            if scale == 1.0 {
                return Ok(extent);
            }
            let size = (extent as f32 * scale).floor();
            if size < EXACT { Ok(size as usize) } else { Err(NodeFault::Op(OpError::Overflow)) }
        })
        .collect()
}

/// Sizes and scales for wanted sizes. A policy keeps the aspect ratio: the result fits into the wanted sizes
/// (`Some(false)`) or covers them (`Some(true)`).
fn fit(
    shape: &[usize],
    axes: &[usize],
    wanted: &[usize],
    policy: Option<bool>,
    sizes: &mut [usize],
    scales: &mut [f32],
) -> Result<(), NodeFault> {
    if axes.iter().any(|&a| shape[a] == 0) {
        return Err(NodeFault::invalid("an axis without elements cannot be resized"));
    }
    // Quotients of extents, compared as such: an f32 rounds them.
    let product = |a: usize, b: usize| a as u128 * b as u128;
    let quotients = axes.iter().map(|&a| shape[a]).zip(wanted.iter().copied());
    let order = |a: &(usize, usize), b: &(usize, usize)| product(a.1, b.0).cmp(&product(b.1, a.0));
    let common = match policy {
        None => None,
        Some(false) => quotients.min_by(order),
        Some(true) => quotients.max_by(order),
    };
    for (&a, &wanted) in axes.iter().zip(wanted) {
        let (from, to) = common.unwrap_or((shape[a], wanted));
        scales[a] = to as f32 / from as f32;
        sizes[a] = match common {
            None => wanted,
            // The nearest integer, and of two the upper one.
            Some(_) => {
                let size = (2 * product(shape[a], to) + from as u128) / (2 * from as u128);
                usize::try_from(size).map_err(|_| NodeFault::Op(OpError::Overflow))?
            }
        };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_rounded_down() {
        assert_eq!(scaled(&[1, 3, 5, 7], &[1.0, 1.0, 2.0, 0.6]).unwrap(), [1, 3, 10, 4]);
        assert!(scaled(&[5], &[0.0]).is_err());
        assert!(scaled(&[5], &[f32::NAN]).is_err());
        assert!(scaled(&[5], &[1e30]).is_err());
    }

    #[test]
    fn a_policy_keeps_the_aspect_ratio() {
        let run = |policy| {
            let (mut sizes, mut scales) = (vec![1, 1, 10, 20], vec![1.0; 4]);
            fit(&[1, 1, 10, 20], &[2, 3], &[20, 10], policy, &mut sizes, &mut scales).unwrap();
            (sizes, scales)
        };
        assert_eq!(run(None), (vec![1, 1, 20, 10], vec![1.0, 1.0, 2.0, 0.5]));
        assert_eq!(run(Some(false)), (vec![1, 1, 5, 10], vec![1.0, 1.0, 0.5, 0.5]));
        assert_eq!(run(Some(true)), (vec![1, 1, 20, 40], vec![1.0, 1.0, 2.0, 2.0]));
    }

    #[test]
    fn an_extent_between_two_integers_is_rounded_up() {
        // 7 · 9/14 is 9/2, though an f32 of 9/14 is a little less.
        let (mut sizes, mut scales) = (vec![0; 2], vec![0.0; 2]);
        fit(&[14, 7], &[0, 1], &[9, 100], Some(false), &mut sizes, &mut scales).unwrap();
        assert_eq!((sizes, scales), (vec![9, 5], vec![9.0 / 14.0; 2]));
    }
}
