//! Elements as numbers: every float as `f64`, every integer and boolean as `i128`.
//!
//! The evaluator computes in these two types whatever the tensors hold, and rounds once when it stores a result.
//! `f64` holds every `f32`, `f16` and `bf16` exactly, `i128` every integer; sums and products of `f32` in `f64` are
//! closer to the real numbers than any order of `f32` operations, which is what an oracle should be.

use super::OpError;
use crate::tensor::{Element, Tensor};
use crate::types::{DType, TensorType};

/// All elements of a tensor.
#[derive(Clone, Debug)]
pub(crate) enum Numbers {
    Floats(Vec<f64>),
    Integers(Vec<i128>),
}

/// Elements of any type.
pub(crate) fn numbers(t: &Tensor) -> Result<Numbers, OpError> {
    if t.dtype().is_float() { Ok(Numbers::Floats(floats(t)?)) } else { Ok(Numbers::Integers(integers(t)?)) }
}

/// Elements as floats; integers are rounded to the nearest.
pub(crate) fn floats(t: &Tensor) -> Result<Vec<f64>, OpError> {
    Ok(match t.dtype() {
        DType::F32 => t.elems::<f32>()?.iter().map(|&v| v as f64).collect(),
        DType::F64 => t.elems::<f64>()?.into_owned(),
        DType::F16 => t.elems::<half::f16>()?.iter().map(|v| v.to_f64()).collect(),
        DType::BF16 => t.elems::<half::bf16>()?.iter().map(|v| v.to_f64()).collect(),
        _ => integers(t)?.into_iter().map(|v| v as f64).collect(),
    })
}

/// Elements of an operand that may be left out.
pub(crate) fn optional_floats(t: Option<&Tensor>) -> Result<Option<Vec<f64>>, OpError> {
    t.map(floats).transpose()
}

/// Elements as integers; floats are cut towards zero, and saturate.
pub(crate) fn integers(t: &Tensor) -> Result<Vec<i128>, OpError> {
    fn all<T: Element + Into<i128>>(t: &Tensor) -> Result<Vec<i128>, OpError> {
        Ok(t.elems::<T>()?.iter().map(|&v| v.into()).collect())
    }
    match t.dtype() {
        DType::I8 => all::<i8>(t),
        DType::U8 => all::<u8>(t),
        DType::I16 => all::<i16>(t),
        DType::U16 => all::<u16>(t),
        DType::I32 => all::<i32>(t),
        DType::U32 => all::<u32>(t),
        DType::I64 => all::<i64>(t),
        DType::U64 => all::<u64>(t),
        DType::Bool => Ok(t.to_bools()?.into_iter().map(i128::from).collect()),
        _ => Ok(floats(t)?.into_iter().map(|v| v as i128).collect()),
    }
}

macro_rules! store {
    ($ty:ident, $values:ident, { $($dtype:ident => $convert:expr),* $(,)? }) => {
        match $ty.dtype {
            $(DType::$dtype => {
                let elems: Vec<_> = $values.iter().map($convert).collect();
                Ok(Tensor::from_bytes($ty, bytemuck::cast_slice(&elems).to_vec())?)
            })*
        }
    };
}

/// Rounds as the type does in which elements are computed: half floats are `f32` then. One operation in `f64`, rounded so,
/// is that operation in the type.
pub(crate) fn rounding(dtype: DType) -> fn(f64) -> f64 {
    match dtype {
        DType::F64 => |v| v,
        _ => |v| f64::from(v as f32),
    }
}

/// The `f32` that rounds to the half float nearest to `v`: the nearest one, or, where it is not exact, the one of the
/// two beside `v` whose mantissa is odd, which lies on no tie of a half float.
pub(crate) fn to_be_narrowed(v: f64) -> f32 {
    let near = v as f32;
    let back = f64::from(near);
    if back == v || v.is_nan() || near.to_bits() & 1 == 1 {
        return near;
    }
    let (bits, grows) = (near.to_bits(), back.abs() < v.abs());
    f32::from_bits(if grows { bits + 1 } else { bits - 1 })
}

/// An integer of up to 64 bits as `f64`, odd in the same sense where it is not exact.
fn odd(v: i128) -> f64 {
    const BEHIND: i128 = (1 << 11) - 1;
    match v.unsigned_abs() > 1 << 53 && v & BEHIND != 0 {
        true => (v & !BEHIND | (BEHIND + 1)) as f64,
        false => v as f64,
    }
}

/// A tensor of these floats, rounded to the nearest; into integers they are cut towards zero and saturate (NaN gives
/// 0), a boolean is "not zero".
pub(crate) fn from_floats(ty: TensorType, values: &[f64]) -> Result<Tensor, OpError> {
    store!(ty, values, {
        F32 => |&v| v as f32,
        F64 => |&v| v,
        F16 => |&v| half::f16::from_f32(to_be_narrowed(v)),
        BF16 => |&v| half::bf16::from_f32(to_be_narrowed(v)),
        I8 => |&v| v as i8,
        U8 => |&v| v as u8,
        I16 => |&v| v as i16,
        U16 => |&v| v as u16,
        I32 => |&v| v as i32,
        U32 => |&v| v as u32,
        I64 => |&v| v as i64,
        U64 => |&v| v as u64,
        Bool => |&v| (v != 0.0) as u8,
    })
}

/// A tensor of these integers; those that do not fit wrap around, a boolean is "not zero".
pub(crate) fn from_integers(ty: TensorType, values: &[i128]) -> Result<Tensor, OpError> {
    store!(ty, values, {
        F32 => |&v| v as f32,
        F64 => |&v| v as f64,
        F16 => |&v| half::f16::from_f32(to_be_narrowed(odd(v))),
        BF16 => |&v| half::bf16::from_f32(to_be_narrowed(odd(v))),
        I8 => |&v| v as i8,
        U8 => |&v| v as u8,
        I16 => |&v| v as i16,
        U16 => |&v| v as u16,
        I32 => |&v| v as i32,
        U32 => |&v| v as u32,
        I64 => |&v| v as i64,
        U64 => |&v| v as u64,
        Bool => |&v| (v != 0) as u8,
    })
}

/// The least and the largest integer of a type; `(0, 1)` for booleans, `(0, 0)` for floats.
pub(crate) fn integer_range(dtype: DType) -> (i128, i128) {
    let bits = 8 * dtype.bytes() as u32;
    match dtype {
        DType::I8 | DType::I16 | DType::I32 | DType::I64 => (-(1 << (bits - 1)), (1 << (bits - 1)) - 1),
        DType::U8 | DType::U16 | DType::U32 | DType::U64 => (0, (1 << bits) - 1),
        DType::Bool => (0, 1),
        DType::F32 | DType::F64 | DType::F16 | DType::BF16 => (0, 0),
    }
}

/// A number that the generic loops compute with. Integers wrap.
pub(crate) trait Number: Copy + PartialOrd {
    const ZERO: Self;
    fn add(self, o: Self) -> Self;
    fn mul(self, o: Self) -> Self;
    fn is_nan(self) -> bool;

    /// The larger one; NaN if there is one.
    fn max_nan(self, o: Self) -> Self {
        if o > self || o.is_nan() { o } else { self }
    }

    /// The smaller one; NaN if there is one.
    fn min_nan(self, o: Self) -> Self {
        if o < self || o.is_nan() { o } else { self }
    }
}

impl Number for f64 {
    const ZERO: f64 = 0.0;
    fn add(self, o: f64) -> f64 {
        self + o
    }
    fn mul(self, o: f64) -> f64 {
        self * o
    }
    fn is_nan(self) -> bool {
        f64::is_nan(self)
    }
}

impl Number for i128 {
    const ZERO: i128 = 0;
    fn add(self, o: i128) -> i128 {
        self.wrapping_add(o)
    }
    fn mul(self, o: i128) -> i128 {
        self.wrapping_mul(o)
    }
    fn is_nan(self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::testing::ty;

    #[test]
    fn every_type_holds_its_least_and_its_largest_number() {
        for dtype in DType::ALL.into_iter().filter(|dtype| !dtype.is_float()) {
            let (least, largest) = integer_range(dtype);
            let all = [least, 0, 1, largest];
            let stored = from_integers(ty(dtype, [4]), &all).unwrap();
            assert_eq!(integers(&stored).unwrap(), all, "{dtype}");
            assert_eq!(floats(&stored).unwrap(), all.map(|v| v as f64), "{dtype}");
            let beyond = from_floats(ty(dtype, [2]), &[f64::NEG_INFINITY, f64::INFINITY]).unwrap();
            let saturated = if dtype == DType::Bool { [1, 1] } else { [least, largest] };
            assert_eq!(integers(&beyond).unwrap(), saturated, "{dtype}");
            if dtype != DType::Bool {
                let wrapped = from_integers(ty(dtype, [2]), &[least - 1, largest + 1]).unwrap();
                assert_eq!(integers(&wrapped).unwrap(), [largest, least], "{dtype}");
            }
        }
        for dtype in DType::ALL.into_iter().filter(|dtype| dtype.is_float()) {
            let stored = from_floats(ty(dtype, [3]), &[-1.5, 0.0, 240.0]).unwrap();
            assert_eq!(floats(&stored).unwrap(), [-1.5, 0.0, 240.0], "{dtype}");
            assert_eq!(integers(&stored).unwrap(), [-1, 0, 240], "{dtype}");
            assert_eq!(stored, from_floats(ty(dtype, [3]), &floats(&stored).unwrap()).unwrap());
            assert_eq!(floats(&from_integers(ty(dtype, [2]), &[-3, 96]).unwrap()).unwrap(), [-3.0, 96.0]);
        }
    }

    #[test]
    fn results_of_f64_alone_are_not_rounded_to_f32() {
        let third = 1.0 / 3.0;
        assert_eq!(rounding(DType::F64)(third), third);
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            assert_eq!(rounding(dtype)(third), f64::from(1.0f32 / 3.0), "{dtype}");
        }
    }

    /// Numbers in ulps behind 1, where half floats are 2^-10 apart, rounded to half floats.
    fn half(ulps: f64, sign: f64) -> f64 {
        let ulp = 2f64.powi(-10);
        let stored = from_floats(ty(DType::F16, [1]), &[sign * (1.0 + ulps * ulp)]).unwrap();
        (floats(&stored).unwrap()[0] * sign - 1.0) / ulp
    }

    #[test]
    fn a_half_float_is_the_nearest_although_f32_lies_on_a_tie() {
        for sign in [1.0, -1.0] {
            assert_eq!([0.5, 1.5].map(|tie| half(tie, sign)), [0.0, 2.0], "a tie goes to the even one");
            // Less from the tie than f32 can tell; the f32 beside it; and in between, where f32 rounds to that.
            let f32_ulp = 2f64.powi(-13);
            for beside in [2f64.powi(-30), f32_ulp, f32_ulp - 2f64.powi(-30)] {
                assert_eq!([0.5, 1.5].map(|tie| half(tie + beside, sign)), [1.0, 2.0], "{beside} above");
                assert_eq!([0.5, 1.5].map(|tie| half(tie - beside, sign)), [0.0, 1.0], "{beside} below");
            }
        }
        assert!(floats(&from_floats(ty(DType::F16, [1]), &[f64::NAN]).unwrap()).unwrap()[0].is_nan());
    }

    /// A `bf16` has seven bits behind the first one, so the middle between 2^60 and the next one is 2^52 above it, which `f64` cannot tell from
    /// its neighbours.
    #[test]
    fn a_bf16_is_the_nearest_to_an_integer_although_f64_lies_on_a_tie() {
        let (first, half) = (1i128 << 60, 1i128 << 52);
        let nearest = |v: i128| integers(&from_integers(ty(DType::BF16, [1]), &[v]).unwrap()).unwrap()[0];
        for sign in [1, -1] {
            let rounded = |v: i128| nearest(sign * v) * sign;
            assert_eq!(rounded(first + half), first, "a tie goes to the even one");
            for beside in [1, 2047, 2048, 2049] {
                assert_eq!(rounded(first + half + beside), first + 2 * half, "{beside} above");
                assert_eq!(rounded(first + half - beside), first, "{beside} below");
            }
            assert_eq!([3, 1 << 53, 255].map(rounded), [3, 1 << 53, 255]);
        }
    }

    #[test]
    fn no_number_is_the_largest_and_the_smallest() {
        for (a, b, max, min) in [(1.0, 2.0, 2.0, 1.0), (2.0, 1.0, 2.0, 1.0), (-0.5, -0.5, -0.5, -0.5)] {
            assert_eq!((f64::max_nan(a, b), f64::min_nan(a, b)), (max, min));
            let (a, b) = ((a * 4.0) as i128, (b * 4.0) as i128);
            assert_eq!(
                (i128::max_nan(a, b), i128::min_nan(a, b)),
                ((max * 4.0) as i128, (min * 4.0) as i128)
            );
        }
        for (a, b) in [(f64::NAN, 1.0), (1.0, f64::NAN)] {
            assert!(a.max_nan(b).is_nan() && a.min_nan(b).is_nan());
        }
    }
}
