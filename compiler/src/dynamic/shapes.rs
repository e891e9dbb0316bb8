//! Shapes of the inputs of one run, and whether they are what the model declares.

use std::collections::BTreeMap;
use std::fmt;

use nnc_ir::Setting;
use nnc_ir::onnx::{Bindings, Dim, Model, PortInfo};
use nnc_runtime::abi::ElemType;

/// Shapes that a model does not take. Nothing was compiled or computed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// Too few or too many inputs.
    #[error("the model has {expected} inputs but got {found}; pass each once")]
    Count {
        /// How many the model has.
        expected: usize,
        /// How many came.
        found: usize,
    },
    /// A name that the model does not have.
    #[error("the model has no input \"{name}\"; it has {known}")]
    NoSuchInput {
        /// The name.
        name: String,
        /// The names there are.
        known: String,
    },
    /// The same input twice.
    #[error("input \"{name}\" is given twice; pass each once")]
    Twice {
        /// Its name.
        name: String,
    },
    /// No tensor for an input.
    #[error("input \"{name}\" is missing; pass each once")]
    Missing {
        /// Its name.
        name: String,
    },
    /// Data of another size than their shape.
    #[error(
        "input \"{name}\" is said to be {elem}{shape:?} but has {found} bytes; pass a dense tensor of that shape"
    )]
    Data {
        /// Name of the input.
        name: String,
        /// The type of its elements.
        elem: ElemType,
        /// Its shape.
        shape: Vec<usize>,
        /// How many bytes came.
        found: usize,
    },
    /// A shape that the model does not allow.
    #[error("input \"{name}\" is {declared}, it cannot be {shape:?}: {problem}")]
    Unfit {
        /// Name of the input.
        name: String,
        /// What the model declares.
        declared: String,
        /// The shape that came.
        shape: Vec<usize>,
        /// What does not fit.
        problem: Box<Unfit>,
    },
}

/// How a shape does not fit what is declared. Axes are counted from 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// It has another number of dims.
    Rank {
        /// How many it has.
        found: usize,
        /// How many it should have.
        expected: usize,
    },
    /// An extent that is fixed.
    Fixed {
        /// The axis.
        axis: usize,
        /// Its extent.
        found: usize,
        /// What it is fixed at.
        extent: usize,
        /// The setting that fixed it; `None` is the model.
        by: Option<Setting>,
    },
    /// A named dim that has another extent somewhere else.
    Named {
        /// The axis.
        axis: usize,
        /// The dim's name.
        name: String,
        /// Its extent.
        found: usize,
        /// Its other extent.
        extent: usize,
        /// The input that has that.
        input: String,
    },
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unfit::Rank { found, expected } => {
                write!(f, "it has {found} dims; pass a tensor of {expected} dims")
            }
            Unfit::Fixed { axis, found, extent, by: None } => {
                write!(f, "dim {axis} is {found}, but the model fixes it at {extent}; pass {extent} there")
            }
            Unfit::Fixed { axis, found, extent, by: Some(setting) } => write!(
                f,
                "dim {axis} is {found}, but fixed at {extent} by {setting}; pass {extent} there, or leave that out"
            ),
            Unfit::Named { axis, name, found, extent, input } => write!(
                f,
                "dim {axis}, \"{name}\", is {found}, but {extent} by input \"{input}\"; pass the same extent for both"
            ),
        }
    }
}

impl ShapeError {
    pub(super) fn no_such_input(name: &str, known: &[&str]) -> ShapeError {
        let known =
            if known.is_empty() { "none".to_owned() } else { format!("\"{}\"", known.join("\", \"")) };
        ShapeError::NoSuchInput { name: name.to_owned(), known }
    }
}

/// Shapes of all inputs, one after the other, each behind its number of dims.
#[derive(Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key(Vec<usize>);

impl Clone for Key {
    fn clone(&self) -> Key {
        Key(self.0.clone())
    }

    fn clone_from(&mut self, other: &Key) {
        self.0.clone_from(&other.0);
    }
}

impl Key {
    pub fn clear(&mut self) {
        self.0.clear();
    }

    pub fn push(&mut self, shape: &[usize]) {
        self.0.push(shape.len());
        self.0.extend_from_slice(shape);
    }

    pub fn shapes(&self) -> impl Iterator<Item = &[usize]> {
        let mut rest = self.0.as_slice();
        std::iter::from_fn(move || {
            let (&rank, behind) = rest.split_first()?;
            let (shape, behind) = behind.split_at_checked(rank)?;
            rest = behind;
            Some(shape)
        })
    }
}

/// What the model and the options say about shapes.
pub(super) struct Declared {
    inputs: Vec<PortInfo>,
    dims: BTreeMap<String, usize>,
    shapes: BTreeMap<String, Vec<usize>>,
}

impl Declared {
    /// Of the inputs that are not constants.
    pub fn new(model: &Model, bindings: &Bindings) -> Declared {
        let open = |input: &&PortInfo| !bindings.constants.contains_key(&input.name);
        Declared {
            inputs: model.inputs_with(bindings).filter(open).cloned().collect(),
            dims: bindings.dims.clone(),
            shapes: bindings.shapes.clone(),
        }
    }

    pub fn inputs(&self) -> &[PortInfo] {
        &self.inputs
    }

    /// Whether each shape has the dims that are declared, and equal names equal extents.
    pub fn check(&self, key: &Key) -> Result<(), ShapeError> {
        // Dims that inputs before have given an extent.
        let mut named: BTreeMap<&str, (usize, &str)> = BTreeMap::new();
        for (input, shape) in self.inputs.iter().zip(key.shapes()) {
            let unfit = |problem| ShapeError::Unfit {
                name: input.name.clone(),
                declared: input.to_string(),
                shape: shape.to_vec(),
                problem: Box::new(problem),
            };
            let rank = |expected: usize| match shape.len() == expected {
                true => Ok(()),
                false => Err(unfit(Unfit::Rank { found: shape.len(), expected })),
            };
            let fixed = |axis: usize, extent, by: &dyn Fn() -> Option<Setting>| match shape[axis] {
                found if found != extent => Err(unfit(Unfit::Fixed { axis, found, extent, by: by() })),
                _ => Ok(()),
            };
            if let Some(bound) = self.shapes.get(&input.name) {
                rank(bound.len())?;
                let by = || Some(Setting::shape(&input.name, bound));
                (0..bound.len()).try_for_each(|axis| fixed(axis, bound[axis], &by))?;
            }
            let Some(dims) = &input.dims else { continue };
            rank(dims.len())?;
            for (axis, dim) in dims.iter().enumerate() {
                match dim {
                    Dim::Known(extent) => fixed(axis, *extent, &|| None)?,
                    Dim::Named(name) => {
                        if let Some(&extent) = self.dims.get(name) {
                            let by = || Some(Setting::Dim { name: name.clone(), extent: Some(extent) });
                            fixed(axis, extent, &by)?;
                        }
                        let found = shape[axis];
                        let (extent, other) = *named.entry(name).or_insert((found, &input.name));
                        if extent != found {
                            let (name, input) = (name.clone(), other.to_owned());
                            return Err(unfit(Unfit::Named { axis, name, found, extent, input }));
                        }
                    }
                    Dim::Unknown => {}
                }
            }
        }
        Ok(())
    }
}
