//! Running a dynamic model: whatever the shapes, one caller's memory.

use std::sync::Arc;

use nnc_runtime::abi::ElemType;
use nnc_runtime::{Elem, InputRef, Outputs, Pool, Session};

use super::programs::ProgramEntry;
use super::shapes::{Key, ShapeError};
use super::{DynamicError, DynamicModel};

/// An input of a run with its shape: dense, row-major, in the model's axis order, aligned to its elements. By position unless
/// named.
#[derive(Clone, Copy, Debug)]
pub struct TensorRef<'a> {
    shape: &'a [usize],
    data: InputRef<'a>,
}

impl<'a> TensorRef<'a> {
    /// A tensor of numbers.
    pub fn new<T: Elem>(shape: &'a [usize], data: &'a [T]) -> TensorRef<'a> {
        TensorRef { shape, data: InputRef::new(data) }
    }

    /// A tensor of any element type, such as `F16` or `Bool`, in the machine's byte order.
    pub fn from_bytes(shape: &'a [usize], elem: ElemType, bytes: &'a [u8]) -> TensorRef<'a> {
        TensorRef { shape, data: InputRef::from_bytes(elem, bytes) }
    }

    /// The same for the input called `name`, whatever its position.
    pub fn named(self, name: &'a str) -> TensorRef<'a> {
        TensorRef { data: self.data.named(name), ..self }
    }

    /// It without its shape, as a program takes it that is made for that shape.
    pub fn data(&self) -> InputRef<'a> {
        self.data
    }
}

/// One caller's state for running a [`DynamicModel`].
///
/// Its memory is as large as the largest shape so far needs. A run with the shapes of the run before only runs; one with other
/// shapes looks for their program, which costs microseconds if it is there, and else what compiling costs. The program of the
/// last run lives as long as the session, whether the model still keeps it or not.
pub struct DynamicSession {
    model: DynamicModel,
    pool: Pool,
    /// The shapes of the run at hand, kept for its memory.
    key: Key,
    current: Option<Current>,
}

/// What ran last.
struct Current {
    key: Key,
    entry: Arc<ProgramEntry>,
    session: Session,
}

impl DynamicSession {
    pub(super) fn new(model: DynamicModel, pool: Pool) -> DynamicSession {
        DynamicSession { model, pool, key: Key::default(), current: None }
    }

    /// The model.
    pub fn model(&self) -> &DynamicModel {
        &self.model
    }

    /// Runs the model; the outputs are in memory of the session's own, until the next run. Their shapes are those that the
    /// inputs' shapes, or data, have led to.
    pub fn run(&mut self, inputs: &[TensorRef<'_>]) -> Result<Outputs<'_>, DynamicError> {
        let data: Vec<InputRef<'_>> = inputs.iter().map(TensorRef::data).collect();
        Ok(self.ready(inputs)?.run(&data)?)
    }

    /// The session of the program for the shapes of these inputs, ready to run on their [data](TensorRef::data): for hosts that
    /// have memory of their own for the outputs, whose sizes it knows. Nothing is computed yet.
    pub fn ready(&mut self, inputs: &[TensorRef<'_>]) -> Result<&mut Session, DynamicError> {
        self.take_shapes(inputs)?;
        let current = match self.current.take() {
            Some(mut current) => match self.turn(&mut current) {
                Ok(()) => current,
                Err(error) => {
                    self.current = Some(current);
                    return Err(error);
                }
            },
            None => {
                let (entry, program) = self.model.entry(&self.key)?;
                let session = Session::new(&program, &self.pool)?;
                Current { key: self.key.clone(), entry, session }
            }
        };
        Ok(&mut self.current.insert(current).session)
    }

    /// Turns to the program for the shapes in `key`, if it is not the one that ran last.
    fn turn(&self, current: &mut Current) -> Result<(), DynamicError> {
        if current.key == self.key {
            self.model.0.programs.used(&current.entry);
            return Ok(());
        }
        let (entry, program) = self.model.entry(&self.key)?;
        current.session.switch_to(&program)?;
        current.key.clone_from(&self.key);
        current.entry = entry;
        Ok(())
    }

    /// Puts the shapes into `key`, in the order of the model's inputs.
    fn take_shapes(&mut self, inputs: &[TensorRef<'_>]) -> Result<(), ShapeError> {
        let declared = self.model.inputs();
        if inputs.len() != declared.len() {
            return Err(ShapeError::Count { expected: declared.len(), found: inputs.len() });
        }
        self.key.clear();
        for (position, port) in declared.iter().enumerate() {
            let named = |(at, input): &(usize, &TensorRef<'_>)| match input.data.name() {
                Some(name) => name == port.name,
                None => *at == position,
            };
            let mut given = inputs.iter().enumerate().filter(named);
            let Some((_, input)) = given.next() else {
                let known: Vec<&str> = declared.iter().map(|port| port.name.as_str()).collect();
                let stranger = inputs.iter().filter_map(|input| input.data.name());
                return Err(match stranger.into_iter().find(|name| !known.contains(name)) {
                    Some(name) => ShapeError::no_such_input(name, &known),
                    None => ShapeError::Missing { name: port.name.clone() },
                });
            };
            if given.next().is_some() {
                return Err(ShapeError::Twice { name: port.name.clone() });
            }
            let bytes = input.shape.iter().try_fold(input.data.elem().bytes(), |all, &n| all.checked_mul(n));
            if bytes != Some(input.data.bytes().len()) {
                return Err(ShapeError::Data {
                    name: port.name.clone(),
                    elem: input.data.elem(),
                    shape: input.shape.to_vec(),
                    found: input.data.bytes().len(),
                });
            }
            self.key.push(input.shape);
        }
        Ok(())
    }
}
