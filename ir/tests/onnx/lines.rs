//! Nodes as lines of text: `y = ReduceSum(x, [0]) keepdims=0`.
//!
//! Between the brackets stand names, `[1, 2]` for a constant of `i64`, `3` for a scalar of `i64`, `1.5` for one of `f32`. Attributes are integers,
//! lists of integers, or words.

use onnx_protobuf::AttributeProto;

use crate::build::{Onnx, int, ints, string};

/// Adds a node for each line.
pub fn lines(mut model: Onnx, text: &str) -> Onnx {
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        model = node(model, line);
    }
    model
}

fn node(mut model: Onnx, line: &str) -> Onnx {
    let parts = line.split_once('=').and_then(|(outputs, rest)| {
        let (op, rest) = rest.split_once('(')?;
        let (inputs, attributes) = rest.split_once(')')?;
        Some((outputs, op.trim(), inputs, attributes))
    });
    let Some((outputs, op, inputs, attributes)) = parts else { panic!("\"{line}\" is no node") };
    let outputs: Vec<&str> = outputs.split(',').map(str::trim).collect();
    let mut names = Vec::new();
    for (index, input) in separated(inputs).into_iter().enumerate() {
        let name = format!("{}.{index}", outputs[0]);
        if let Some(list) = input.strip_prefix('[') {
            model = model.ints(&name, &numbers(list.trim_end_matches(']')));
        } else if let Ok(number) = input.parse::<i64>() {
            let list = format!("{name}.list");
            model = model.ints(&list, &[number]).node("Squeeze", &[&list], &[&name], &[]);
        } else if let Ok(number) = input.parse::<f32>() {
            model = model.floats(&name, &[], &[number]);
        } else {
            names.push(input.to_string());
            continue;
        }
        names.push(name);
    }
    let inputs: Vec<&str> = names.iter().map(String::as_str).collect();
    let attributes: Vec<AttributeProto> = attributes.split_whitespace().map(attribute).collect();
    model.node(op, &inputs, &outputs, &attributes).named(outputs[0])
}

/// What stands between commas, those in brackets left alone.
fn separated(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut depth = 0;
    for c in text.chars().filter(|c| !c.is_whitespace()) {
        depth += i32::from(c == '[') - i32::from(c == ']');
        match parts.last_mut() {
            Some(part) if c != ',' || depth > 0 => part.push(c),
            _ => parts.push(String::new()),
        }
    }
    parts
}

fn numbers(list: &str) -> Vec<i64> {
    list.split(',')
        .filter(|n| !n.is_empty())
        .map(|n| n.parse().unwrap_or_else(|e| panic!("{n}: {e}")))
        .collect()
}

fn attribute(text: &str) -> AttributeProto {
    let Some((name, value)) = text.split_once('=') else { panic!("\"{text}\" is no attribute") };
    match (value.strip_prefix('['), value.parse::<i64>()) {
        (Some(list), _) => ints(name, &numbers(list.trim_end_matches(']'))),
        (None, Ok(number)) => int(name, number),
        (None, Err(_)) => string(name, value),
    }
}
