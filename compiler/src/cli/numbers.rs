//! Tensors as numbers that can be compared.

use anyhow::Result;
use nnc_ir::{DType, Tensor};

/// All elements as `f64`.
pub fn numbers(tensor: &Tensor) -> Result<Vec<f64>> {
    macro_rules! to_f64 {
        ($t:ty) => {
            tensor.elems::<$t>()?.iter().map(|&e| e as f64).collect()
        };
    }
    Ok(match tensor.dtype() {
        DType::F32 => to_f64!(f32),
        DType::F64 => to_f64!(f64),
        DType::F16 => tensor.elems::<half::f16>()?.iter().map(|e| e.to_f64()).collect(),
        DType::BF16 => tensor.elems::<half::bf16>()?.iter().map(|e| e.to_f64()).collect(),
        DType::I8 => to_f64!(i8),
        DType::U8 => to_f64!(u8),
        DType::I16 => to_f64!(i16),
        DType::U16 => to_f64!(u16),
        DType::I32 => to_f64!(i32),
        DType::U32 => to_f64!(u32),
        DType::I64 => to_f64!(i64),
        DType::U64 => to_f64!(u64),
        DType::Bool => tensor.to_bools()?.into_iter().map(|b| f64::from(u8::from(b))).collect(),
    })
}
