//! What a model leaves open and its user decides: dims of inputs, inputs that are constants, inputs that have a default, and
//! where the graph ends.

use std::collections::BTreeMap;

use super::error::{Fault, LISTED, UnboundInput};
use super::model::{Dim, Model, PortInfo, named_dims};
use crate::nearest::nearest;
use crate::setting::Setting;
use crate::tensor::Tensor;
use crate::types::{Shape, TensorType};

/// Dims, shapes and constants for the inputs of a [`Model`], and where it ends.
///
/// An input that has a default in the model, an initializer of its name, is that constant, so that weights stay weights. To
/// name it in `shapes` makes it an input like others, behind those; in `constants`, another constant.
#[derive(Clone, Debug, Default)]
pub struct Bindings {
    /// Extents of named dims.
    pub dims: BTreeMap<String, usize>,
    /// Shapes of inputs, by the input's name.
    pub shapes: BTreeMap<String, Vec<usize>>,
    /// Inputs that are constants, by name: they are no inputs of the graph any more.
    pub constants: BTreeMap<String, Tensor>,
    /// Values, or nodes for their results, at which the graph ends: they are its outputs. Empty for the model's own.
    pub until: Vec<String>,
}

impl Bindings {
    /// Nothing bound: for models whose input shapes are all known.
    pub fn new() -> Bindings {
        Bindings::default()
    }

    /// Binds a named dim, written as on the command line: `batch=1`.
    pub fn bind_dim(&mut self, text: &str) -> Result<(), String> {
        let parsed = text.rsplit_once('=').and_then(|(name, n)| Some((name, n.trim().parse().ok()?)));
        let (name, extent) =
            parsed.ok_or_else(|| format!("\"{text}\" is no dim: write NAME=NUMBER, such as batch=1"))?;
        match self.dims.insert(name.to_string(), extent) {
            Some(other) if other != extent => {
                Err(format!("dim \"{name}\" is given twice: {other} and {extent}"))
            }
            _ => Ok(()),
        }
    }

    /// Binds the shape of an input, written as on the command line: `input=1x3x224x224`.
    pub fn bind_shape(&mut self, text: &str) -> Result<(), String> {
        let dims = |shape: &str| {
            shape.split(['x', ',']).map(|d| d.trim().parse().ok()).collect::<Option<Vec<usize>>>()
        };
        let parsed = text.rsplit_once('=').and_then(|(name, shape)| Some((name, dims(shape)?)));
        let (name, shape) = parsed
            .ok_or_else(|| format!("\"{text}\" is no shape: write INPUT=DIMS, such as input=1x3x224x224"))?;
        match self.shapes.insert(name.to_string(), shape.clone()) {
            Some(other) if other != shape => Err(format!("the shape of input \"{name}\" is given twice")),
            _ => Ok(()),
        }
    }

    /// The inputs that there are with these bindings and their types, in order, those that are bound to constants included.
    pub(super) fn resolve<'m>(&self, model: &'m Model) -> Result<Vec<(&'m PortInfo, TensorType)>, Fault> {
        let inputs: Vec<&PortInfo> = model.inputs_with(self).collect();
        self.check_names(model, &inputs)?;
        let bound = self.dims.iter().map(|(name, &n)| (name.as_str(), (n, dim(name, Some(n)))));
        let mut known = KnownDims { dims: bound.collect() };
        for &input in &inputs {
            if let Some(shape) = self.shapes.get(&input.name) {
                known.learn(input, shape, Setting::shape(&input.name, shape))?;
            }
            if let Some(tensor) = self.constants.get(&input.name) {
                if input.dtype.is_some_and(|d| d != tensor.dtype()) {
                    let what = format!(
                        "the constant for input \"{}\" is {}, the input is {input}",
                        input.name,
                        tensor.ty()
                    );
                    return Err(Fault::Binding { setting: Setting::constant(&input.name), what, by: None });
                }
                known.learn(input, tensor.shape(), Setting::constant(&input.name))?;
            }
        }
        let mut types = Vec::new();
        let mut unbound = Vec::new();
        for input in inputs {
            let given = self.shapes.get(&input.name).cloned();
            let given = given.or_else(|| self.constants.get(&input.name).map(|t| t.shape().to_vec()));
            let shape = given.or_else(|| {
                input.dims.as_ref()?.iter().map(|d| known.extent(d)).collect::<Option<Vec<usize>>>()
            });
            match (shape, input.dtype) {
                (Some(shape), Some(dtype)) => {
                    types.push((input, TensorType::new(dtype, Shape::new(shape))));
                }
                _ => unbound.push(unbound_input(input, &known)),
            }
        }
        if unbound.is_empty() { Ok(types) } else { Err(Fault::Unbound(unbound)) }
    }

    fn check_names(&self, model: &Model, inputs: &[&PortInfo]) -> Result<(), Fault> {
        let dims = named_dims(inputs.iter().copied());
        let inputs = model.inputs.iter().chain(&model.defaults).map(|input| input.name.as_str());
        let inputs: Vec<&str> = inputs.collect();
        let shapes = self.shapes.iter();
        let shapes = shapes.map(|(name, shape)| (Setting::shape(name, shape), "input", name, &inputs));
        let constants = self.constants.keys();
        let constants = constants.map(|name| (Setting::constant(name), "input", name, &inputs));
        let named = self.dims.iter();
        let named = named.map(|(name, &extent)| (dim(name, Some(extent)), "named dim", name, &dims));
        for (setting, kind, name, names) in named.chain(shapes).chain(constants) {
            if names.contains(&name.as_str()) {
                continue;
            }
            let hint = match nearest(name, names) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None if names.is_empty() => format!("it has no {kind}"),
                None => {
                    let all: Vec<String> = names.iter().take(LISTED).map(|n| format!("\"{n}\"")).collect();
                    let more = if names.len() > LISTED { ", …" } else { "" };
                    format!("it has {}{more}", all.join(", "))
                }
            };
            let what = format!("the model has no {kind} \"{name}\"; {hint}");
            return Err(Fault::Binding { setting, what, by: None });
        }
        Ok(())
    }
}

fn dim(name: &str, extent: Option<usize>) -> Setting {
    Setting::Dim { name: name.to_string(), extent }
}

/// Named dims whose extent is known, and which setting said so.
struct KnownDims<'a> {
    dims: BTreeMap<&'a str, (usize, Setting)>,
}

impl<'a> KnownDims<'a> {
    /// Takes over the shape of an input, which must agree with what is known.
    fn learn(&mut self, input: &'a PortInfo, shape: &[usize], setting: Setting) -> Result<(), Fault> {
        let Some(dims) = &input.dims else {
            return Ok(());
        };
        let shape_text = Shape::from(shape);
        let contradiction = |what: String, by: Option<&Setting>| Fault::Binding {
            setting: setting.clone(),
            what: format!("input \"{}\" is {input}, it cannot be {shape_text}: {what}", input.name),
            by: by.cloned(),
        };
        if dims.len() != shape.len() {
            return Err(contradiction(format!("it has {} dims, not {}", dims.len(), shape.len()), None));
        }
        for (axis, (dim, &extent)) in dims.iter().zip(shape).enumerate() {
            match dim {
                Dim::Known(n) if *n != extent => {
                    return Err(contradiction(format!("dim {axis} is fixed at {n} by the model"), None));
                }
                Dim::Named(name) => {
                    if let Some((other, source)) = self.dims.get(name.as_str())
                        && *other != extent
                    {
                        let what = format!("dim {axis}, \"{name}\", is {other}");
                        return Err(contradiction(what, Some(source)));
                    }
                    self.dims.insert(name, (extent, setting.clone()));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn extent(&self, dim: &Dim) -> Option<usize> {
        match dim {
            Dim::Known(n) => Some(*n),
            Dim::Named(name) => self.dims.get(name.as_str()).map(|(n, _)| *n),
            Dim::Unknown => None,
        }
    }
}

fn unbound_input(input: &PortInfo, known: &KnownDims<'_>) -> UnboundInput {
    let shape = |dims| vec![Setting::Shape { input: input.name.clone(), dims }];
    let settings = match &input.dims {
        None => shape(None),
        Some(dims) => {
            let open: Vec<&Dim> = dims.iter().filter(|d| known.extent(d).is_none()).collect();
            let mut names: Vec<&str> = Vec::new();
            for dim in &open {
                if let Dim::Named(name) = dim
                    && !names.contains(&name.as_str())
                {
                    names.push(name);
                }
            }
            if open.iter().all(|d| matches!(d, Dim::Named(_))) && names.len() <= 2 {
                names.iter().map(|name| dim(name, None)).collect()
            } else {
                shape(Some(dims.iter().map(|d| known.extent(d)).collect()))
            }
        }
    };
    UnboundInput { input: input.name.clone(), declared: input.to_string(), settings }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_spellings_are_read() {
        let mut b = Bindings::new();
        b.bind_dim("p2o.DynamicDimension.1=640").unwrap();
        b.bind_shape("x=1x3x224x224").unwrap();
        b.bind_shape("a=b=2,3").unwrap();
        assert_eq!(b.dims["p2o.DynamicDimension.1"], 640);
        assert_eq!(b.shapes["x"], [1, 3, 224, 224]);
        assert_eq!(b.shapes["a=b"], [2, 3]);
    }

    #[test]
    fn spellings_that_make_no_sense_are_refused_with_an_example() {
        let mut b = Bindings::new();
        assert_eq!(
            b.bind_dim("batch").unwrap_err(),
            "\"batch\" is no dim: write NAME=NUMBER, such as batch=1"
        );
        assert!(b.bind_dim("batch=-1").is_err());
        assert!(b.bind_shape("x=1x3xWxH").unwrap_err().contains("such as input=1x3x224x224"));
        b.bind_dim("batch=1").unwrap();
        assert_eq!(b.bind_dim("batch=2").unwrap_err(), "dim \"batch\" is given twice: 1 and 2");
    }
}
