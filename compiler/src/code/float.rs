//! Floats as they lie in memory. In registers all of them are `f32`: half floats are widened when they are loaded and
//! rounded, ties to even, when they are stored.

use std::borrow::Cow;

use nnc_ir::{DType, Tensor};

/// The type of a float in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Float {
    /// IEEE single precision.
    #[default]
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of an `f32`.
    Bf16,
    /// A whole number from 0 to 255. What is stored is rounded to the nearest one, ties to even; NaN is 0.
    U8,
}

impl Float {
    /// Those of networks that are not quantised.
    pub const ALL: [Float; 3] = [Float::F32, Float::F16, Float::Bf16];

    /// The float of an element type, if it is one that registers hold as `f32`.
    pub const fn of(dtype: DType) -> Option<Float> {
        match dtype {
            DType::F32 => Some(Float::F32),
            DType::F16 => Some(Float::F16),
            DType::BF16 => Some(Float::Bf16),
            DType::F64
            | DType::I8
            | DType::U8
            | DType::I16
            | DType::U16
            | DType::I32
            | DType::U32
            | DType::I64
            | DType::U64
            | DType::Bool => None,
        }
    }

    /// The same, with the bytes of quantised images, which kernels compute with in `f32`, too.
    pub const fn stored(dtype: DType) -> Option<Float> {
        match dtype {
            DType::U8 => Some(Float::U8),
            dtype => Float::of(dtype),
        }
    }

    /// The element type.
    pub const fn dtype(self) -> DType {
        match self {
            Float::F32 => DType::F32,
            Float::F16 => DType::F16,
            Float::Bf16 => DType::BF16,
            Float::U8 => DType::U8,
        }
    }

    /// The size in bytes.
    pub const fn bytes(self) -> u32 {
        match self {
            Float::F32 => 4,
            Float::F16 | Float::Bf16 => 2,
            Float::U8 => 1,
        }
    }

    /// The bytes of so many.
    pub const fn span(self, n: u32) -> i64 {
        self.bytes() as i64 * n as i64
    }

    /// Whether it takes half of an `f32`.
    pub const fn is_half(self) -> bool {
        matches!(self, Float::F16 | Float::Bf16)
    }

    /// Whether it has to be converted on its way between memory and registers.
    pub const fn is_narrow(self) -> bool {
        !matches!(self, Float::F32)
    }

    /// A word for kernel names.
    pub const fn word(self) -> &'static str {
        match self {
            Float::F32 => "f32",
            Float::F16 => "f16",
            Float::Bf16 => "bf16",
            Float::U8 => "u8",
        }
    }

    /// The elements of a tensor, half floats widened; `None` for other elements. Copied where their bytes are not those of
    /// `f32`, or not aligned.
    pub fn elems(tensor: &Tensor) -> Option<Cow<'_, [f32]>> {
        match Float::of(tensor.dtype())? {
            Float::F32 => tensor.elems::<f32>().ok(),
            narrow @ (Float::F16 | Float::Bf16 | Float::U8) => {
                let narrows = tensor.bytes().chunks_exact(narrow.bytes() as usize);
                Some(narrows.map(|bytes| narrow.read(bytes)).collect())
            }
        }
    }

    /// The value of its first bytes in memory; 0 where there are too few.
    pub fn read(self, memory: &[u8]) -> f32 {
        match (self, memory) {
            (Float::F32, &[a, b, c, d, ..]) => f32::from_le_bytes([a, b, c, d]),
            (Float::F16, &[a, b, ..]) => half::f16::from_le_bytes([a, b]).to_f32(),
            (Float::Bf16, &[a, b, ..]) => half::bf16::from_le_bytes([a, b]).to_f32(),
            (Float::U8, &[a, ..]) => f32::from(a),
            _ => 0.0,
        }
    }

    /// Writes a value to the first bytes of memory, where there are enough.
    pub fn write(self, value: f32, memory: &mut [u8]) {
        let put = |memory: &mut [u8], bytes: &[u8]| {
            if let Some(to) = memory.get_mut(..bytes.len()) {
                to.copy_from_slice(bytes);
            }
        };
        match self {
            Float::F32 => put(memory, &value.to_le_bytes()),
            Float::F16 => put(memory, &half::f16::from_f32(value).to_le_bytes()),
            Float::Bf16 => put(memory, &half::bf16::from_f32(value).to_le_bytes()),
            Float::U8 => put(memory, &[value.round_ties_even() as u8]),
        }
    }
}

/// The types of what a layer reads and writes. Weights, bias, scale and shift are `f32` whatever these are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Floats {
    /// Of the activations that are read.
    pub input: Float,
    /// Of the results.
    pub output: Float,
    /// Of the tensor that is added to the results, if one is.
    pub residual: Float,
}

impl Floats {
    /// The same type for all of them.
    pub const fn all(float: Float) -> Floats {
        Floats { input: float, output: float, residual: float }
    }

    /// A word for kernel names.
    pub fn word(self) -> String {
        match self.input == self.output {
            true => self.output.word().to_string(),
            false => format!("{}to{}", self.input.word(), self.output.word()),
        }
    }
}
