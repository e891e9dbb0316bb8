//! What is asked of the compiler, as keywords: `shapes={"x": (1, 3, 224, 224)}, target="x86-64-v3"`.

use std::path::PathBuf;
use std::time::Duration;

use nnc::{CName, Denormals, Limits, Model, Options};
use nnc_ir::{LimitName, Tensor, TensorType};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::array::{self, Dense};
use crate::error::{self, Kind};

/// What the keywords say.
pub struct Settings {
    /// For the compiler.
    pub options: Options,
    /// For the model, and all that is compiled from it.
    pub limits: Limits,
}

impl Settings {
    /// Of keywords, of which those that are `None` count as not given.
    pub fn new(keywords: &Bound<'_, PyDict>) -> PyResult<Settings> {
        let py = keywords.py();
        let (mut options, mut limits) = (Options::default(), Limits::default());
        for (name, value) in keywords {
            let name: String = name.extract()?;
            if value.is_none() {
                continue;
            }
            match name.as_str() {
                "shapes" => options.bindings.shapes = value.extract()?,
                "dims" => options.bindings.dims = value.extract()?,
                "constants" => {
                    for (name, value) in value.cast::<PyDict>()? {
                        let name: String = name.extract()?;
                        let constant = constant(&array::dense(&name, &value, None)?)?;
                        options.bindings.constants.insert(name, constant);
                    }
                }
                "until" => options.bindings.until = value.extract()?,
                "target" => {
                    let target: String = value.extract()?;
                    options = options.target(&target).map_err(|error| error::compiler(py, &error))?;
                }
                "limits" => {
                    for (name, value) in value.cast::<PyDict>()? {
                        limit(&mut limits, &name.extract::<String>()?, &value)?;
                    }
                }
                "cache" => options.cache = Some(value.extract::<PathBuf>()?),
                "keep_denormals" if value.extract()? => options = options.denormals(Denormals::Keep),
                "clamp_indices" => options = options.clamp_indices(value.extract()?),
                "compile_threads" => options = options.threads(value.extract()?),
                "keep_denormals" => {}
                unknown => return Err(PyTypeError::new_err(format!("there is no setting {unknown}"))),
            }
        }
        Ok(Settings { options, limits })
    }
}

/// An array as a constant of a model.
pub fn constant(array: &Dense<'_>) -> PyResult<Tensor> {
    let py = array.array().py();
    let refused = |text: String| Kind::Setting.says(py, text);
    let dtype =
        array::dtype_of(array.elem()).ok_or_else(|| refused(format!("no constants of {}", array.elem())))?;
    let ty = TensorType { dtype, shape: array.shape().to_vec().into() };
    Tensor::from_bytes(ty, array.bytes().to_vec()).map_err(|error| Kind::Setting.of(py, &error))
}

fn limit(limits: &mut Limits, name: &str, value: &Bound<'_, PyAny>) -> PyResult<()> {
    let Some(known) = LimitName::ALL.into_iter().find(|known| known.to_string() == name) else {
        let all: Vec<String> = LimitName::ALL.iter().map(LimitName::to_string).collect();
        return Err(
            Kind::Setting.says(value.py(), format!("there is no limit {name}; there are {}", all.join(", ")))
        );
    };
    match known {
        LimitName::FileBytes => limits.file_bytes = value.extract()?,
        LimitName::TensorBytes => limits.tensor_bytes = value.extract()?,
        LimitName::WeightBytes => limits.weight_bytes = value.extract()?,
        LimitName::ArenaBytes => limits.arena_bytes = value.extract()?,
        LimitName::Nodes => limits.nodes = value.extract()?,
        LimitName::Parts => limits.parts = value.extract()?,
        LimitName::Ports => limits.ports = value.extract()?,
        LimitName::Rank => limits.rank = value.extract()?,
        LimitName::Depth => limits.depth = value.extract()?,
        LimitName::CompileTime => {
            let seconds = Duration::try_from_secs_f64(value.extract()?);
            limits.compile_time = seconds.map_err(|error| Kind::Setting.of(value.py(), &error))?;
        }
    }
    Ok(())
}

/// Where a model or a compiled program is.
#[derive(FromPyObject)]
pub enum Source {
    /// In memory.
    Bytes(Vec<u8>),
    /// In a file.
    File(PathBuf),
}

/// Reads a model.
pub fn open(py: Python<'_>, source: Source, limits: Limits) -> PyResult<Model> {
    let model = py.detach(|| match source {
        Source::Bytes(bytes) => Model::from_bytes_with(bytes, limits),
        Source::File(path) => Model::open_with(path, limits),
    });
    model.map_err(|error| Kind::Model.of(py, &error))
}

/// Compiles a model to the bytes of an artefact. What links with it looks for `file`.
#[pyfunction]
pub fn compile<'py>(
    py: Python<'py>,
    source: Source,
    name: Option<&str>,
    file: Option<String>,
    settings: &Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyBytes>> {
    let Settings { options, limits } = Settings::new(settings)?;
    let name = match (name, &source) {
        (Some(name), _) => CName::new(name).map_err(|error| Kind::Setting.of(py, &error))?,
        (None, Source::File(path)) => CName::of_file(path),
        (None, Source::Bytes(_)) => CName::default(),
    };
    let model = open(py, source, limits)?;
    let artefact = py.detach(|| {
        let compilation = model.lower(&options)?;
        let code = compilation.code_called(&name)?;
        match &file {
            Some(file) => code.artefact_in(file),
            None => code.artefact(),
        }
    });
    nnc_runtime::trim_heap();
    Ok(PyBytes::new(py, &artefact.map_err(|error| error::compiler(py, &error))?))
}

/// The names of targets that can be compiled for.
#[pyfunction]
pub fn targets() -> Vec<String> {
    nnc::target::names()
}
