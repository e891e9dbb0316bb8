//! Errors of nnc as exceptions of Python, with the text of the error and of all its causes.

use std::error::Error;

use nnc::DynamicError;
use nnc_ir::Setting;
use nnc_ir::setting::worded;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

/// The exceptions, which `nnc/errors.py` defines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The model cannot be read or compiled.
    Model,
    /// What is asked of the compiler does not fit the model.
    Setting,
    /// The inputs of a run are not what the model takes.
    Input,
    /// A compiled program is refused.
    Artefact,
    /// There are no threads or no memory.
    Resource,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Model => "ModelError",
            Kind::Setting => "SettingError",
            Kind::Input => "InputError",
            Kind::Artefact => "ArtefactError",
            Kind::Resource => "ResourceError",
        }
    }

    fn class(self, py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
        static CLASSES: [PyOnceLock<Py<PyType>>; 5] = [const { PyOnceLock::new() }; 5];
        CLASSES[self as usize].import(py, "nnc.errors", self.name())
    }

    /// The exception with a text.
    pub fn says(self, py: Python<'_>, text: String) -> PyErr {
        match self.class(py) {
            Ok(class) => PyErr::from_type(class.clone(), text),
            Err(error) => error,
        }
    }

    /// The exception for an error.
    pub fn of(self, py: Python<'_>, error: &dyn Error) -> PyErr {
        self.says(py, text(error))
    }
}

/// The exception for an error of the compiler.
pub fn compiler(py: Python<'_>, error: &nnc::Error) -> PyErr {
    match error.is_usage() {
        true => Kind::Setting.of(py, error),
        false => Kind::Model.of(py, error),
    }
}

/// The exception for an error of a run.
pub fn run(py: Python<'_>, error: &DynamicError) -> PyErr {
    match error {
        DynamicError::Compile(error) => compiler(py, error),
        DynamicError::Shape(error) => Kind::Input.of(py, error),
        DynamicError::Run(error) => Kind::Input.of(py, error),
        DynamicError::Memory(error) => Kind::Resource.of(py, error),
    }
}

/// An error and its causes, those that say what the one before says left out.
fn text(error: &dyn Error) -> String {
    worded(keyword, || {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let more = error.to_string();
            if !text.contains(&more) {
                text = format!("{text}: {more}");
            }
            cause = error.source();
        }
        text
    })
}

/// The keyword that sets a setting, with its value where there is one: `shapes={"x": (1, 3, ?)}`.
fn keyword(setting: &Setting) -> String {
    let value = setting.value();
    match setting {
        Setting::Dim { name, .. } => format!("dims={{\"{name}\": {value}}}"),
        Setting::Shape { input, dims } => {
            let dims = match dims.as_deref() {
                None => "?, ?, …".into(),
                Some([one]) => format!("{},", extent(one)),
                Some(dims) => dims.iter().map(extent).collect::<Vec<_>>().join(", "),
            };
            format!("shapes={{\"{input}\": ({dims})}}")
        }
        Setting::Constant { input } => format!("constants={{\"{input}\": array}}"),
        Setting::Until { name: Some(name) } => format!("until=[\"{name}\"]"),
        Setting::Until { name: None } => "until".into(),
        Setting::Limit(limit) => format!("limits={{\"{limit}\": ?}}"),
        Setting::Target => "target".into(),
    }
}

fn extent(extent: &Option<usize>) -> String {
    extent.map_or("?".into(), |n| n.to_string())
}
