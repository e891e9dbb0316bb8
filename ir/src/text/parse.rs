//! Text to graph.

use std::collections::BTreeMap;

use crate::graph::{Graph, NodeId, Value};
use crate::op::Op;
use crate::types::TensorType;

use super::attrs::{AttrFault, Fields, Written};
use super::constant;
use super::is_name_char;
use super::ops::{Described, blank, body_words};

/// Where a text is no graph, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {what}")]
pub struct ParseError {
    /// Line, from 1.
    pub line: usize,
    /// Character in the line, from 1.
    pub column: usize,
    /// What was expected, or what is wrong.
    pub what: String,
}

/// Reads a graph from its text form.
pub fn parse(text: &str) -> Result<Graph, ParseError> {
    let mut parser = Parser { text, at: 0, graph: Graph::new(), values: BTreeMap::new() };
    let whole = parser.statements().and_then(|()| match parser.rest().is_empty() {
        true => Ok(()),
        false => parser.expected("a definition such as %y = relu %x, or output name = %y"),
    });
    match whole {
        Ok(()) => Ok(parser.graph),
        Err(AttrFault { at, what }) => {
            let before = &text[..text.floor_char_boundary(at)];
            let line_start = before.rfind('\n').map_or(0, |i| i + 1);
            let line = before.matches('\n').count() + 1;
            Err(ParseError { line, column: before[line_start..].chars().count() + 1, what })
        }
    }
}

/// A label as written: which node is meant, and its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum NodeLabel {
    /// `%12`
    Number(usize),
    /// `%name`, `%name#2`
    Name(String, usize),
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    graph: Graph,
    values: BTreeMap<NodeLabel, NodeId>,
}

impl<'a> Parser<'a> {
    /// As many statements as there are.
    fn statements(&mut self) -> Result<(), AttrFault> {
        loop {
            let at = self.skip_space();
            if self.rest().starts_with('%') {
                self.definition()?;
            } else if self.word() == "output" {
                self.output()?;
            } else {
                self.at = at;
                return Ok(());
            }
        }
    }

    /// `{ statements }`: a graph of its own, with names of its own.
    fn body(&mut self) -> Result<Graph, AttrFault> {
        self.expect("{")?;
        let graph = std::mem::take(&mut self.graph);
        let values = std::mem::take(&mut self.values);
        self.statements()?;
        self.expect("}")?;
        self.values = values;
        Ok(std::mem::replace(&mut self.graph, graph))
    }

    /// `%label = op …`
    fn definition(&mut self) -> Result<(), AttrFault> {
        let at = self.at;
        let label = self.label()?;
        if self.values.contains_key(&label) {
            return Err(AttrFault { at, what: "a value of this name is defined above".to_string() });
        }
        self.expect("=")?;
        let op_at = self.skip_space();
        let name = match &label {
            NodeLabel::Number(_) => String::new(),
            NodeLabel::Name(name, _) => name.clone(),
        };
        let id = match self.word() {
            "input" => {
                self.expect(":")?;
                let ty = self.ty()?;
                self.graph.add_input(name, ty).node
            }
            "const" => {
                let ty = self.ty()?;
                let at = self.skip_space();
                let data = self.data()?;
                let tensor = constant::read(ty, data)
                    .map_err(|what| AttrFault { at, what: format!("expected {what}") })?;
                self.graph.add_constant(name, tensor).node
            }
            word => {
                let op = blank(word).ok_or_else(|| AttrFault {
                    at: op_at,
                    what: format!("unknown operator {word}; expected an ONNX name such as max_pool"),
                })?;
                self.operator(name, op, op_at)?
            }
        };
        self.values.insert(label, id);
        Ok(())
    }

    /// `operands {attributes} bodies : types`, after the operator's name.
    fn operator(&mut self, name: String, mut op: Op, at: usize) -> Result<NodeId, AttrFault> {
        let mut operands: Vec<Option<Value>> = Vec::new();
        self.skip_space();
        while self.rest().starts_with(['%', '_']) {
            operands.push(if self.eat("_") { None } else { Some(self.value()?) });
            if !self.eat(",") {
                break;
            }
            self.skip_space();
        }
        let given = self.attributes()?;
        let types: Vec<Option<TensorType>> =
            operands.iter().map(|v| v.map(|v| self.graph.ty(v).clone())).collect();
        let types: Vec<Option<&TensorType>> = types.iter().map(Option::as_ref).collect();
        let mut fields = Fields::reader(&types, given, at);
        op.fields(&mut fields)?;
        fields.finish()?;
        for (index, word) in body_words(&op).iter().enumerate() {
            self.expect(word)?;
            let graph = self.body()?;
            if let Some(body) = op.bodies_mut().into_iter().nth(index) {
                *body = graph.into();
            }
        }
        self.expect(":")?;
        let types_at = self.skip_space();
        let mut written = vec![self.ty()?];
        while self.eat(",") {
            written.push(self.ty()?);
        }
        let id = self.graph.add(name, op, &operands).map_err(|e| AttrFault { at, what: e.to_string() })?;
        let inferred = &self.graph.node(id).outputs;
        if *inferred != written {
            let text =
                |types: &[TensorType]| types.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let what = format!("inference finds {}, not {}", text(inferred), text(&written));
            return Err(AttrFault { at: types_at, what });
        }
        Ok(id)
    }

    /// `name = %value`, after the word "output".
    fn output(&mut self) -> Result<(), AttrFault> {
        self.skip_space();
        let name = self.name()?;
        self.expect("=")?;
        self.skip_space();
        let value = self.value()?;
        self.graph.add_output(name, value);
        Ok(())
    }

    /// `{key=value, …}`, if there are any.
    fn attributes(&mut self) -> Result<Vec<Written<'a>>, AttrFault> {
        let mut given = Vec::new();
        if !self.eat("{") {
            return Ok(given);
        }
        loop {
            if self.eat("}") {
                return Ok(given);
            }
            let key_at = self.skip_space();
            let key = self.word();
            if key.is_empty() {
                return self.expected("an attribute such as axis=1, or }");
            }
            self.expect("=")?;
            let value_at = self.skip_space();
            let value = self.attribute_value()?;
            given.push(Written { key, key_at, value, value_at });
            if !self.eat(",") {
                self.expect("}")?;
                return Ok(given);
            }
        }
    }

    /// Everything up to the next comma or brace that is not inside brackets.
    fn attribute_value(&mut self) -> Result<&'a str, AttrFault> {
        let start = self.at;
        let mut depth = 0usize;
        for (i, c) in self.rest().char_indices() {
            match c {
                '(' | '[' | '{' => depth += 1,
                ',' | '}' if depth == 0 => {
                    self.at = start + i;
                    return Ok(self.text[start..self.at].trim_end());
                }
                ')' | ']' | '}' => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
        self.at = self.text.len();
        self.expected("}")
    }

    /// The data of a constant: `{…}` or `word(…)`.
    fn data(&mut self) -> Result<&'a str, AttrFault> {
        let start = self.at;
        match self.rest().find(['}', ')']) {
            Some(end) => {
                self.at = start + end + 1;
                Ok(&self.text[start..self.at])
            }
            None => self.expected("data such as {1, 2}, splat(1), hash(seed=1, scale=1) or bytes(00)"),
        }
    }

    /// `%label` or `%label:output`, defined above.
    fn value(&mut self) -> Result<Value, AttrFault> {
        let at = self.at;
        let label = self.label()?;
        let node = *self.values.get(&label).ok_or_else(|| AttrFault {
            at,
            what: format!("no value {} is defined above", &self.text[at..self.at]),
        })?;
        let output =
            if self.rest().starts_with(':') && self.rest()[1..].starts_with(|c: char| c.is_ascii_digit()) {
                self.at += 1;
                self.number()?
            } else {
                0
            };
        let outputs = self.graph.node(node).outputs.len();
        match u32::try_from(output) {
            Ok(index) if output < outputs => Ok(Value { node, output: index }),
            _ => Err(AttrFault { at, what: format!("this node has {outputs} outputs, numbered from 0") }),
        }
    }

    fn label(&mut self) -> Result<NodeLabel, AttrFault> {
        self.expect("%")?;
        if !self.rest().starts_with('"') {
            let digits = self.rest().chars().take_while(|&c| is_name_char(c));
            if digits.clone().count() > 0 && digits.clone().all(|c| c.is_ascii_digit()) {
                return Ok(NodeLabel::Number(self.number()?));
            }
        }
        let name = self.name()?;
        let nth = if self.rest().starts_with('#') {
            self.at += 1;
            self.number()?
        } else {
            1
        };
        Ok(NodeLabel::Name(name, nth))
    }

    fn name(&mut self) -> Result<String, AttrFault> {
        if !self.rest().starts_with('"') {
            let len = self.rest().find(|c| !is_name_char(c)).unwrap_or(self.rest().len());
            if len == 0 {
                return self.expected("a name");
            }
            self.at += len;
            return Ok(self.text[self.at - len..self.at].to_string());
        }
        let start = self.at;
        self.at += 1;
        let mut name = String::new();
        while let Some(c) = self.rest().chars().next() {
            self.at += c.len_utf8();
            match c {
                '"' => return Ok(name),
                '\\' => name.push(self.escape()?),
                c => name.push(c),
            }
        }
        Err(AttrFault { at: start, what: "this name has no closing quote".to_string() })
    }

    /// What follows a backslash.
    fn escape(&mut self) -> Result<char, AttrFault> {
        let escaped = match self.rest().chars().next() {
            Some(c @ ('"' | '\\')) => Some((c, 1)),
            Some('u') => {
                self.rest().strip_prefix("u{").and_then(|r| r.split_once('}')).and_then(|(hex, _)| {
                    let c = u32::from_str_radix(hex, 16).ok().and_then(char::from_u32)?;
                    Some((c, hex.len() + "u{}".len()))
                })
            }
            _ => None,
        };
        match escaped {
            Some((c, len)) => {
                self.at += len;
                Ok(c)
            }
            None => self.expected("\\\", \\\\ or \\u{…}"),
        }
    }

    fn ty(&mut self) -> Result<TensorType, AttrFault> {
        self.skip_space();
        match constant::split_type(self.rest()) {
            Some((ty, rest)) => {
                self.at = self.text.len() - rest.len();
                Ok(ty)
            }
            None => self.expected("a type such as f32[1x3x32x32]"),
        }
    }

    fn number(&mut self) -> Result<usize, AttrFault> {
        let len = self.rest().find(|c: char| !c.is_ascii_digit()).unwrap_or(self.rest().len());
        match self.rest()[..len].parse() {
            Ok(n) => {
                self.at += len;
                Ok(n)
            }
            Err(_) => self.expected("a number"),
        }
    }

    /// Letters, digits and underscores; empty if there are none.
    fn word(&mut self) -> &'a str {
        self.skip_space();
        let rest = self.rest();
        let len = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        self.at += len;
        &rest[..len]
    }

    fn eat(&mut self, token: &str) -> bool {
        self.skip_space();
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn expect(&mut self, token: &str) -> Result<(), AttrFault> {
        if self.eat(token) { Ok(()) } else { self.expected(token) }
    }

    /// The error that something else was expected here.
    fn expected<T>(&self, what: &str) -> Result<T, AttrFault> {
        let got = match self.rest().chars().next() {
            None => "the end".to_string(),
            Some('\n') => "the end of the line".to_string(),
            Some(c) if is_name_char(c) => {
                let len = self.rest().find(|c| !is_name_char(c)).unwrap_or(self.rest().len());
                self.rest()[..len].chars().take(40).collect()
            }
            Some(c) => c.to_string(),
        };
        Err(AttrFault { at: self.at, what: format!("expected {what}, got {got}") })
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    /// Skips white space and comments; returns where it ends.
    fn skip_space(&mut self) -> usize {
        loop {
            let rest = self.rest();
            let trimmed = rest.trim_start();
            self.at += rest.len() - trimmed.len();
            if !trimmed.starts_with("//") {
                return self.at;
            }
            self.at += trimmed.find('\n').unwrap_or(trimmed.len());
        }
    }
}
