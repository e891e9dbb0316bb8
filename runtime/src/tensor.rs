//! Borrowed tensors: what a caller hands to a session and what it gets back.

use crate::abi::ElemType;

mod sealed {
    pub trait Sealed {}
}

/// A Rust type that is the element of a tensor; every pattern of its bits is a value.
pub trait Elem: sealed::Sealed + Copy + 'static {
    /// The element type it stands for.
    const ELEM: ElemType;
}

macro_rules! elem {
    ($($rust:ty => $elem:ident,)*) => {$(
        impl sealed::Sealed for $rust {}
        impl Elem for $rust {
            const ELEM: ElemType = ElemType::$elem;
        }
    )*};
}

elem! {
    f32 => F32, f64 => F64,
    u8 => U8, u16 => U16, u32 => U32, u64 => U64,
    i8 => I8, i16 => I16, i32 => I32, i64 => I64,
}

/// An input of a run: dense, row-major, in the model's axis order, aligned to its elements. By position unless named.
#[derive(Clone, Copy, Debug)]
pub struct InputRef<'a> {
    pub(crate) name: Option<&'a str>,
    pub(crate) elem: ElemType,
    pub(crate) bytes: &'a [u8],
    pub(crate) shape: Option<&'a [usize]>,
}

impl<'a> InputRef<'a> {
    /// A tensor of numbers.
    pub fn new<T: Elem>(data: &'a [T]) -> InputRef<'a> {
        // SAFETY: the same memory; an `Elem` has no padding, so every byte is initialised.
        let bytes = unsafe { std::slice::from_raw_parts(data.as_ptr().cast(), size_of_val(data)) };
        InputRef::from_bytes(T::ELEM, bytes)
    }

    /// A tensor of any element type, such as `F16` or `Bool`, in the machine's byte order.
    pub fn from_bytes(elem: ElemType, bytes: &'a [u8]) -> InputRef<'a> {
        InputRef { name: None, elem, bytes, shape: None }
    }

    /// The same for the input called `name`, whatever its position.
    pub fn named(self, name: &'a str) -> InputRef<'a> {
        InputRef { name: Some(name), ..self }
    }

    /// The same with extents, which have to be those of the input: else only its size in bytes has to be right.
    pub fn shaped(self, shape: &'a [usize]) -> InputRef<'a> {
        InputRef { shape: Some(shape), ..self }
    }

    /// The name of the input, if it was given.
    pub fn name(&self) -> Option<&'a str> {
        self.name
    }

    /// Its bytes.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The type of its elements.
    pub fn elem(&self) -> ElemType {
        self.elem
    }
}

impl<'a, T: Elem> From<&'a [T]> for InputRef<'a> {
    fn from(data: &'a [T]) -> InputRef<'a> {
        InputRef::new(data)
    }
}

/// Room for an output of a run, as [`InputRef`] is for an input.
#[derive(Debug)]
pub struct OutputMut<'a> {
    pub(crate) name: Option<&'a str>,
    pub(crate) elem: ElemType,
    pub(crate) bytes: &'a mut [u8],
    pub(crate) shape: Option<Vec<usize>>,
}

impl<'a> OutputMut<'a> {
    /// Room for numbers.
    pub fn new<T: Elem>(data: &'a mut [T]) -> OutputMut<'a> {
        let len = size_of_val(data);
        // SAFETY: the same memory; an `Elem` has no padding and takes any bits.
        let bytes = unsafe { std::slice::from_raw_parts_mut(data.as_mut_ptr().cast(), len) };
        OutputMut::from_bytes(T::ELEM, bytes)
    }

    /// Room for any element type, such as `F16` or `Bool`, in the machine's byte order.
    pub fn from_bytes(elem: ElemType, bytes: &'a mut [u8]) -> OutputMut<'a> {
        OutputMut { name: None, elem, bytes, shape: None }
    }

    /// The same for the output called `name`, whatever its position.
    pub fn named(self, name: &'a str) -> OutputMut<'a> {
        OutputMut { name: Some(name), ..self }
    }

    /// The same with extents, which have to be those of the output.
    pub fn shaped(self, shape: &[usize]) -> OutputMut<'a> {
        OutputMut { shape: Some(shape.to_vec()), ..self }
    }
}

impl<'a, T: Elem> From<&'a mut [T]> for OutputMut<'a> {
    fn from(data: &'a mut [T]) -> OutputMut<'a> {
        OutputMut::new(data)
    }
}
