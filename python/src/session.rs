//! A model, or a compiled program, that threads of Python run.

use std::sync::{Arc, Mutex, PoisonError};

use nnc::{DynamicError, DynamicSession, Pool, Program, TensorRef};
use nnc_ir::Tensor;
use nnc_ir::onnx::{Dim, PortInfo};
use nnc_runtime::abi::{ElemType, Port};
use nnc_runtime::{InputRef, Role, RunError};
use numpy::PyUntypedArray;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};

use crate::array::{self, Dense, Room};
use crate::decide::{Deciding, Shared};
use crate::error::{self, Kind};
use crate::pools;
use crate::settings::{self, Settings, Source};

/// What `nnc.InferenceSession` runs. Any number of threads may call it at once: each run has memory of its own.
#[pyclass(frozen, module = "nnc._nnc")]
pub struct Session {
    pool: Pool,
    inputs: Vec<Declared>,
    outputs: Vec<Declared>,
    what: What,
}

enum What {
    Model(Box<Deciding>),
    Program { program: Program, idle: Mutex<Vec<nnc::Session>> },
}

/// An input or output as it is declared.
struct Declared {
    name: String,
    elem: Option<ElemType>,
    dims: Option<Vec<Dim>>,
}

impl From<&PortInfo> for Declared {
    fn from(port: &PortInfo) -> Declared {
        Declared {
            name: port.name.clone(),
            elem: port.dtype.and_then(array::elem_of),
            dims: port.dims.clone(),
        }
    }
}

impl From<&Port> for Declared {
    fn from(port: &Port) -> Declared {
        let counted = |axis: usize| port.counts.iter().any(|count| count.axis as usize == axis);
        let dim = |(axis, &extent)| if counted(axis) { Dim::Unknown } else { Dim::Known(extent) };
        let dims = port.shape.iter().enumerate().map(dim).collect();
        Declared { name: port.name.clone(), elem: Some(port.elem), dims: Some(dims) }
    }
}

/// Name, element type as NumPy calls it, and dims: numbers, names, and `None` for those that are open.
type Told<'py> = (String, Option<&'static str>, Option<Vec<Bound<'py, PyAny>>>);

impl Declared {
    fn told<'py>(&self, py: Python<'py>) -> PyResult<Told<'py>> {
        let dim = |dim: &Dim| match dim {
            Dim::Known(extent) => Ok(extent.into_pyobject(py)?.into_any()),
            Dim::Named(name) => Ok(name.into_pyobject(py)?.into_any()),
            Dim::Unknown => Ok(py.None().into_bound(py)),
        };
        let dims =
            self.dims.as_ref().map(|dims| dims.iter().map(dim).collect::<PyResult<_>>()).transpose()?;
        Ok((self.name.clone(), self.elem.map(array::dtype_name), dims))
    }

    /// The shape, if all of it is known.
    fn shape(&self) -> Option<Vec<usize>> {
        let known = |dim: &Dim| if let Dim::Known(extent) = dim { Some(*extent) } else { None };
        self.dims.as_ref()?.iter().map(known).collect()
    }
}

#[pymethods]
impl Session {
    /// Reads a model. If all its shapes are known it is compiled now, and else when a run says them.
    #[staticmethod]
    fn open(
        py: Python<'_>,
        source: Source,
        threads: usize,
        settings: &Bound<'_, PyDict>,
    ) -> PyResult<Session> {
        let Settings { options, limits } = Settings::new(settings)?;
        let pool = pools::pool(threads).map_err(|error| Kind::Resource.of(py, &error))?;
        let bindings = options.bindings.clone();
        let deciding = Deciding::new(settings::open(py, source, limits)?, options);
        let model = &deciding.open().model;
        let mut inputs: Vec<Declared> = model.inputs().iter().map(Declared::from).collect();
        for input in &mut inputs {
            if let Some(shape) = bindings.shapes.get(&input.name) {
                input.dims = Some(shape.iter().copied().map(Dim::Known).collect());
            }
            for dim in input.dims.iter_mut().flatten() {
                if let Dim::Named(name) = dim
                    && let Some(&extent) = bindings.dims.get(name)
                {
                    *dim = Dim::Known(extent);
                }
            }
        }
        let outputs = model.outputs().iter().map(Declared::from).collect();
        if let Some(shapes) = inputs.iter().map(Declared::shape).collect::<Option<Vec<_>>>() {
            let compiled = py.detach(|| {
                let shapes: Vec<&[usize]> = shapes.iter().map(Vec::as_slice).collect();
                let compiled = model.program(&shapes);
                nnc_runtime::trim_heap();
                compiled
            });
            if let Err(error) = compiled {
                let elements = |name: &str| {
                    let known = inputs.iter().zip(&shapes).find(|(input, _)| input.name == name);
                    known.map_or(usize::MAX, |(_, shape)| shape.iter().product())
                };
                // What values decide, the first run tells.
                let waits = |error: &nnc::Error| !deciding.suspects(error, elements).is_empty();
                if !matches!(&error, DynamicError::Compile(error) if waits(error)) {
                    return Err(error::run(py, &error));
                }
            }
        }
        Ok(Session { pool, inputs, outputs, what: What::Model(Box::new(deciding)) })
    }

    /// Loads a compiled program, whose code will run in this process.
    #[staticmethod]
    fn load(py: Python<'_>, source: Source, threads: usize) -> PyResult<Session> {
        let pool = pools::pool(threads).map_err(|error| Kind::Resource.of(py, &error))?;
        let program = py.detach(|| match source {
            // SAFETY: `nnc.load` asks its caller for programs from somebody they trust, and names nothing by itself.
            Source::Bytes(bytes) => unsafe { Program::from_bytes(&bytes) },
            // SAFETY: as above.
            Source::File(path) => unsafe { Program::load(path) },
        });
        let program = program.map_err(|error| Kind::Artefact.of(py, &error))?;
        let inputs = program.inputs().iter().map(Declared::from).collect();
        let outputs = program.outputs().iter().map(Declared::from).collect();
        Ok(Session { pool, inputs, outputs, what: What::Program { program, idle: Mutex::default() } })
    }

    /// The inputs.
    #[getter]
    fn inputs<'py>(&self, py: Python<'py>) -> PyResult<Vec<Told<'py>>> {
        self.inputs.iter().map(|input| input.told(py)).collect()
    }

    /// The outputs.
    #[getter]
    fn outputs<'py>(&self, py: Python<'py>) -> PyResult<Vec<Told<'py>>> {
        self.outputs.iter().map(|output| output.told(py)).collect()
    }

    /// The number of threads that a run has, the caller's included.
    #[getter]
    fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// What the model says about itself; nothing of a program.
    #[getter]
    fn about<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let told = PyDict::new(py);
        if let What::Model(deciding) = &self.what {
            let about = deciding.open().model.model().onnx().about();
            told.set_item("producer_name", about.producer_name.as_str())?;
            told.set_item("producer_version", about.producer_version.as_str())?;
            told.set_item("domain", about.domain.as_str())?;
            told.set_item("version", about.version)?;
            told.set_item("description", about.description.as_str())?;
            told.set_item("graph_name", about.graph_name.as_str())?;
            told.set_item("graph_description", about.graph_description.as_str())?;
            told.set_item("custom_metadata_map", about.properties.clone())?;
        }
        Ok(told)
    }

    /// How many programs are kept, the bytes of their weights, how many were compiled, and how many let go.
    #[getter]
    fn usage<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let told = PyDict::new(py);
        let (programs, bytes, compiled, evicted) = match &self.what {
            What::Model(deciding) => deciding.usage(),
            What::Program { program, .. } => (1, program.constants().len() as u64, 0, 0),
        };
        told.set_item("programs", programs)?;
        told.set_item("constant_bytes", bytes)?;
        told.set_item("compiled", compiled)?;
        told.set_item("evicted", evicted)?;
        Ok(told)
    }

    /// Whether it is a compiled program.
    #[getter]
    fn is_program(&self) -> bool {
        matches!(self.what, What::Program { .. })
    }

    /// The bytes of a model, without those of files beside it.
    fn model_bytes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let mut bytes = Vec::new();
        let What::Model(deciding) = &self.what else { return Ok(PyBytes::new(py, &bytes)) };
        for part in deciding.open().model.model().onnx().source().take(1) {
            part.read(|piece| bytes.extend_from_slice(piece)).map_err(|error| Kind::Model.of(py, &error))?;
        }
        Ok(PyBytes::new(py, &bytes))
    }

    /// Runs it on the arrays of `feed`, by name. Returns the outputs that `wanted` names, or all; those that `room` has are written
    /// there.
    #[pyo3(signature = (feed, wanted=None, room=None))]
    fn run<'py>(
        &self,
        feed: &Bound<'py, PyDict>,
        wanted: Option<Vec<String>>,
        room: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyList>> {
        let py = feed.py();
        let inputs = self.take(feed)?;
        let wanted = self.wanted(py, wanted)?;
        let given = Given { inputs, room };
        let arrays = match &self.what {
            What::Program { program, idle } => self.run_program(py, program, idle, &given),
            What::Model(deciding) => self.run_model(py, deciding, &given),
        }?;
        match wanted {
            None => PyList::new(py, arrays),
            Some(wanted) => PyList::new(py, wanted.into_iter().map(|at| arrays[at].clone())),
        }
    }
}

/// What comes with a run.
struct Given<'a, 'py> {
    inputs: Vec<(String, Dense<'py>)>,
    room: Option<&'a Bound<'py, PyDict>>,
}

impl Session {
    /// The arrays of a feed, in the order of the inputs, and behind them those whose names nothing has.
    fn take<'py>(&self, feed: &Bound<'py, PyDict>) -> PyResult<Vec<(String, Dense<'py>)>> {
        let mut inputs = Vec::with_capacity(feed.len());
        for (name, value) in feed {
            let name: String = name.extract()?;
            let place = self.inputs.iter().position(|input| input.name == name);
            let elem = place.and_then(|at| self.inputs[at].elem);
            let array = array::dense(&name, &value, elem)?;
            inputs.push((place.unwrap_or(usize::MAX), name, array));
        }
        inputs.sort_by_key(|(place, ..)| *place);
        Ok(inputs.into_iter().map(|(_, name, array)| (name, array)).collect())
    }

    fn wanted(&self, py: Python<'_>, names: Option<Vec<String>>) -> PyResult<Option<Vec<usize>>> {
        let Some(names) = names.filter(|names| !names.is_empty()) else { return Ok(None) };
        let find = |name: String| {
            let place = self.outputs.iter().position(|output| output.name == name);
            place.ok_or_else(|| {
                let known = self.outputs.iter().map(|output| output.name.clone()).collect();
                Kind::Input.of(py, &RunError::NoSuchName { role: Role::Output, name, known })
            })
        };
        names.into_iter().map(find).collect::<PyResult<Vec<_>>>().map(Some)
    }

    fn run_program<'py>(
        &self,
        py: Python<'py>,
        program: &Program,
        idle: &Mutex<Vec<nnc::Session>>,
        given: &Given<'_, 'py>,
    ) -> PyResult<Vec<Bound<'py, PyUntypedArray>>> {
        for (name, array) in &given.inputs {
            let port = program.inputs().iter().find(|port| port.name == *name);
            if let Some(port) = port.filter(|port| port.shape != array.shape()) {
                let text = format!(
                    "input \"{name}\" is {}{:?}, it cannot be {:?}; pass that shape, or compile the model for this one",
                    port.elem,
                    port.shape,
                    array.shape()
                );
                return Err(Kind::Input.says(py, text));
            }
        }
        let taken = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut session = match taken {
            Some(session) => session,
            None => nnc::Session::new(program, &self.pool).map_err(|error| Kind::Resource.of(py, &error))?,
        };
        let data: Vec<InputRef<'_>> =
            given.inputs.iter().map(|(name, array)| array.input().named(name)).collect();
        let arrays = run_into(py, &mut session, &data, given);
        idle.lock().unwrap_or_else(PoisonError::into_inner).push(session);
        arrays
    }

    fn run_model<'py>(
        &self,
        py: Python<'py>,
        deciding: &Deciding,
        given: &Given<'_, 'py>,
    ) -> PyResult<Vec<Bound<'py, PyUntypedArray>>> {
        let decide = deciding.names();
        let (shared, rest) = self.bound(deciding, &decide, given)?;
        let mut session = shared.take(&self.pool);
        let first = match make_ready(py, &mut session, &rest) {
            Err(DynamicError::Compile(error)) if decide.is_empty() => error,
            ready => {
                let arrays = match ready {
                    Ok(()) => run_ready(py, &mut session, &rest, given),
                    Err(error) => Err(error::run(py, &error)),
                };
                shared.put_back(session);
                return arrays;
            }
        };
        let elements = |name: &str| {
            let array = given.inputs.iter().find(|(known, _)| known == name);
            array.map_or(usize::MAX, |(_, array)| array.shape().iter().product())
        };
        let suspects = deciding.suspects(&first, elements);
        if suspects.is_empty() {
            return Err(error::compiler(py, &first));
        }
        let (shared, rest) = self.bound(deciding, &suspects, given)?;
        let mut session = shared.take(&self.pool);
        if make_ready(py, &mut session, &rest).is_err() {
            return Err(error::compiler(py, &first));
        }
        deciding.decide(suspects);
        let arrays = run_ready(py, &mut session, &rest, given);
        shared.put_back(session);
        arrays
    }

    /// The model in which the named inputs are constants, and the other inputs.
    fn bound<'a>(
        &self,
        deciding: &Deciding,
        names: &[String],
        given: &'a Given<'_, '_>,
    ) -> PyResult<(Arc<Shared>, Vec<TensorRef<'a>>)> {
        let is_constant = |name: &String| names.contains(name);
        let rest = given.inputs.iter().filter(|(name, _)| !is_constant(name));
        let rest = rest.map(|(name, array)| {
            TensorRef::from_bytes(array.shape(), array.elem(), array.bytes()).named(name)
        });
        let constants = given.inputs.iter().filter(|(name, _)| is_constant(name));
        let constants = constants.map(|(name, array)| Ok((name.clone(), settings::constant(array)?)));
        let constants: Vec<(String, Tensor)> = constants.collect::<PyResult<_>>()?;
        let shared = if names.is_empty() { Arc::clone(deciding.open()) } else { deciding.with(constants) };
        Ok((shared, rest.collect()))
    }
}

/// Finds or compiles the program for the shapes of some inputs, while others use the interpreter.
fn make_ready(
    py: Python<'_>,
    session: &mut DynamicSession,
    inputs: &[TensorRef<'_>],
) -> Result<(), DynamicError> {
    py.detach(|| session.ready(inputs).map(|_| ()))
}

/// Runs a session that is ready for the shapes of these inputs.
fn run_ready<'py>(
    py: Python<'py>,
    session: &mut DynamicSession,
    inputs: &[TensorRef<'_>],
    given: &Given<'_, 'py>,
) -> PyResult<Vec<Bound<'py, PyUntypedArray>>> {
    let data: Vec<InputRef<'_>> = inputs.iter().map(TensorRef::data).collect();
    let ready = session.ready(inputs).map_err(|error| error::run(py, &error))?;
    run_into(py, ready, &data, given)
}

/// Runs a program into arrays that the caller gives, or new ones.
fn run_into<'py>(
    py: Python<'py>,
    session: &mut nnc::Session,
    data: &[InputRef<'_>],
    given: &Given<'_, 'py>,
) -> PyResult<Vec<Bound<'py, PyUntypedArray>>> {
    let ports = session.program().clone();
    let ports = ports.outputs();
    let room = ports.iter().map(|port| room(py, port, given.room)).collect::<PyResult<Vec<_>>>()?;
    if let Some(name) = strangers(ports, given.room)? {
        let known = ports.iter().map(|port| port.name.clone()).collect();
        return Err(Kind::Input.of(py, &RunError::NoSuchName { role: Role::Output, name, known }));
    }
    let inputs: Vec<&Dense<'_>> = given.inputs.iter().map(|(_, array)| array).collect();
    let mut room = Room::new(py, room, &inputs)?;
    let done = {
        let mut outputs = room.outputs();
        py.detach(|| session.run_into(data, &mut outputs))
    };
    done.map_err(|error| Kind::Input.of(py, &error))?;
    let mut arrays = room.into_arrays();
    for (at, (port, array)) in ports.iter().zip(&mut arrays).enumerate() {
        if !port.counts.is_empty() {
            let shape = session.output_shape(at).map_err(|error| Kind::Input.of(py, &error))?;
            if shape != port.shape {
                *array = array::first(array, &shape)?;
            }
        }
    }
    Ok(arrays)
}

/// The array that an output is written to.
fn room<'py>(py: Python<'py>, port: &Port, given: Option<&Bound<'py, PyDict>>) -> PyResult<Dense<'py>> {
    let Some(array) = given.map(|given| given.get_item(&port.name)).transpose()?.flatten() else {
        return array::empty(py, &port.shape, port.elem);
    };
    let refused =
        |what: &str| Err(Kind::Input.says(py, format!("the array for output \"{}\" {what}", port.name)));
    if !port.counts.is_empty() {
        return refused(
            "cannot be given: only the run tells how large that output is; take the array that run returns",
        );
    }
    let Ok(array) = array.cast_into::<PyUntypedArray>() else {
        return refused("is no array of NumPy; pass one");
    };
    match Dense::new(array) {
        Ok(dense) if dense.elem() != port.elem || dense.shape() != port.shape => {
            let (found, shape) = (dense.elem(), dense.shape());
            refused(&format!("is {found}{shape:?}; pass one that is {}{:?}", port.elem, port.shape))
        }
        Ok(dense) if !dense.is_writable() => refused("is read-only; pass one that can be written"),
        Ok(dense) => Ok(dense),
        Err(_) => refused("is not dense and row-major in the machine's byte order; pass one that is"),
    }
}

/// A name for which there is an array but no output.
fn strangers(ports: &[Port], room: Option<&Bound<'_, PyDict>>) -> PyResult<Option<String>> {
    for (name, _) in room.into_iter().flatten() {
        let name: String = name.extract()?;
        if ports.iter().all(|port| port.name != name) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}
