//! Arrays of NumPy as tensors. What is dense and in the machine's byte order is taken as it lies; nothing is copied here.

use nnc_ir::DType;
use nnc_runtime::abi::ElemType;
use nnc_runtime::{InputRef, OutputMut};
use numpy::npyffi::NPY_ARRAY_WRITEABLE;
use numpy::{PyArrayDescrMethods, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyModule;

use crate::error::Kind;

/// An array that a run reads or writes: its memory, which lives while the array is held.
#[derive(Debug)]
pub struct Dense<'py> {
    array: Bound<'py, PyUntypedArray>,
    elem: ElemType,
    place: Place,
}

/// Where an array's elements lie.
#[derive(Clone, Copy, Debug)]
struct Place {
    start: *mut u8,
    bytes: usize,
}

impl Place {
    fn meets(self, other: Place) -> bool {
        let range = |place: Place| (place.start.addr(), place.start.addr() + place.bytes);
        let ((a, a_end), (b, b_end)) = (range(self), range(other));
        a < b_end && b < a_end
    }
}

/// How an array differs from what can be taken as it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// Its elements have no counterpart: strings, objects, structs.
    Elements,
    /// It is strided, swapped or misaligned; a copy would do.
    Layout,
}

impl<'py> Dense<'py> {
    /// Of an array that is dense, row-major, aligned and in the machine's byte order.
    pub fn new(array: Bound<'py, PyUntypedArray>) -> Result<Dense<'py>, Unfit> {
        let elem = elem(&array).ok_or(Unfit::Elements)?;
        let native = array.dtype().is_native_byteorder() != Some(false);
        if !native || !array.is_c_contiguous() || !array.is_aligned() {
            return Err(Unfit::Layout);
        }
        // SAFETY: the object is an array, as its type says, and lives as long as `array`.
        let start = unsafe { (*array.as_array_ptr()).fields.data }.cast::<u8>();
        let place = Place { start, bytes: array.len() * elem.bytes() };
        Ok(Dense { array, elem, place })
    }

    /// The type of its elements.
    pub fn elem(&self) -> ElemType {
        self.elem
    }

    /// Its extents.
    pub fn shape(&self) -> &[usize] {
        self.array.shape()
    }

    /// Whether its elements may be written.
    pub fn is_writable(&self) -> bool {
        // SAFETY: the object is an array, as its type says, and lives as long as `array`.
        unsafe { (*self.array.as_array_ptr()).fields.flags & NPY_ARRAY_WRITEABLE != 0 }
    }

    /// The array.
    pub fn array(&self) -> &Bound<'py, PyUntypedArray> {
        &self.array
    }

    /// Its elements as they lie in memory.
    pub fn bytes(&self) -> &[u8] {
        if self.place.bytes == 0 {
            return &[];
        }
        // SAFETY: a dense array has so many bytes there, for as long as it is held. That nobody writes to them while a run reads
        // them is asked of every caller, as NumPy asks it of those who compute with arrays in several threads.
        unsafe { std::slice::from_raw_parts(self.place.start, self.place.bytes) }
    }

    /// It as an input of a run.
    pub fn input(&self) -> InputRef<'_> {
        InputRef::from_bytes(self.elem, self.bytes())
    }
}

/// Arrays that a run writes, none of which shares memory with another one or with an input.
#[derive(Debug)]
pub struct Room<'py>(Vec<Dense<'py>>);

impl<'py> Room<'py> {
    /// Checks that they lie apart.
    pub fn new(py: Python<'py>, room: Vec<Dense<'py>>, inputs: &[&Dense<'py>]) -> PyResult<Room<'py>> {
        for (at, output) in room.iter().enumerate() {
            let mut others = room[..at].iter().chain(inputs.iter().copied());
            if others.any(|other| other.place.meets(output.place)) {
                let text = format!(
                    "the array for output {at} shares memory with another array of the run; give it memory of its own"
                );
                return Err(Kind::Input.says(py, text));
            }
        }
        Ok(Room(room))
    }

    /// They as outputs of a run.
    pub fn outputs(&mut self) -> Vec<OutputMut<'_>> {
        let output = |dense: &mut Dense<'_>| {
            let bytes = match dense.place.bytes {
                0 => &mut [],
                // SAFETY: a dense array has so many bytes there; they are ours for the run, as `new` has checked that no other array
                // of the run has them, and callers are asked to leave arrays alone that a run writes.
                bytes => unsafe { std::slice::from_raw_parts_mut(dense.place.start, bytes) },
            };
            OutputMut::from_bytes(dense.elem, bytes)
        };
        self.0.iter_mut().map(output).collect()
    }

    /// The arrays.
    pub fn into_arrays(self) -> Vec<Bound<'py, PyUntypedArray>> {
        self.0.into_iter().map(|dense| dense.array).collect()
    }
}

/// The element types, as NumPy calls them. `ml_dtypes` adds the last one, which NumPy does not have of its own.
const TYPES: [(ElemType, DType, &str); 13] = [
    (ElemType::F32, DType::F32, "float32"),
    (ElemType::F64, DType::F64, "float64"),
    (ElemType::F16, DType::F16, "float16"),
    (ElemType::U8, DType::U8, "uint8"),
    (ElemType::U16, DType::U16, "uint16"),
    (ElemType::U32, DType::U32, "uint32"),
    (ElemType::U64, DType::U64, "uint64"),
    (ElemType::I8, DType::I8, "int8"),
    (ElemType::I16, DType::I16, "int16"),
    (ElemType::I32, DType::I32, "int32"),
    (ElemType::I64, DType::I64, "int64"),
    (ElemType::Bool, DType::Bool, "bool"),
    (ElemType::BF16, DType::BF16, "bfloat16"),
];

/// What NumPy calls an element type.
pub fn dtype_name(elem: ElemType) -> &'static str {
    TYPES.iter().find(|(known, ..)| *known == elem).map_or("", |(.., name)| name)
}

/// The element type of a model's port.
pub fn elem_of(dtype: DType) -> Option<ElemType> {
    TYPES.iter().find(|(_, known, _)| *known == dtype).map(|(elem, ..)| *elem)
}

/// The element type of a model's constant.
pub fn dtype_of(elem: ElemType) -> Option<DType> {
    TYPES.iter().find(|(known, ..)| *known == elem).map(|(_, dtype, _)| *dtype)
}

/// The element type of an array.
fn elem(array: &Bound<'_, PyUntypedArray>) -> Option<ElemType> {
    let dtype = array.dtype();
    let letter = match (dtype.kind(), dtype.itemsize()) {
        (b'V', 2) => return is_bfloat16(array).then_some(ElemType::BF16),
        (kind, _) => kind,
    };
    let kind = |name: &str| match name.as_bytes() {
        [b'b', b'o', ..] => b'b',
        [first, ..] => *first,
        [] => 0,
    };
    let of_kind = |(known, _, name): &&(ElemType, DType, &str)| {
        kind(name) == letter && known.bytes() == dtype.itemsize()
    };
    TYPES[..12].iter().find(of_kind).map(|(elem, ..)| *elem)
}

fn is_bfloat16(array: &Bound<'_, PyUntypedArray>) -> bool {
    let name = array.dtype().getattr("name").and_then(|name| name.extract::<String>());
    name.is_ok_and(|name| name == "bfloat16")
}

/// A function of `nnc/arrays.py`, which does with NumPy what needs no speed.
fn helper<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    static HELPERS: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    let module = HELPERS.get_or_try_init(py, || PyModule::import(py, "nnc.arrays").map(Bound::unbind))?;
    module.bind(py).getattr(name)
}

/// What a caller gives for an input, as a dense array: itself if it is one; else what NumPy makes of it.
pub fn dense<'py>(name: &str, value: &Bound<'py, PyAny>, elem: Option<ElemType>) -> PyResult<Dense<'py>> {
    let py = value.py();
    let mut array = value.cast::<PyUntypedArray>().ok().cloned();
    for _ in 0..2 {
        match array.map(Dense::new) {
            Some(Ok(dense)) => return Ok(dense),
            Some(Err(Unfit::Elements)) => break,
            Some(Err(Unfit::Layout)) | None => {
                let made = helper(py, "dense")?.call1((value, elem.map(dtype_name)))?;
                array = Some(made.cast_into::<PyUntypedArray>()?);
            }
        }
    }
    let text = format!("\"{name}\" is no array of numbers or booleans: pass one, or nested lists of numbers");
    Err(Kind::Input.says(py, text))
}

/// A new array whose elements mean nothing yet.
pub fn empty<'py>(py: Python<'py>, shape: &[usize], elem: ElemType) -> PyResult<Dense<'py>> {
    let array = helper(py, "empty")?.call1((shape.to_vec(), dtype_name(elem)))?;
    let array = array.cast_into::<PyUntypedArray>()?;
    Dense::new(array).map_err(|_| Kind::Input.says(py, format!("NumPy has no arrays of {elem}")))
}

/// The first elements of an array, as an array of its own with a shape.
pub fn first<'py>(
    array: &Bound<'py, PyUntypedArray>,
    shape: &[usize],
) -> PyResult<Bound<'py, PyUntypedArray>> {
    let part = helper(array.py(), "first")?.call1((array, shape.to_vec()))?;
    Ok(part.cast_into::<PyUntypedArray>()?)
}
