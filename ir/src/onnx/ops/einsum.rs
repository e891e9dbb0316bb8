//! Einsum.

use super::Results;
use crate::graph::Value;
use crate::onnx::attribute::value;
use crate::onnx::error::NodeFault;
use crate::onnx::node::NodeReader;
use crate::op::Einsum;

/// Einsum, since 12. The axes of an ellipsis get names of their own. More than two operands are multiplied two at a
/// time, from the left; what neither the result nor a later operand has is summed over at once.
pub(in crate::onnx) fn einsum(n: &mut NodeReader<'_, '_>) -> Results {
    let operands = n.operands("Inputs")?;
    let ranks: Vec<usize> = operands.iter().map(|&v| n.ty(v).shape.rank()).collect();
    let Some(equation) = n.attributes.string("equation")? else {
        return Err(value("equation", "is missing"));
    };
    let Einsum { terms, result } = parsed(equation, &ranks)?;
    let (mut product, mut names): (Value, Vec<char>) = match (operands.first(), terms.first()) {
        (Some(&first), Some(names)) => (first, names.clone()),
        _ => return Err(NodeFault::invalid("has no operands")),
    };
    if operands.len() == 1 {
        return Ok(vec![n.emit(Einsum { terms, result }, &[product])?]);
    }
    for index in 1..operands.len() {
        let later = &terms[index + 1..];
        let kept: Vec<char> = match later.is_empty() {
            true => result.clone(),
            false => {
                let mut kept: Vec<char> = Vec::new();
                for name in names.iter().chain(&terms[index]) {
                    let needed = result.contains(name) || later.iter().flatten().any(|other| other == name);
                    if needed && !kept.contains(name) {
                        kept.push(*name);
                    }
                }
                kept
            }
        };
        let op = Einsum { terms: vec![names, terms[index].clone()], result: kept.clone() };
        product = n.emit(op, &[product, operands[index]])?;
        names = kept;
    }
    Ok(vec![product])
}

/// The equation with an ellipsis spelt out: its axes are aligned at the end, and named `0`, `1`, …
fn parsed(equation: &str, ranks: &[usize]) -> Result<Einsum, NodeFault> {
    let fault = |what: &str| value("equation", format!("{what}: it is \"{equation}\""));
    let text: String = equation.chars().filter(|c| !c.is_whitespace()).collect();
    let (left, right) = match text.split_once("->") {
        Some((left, right)) => (left, Some(right)),
        None => (text.as_str(), None),
    };
    let terms: Vec<&str> = left.split(',').collect();
    if terms.len() != ranks.len() {
        return Err(fault(&format!("must have {} terms", ranks.len())));
    }
    let letters = |term: &str| term.chars().filter(char::is_ascii_alphabetic).count();
    let sound = |term: &str| {
        let rest = term.replacen("...", "", 1);
        rest.chars().all(|c| c.is_ascii_alphabetic())
    };
    if !terms.iter().copied().chain(right).all(sound) {
        return Err(fault("must consist of letters and one ellipsis a term"));
    }
    // The widest ellipsis.
    let mut widest = 0;
    for (term, &rank) in terms.iter().zip(ranks) {
        match (term.contains("..."), rank.checked_sub(letters(term))) {
            (true, Some(hidden)) => widest = widest.max(hidden),
            (false, Some(0)) => {}
            _ => return Err(fault(&format!("term \"{term}\" does not fit an operand of rank {rank}"))),
        }
    }
    let hidden: Vec<char> = ('0'..='9').take(widest).collect();
    if hidden.len() < widest {
        return Err(NodeFault::unsupported("an ellipsis of more than 10 axes"));
    }
    let spelt = |term: &str, count: usize| -> Vec<char> {
        let names: String = hidden[widest - count..].iter().collect();
        term.replacen("...", &names, 1).chars().collect()
    };
    let spelt_terms: Vec<Vec<char>> = terms
        .iter()
        .zip(ranks)
        .map(|(term, &rank)| spelt(term, rank.saturating_sub(letters(term)).min(widest)))
        .collect();
    let result = match right {
        Some(right) => spelt(right, widest),
        None => {
            // Names that occur once, in the order of the alphabet, behind the ellipsis.
            let all: Vec<char> = left.chars().filter(char::is_ascii_alphabetic).collect();
            let mut once: Vec<char> =
                all.iter().filter(|c| all.iter().filter(|d| d == c).count() == 1).copied().collect();
            once.sort_unstable();
            hidden.iter().copied().chain(once).collect()
        }
    };
    Ok(Einsum { terms: spelt_terms, result })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelt(equation: &str, ranks: &[usize]) -> String {
        let Einsum { terms, result } = parsed(equation, ranks).unwrap();
        let terms: Vec<String> = terms.into_iter().map(|t| t.into_iter().collect()).collect();
        format!("{}->{}", terms.join(","), result.into_iter().collect::<String>())
    }

    #[test]
    fn an_implicit_result_has_the_names_that_occur_once_in_order() {
        assert_eq!(spelt("ij,jk", &[2, 2]), "ij,jk->ik");
        assert_eq!(spelt("ba", &[2]), "ba->ab");
        assert_eq!(spelt("ii", &[2]), "ii->");
        assert_eq!(spelt("...ij,...jk", &[3, 4]), "1ij,01jk->01ik");
    }

    #[test]
    fn an_ellipsis_is_spelt_out_and_may_be_empty() {
        assert_eq!(spelt("...ii ->...i", &[4]), "01ii->01i");
        assert_eq!(spelt("...i->...", &[1]), "i->");
        assert!(parsed("ij", &[3]).is_err());
        assert!(parsed("i.j", &[2]).is_err());
        assert!(parsed("ij", &[2, 2]).is_err());
    }
}
