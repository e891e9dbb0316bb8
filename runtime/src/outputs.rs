//! What comes out of a run.

use crate::abi::Port;
use crate::run_error::{Role, RunError};
use crate::tensor::Elem;

/// The outputs of a run, in the session's own memory, each aligned to 64 bytes.
#[derive(Clone, Copy, Debug)]
pub struct Outputs<'a> {
    pub(crate) ports: &'a [Port],
    /// Where in `memory` each begins.
    pub(crate) offsets: &'a [usize],
    pub(crate) memory: &'a [u8],
    /// Where runs leave what they have counted.
    pub(crate) arena: &'a [u8],
}

/// The extents of an output after a run: those of its port, but for the axes along which the run has counted.
pub(crate) fn real_shape(port: &Port, arena: &[u8]) -> Vec<usize> {
    let mut shape = port.shape.clone();
    for count in &port.counts {
        let Some(extent) = shape.get_mut(count.axis as usize) else { continue };
        let bytes = usize::try_from(count.at).ok().and_then(|at| arena.get(at..)?.first_chunk());
        let found = bytes.map_or(0, |&bytes| i64::from_ne_bytes(bytes));
        *extent = usize::try_from(found).unwrap_or(0).min(*extent);
    }
    shape
}

impl<'a> Outputs<'a> {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.ports.len()
    }

    /// The index of the output called `name`.
    ///
    /// ```
    /// # fn example(outputs: nnc_runtime::Outputs<'_>) -> Result<(), nnc_runtime::RunError> {
    /// let scores: &[f32] = outputs.get(outputs.index_of("scores")?)?;
    /// # Ok(()) }
    /// ```
    pub fn index_of(&self, name: &str) -> Result<usize, RunError> {
        let found = self.ports.iter().position(|port| port.name == name);
        found.ok_or_else(|| RunError::NoSuchName {
            role: Role::Output,
            name: name.to_owned(),
            known: self.ports.iter().map(|port| port.name.clone()).collect(),
        })
    }

    /// The elements of output `index`, counted from 0.
    pub fn get<T: Elem>(&self, index: usize) -> Result<&'a [T], RunError> {
        let (port, bytes) = self.find(index)?;
        if port.elem != T::ELEM {
            return Err(RunError::Type {
                role: Role::Output,
                name: port.name.clone(),
                expected: port.elem,
                found: T::ELEM,
            });
        }
        let elems = bytes.len() / size_of::<T>();
        // SAFETY: the bytes are so many elements of this type, aligned to 64; any bits are a value of it.
        Ok(unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), elems) })
    }

    /// The extents of output `index`, counted from 0: those of its port, but where data decide how large it is.
    pub fn shape(&self, index: usize) -> Result<Vec<usize>, RunError> {
        self.find(index).map(|(port, _)| real_shape(port, self.arena))
    }

    /// The bytes of output `index`, counted from 0.
    pub fn bytes(&self, index: usize) -> Result<&'a [u8], RunError> {
        self.find(index).map(|(_, bytes)| bytes)
    }

    fn find(&self, index: usize) -> Result<(&'a Port, &'a [u8]), RunError> {
        let find = || {
            let port = self.ports.get(index)?;
            let bytes = match port.counts.is_empty() {
                true => port.bytes(),
                false => real_shape(port, self.arena).iter().product::<usize>() * port.elem.bytes(),
            };
            let bytes = self.memory.get(*self.offsets.get(index)?..)?.get(..bytes)?;
            Some((port, bytes))
        };
        find().ok_or(RunError::NoSuchOutput { index, count: self.ports.len() })
    }
}
