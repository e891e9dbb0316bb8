//! A picture with its padding around it: for layers whose padding is not zero, or whose kernels have all taps inside.
//!
//! ```text
//!   x x x        z z z z z
//!   x x x   →    z x x x z       a 3×3 window with a padding of 1
//!                z x x x z
//!                z z z z z
//! ```

use nnc_ir::op::{Pad, PadMode};

use super::PlanError;
use super::fits::KernelLayer;
use super::image::Image;
use super::packing::QUAD;
use super::pitch::Extent;
use super::planner::Planner;
use super::sweep::Axis;
use crate::code::float::Float;

impl KernelLayer {
    /// Whether no window reaches beyond the picture.
    pub(super) fn is_inside(&self) -> bool {
        border(self.axes.0) == (0, 0) && border(self.axes.1) == (0, 0)
    }
}

/// Elements before the first, and behind the last, that windows reach.
pub(super) fn border(axis: Axis) -> (usize, usize) {
    let end = (axis.output - 1) * axis.stride + (axis.kernel - 1) * axis.dilation + 1;
    let before = axis.pad.max(0) as usize;
    (before, (end as isize - axis.pad - axis.input as isize).max(0) as usize)
}

impl Planner<'_> {
    /// The picture with what stands for zero around it, and the layer that slides over that.
    pub(super) fn bordered(
        &mut self,
        layer: &mut KernelLayer,
        image: &Image,
        float: Float,
        zero: i32,
    ) -> Result<Image, PlanError> {
        let id = layer.node;
        let name = format!("{}.border", self.graph.node(id).name);
        let channels = image.channels();
        let [y, x] = [layer.axes.0, layer.axes.1].map(border);
        let extent = Extent { h: image.extent.h + y.0 + y.1, w: image.extent.w + x.0 + x.1, ..image.extent };
        let depth = channels / layer.groups;
        let slots = channels - depth + depth.next_multiple_of(QUAD);
        let buffer = self.image_buffer(&name, extent, slots, float);
        let around = Image::contiguous(extent, channels, buffer, 0);
        let from = match self.image_view(image) {
            Some(view) => view,
            None => {
                let gathered = self.relayout(id, image, "its operator reads channels at equal distances")?;
                let refused = || PlanError::Internal("a gathered image is not regular".into());
                self.image_view(&gathered).ok_or_else(refused)?
            }
        };
        let refused = || PlanError::Internal(format!("\"{name}\" has no layout"));
        let to = self.image_view(&around).ok_or_else(refused)?;
        let pad = Pad {
            mode: PadMode::Constant(zero.into()),
            begin: vec![0, 0, y.0 as isize, x.0 as isize],
            end: vec![0, 0, y.1 as isize, x.1 as isize],
        };
        let why = match float {
            Float::U8 => "its padding is the zero point",
            Float::F32 | Float::F16 | Float::Bf16 => "matrix registers have all taps inside",
        };
        self.generic_steps(id, &name, &pad.into(), &[Some(from)], &[to], Some(why))?;
        for (axis, (before, after)) in [(&mut layer.axes.0, y), (&mut layer.axes.1, x)] {
            axis.input += before + after;
            axis.pad -= before as isize;
        }
        Ok(around)
    }
}
