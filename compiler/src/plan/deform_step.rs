//! From a deformable convolution to a step that samples and products of matrices.
//!
//! ```text
//!   image, offset, mask ─ routine ─▶ samples [N, positions…, groups, taps · C / groups] ─ dense ─▶ image
//! ```
//!
//! A position's samples are a row, the kernels are the columns, and a group of channels is a product of its own.

use nnc_ir::op::shape::Transpose;
use nnc_ir::op::{DeformConv, Op};
use nnc_ir::{DType, NodeId, OpError, Tensor, TensorType, Value};

use super::PlanError;
use super::generic::{self, SampleLayout};
use super::generic_step::GenericWork;
use super::image::Image;
use super::planner::{Place, Planner};
use super::product_step::{Multiplication, Operands};
use crate::code::float::Float;
use crate::code::tile::programs::epilogue::KernelEpilogue;
use crate::code::view::View;

impl Planner<'_> {
    /// Plans a deformable convolution whose weights and bias are known. Others are left to loop nests.
    pub(super) fn deformed(&mut self, id: NodeId, conv: &DeformConv) -> Result<bool, PlanError> {
        let output = Value::from(id);
        let operand = |index: usize| self.graph.operand(id, index);
        let known = |index: usize| operand(index).map(|value| self.graph.constant(value).cloned());
        let (weights, bias) = (known(DeformConv::W).flatten(), known(DeformConv::B));
        let ty = self.graph.ty(output).clone();
        let (Some(weights), false, Some(_)) = (weights, bias == Some(None), Float::of(ty.dtype)) else {
            return Ok(false);
        };
        let Some(x) = operand(DeformConv::X).map(|x| self.graph.ty(x).clone()) else { return Ok(false) };
        let layout = SampleLayout::of(conv, &x.shape, &ty.shape);
        if ty.shape.elems() == 0 || weights.shape().elems() == 0 {
            return Ok(false);
        }
        let name = self.graph.node(id).name.clone();
        let mut inputs = Vec::new();
        for (index, value) in self.graph.operands(id).into_iter().enumerate() {
            let read = ![DeformConv::W, DeformConv::B].contains(&index);
            inputs.push(value.filter(|_| read).map(|value| self.view_or_gather(id, value)).transpose()?);
        }
        let sampled = format!("{name}.samples");
        let samples = self.temporary(&sampled, &TensorType::new(DType::F32, layout.shape()));
        let what = GenericWork {
            id,
            name: &sampled,
            op: "DeformConv",
            follows: false,
            note: Some("the image at each tap of each position"),
        };
        self.lowered_steps(what, |temp, constant, _| {
            generic::samples(conv, &layout, &inputs, &samples, temp, constant)
        })?;

        let channels = ty.shape[1];
        let (buffer, at) = self.output_slots(output, channels, true);
        let image = Image::contiguous(self.extent(output), channels, buffer, at);
        let misfit = || PlanError::Internal("the operands of a deformable convolution do not fit".into());
        let result = self.value_view(output, &image).ok_or_else(misfit)?;
        let result = result.permuted(&[0, 2, 3, 1]).ok_or_else(misfit)?;
        let (rows, columns) = (layout.rows(), channels / conv.groups);
        let weights = in_order_of_taps(&weights)?;
        for group in 0..conv.groups {
            let out = result.sliced(3, group * columns, 1, columns).ok_or_else(misfit)?;
            let a = samples.reshaped(&[&rows[..], &[conv.groups, layout.depth()]].concat());
            let a = a.and_then(|a| a.sliced(3, group, 1, 1)?.without_axis(3)).ok_or_else(misfit)?;
            let part = |tensor: &Tensor, shape: &[usize]| {
                let bytes = shape.iter().product::<usize>() * tensor.dtype().bytes();
                let bytes = tensor.bytes().get(group * bytes..(group + 1) * bytes).unwrap_or_default();
                Tensor::from_bytes(TensorType::new(tensor.dtype(), shape.to_vec()), bytes.to_vec())
            };
            let b = View::dense(0, DType::F32, [layout.depth(), columns]);
            let b = b.broadcast(&[&rows[..2], &[layout.depth(), columns]].concat()).ok_or_else(misfit)?;
            let bias = bias.as_ref().and_then(Option::as_ref);
            self.multiplied(Multiplication {
                node: id,
                operands: Operands { a, b, out, residual: None },
                constant: Some((part(&weights, &[columns, layout.depth()])?, true)),
                bias: bias.map(|bias| part(bias, &[columns])).transpose()?,
                of_rows: None,
                epilogue: KernelEpilogue { bias: bias.is_some(), ..KernelEpilogue::default() },
                counts: group == 0,
            })?;
        }
        self.place(output, Place::Image(image));
        Ok(true)
    }
}

/// Weights `[M, C / groups, kernel…]` as `[M, kernel…, C / groups]`.
fn in_order_of_taps(weights: &Tensor) -> Result<Tensor, OpError> {
    let order = Op::from(Transpose { perm: vec![0, 2, 3, 1] });
    let mut turned = order.eval(&[Some(weights)])?;
    turned.pop().ok_or_else(|| OpError::mismatch("a transpose has no result"))
}
