//! Attributes as `key=value` lists, written and read by one walk over their description.
//!
//! A description calls [`Fields::optional`] and [`Fields::required`] for each attribute. When a graph is printed, the
//! walk collects the attributes that differ from their defaults; when one is parsed, the same walk fills a blank
//! operator from those that are written.

use crate::op::{Epilogue, Prologue, Residual, Unary};
use crate::tensor::Tensor;
use crate::types::{DType, TensorType};

use super::constant;
use super::ops::{Described, keyword};

/// What is wrong with an attribute, and where in the text.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct AttrFault {
    /// Byte offset.
    pub at: usize,
    /// What was expected, or what is wrong.
    pub what: String,
}

/// `key=value` as it stands in the text.
#[derive(Clone, Debug)]
pub(super) struct Written<'a> {
    pub key: &'a str,
    pub key_at: usize,
    pub value: &'a str,
    pub value_at: usize,
}

/// One walk over the attributes of an operator.
pub(super) struct Fields<'a> {
    /// Types of the operands: defaults may follow from them.
    pub operands: &'a [Option<&'a TensorType>],
    known: Vec<&'static str>,
    mode: Mode<'a>,
}

enum Mode<'a> {
    Write(Vec<String>),
    Read { given: Vec<Written<'a>>, at: usize },
}

impl<'a> Fields<'a> {
    /// A walk that writes.
    pub fn writer(operands: &'a [Option<&'a TensorType>]) -> Fields<'a> {
        Fields { operands, known: Vec::new(), mode: Mode::Write(Vec::new()) }
    }

    /// A walk that reads; `at` is where the operator stands.
    pub fn reader(operands: &'a [Option<&'a TensorType>], given: Vec<Written<'a>>, at: usize) -> Fields<'a> {
        Fields { operands, known: Vec::new(), mode: Mode::Read { given, at } }
    }

    /// The next attribute, which need not be written when it has its default.
    pub fn optional<T: Attr>(
        &mut self,
        key: &'static str,
        value: &mut T,
        default: T,
    ) -> Result<(), AttrFault> {
        self.known.push(key);
        match &mut self.mode {
            Mode::Write(written) if *value != default => written.push(format!("{key}={}", value.write())),
            Mode::Write(_) => {}
            Mode::Read { given, .. } => *value = take(given, key)?.unwrap_or(default),
        }
        Ok(())
    }

    /// The next attribute, which is always written.
    pub fn required<T: Attr>(&mut self, key: &'static str, value: &mut T) -> Result<(), AttrFault> {
        self.known.push(key);
        match &mut self.mode {
            Mode::Write(written) => written.push(format!("{key}={}", value.write())),
            Mode::Read { given, at } => {
                let missing = AttrFault { at: *at, what: format!("attribute {key} is missing") };
                *value = take(given, key)?.ok_or(missing)?;
            }
        }
        Ok(())
    }

    /// Ends a walk that wrote: the attributes, separated by commas.
    pub fn written(self) -> String {
        match self.mode {
            Mode::Write(written) => written.join(", "),
            Mode::Read { .. } => String::new(),
        }
    }

    /// Ends a walk that read: nothing unknown may be left.
    pub fn finish(self) -> Result<(), AttrFault> {
        let Mode::Read { given, .. } = self.mode else { return Ok(()) };
        match given.first() {
            None => Ok(()),
            Some(w) if self.known.contains(&w.key) => {
                Err(AttrFault { at: w.key_at, what: format!("attribute {} is given twice", w.key) })
            }
            Some(w) => {
                let known = match self.known.is_empty() {
                    true => "there are none".to_string(),
                    false => format!("expected {}", self.known.join(", ")),
                };
                Err(AttrFault { at: w.key_at, what: format!("unknown attribute {}; {known}", w.key) })
            }
        }
    }
}

/// Takes an attribute out of those that are written.
fn take<T: Attr>(given: &mut Vec<Written<'_>>, key: &str) -> Result<Option<T>, AttrFault> {
    let Some(index) = given.iter().position(|w| w.key == key) else { return Ok(None) };
    let written = given.remove(index);
    T::read(written.value).map(Some).map_err(|expected| AttrFault {
        at: written.value_at,
        what: format!("expected {expected} for attribute {key}, got {}", written.value),
    })
}

/// The value of an attribute.
pub(super) trait Attr: PartialEq + Sized {
    /// Its text.
    fn write(&self) -> String;
    /// The value of a text, or what was expected.
    fn read(text: &str) -> Result<Self, String>;
}

macro_rules! numbers {
    ($($t:ty => $expected:literal),*) => { $(impl Attr for $t {
        fn write(&self) -> String {
            // `{:?}` is the shortest text that reads back the same, with an exponent where that is shorter.
            let text = format!("{self:?}");
            text.strip_suffix(".0").map(str::to_string).unwrap_or(text)
        }

        fn read(text: &str) -> Result<Self, String> {
            text.parse().map_err(|_| $expected.to_string())
        }
    })* };
}
numbers!(usize => "a number of elements", u32 => "a whole number", u64 => "a whole number", isize => "an integer", i32 => "an integer",
    i128 => "an integer", f32 => "a number", f64 => "a number", bool => "true or false");

/// Extents: `3x3`; of no axis: `scalar`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct ByX<T>(pub Vec<T>);

impl<T: Attr> Attr for ByX<T> {
    fn write(&self) -> String {
        if self.0.is_empty() {
            return "scalar".to_string();
        }
        self.0.iter().map(T::write).collect::<Vec<_>>().join("x")
    }

    fn read(text: &str) -> Result<Self, String> {
        if text == "scalar" {
            return Ok(ByX(Vec::new()));
        }
        text.split('x')
            .map(T::read)
            .collect::<Result<_, _>>()
            .map(ByX)
            .map_err(|_| "extents such as 3x3".to_string())
    }
}

/// Padding: `1x1:0x2`, before the first elements and after the last.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Pads(pub Vec<isize>, pub Vec<isize>);

impl Attr for Pads {
    fn write(&self) -> String {
        format!("{}:{}", ByX(self.0.clone()).write(), ByX(self.1.clone()).write())
    }

    fn read(text: &str) -> Result<Self, String> {
        let pads = text.split_once(':').and_then(|(begin, end)| {
            let (begin, end) = (ByX::read(begin.trim()).ok()?, ByX::read(end.trim()).ok()?);
            Some(Pads(begin.0, end.0))
        });
        pads.ok_or_else(|| "pads such as 1x1:0x2".to_string())
    }
}

/// A list: `[0, 2]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct List<T>(pub Vec<T>);

impl<T: Attr> Attr for List<T> {
    fn write(&self) -> String {
        format!("[{}]", self.0.iter().map(T::write).collect::<Vec<_>>().join(", "))
    }

    fn read(text: &str) -> Result<Self, String> {
        let inner = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
        let inner = inner.ok_or("a list in brackets")?.trim();
        if inner.is_empty() {
            return Ok(List(Vec::new()));
        }
        inner
            .split(',')
            .map(|item| T::read(item.trim()).map_err(|e| format!("a list of which each is {e}")))
            .collect::<Result<_, _>>()
            .map(List)
    }
}

impl Attr for DType {
    fn write(&self) -> String {
        self.name().to_string()
    }

    fn read(text: &str) -> Result<Self, String> {
        DType::from_name(text).ok_or_else(|| {
            let names: Vec<&str> = DType::ALL.iter().map(|d| d.name()).collect();
            format!("one of {}", names.join(", "))
        })
    }
}

/// A constant in an attribute: `i64[2x1] {2, 0}`.
impl Attr for Tensor {
    fn write(&self) -> String {
        format!("{} {}", self.ty(), constant::write(self, constant::Detail::Full))
    }

    fn read(text: &str) -> Result<Self, String> {
        let (ty, data) = constant::split_type(text).ok_or("a type and data such as i64[2] {0, 1}")?;
        constant::read(ty, data)
    }
}

/// A function and its parameters: `relu`, `clip(max=1)`, `relu6`.
impl Attr for Unary {
    fn write(&self) -> String {
        if *self == RELU6 {
            return "relu6".to_string();
        }
        let mut fields = Fields::writer(&[]);
        // Writing has no faults.
        let parameters = self.clone().fields(&mut fields).map(|()| fields.written()).unwrap_or_default();
        let name = keyword(crate::op::Operator::name(self));
        if parameters.is_empty() { name } else { format!("{name}({parameters})") }
    }

    fn read(text: &str) -> Result<Self, String> {
        if text == "relu6" {
            return Ok(RELU6);
        }
        let (name, parameters) = match text.strip_suffix(')').and_then(|t| t.split_once('(')) {
            Some((name, parameters)) => (name.trim(), parameters),
            None => (text, ""),
        };
        let mut unary = Unary::blanks()
            .into_iter()
            .find(|u| keyword(crate::op::Operator::name(u)) == name)
            .ok_or_else(|| "a function of one element such as relu".to_string())?;
        let mut given = Vec::new();
        for part in parameters.split(',').map(str::trim).filter(|p| !p.is_empty()) {
            let (key, value) = part.split_once('=').ok_or("parameters such as alpha=0.1")?;
            given.push(Written { key: key.trim(), key_at: 0, value: value.trim(), value_at: 0 });
        }
        let mut fields = Fields::reader(&[], given, 0);
        unary
            .fields(&mut fields)
            .and_then(|()| fields.finish())
            .map_err(|f| format!("a function ({})", f.what))?;
        Ok(unary)
    }
}

const RELU6: Unary = Unary::Clip { min: 0.0, max: 6.0 };

/// `none`, or a function.
impl Attr for Option<Unary> {
    fn write(&self) -> String {
        self.map_or("none".to_string(), |u| u.write())
    }

    fn read(text: &str) -> Result<Self, String> {
        if text == "none" { Ok(None) } else { Unary::read(text).map(Some) }
    }
}

/// `affine`, `relu`, `affine+relu`.
impl Attr for Prologue {
    fn write(&self) -> String {
        let affine = self.affine.then(|| "affine".to_string());
        let parts: Vec<String> = affine.into_iter().chain(self.activation.map(|a| a.write())).collect();
        if parts.is_empty() { "none".to_string() } else { parts.join("+") }
    }

    fn read(text: &str) -> Result<Self, String> {
        let (affine, rest) = match text.strip_prefix("affine") {
            Some("") => return Ok(Prologue { affine: true, activation: None }),
            Some(rest) => (true, rest.strip_prefix('+').ok_or("affine+ and a function")?),
            None => (false, text),
        };
        Ok(Prologue { affine, activation: Attr::read(rest)? })
    }
}

/// `relu`, `residual`, `residual+relu` (added before), `relu+residual` (after), `none+residual`; what is stored comes last: `relu+bf16`, `bf16`.
impl Attr for Epilogue {
    fn write(&self) -> String {
        let activation = self.activation.write();
        let computed = match (self.residual, self.activation) {
            (None, _) => activation,
            (Some(Residual::BeforeActivation), None) => "residual".to_string(),
            (Some(Residual::BeforeActivation), Some(_)) => format!("residual+{activation}"),
            (Some(Residual::AfterActivation), _) => format!("{activation}+residual"),
        };
        match self.stored {
            None => computed,
            Some(stored) if self.residual.is_none() && self.activation.is_none() => stored.write(),
            Some(stored) => format!("{computed}+{}", stored.write()),
        }
    }

    fn read(text: &str) -> Result<Self, String> {
        let (computed, last) = text.rsplit_once('+').unwrap_or(("none", text));
        let stored = DType::from_name(last);
        let text = if stored.is_some() { computed } else { text };
        let (residual, activation) = match (text.strip_prefix("residual+"), text.strip_suffix("+residual")) {
            _ if text == "residual" => (Some(Residual::BeforeActivation), "none"),
            (Some(rest), _) => (Some(Residual::BeforeActivation), rest),
            (_, Some(rest)) => (Some(Residual::AfterActivation), rest),
            _ => (None, text),
        };
        Ok(Epilogue { residual, activation: Attr::read(activation)?, stored })
    }
}
