//! Arrays of the crate `ndarray` as inputs and outputs, where they lie.

use ndarray::{ArrayBase, ArrayViewD, Data, DataMut, Dimension, IxDyn};

use crate::outputs::Outputs;
use crate::run_error::{Role, RunError};
use crate::tensor::{Elem, InputRef, OutputMut};

/// An array whose elements do not lie one behind the other in the order of its axes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the array of shape {shape:?} lies in memory with the strides {strides:?} and not row by row; copy it with \
     `as_standard_layout`"
)]
pub struct ArrayError {
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its strides, in elements.
    pub strides: Vec<isize>,
}

fn fault<T, S: Data<Elem = T>, D: Dimension>(array: &ArrayBase<S, D>) -> ArrayError {
    ArrayError { shape: array.shape().to_vec(), strides: array.strides().to_vec() }
}

impl<'a> InputRef<'a> {
    /// An array in standard layout, whose shape has to be that of the input.
    ///
    /// ```
    /// use ndarray::Array4;
    /// use nnc_runtime::InputRef;
    ///
    /// let image = Array4::<f32>::zeros((1, 3, 224, 224));
    /// let input = InputRef::of_array(&image)?.named("image");
    /// assert!(InputRef::of_array(&image.permuted_axes([0, 2, 3, 1])).is_err());
    /// # Ok::<(), nnc_runtime::ArrayError>(())
    /// ```
    pub fn of_array<T: Elem, S: Data<Elem = T>, D: Dimension>(
        array: &'a ArrayBase<S, D>,
    ) -> Result<InputRef<'a>, ArrayError> {
        let data = array.as_slice().ok_or_else(|| fault(array))?;
        Ok(InputRef::new(data).shaped(array.shape()))
    }
}

impl<'a> OutputMut<'a> {
    /// Room in an array in standard layout, whose shape has to be that of the output.
    pub fn of_array<T: Elem, S: DataMut<Elem = T>, D: Dimension>(
        array: &'a mut ArrayBase<S, D>,
    ) -> Result<OutputMut<'a>, ArrayError> {
        let (shape, fault) = (array.shape().to_vec(), fault(array));
        let data = array.as_slice_mut().ok_or(fault)?;
        Ok(OutputMut::new(data).shaped(&shape))
    }
}

impl<'a> Outputs<'a> {
    /// Output `index`, counted from 0, as an array over the session's memory. It is as large as the run has made it.
    pub fn array<T: Elem>(&self, index: usize) -> Result<ArrayViewD<'a, T>, RunError> {
        let (data, shape) = (self.get::<T>(index)?, self.shape(index)?);
        ArrayViewD::from_shape(IxDyn(&shape), data).map_err(|_| RunError::Shape {
            role: Role::Output,
            name: self.ports.get(index).map(|port| port.name.clone()).unwrap_or_default(),
            expected: shape,
            found: vec![data.len()],
        })
    }
}
