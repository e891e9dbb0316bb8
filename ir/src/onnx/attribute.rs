//! Attributes of a node, read by name and type.
//!
//! A constructor takes each attribute that its operator has. What is left at the end is one that the operator does
//! not have, and the node is refused: an attribute that is silently ignored is a wrong result.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::error::NodeFault;
use super::subgraph::GraphDef;
use crate::tensor::Tensor;

/// The value of an attribute.
#[derive(Clone, Debug)]
pub(super) enum Attribute {
    Int(i64),
    Float(f32),
    String(String),
    Tensor(Tensor),
    Ints(Vec<i64>),
    Floats(Vec<f32>),
    Strings(Vec<String>),
    Graph(Arc<GraphDef>),
    /// In a function: the attribute of its call that has this name.
    Reference(String),
    /// A tensor that cannot be read, and why.
    Unreadable(String),
    /// A kind that no supported operator has.
    Other(&'static str),
}

impl Attribute {
    fn kind(&self) -> &'static str {
        match self {
            Attribute::Int(_) => "an integer",
            Attribute::Float(_) => "a float",
            Attribute::String(_) => "a string",
            Attribute::Tensor(_) | Attribute::Unreadable(_) => "a tensor",
            Attribute::Ints(_) => "integers",
            Attribute::Floats(_) => "floats",
            Attribute::Strings(_) => "strings",
            Attribute::Graph(_) => "a graph",
            Attribute::Reference(_) => "a reference to an attribute of a function",
            Attribute::Other(kind) => kind,
        }
    }
}

/// The attributes of a node that nobody has taken yet.
pub(super) struct Attributes<'m> {
    rest: BTreeMap<&'m str, &'m Attribute>,
}

/// The value of an attribute if it is there, or an error when it is of another kind.
macro_rules! take {
    ($self:ident, $name:ident, $kind:literal, $pattern:ident($v:ident) => $value:expr) => {
        match $self.rest.remove($name) {
            None => Ok(None),
            Some(Attribute::$pattern($v)) => Ok(Some($value)),
            Some(other) => Err(NodeFault::Attribute {
                name: $name.to_string(),
                what: format!("must be {}, it is {}", $kind, other.kind()),
            }),
        }
    };
}

impl<'m> Attributes<'m> {
    pub(super) fn new(all: &'m BTreeMap<String, Attribute>) -> Attributes<'m> {
        Attributes { rest: all.iter().map(|(name, a)| (name.as_str(), a)).collect() }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.rest.contains_key(name)
    }

    pub(super) fn int(&mut self, name: &str) -> Result<Option<i64>, NodeFault> {
        take!(self, name, "an integer", Int(v) => *v)
    }

    pub(super) fn float(&mut self, name: &str) -> Result<Option<f32>, NodeFault> {
        take!(self, name, "a float", Float(v) => *v)
    }

    pub(super) fn string(&mut self, name: &str) -> Result<Option<&'m str>, NodeFault> {
        take!(self, name, "a string", String(v) => v.as_str())
    }

    pub(super) fn ints(&mut self, name: &str) -> Result<Option<&'m [i64]>, NodeFault> {
        take!(self, name, "integers", Ints(v) => v.as_slice())
    }

    pub(super) fn floats(&mut self, name: &str) -> Result<Option<&'m [f32]>, NodeFault> {
        take!(self, name, "floats", Floats(v) => v.as_slice())
    }

    pub(super) fn strings(&mut self, name: &str) -> Result<Option<&'m [String]>, NodeFault> {
        take!(self, name, "strings", Strings(v) => v.as_slice())
    }

    pub(super) fn graph(&mut self, name: &str) -> Result<Option<&'m GraphDef>, NodeFault> {
        take!(self, name, "a graph", Graph(v) => &**v)
    }

    pub(super) fn tensor(&mut self, name: &str) -> Result<Option<&'m Tensor>, NodeFault> {
        if let Some(Attribute::Unreadable(what)) = self.rest.get(name) {
            return Err(NodeFault::Attribute {
                name: name.to_string(),
                what: format!("is a tensor that cannot be read: {what}"),
            });
        }
        take!(self, name, "a tensor", Tensor(v) => v)
    }

    /// An integer that is 0 or 1.
    pub(super) fn flag(&mut self, name: &str, default: bool) -> Result<bool, NodeFault> {
        match self.int(name)? {
            None => Ok(default),
            Some(0) => Ok(false),
            Some(1) => Ok(true),
            Some(n) => Err(value(name, format!("must be 0 or 1, it is {n}"))),
        }
    }

    /// An integer that counts something.
    pub(super) fn count(&mut self, name: &str, default: usize) -> Result<usize, NodeFault> {
        match self.int(name)? {
            None => Ok(default),
            Some(n) => usize::try_from(n)
                .ok()
                .filter(|n| *n > 0)
                .ok_or_else(|| value(name, format!("must be positive, it is {n}"))),
        }
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(
        &mut self,
        name: &str,
        default: T,
        choices: &[(&str, T)],
    ) -> Result<T, NodeFault> {
        let Some(word) = self.string(name)? else {
            return Ok(default);
        };
        choices.iter().find(|(w, _)| *w == word).map(|(_, t)| *t).ok_or_else(|| {
            let words: Vec<String> = choices.iter().map(|(w, _)| format!("\"{w}\"")).collect();
            value(name, format!("is \"{word}\", supported: {}", words.join(", ")))
        })
    }

    /// Takes an attribute that changes nothing here.
    pub(super) fn ignore(&mut self, name: &str) {
        self.rest.remove(name);
    }

    /// Refuses what nobody took.
    pub(super) fn finish(self) -> Result<(), NodeFault> {
        match self.rest.first_key_value() {
            None => Ok(()),
            Some((name, _)) => Err(NodeFault::UnknownAttribute(name.to_string())),
        }
    }
}

/// An attribute with a value that makes no sense.
pub(super) fn value(name: &str, what: impl Into<String>) -> NodeFault {
    NodeFault::Attribute { name: name.to_string(), what: what.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(list: &[(&str, Attribute)]) -> BTreeMap<String, Attribute> {
        list.iter().map(|(n, a)| (n.to_string(), a.clone())).collect()
    }

    #[test]
    fn attributes_are_taken_once_and_by_type() {
        let all = map(&[("axis", Attribute::Int(-1)), ("mode", Attribute::String("edge".into()))]);
        let mut a = Attributes::new(&all);
        assert_eq!(a.int("axis").unwrap(), Some(-1));
        assert_eq!(a.int("axis").unwrap(), None);
        assert_eq!(a.choice("mode", 0, &[("constant", 0), ("edge", 2)]).unwrap(), 2);
        assert!(a.finish().is_ok());
    }

    #[test]
    fn a_mistyped_attribute_is_refused_with_both_types() {
        let all = map(&[("axis", Attribute::Float(1.0))]);
        let error = Attributes::new(&all).int("axis").unwrap_err();
        assert_eq!(error.to_string(), "attribute \"axis\" must be an integer, it is a float");
    }

    #[test]
    fn an_attribute_that_nobody_takes_is_refused() {
        let all = map(&[("axes", Attribute::Ints(vec![]))]);
        let error = Attributes::new(&all).finish().unwrap_err();
        assert!(error.to_string().starts_with("attribute \"axes\" is not one of this operator"), "{error}");
    }

    #[test]
    fn words_and_flags_outside_their_choices_are_refused() {
        let all = map(&[("mode", Attribute::String("odd".into())), ("keepdims", Attribute::Int(2))]);
        let mut a = Attributes::new(&all);
        let error = a.choice("mode", 0, &[("constant", 0), ("edge", 2)]).unwrap_err();
        assert_eq!(error.to_string(), "attribute \"mode\" is \"odd\", supported: \"constant\", \"edge\"");
        let error = a.flag("keepdims", true).unwrap_err();
        assert_eq!(error.to_string(), "attribute \"keepdims\" must be 0 or 1, it is 2");
    }
}
