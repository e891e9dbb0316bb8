//! MatMulNBits: weights of 2, 4 or 8 bits, packed into bytes, with a scale for each block of a column.
//!
//! ```text
//!   B u8[N, blocks, bytes] ─▶ (>> 0, >> 4, & 15) ─▶ u8[N, blocks, block] ─ f32 ─ (− zero point) ─ · scale
//!                          ─▶ [N, K] ─ transposed ─▶ [K, N], what A is multiplied with
//! ```
//!
//! The lowest bits of a byte come first. Where the weights are constant, folding constants leaves the last matrix only.

use crate::graph::Value;
use crate::onnx::attribute::value;
use crate::onnx::error::NodeFault;
use crate::onnx::node::NodeReader;
use crate::onnx::ops::{Results, product};
use crate::op::elementwise::BinaryFn;
use crate::tensor::Tensor;
use crate::types::{DType, Shape};

/// How the weights lie.
struct PackedLayout {
    k: usize,
    n: usize,
    bits: usize,
    block: usize,
}

impl PackedLayout {
    fn read(n: &mut NodeReader<'_, '_>) -> Result<PackedLayout, NodeFault> {
        let mut extent = |name: &str| match n.attributes.int(name)? {
            Some(size) => usize::try_from(size)
                .ok()
                .filter(|size| *size > 0)
                .ok_or_else(|| value(name, format!("must be positive, it is {size}"))),
            None => Err(value(name, "is missing")),
        };
        let (k, columns, block) = (extent("K")?, extent("N")?, extent("block_size")?);
        let bits = n.attributes.count("bits", 4)?;
        if !matches!(bits, 2 | 4 | 8) {
            return Err(value("bits", format!("is {bits}, supported: 2, 4, 8")));
        }
        if !block.is_multiple_of(8 / bits) {
            return Err(value(
                "block_size",
                format!("is {block}, which does not fill bytes with {bits} bits each"),
            ));
        }
        Ok(PackedLayout { k, n: columns, bits, block })
    }

    /// Blocks of a column.
    fn blocks(&self) -> usize {
        self.k.div_ceil(self.block)
    }

    /// The numbers in the bytes of the last axis.
    fn unpacked(&self, n: &mut NodeReader<'_, '_>, bytes: Value) -> Result<Value, NodeFault> {
        if self.bits == 8 {
            return Ok(bytes);
        }
        let mut shape = n.shape(bytes).to_vec();
        let in_bytes = n.reshape(bytes, [&shape[..], &[1]].concat())?;
        let per_byte = 8 / self.bits;
        let shifts: Vec<u8> = (0..per_byte).map(|place| (place * self.bits) as u8).collect();
        let shifts = n.add_constant(Tensor::new(Shape::from(vec![per_byte]), &shifts)?);
        let shifted = n.binary(BinaryFn::ShiftRight, in_bytes, shifts)?;
        let mask = n.scalar(DType::U8, f64::from((1u32 << self.bits) - 1))?;
        let numbers = n.binary(BinaryFn::BitAnd, shifted, mask)?;
        if let Some(last) = shape.last_mut() {
            *last = last.checked_mul(per_byte).ok_or(crate::op::OpError::Overflow)?;
        }
        n.reshape(numbers, shape)
    }

    /// One number for each block of each column, as `[N, blocks, 1]`.
    fn of_blocks(&self, n: &mut NodeReader<'_, '_>, v: Value, name: &str) -> Result<Value, NodeFault> {
        self.check(n, v, name, product(&[self.n, self.blocks()])?)?;
        n.reshape(v, [self.n, self.blocks(), 1])
    }

    fn check(&self, n: &NodeReader<'_, '_>, v: Value, name: &str, elems: usize) -> Result<(), NodeFault> {
        if product(&n.shape(v))? == elems {
            return Ok(());
        }
        Err(NodeFault::invalid(format!(
            "{name} is {}, but {} columns of {} blocks need {elems} elements",
            n.ty(v),
            self.n,
            self.blocks()
        )))
    }

    /// What is taken from the numbers before they are scaled: half of their range, unless said otherwise.
    fn zero_points(
        &self,
        n: &mut NodeReader<'_, '_>,
        given: Option<Value>,
        wide: DType,
    ) -> Result<Value, NodeFault> {
        let Some(given) = given else {
            return n.scalar(wide, f64::from(1u32 << (self.bits - 1)));
        };
        if n.dtype(given) != DType::U8 {
            let given = n.cast(given, wide)?;
            return self.of_blocks(n, given, "zero_points");
        }
        // Packed like the weights, each column in bytes of its own.
        let bytes = self.blocks().div_ceil(8 / self.bits);
        self.check(n, given, "zero_points", product(&[self.n, bytes])?)?;
        let rows = n.reshape(given, [self.n, bytes])?;
        let numbers = self.unpacked(n, rows)?;
        let numbers = n.part(numbers, 1, 0, self.blocks(), 1)?;
        let numbers = n.cast(numbers, wide)?;
        n.reshape(numbers, [self.n, self.blocks(), 1])
    }
}

/// MatMulNBits. The attribute `accuracy_level` allows kernels to round A; none does here.
pub(in crate::onnx) fn mat_mul(n: &mut NodeReader<'_, '_>) -> Results {
    let (a, b, scales) = (n.operand(0, "A")?, n.operand(1, "B")?, n.operand(2, "scales")?);
    let (zero_points, bias) = (n.optional(3)?, n.optional(5)?);
    if n.optional(4)?.is_some() {
        return Err(NodeFault::unsupported("blocks by index (operand 4, g_idx); quantise without act_order"));
    }
    let packing = PackedLayout::read(n)?;
    n.attributes.ignore("accuracy_level");
    // A tuned kernel's own order of the weights, where it is not 0.
    if n.attributes.int("weight_prepacked")?.unwrap_or(0) != 0 {
        return Err(value(
            "weight_prepacked",
            "asks for the order of one kernel; export the weights as they are",
        ));
    }
    let to = n.dtype(a);
    let wide = DType::F32;
    let (blocks, block) = (packing.blocks(), packing.block);
    let in_block = block * packing.bits / 8;
    packing.check(n, b, "B", product(&[packing.n, blocks, in_block])?)?;
    let bytes = n.reshape(b, [packing.n, blocks, in_block])?;
    let numbers = packing.unpacked(n, bytes)?;
    let numbers = n.cast(numbers, wide)?;
    let zero = packing.zero_points(n, zero_points, wide)?;
    let centred = n.binary(BinaryFn::Sub, numbers, zero)?;
    let scales = n.cast(scales, wide)?;
    let scales = packing.of_blocks(n, scales, "scales")?;
    let weights = n.binary(BinaryFn::Mul, centred, scales)?;
    let weights = n.reshape(weights, [packing.n, product(&[blocks, block])?])?;
    let weights = n.part(weights, 1, 0, packing.k, 1)?;
    let weights = n.transpose(weights, &[1, 0])?;
    let weights = n.cast(weights, to)?;
    let y = n.mat_mul(a, weights)?;
    Ok(vec![match bias {
        Some(bias) => super::activation::along_last(n, y, bias)?,
        None => y,
    }])
}
