//! Constant data: weights, shapes, tables, and the values that the evaluator computes with.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytemuck::{AnyBitPattern, NoUninit};

use crate::block::{Block, LARGE, Store};
use crate::factors::{Factors, Scaled};
use crate::types::{DType, Shape, TensorType};

/// A dense row-major tensor. The bytes are shared, so a clone costs nothing; they may stand at any alignment
/// (they are often taken as they are out of a parsed model).
#[derive(Clone)]
pub struct Tensor {
    ty: TensorType,
    data: Arc<Block>,
    /// The tensor's part of `data`.
    place: Range<usize>,
}

impl PartialEq for Tensor {
    fn eq(&self, other: &Tensor) -> bool {
        self.ty == other.ty && self.same_bytes(other)
    }
}

/// A Rust type that is the element type of a tensor.
pub trait Element: NoUninit + AnyBitPattern {
    /// The matching element type.
    const DTYPE: DType;
}

macro_rules! elements {
    ($($t:ty => $d:ident),*) => { $(impl Element for $t { const DTYPE: DType = DType::$d; })* };
}
elements!(f32 => F32, f64 => F64, i8 => I8, u8 => U8, i16 => I16, u16 => U16, i32 => I32, u32 => U32, i64 => I64,
    u64 => U64, half::f16 => F16, half::bf16 => BF16);

/// Why bytes or elements do not make a tensor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TensorError {
    /// The data are too long or too short for the shape.
    #[error("{ty} needs {expected} bytes of data, got {got}")]
    Length {
        /// The type asked for.
        ty: TensorType,
        /// Bytes it needs.
        expected: usize,
        /// Bytes there are.
        got: usize,
    },
    /// The shape holds more elements than memory can.
    #[error("the number of elements of shape {0} overflows")]
    Overflow(Shape),
    /// There is no memory for the data.
    #[error("there is no memory for its {0} bytes; free some, or use a smaller model")]
    Memory(usize),
    /// The elements were asked for as another type.
    #[error("expected elements of type {expected}, the tensor has {got}")]
    DType {
        /// The type asked for.
        expected: DType,
        /// The type it has.
        got: DType,
    },
}

/// Which bytes of a model's file a tensor is: see [`Tensor::origin`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TensorOrigin {
    store: usize,
    at: u64,
    len: usize,
}

impl Tensor {
    /// A tensor over these bytes (little endian, row-major); `bool` is one byte, 0 or 1.
    pub fn from_bytes(ty: TensorType, data: Vec<u8>) -> Result<Tensor, TensorError> {
        let place = 0..data.len();
        Tensor::from_shared(ty, &Arc::new(data.into()), place)
    }

    /// A tensor of zeros.
    pub fn zeros(ty: TensorType) -> Result<Tensor, TensorError> {
        let bytes = size(&ty)?;
        let data = Block::zeroed(bytes).ok_or(TensorError::Memory(bytes))?;
        let place = 0..data.len();
        Ok(Tensor { ty, data: Arc::new(data), place })
    }

    /// A tensor over bytes that are read when somebody looks at them.
    pub(crate) fn stored(ty: TensorType, store: Arc<dyn Store>, at: u64) -> Result<Tensor, TensorError> {
        let bytes = size(&ty)?;
        let data = Block::stored(store, at, bytes).ok_or(TensorError::Memory(bytes))?;
        Ok(Tensor { ty, data: Arc::new(data), place: 0..bytes })
    }

    /// A tensor over a part of bytes that others share, and which it keeps alive as a whole.
    pub(crate) fn from_shared(
        ty: TensorType,
        data: &Arc<Block>,
        place: Range<usize>,
    ) -> Result<Tensor, TensorError> {
        let expected = size(&ty)?;
        let inside = place.start <= place.end && place.end <= data.len();
        let got = if inside { place.len() } else { 0 };
        if expected != got {
            return Err(TensorError::Length { ty, expected, got });
        }
        // A place outside of the data is as good as an empty one from here on.
        let place = if got == 0 { 0..0 } else { place };
        Ok(Tensor { ty, data: Arc::clone(data), place })
    }

    /// A tensor of these elements.
    pub fn new<T: Element>(shape: impl Into<Shape>, elems: &[T]) -> Result<Tensor, TensorError> {
        Tensor::from_bytes(TensorType::new(T::DTYPE, shape), bytemuck::cast_slice(elems).to_vec())
    }

    /// A tensor of booleans.
    pub fn bools(shape: impl Into<Shape>, elems: &[bool]) -> Result<Tensor, TensorError> {
        Tensor::from_bytes(TensorType::new(DType::Bool, shape), elems.iter().map(|&b| b as u8).collect())
    }

    /// Its type.
    pub fn ty(&self) -> &TensorType {
        &self.ty
    }

    /// Its element type.
    pub fn dtype(&self) -> DType {
        self.ty.dtype
    }

    /// Its shape.
    pub fn shape(&self) -> &Shape {
        &self.ty.shape
    }

    /// The bytes, row-major, little endian. Those of a large initializer may still be in the model's file; then they are read
    /// now, and stay in memory as long as the tensor.
    pub fn bytes(&self) -> &[u8] {
        self.data.get(self.place.clone()).unwrap_or_default()
    }

    /// Copies the bytes of a part, which must be as many as `to` has. Of a tensor that is still in a file, no more is read.
    ///
    /// # Panics
    ///
    /// The tensor has no such part.
    pub fn read(&self, part: Range<usize>, to: &mut [u8]) {
        assert!(part.len() == to.len() && part.end <= self.place.len(), "a part of the tensor");
        self.data.read(self.place.start + part.start..self.place.start + part.end, to);
    }

    /// A name for the bytes of a tensor that is in a model's file, in memory or not: as long as the model lives, whatever has
    /// the same name is the same bytes.
    pub fn origin(&self) -> Option<TensorOrigin> {
        let (store, at) = self.data.origin()?;
        Some(TensorOrigin { store, at: at + self.place.start as u64, len: self.place.len() })
    }

    /// The bytes of a part where the whole tensor is in memory.
    pub fn at_hand(&self, part: Range<usize>) -> Option<&[u8]> {
        self.data.at_hand()?.get(self.place.clone())?.get(part)
    }

    /// The tensor of a type whose bytes begin at a place of this one, where that is still in a file and large: the piece stays
    /// there, too.
    pub(crate) fn piece_in_file(&self, ty: &TensorType, at: usize) -> Option<Tensor> {
        let bytes = size(ty).ok().filter(|&bytes| bytes >= LARGE && at + bytes <= self.place.len())?;
        let data = self.data.piece_in_file(self.place.start + at, bytes)?;
        Some(Tensor { ty: ty.clone(), data: Arc::new(data), place: 0..bytes })
    }

    /// Whether two tensors have the same bytes. No more of them are in memory afterwards.
    pub fn same_bytes(&self, other: &Tensor) -> bool {
        if self.place.len() != other.place.len() {
            return false;
        }
        if Arc::ptr_eq(&self.data, &other.data) && self.place == other.place {
            return true;
        }
        const PIECE: usize = 4 << 10;
        let mut pieces = [[0; PIECE]; 2];
        let [a, b] = &mut pieces;
        (0..self.place.len()).step_by(PIECE).all(|at| {
            let part = at..self.place.len().min(at + PIECE);
            self.piece(part.clone(), a) == other.piece(part, b)
        })
    }

    /// A part: where it is, or copied to the beginning of `to`.
    fn piece<'t>(&'t self, part: Range<usize>, to: &'t mut [u8]) -> &'t [u8] {
        self.at_hand(part.clone()).unwrap_or_else(|| {
            let to = &mut to[..part.len()];
            self.read(part, to);
            to
        })
    }

    /// The bytes, to be changed: in place when no other tensor shares them, else in a copy.
    ///
    /// # Errors
    ///
    /// There is no memory for the copy.
    pub fn bytes_mut(&mut self) -> Result<&mut [u8], TensorError> {
        if self.place.len() != self.data.len() || Arc::get_mut(&mut self.data).is_none() {
            let own = Block::copy_of(self.bytes()).ok_or(TensorError::Memory(self.bytes().len()))?;
            (self.place, self.data) = (0..own.len(), Arc::new(own));
        }
        Ok(Arc::get_mut(&mut self.data).map(|data| &mut data[..]).unwrap_or_default())
    }

    /// Multiplies the elements, `f32`, by factors. Those that are still in a model's file stay there, and whoever reads a part gets
    /// the products. `false` where there are too few factors, or there is no memory: then nothing has changed.
    pub fn scale(&mut self, factors: Factors) -> bool {
        let whole = self.place == (0..self.data.len());
        if self.dtype() != DType::F32 || !factors.suffice(self.place.len() / 4) {
            return false;
        }
        if whole && self.data.at_hand().is_none() {
            let store: Arc<dyn Store> = Arc::new(Scaled { weights: self.clone(), factors });
            let products = Tensor::stored(self.ty.clone(), store, 0);
            return products.map(|products| *self = products).is_ok();
        }
        let bytes = self.bytes_mut();
        bytes.map(|bytes| factors.apply(0, bytes.as_chunks_mut::<4>().0)).is_ok()
    }

    /// The weights and factors whose products this is, if nobody has had to multiply them yet, or changed them since.
    pub fn products(&self) -> Option<(&Tensor, &Factors)> {
        let scaled = self.data.scaled().filter(|_| self.place == (0..self.data.len()))?;
        Some((&scaled.weights, &scaled.factors))
    }

    /// The elements; borrowed when the bytes happen to be aligned, else copied.
    pub fn elems<T: Element>(&self) -> Result<Cow<'_, [T]>, TensorError> {
        if T::DTYPE != self.ty.dtype {
            return Err(TensorError::DType { expected: T::DTYPE, got: self.ty.dtype });
        }
        Ok(match bytemuck::try_cast_slice(self.bytes()) {
            Ok(slice) => Cow::Borrowed(slice),
            Err(_) => Cow::Owned(bytemuck::pod_collect_to_vec(self.bytes())),
        })
    }

    /// The elements of a `bool` tensor.
    pub fn to_bools(&self) -> Result<Vec<bool>, TensorError> {
        if self.ty.dtype != DType::Bool {
            return Err(TensorError::DType { expected: DType::Bool, got: self.ty.dtype });
        }
        Ok(self.bytes().iter().map(|&b| b != 0).collect())
    }

    /// The same data under another shape of as many elements.
    pub fn reshaped(&self, shape: impl Into<Shape>) -> Result<Tensor, TensorError> {
        let ty = TensorType::new(self.ty.dtype, shape);
        let expected = ty.shape.checked_elems().and_then(|n| n.checked_mul(ty.dtype.bytes()));
        match expected {
            Some(n) if n == self.place.len() => {
                Ok(Tensor { ty, data: self.data.clone(), place: self.place.clone() })
            }
            Some(n) => Err(TensorError::Length { ty, expected: n, got: self.place.len() }),
            None => Err(TensorError::Overflow(ty.shape)),
        }
    }
}

/// Bytes that a tensor of this type takes.
fn size(ty: &TensorType) -> Result<usize, TensorError> {
    let bytes = ty.shape.checked_elems().and_then(|n| n.checked_mul(ty.dtype.bytes()));
    bytes.ok_or_else(|| TensorError::Overflow(ty.shape.clone()))
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor({})", self.ty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_nobody_shares_are_changed_in_place() {
        let mut alone = Tensor::new([2], &[1.0f32, 2.0]).unwrap();
        let address = alone.bytes().as_ptr();
        alone.bytes_mut().unwrap()[..4].copy_from_slice(&3.0f32.to_le_bytes());
        assert_eq!(alone.elems::<f32>().unwrap()[..], [3.0, 2.0]);
        assert_eq!(alone.bytes().as_ptr(), address);
    }

    #[test]
    fn a_change_does_not_show_in_other_tensors_over_the_same_bytes() {
        let shared = Arc::new(Block::from(vec![1, 2, 3, 4]));
        let ty = |n: usize| TensorType::new(DType::U8, [n]);
        let mut part = Tensor::from_shared(ty(2), &shared, 1..3).unwrap();
        let whole = Tensor::from_shared(ty(4), &shared, 0..4).unwrap();
        drop(shared);
        let mut clone = whole.clone();
        part.bytes_mut().unwrap().fill(9);
        clone.bytes_mut().unwrap().fill(8);
        assert_eq!(
            (part.bytes(), clone.bytes(), whole.bytes()),
            (&[9; 2][..], &[8; 4][..], &[1, 2, 3, 4][..])
        );
    }

    #[test]
    fn zeros_take_the_bytes_of_their_type() {
        let tensor = Tensor::zeros(TensorType::new(DType::U16, [3])).unwrap();
        assert_eq!(tensor.bytes(), [0; 6]);
        let huge = TensorType::new(DType::F32, [usize::MAX, 2]);
        assert!(matches!(Tensor::zeros(huge), Err(TensorError::Overflow(_))));
    }
}
