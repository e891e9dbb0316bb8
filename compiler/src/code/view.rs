//! How a generic operator sees an operand: a window of bytes with a stride for every axis.
//!
//! Slices, transposes, expands and many reshapes only change the window and move no byte:
//!
//! ```text
//!   x: f32[2x3x4], dense              offset 0    strides [48, 16, 4]
//!   x.transpose(0, 2, 1)              offset 0    strides [48, 4, 16]
//!   x[:, 1:, ::-1]                    offset 28   strides [48, 16, -4]
//!   x[0, 0, :] expanded to 5x4        offset 0    strides [0, 4]
//! ```

use nnc_ir::DType;

/// A strided window into the memory that one argument of a layer function points to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct View {
    /// Index into the layer function's base pointers.
    pub arg: usize,
    /// Bytes from the base pointer to the element at index 0 of every axis.
    pub offset: i64,
    /// Element type.
    pub dtype: DType,
    /// Extents, outermost first; empty for a scalar.
    pub shape: Vec<usize>,
    /// Bytes from an element to its neighbour along each axis; 0 repeats the same element.
    pub strides: Vec<i64>,
}

impl View {
    /// A dense row-major window that starts at the base pointer.
    pub fn dense(arg: usize, dtype: DType, shape: impl Into<Vec<usize>>) -> View {
        let shape = shape.into();
        let strides = dense_strides(&shape, dtype);
        View { arg, offset: 0, dtype, shape, strides }
    }

    /// Number of axes.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// Number of elements that indices can name (a repeated element counts each time).
    pub fn elems(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether some extent is 0.
    pub fn is_empty(&self) -> bool {
        self.shape.contains(&0)
    }

    /// Whether an axis repeats the same elements.
    pub fn repeats(&self) -> bool {
        self.shape.iter().zip(&self.strides).any(|(&extent, &stride)| extent > 1 && stride == 0)
    }

    /// Whether the elements lie one after another in row-major order.
    pub fn is_contiguous(&self) -> bool {
        self.is_empty()
            || (self.shape.iter().zip(&self.strides).zip(dense_strides(&self.shape, self.dtype)))
                .all(|((&extent, &stride), dense)| extent == 1 || stride == dense)
    }

    /// Bytes that some element occupies: lowest and one past the highest, from the base pointer. `None` when the
    /// window is empty or its extent does not fit.
    pub fn extent(&self) -> Option<(i64, i64)> {
        let (mut low, mut high) = (self.offset, self.offset.checked_add(self.dtype.bytes() as i64)?);
        for (&extent, &stride) in self.shape.iter().zip(&self.strides) {
            let reach = stride.checked_mul(i64::try_from(extent.checked_sub(1)?).ok()?)?;
            low = low.checked_add(reach.min(0))?;
            high = high.checked_add(reach.max(0))?;
        }
        Some((low, high))
    }

    /// Axis `i` of the result is axis `perm[i]` of this. `None` when `perm` is no permutation of the axes.
    pub fn permuted(&self, perm: &[usize]) -> Option<View> {
        let mut seen = vec![false; self.rank()];
        if perm.len() != self.rank() {
            return None;
        }
        for &axis in perm {
            if std::mem::replace(seen.get_mut(axis)?, true) {
                return None;
            }
        }
        Some(View {
            shape: perm.iter().map(|&axis| self.shape[axis]).collect(),
            strides: perm.iter().map(|&axis| self.strides[axis]).collect(),
            ..*self
        })
    }

    /// Elements `start`, `start + step`, … (`len` of them) of one axis. `None` when one of them is outside.
    pub fn sliced(&self, axis: usize, start: usize, step: isize, len: usize) -> Option<View> {
        let extent = *self.shape.get(axis)?;
        let mut view = self.clone();
        view.shape[axis] = len;
        if len == 0 {
            return Some(view);
        }
        let (start, step) = (i64::try_from(start).ok()?, i64::try_from(step).ok()?);
        let last = step.checked_mul(i64::try_from(len - 1).ok()?)?.checked_add(start)?;
        let inside = 0..i64::try_from(extent).ok()?;
        if !inside.contains(&start) || !inside.contains(&last) {
            return None;
        }
        view.offset = self.strides[axis].checked_mul(start)?.checked_add(self.offset)?;
        view.strides[axis] = self.strides[axis].checked_mul(step)?;
        Some(view)
    }

    /// The window as if broadcast to `shape` by ONNX's (numpy's) rules: axes are matched from the last, extents of
    /// 1 repeat. `None` when an extent is neither equal nor 1.
    pub fn broadcast(&self, shape: &[usize]) -> Option<View> {
        let missing = shape.len().checked_sub(self.rank())?;
        let mut strides = vec![0; shape.len()];
        for (axis, (&extent, &stride)) in self.shape.iter().zip(&self.strides).enumerate() {
            if extent == shape[missing + axis] {
                strides[missing + axis] = stride;
            } else if extent != 1 {
                return None;
            }
        }
        Some(View { shape: shape.to_vec(), strides, ..*self })
    }

    /// The same elements in row-major order under another shape, where strides can say that; `None` where they
    /// cannot (then the elements have to be copied) or where the shape has another number of elements.
    pub fn reshaped(&self, shape: &[usize]) -> Option<View> {
        if shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))? != self.elems() {
            return None;
        }
        if self.is_empty() {
            let strides = dense_strides(shape, self.dtype);
            return Some(View { shape: shape.to_vec(), strides, ..*self });
        }
        // Consume runs of axes that lie densely in each other, from the last; each new axis splits the run it is in.
        let runs = self.merged();
        let mut strides = vec![self.dtype.bytes() as i64; shape.len()];
        let mut axis = shape.len();
        for (&extent, &stride) in runs.shape.iter().zip(&runs.strides).rev() {
            let (mut left, mut stride) = (extent, stride);
            while left > 1 {
                axis = axis.checked_sub(1)?;
                if left % shape[axis] != 0 {
                    return None;
                }
                strides[axis] = stride;
                stride = stride.checked_mul(i64::try_from(shape[axis]).ok()?)?;
                left /= shape[axis];
            }
        }
        Some(View { shape: shape.to_vec(), strides, ..*self })
    }

    /// The same elements in the same order with the fewest axes: extents of 1 dropped, axes merged where the outer
    /// one continues the inner one.
    pub fn merged(&self) -> View {
        let mut view = View { shape: Vec::new(), strides: Vec::new(), ..*self };
        for (&extent, &stride) in self.shape.iter().zip(&self.strides) {
            if extent == 1 {
                continue;
            }
            match (view.shape.last_mut(), view.strides.last_mut()) {
                (Some(outer), Some(outer_stride))
                    if Some(*outer_stride) == stride.checked_mul(extent as i64) =>
                {
                    *outer *= extent;
                    *outer_stride = stride;
                }
                _ => {
                    view.shape.push(extent);
                    view.strides.push(stride);
                }
            }
        }
        view
    }

    /// With an axis of extent 1 (or, with stride 0, of any extent: a repetition) inserted before `axis`.
    pub fn with_axis(&self, axis: usize, extent: usize) -> View {
        let mut view = self.clone();
        let axis = axis.min(self.rank());
        view.shape.insert(axis, extent);
        view.strides.insert(axis, 0);
        view
    }

    /// Without an axis: its element 0. `None` when there is no such axis.
    pub fn without_axis(&self, axis: usize) -> Option<View> {
        let mut view = self.clone();
        (axis < self.rank()).then(|| {
            view.shape.remove(axis);
            view.strides.remove(axis);
            view
        })
    }
}

/// Bytes between neighbours along each axis of a dense row-major tensor.
pub fn dense_strides(shape: &[usize], dtype: DType) -> Vec<i64> {
    let mut strides = vec![dtype.bytes() as i64; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis].saturating_mul(i64::try_from(shape[axis]).unwrap_or(i64::MAX));
    }
    strides
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(shape: &[usize], strides: &[i64]) -> View {
        View { arg: 0, offset: 0, dtype: DType::F32, shape: shape.to_vec(), strides: strides.to_vec() }
    }

    #[test]
    fn a_dense_view_is_contiguous_and_spans_its_bytes() {
        let v = View::dense(1, DType::F32, [2, 3, 4]);
        assert_eq!(v.strides, [48, 16, 4]);
        assert!(v.is_contiguous());
        assert_eq!(v.extent(), Some((0, 96)));
        assert!(!v.permuted(&[0, 2, 1]).unwrap().is_contiguous());
    }

    #[test]
    fn a_slice_moves_the_offset_and_keeps_its_elements_inside() {
        let v = View::dense(0, DType::F32, [2, 3, 4]);
        let s = v.sliced(1, 1, 1, 2).unwrap().sliced(2, 3, -1, 4).unwrap();
        assert_eq!((s.offset, s.strides.as_slice()), (28, &[48, 16, -4][..]));
        assert_eq!(s.extent(), Some((16, 96)));
        assert_eq!(v.sliced(1, 1, 1, 3), None);
        assert_eq!(v.sliced(1, 1, -1, 3), None);
    }

    #[test]
    fn broadcasting_repeats_with_stride_zero_and_refuses_other_extents() {
        let v = View::dense(0, DType::F32, [3, 1]);
        assert_eq!(v.broadcast(&[2, 3, 5]).unwrap().strides, [0, 4, 0]);
        assert_eq!(v.broadcast(&[2, 5]), None);
    }

    #[test]
    fn a_reshape_is_free_where_the_strides_allow_it() {
        let nchw = View::dense(0, DType::F32, [2, 6, 4, 4]);
        assert_eq!(nchw.reshaped(&[2, 2, 3, 16]).unwrap().strides, [384, 192, 64, 4]);
        let nhwc = view(&[2, 6, 4, 4], &[512, 4, 128, 32]);
        assert_eq!(nhwc.reshaped(&[2, 3, 2, 4, 4]).unwrap().strides, [512, 8, 4, 128, 32]);
        assert_eq!(nhwc.reshaped(&[2, 6, 16]).unwrap().strides, [512, 4, 32]);
        assert_eq!(nhwc.reshaped(&[2, 96]), None);
        assert_eq!(nchw.reshaped(&[2, 95]), None);
        assert_eq!(view(&[1, 1], &[7, 9]).reshaped(&[1, 1, 1]).unwrap().shape, [1, 1, 1]);
    }

    #[test]
    fn a_reshape_never_splits_an_extent_unevenly() {
        let v = view(&[2, 6], &[100, 4]);
        assert_eq!(v.reshaped(&[3, 4]), None);
        assert_eq!(v.reshaped(&[2, 3, 1, 2]).unwrap().strides, [100, 8, 8, 4]);
    }
}
