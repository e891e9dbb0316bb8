//! What ONNX says of an operator's operands and results: how many there are, and of which element types.
//!
//! `signatures.txt` has it for each operator and version, written by `signatures.py` from the schemas of ONNX and ONNX Runtime. Every node
//! is held against it before its constructor reads it, so that no constructor has to ask, and none computes something
//! from what no runtime would accept: a zero point of another type than its data, a sixth output.
//!
//! ```text
//!   DequantizeLinear 19 | x:T1 x_scale:T2 x_zero_point:T1? | y:T2 | T1 = u8 i8 i32; T2 = f16 bf16 f32
//! ```
//!
//! What is missing is the constructor's to say: it knows what it needs.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use super::error::NodeFault;
use crate::types::DType;

/// Operands and results of an operator in some versions.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Signature {
    /// The first version that has it.
    since: i64,
    operands: Ports,
    results: Ports,
    /// Element types that are allowed, by the name of a type variable.
    types: BTreeMap<&'static str, Vec<DType>>,
}

/// Operands or results, in order.
#[derive(Debug, PartialEq, Eq)]
struct Ports {
    list: Vec<Formal>,
    /// Whether there may be any number like the last one.
    open: bool,
}

/// What the type variables stand for in a node, and the operands that said so.
pub(super) type TypeVariables = BTreeMap<&'static str, (usize, DType)>;

#[derive(Debug, PartialEq, Eq)]
struct Formal {
    name: &'static str,
    /// A type variable, or an element type.
    ty: &'static str,
    /// Whether those of any number may have different types.
    mixed: bool,
}

/// By name, and by domain within.
type ByName = BTreeMap<&'static str, BTreeMap<&'static str, Vec<Signature>>>;

static ALL: LazyLock<ByName> = LazyLock::new(|| {
    let mut all = ByName::new();
    for line in include_str!("signatures.txt").lines().filter(|line| !line.starts_with('#')) {
        if let Some((name, signature)) = parse(line) {
            let (domain, name) = name.split_once(':').unwrap_or(("", name));
            all.entry(name).or_default().entry(domain).or_default().push(signature);
        }
    }
    all
});

/// The signature of an operator in a version of its domain.
pub(super) fn find(domain: &str, op: &str, opset: i64) -> Option<&'static Signature> {
    let versions = ALL.get(op)?.get(domain)?;
    versions.iter().rev().find(|signature| signature.since <= opset)
}

fn parse(line: &'static str) -> Option<(&'static str, Signature)> {
    let mut parts = line.split('|').map(str::trim);
    let (name, since) = parts.next()?.split_once(' ')?;
    let (operands, results) = (parts.next()?, parts.next()?);
    let types = parts.next().unwrap_or_default().split(';').filter_map(|variable| {
        let (name, list) = variable.split_once('=')?;
        Some((name.trim(), list.split_whitespace().filter_map(DType::from_name).collect()))
    });
    let types = types.collect();
    let signature =
        Signature { since: since.parse().ok()?, operands: ports(operands)?, results: ports(results)?, types };
    Some((name, signature))
}

fn ports(text: &'static str) -> Option<Ports> {
    let open = text.ends_with(['*', '~']);
    let port = |text: &'static str| {
        let (name, ty) = text.split_once(':')?;
        Some(Formal { name, ty: ty.trim_end_matches(['?', '*', '~']), mixed: ty.ends_with('~') })
    };
    Some(Ports { list: text.split_whitespace().map(port).collect::<Option<_>>()?, open })
}

impl Ports {
    fn get(&self, index: usize) -> Option<&Formal> {
        self.list.get(index).or_else(|| self.list.last().filter(|_| self.open))
    }

    fn max(&self) -> Option<usize> {
        (!self.open).then_some(self.list.len())
    }
}

impl Signature {
    /// Refuses a node with more outputs than there are.
    pub(super) fn check_outputs(&self, names: &[String]) -> Result<(), NodeFault> {
        match (self.results.max(), count(names.iter().map(|name| !name.is_empty()))) {
            (Some(max), got) if got > max => Err(NodeFault::Outputs { max, got }),
            _ => Ok(()),
        }
    }

    /// Refuses operands of types that the operator does not take, or not together. `None` is one that is left out, or
    /// is no tensor.
    pub(super) fn check_operands(&self, operands: &[Option<DType>]) -> Result<TypeVariables, NodeFault> {
        let mut types = TypeVariables::new();
        for (index, dtype) in operands.iter().enumerate() {
            let &Some(got) = dtype else { continue };
            let Some(port) = self.operands.get(index) else {
                let (max, got) = (self.operands.list.len(), count(operands.iter().map(Option::is_some)));
                return Err(NodeFault::Operands { max, got });
            };
            let allowed = self.allowed(port.ty);
            if !allowed.is_empty() && !allowed.contains(&got) {
                return Err(NodeFault::ElementType { index, operand: port.name, got, allowed });
            }
            if port.mixed || !self.types.contains_key(port.ty) {
                continue;
            }
            let (first, expected) = *types.entry(port.ty).or_insert((index, got));
            if got != expected {
                let same = self.operands.get(first).map_or("", |port| port.name);
                return Err(NodeFault::ElementTypes {
                    index,
                    operand: port.name,
                    got,
                    first,
                    same,
                    expected,
                });
            }
        }
        Ok(types)
    }

    /// Refuses results that the node does not have, or whose types are not those that the operands, or attributes, say.
    pub(super) fn check_results(
        &self,
        names: &[String],
        results: &[Option<DType>],
        types: &TypeVariables,
    ) -> Result<(), NodeFault> {
        let named = count(names.iter().map(|name| !name.is_empty()));
        if self.results.open && named > results.len() {
            return Err(NodeFault::Outputs { max: results.len(), got: named });
        }
        for (index, dtype) in results.iter().enumerate() {
            let (Some(port), &Some(got)) = (self.results.get(index), dtype) else { continue };
            let allowed = match types.get(port.ty) {
                Some((_, dtype)) if !port.mixed => vec![*dtype],
                _ => self.allowed(port.ty),
            };
            if !allowed.is_empty() && !allowed.contains(&got) {
                return Err(NodeFault::ResultType { index, result: port.name, got, allowed });
            }
        }
        Ok(())
    }

    /// Element types of a type variable; none where it has other types than those of tensors.
    fn allowed(&self, ty: &str) -> Vec<DType> {
        match self.types.get(ty) {
            Some(list) => list.clone(),
            None => DType::from_name(ty).into_iter().collect(),
        }
    }
}

/// How many there are up to the last one that is given.
fn count(given: impl DoubleEndedIterator<Item = bool> + ExactSizeIterator) -> usize {
    let mut given = given;
    given.rposition(|given| given).map_or(0, |last| last + 1)
}

#[cfg(test)]
mod tests {
    use super::super::table::DOMAINS;
    use super::*;

    #[test]
    fn every_line_of_the_list_is_understood() {
        let lines = include_str!("signatures.txt").lines().filter(|line| !line.starts_with('#'));
        for line in lines {
            let (name, signature) = parse(line).unwrap_or_else(|| panic!("{line}"));
            let ports = signature.operands.list.iter().chain(&signature.results.list);
            for Formal { ty, .. } in ports {
                let known = signature.types.contains_key(ty) || DType::from_name(ty).is_some();
                // Strings and sequences are of no element type.
                let other = *ty == "other" || !line.contains(&format!("{ty} = "));
                assert!(known || other, "{name}: {ty} in {line}");
            }
        }
        assert!(ALL.values().flat_map(BTreeMap::values).map(Vec::len).sum::<usize>() > 400);
    }

    #[test]
    fn every_operator_of_the_table_is_in_the_list() {
        for domain in &DOMAINS {
            for row in domain.rows {
                let found = find(domain.name, row.op, row.since).is_some();
                assert!(found, "{}:{} of opset {} is not", domain.name, row.op, row.since);
            }
        }
    }

    #[test]
    fn a_version_has_the_signature_that_held_then() {
        let since = |op, opset| find("", op, opset).map(|signature| signature.since);
        assert_eq!((since("Clip", 10), since("Clip", 11), since("Clip", 28)), (Some(1), Some(11), Some(13)));
        assert_eq!((since("Gelu", 19), since("Gelu", 20)), (None, Some(20)));
        assert_eq!(find("com.microsoft", "Gelu", 1).map(|signature| signature.since), Some(1));
        assert!(find("com.microsoft", "Relu", 1).is_none());
    }

    fn operands(op: &str, opset: i64, types: &[Option<DType>]) -> String {
        match find("", op, opset).unwrap().check_operands(types) {
            Ok(_) => String::new(),
            Err(fault) => fault.to_string(),
        }
    }

    #[test]
    fn operands_must_be_of_types_that_fit_together() {
        let (x, scale) = (Some(DType::U8), Some(DType::F32));
        assert_eq!(operands("DequantizeLinear", 19, &[x, scale, x]), "");
        assert_eq!(operands("DequantizeLinear", 19, &[x, scale, None]), "");
        assert_eq!(
            operands("DequantizeLinear", 19, &[x, scale, Some(DType::I8)]),
            "operand 2 (x_zero_point) holds i8, but operand 0 (x) holds u8; they must hold the same"
        );
        assert_eq!(
            operands("DequantizeLinear", 10, &[x, Some(DType::F16)]),
            "operand 1 (x_scale) holds f16, the operator takes f32"
        );
        assert_eq!(
            operands("Relu", 13, &[Some(DType::I32)]),
            "operand 0 (X) holds i32, the operator takes f16, bf16, f32, f64"
        );
        assert_eq!(operands("Relu", 14, &[Some(DType::I32)]), "");
        assert_eq!(operands("Relu", 14, &[Some(DType::F32), None, None]), "");
        assert_eq!(
            operands("Relu", 14, &[Some(DType::F32), None, x]),
            "has 3 operands, the operator takes 1"
        );
    }

    #[test]
    fn any_number_of_operands_have_one_type_or_not() {
        let (a, b) = (Some(DType::F32), Some(DType::I64));
        assert_eq!(operands("Concat", 13, &[a, a, a]), "");
        assert!(
            operands("Concat", 13, &[a, a, b]).starts_with("operand 2 (inputs) holds i64, but operand 0")
        );
        assert_eq!(operands("Loop", 13, &[b, Some(DType::Bool), a, b, a]), "");
        assert!(operands("Loop", 13, &[a, None, b]).contains("operand 0 (M) holds f32"));
    }

    #[test]
    fn a_node_has_no_more_outputs_than_its_operator() {
        let outputs = |op, opset, names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
            find("", op, opset).unwrap().check_outputs(&names).map_err(|fault| fault.to_string())
        };
        assert_eq!(outputs("Relu", 13, &["y", "", ""]), Ok(()));
        assert_eq!(outputs("Relu", 13, &["y", "", "z"]), Err("has 3 outputs, the operator has 1".into()));
        assert_eq!(outputs("Split", 13, &["a", "b", "c", "d"]), Ok(()));
    }
}
