//! Layers that ONNX Runtime's optimiser has fused: they are taken apart, and nnc's own passes fuse what its kernels can do.

use crate::graph::Value;
use crate::onnx::attribute::value;
use crate::onnx::error::NodeFault;
use crate::onnx::node::NodeReader;
use crate::onnx::ops::{Results, convolution, product};
use crate::op::Unary;
use crate::op::elementwise::BinaryFn;

/// FusedConv: `activation(Conv(X, W, B) + Z)`.
pub(in crate::onnx) fn conv(n: &mut NodeReader<'_, '_>) -> Results {
    let residual = n.optional(3)?;
    let parameters = n.attributes.floats("activation_params")?.unwrap_or_default();
    let activation = activation(n, parameters)?;
    let mut y = the_one(convolution::conv(n)?)?;
    if let Some(residual) = residual {
        if n.ty(residual) != n.ty(y) {
            return Err(NodeFault::invalid(format!(
                "operand 3 (Z) is {}, the result of the convolution {}",
                n.ty(residual),
                n.ty(y)
            )));
        }
        y = n.binary(BinaryFn::Add, y, residual)?;
    }
    Ok(vec![activated(n, y, activation)?])
}

/// FusedGemm: `activation(Gemm(A, B, C))`.
pub(in crate::onnx) fn gemm(n: &mut NodeReader<'_, '_>) -> Results {
    let activation = named_parameters(n)?;
    let y = the_one(product::gemm(n)?)?;
    Ok(vec![activated(n, y, activation)?])
}

/// FusedMatMul, TransposeMatMul and FusedMatMulActivation: `activation(alpha · A′ · B′)`.
///
/// ```text
///   transBatchA   [M, batch …, K] ─▶ [batch …, M, K]         then
///   transA        […, K, M]       ─▶ […, M, K]               which changes nothing where A has one axis
/// ```
pub(in crate::onnx) fn mat_mul(n: &mut NodeReader<'_, '_>) -> Results {
    let (a, b) = (n.operand(0, "A")?, n.operand(1, "B")?);
    let a = turned(n, a, "transBatchA", "transA")?;
    let b = turned(n, b, "transBatchB", "transB")?;
    let alpha = n.attributes.float("alpha")?.unwrap_or(1.0);
    let activation = if n.op() == "FusedMatMulActivation" { named_parameters(n)? } else { None };
    let mut y = n.mat_mul(a, b)?;
    if alpha != 1.0 {
        y = n.binary_with(BinaryFn::Mul, y, f64::from(alpha))?;
    }
    Ok(vec![activated(n, y, activation)?])
}

/// An operand of a product with its axes in the order that MatMul has them.
fn turned(n: &mut NodeReader<'_, '_>, x: Value, batch: &str, matrix: &str) -> Result<Value, NodeFault> {
    let (batch, matrix) = (n.attributes.flag(batch, false)?, n.attributes.flag(matrix, false)?);
    let rank = n.shape(x).rank();
    let mut order: Vec<usize> = (0..rank).collect();
    if batch && rank > 2 {
        order[..rank - 1].rotate_left(1);
    }
    if matrix && rank > 1 {
        order.swap(rank - 2, rank - 1);
    }
    if order.is_sorted() { Ok(x) } else { n.transpose(x, &order) }
}

fn activated(n: &mut NodeReader<'_, '_>, y: Value, activation: Option<Unary>) -> Result<Value, NodeFault> {
    match activation {
        Some(function) => n.unary(function, y),
        None => Ok(y),
    }
}

/// The function of an operator whose parameters are attributes with names.
fn named_parameters(n: &mut NodeReader<'_, '_>) -> Result<Option<Unary>, NodeFault> {
    let names = ["activation_alpha", "activation_beta", "activation_gamma"];
    let mut parameters = Vec::new();
    for (index, name) in names.into_iter().enumerate() {
        if let Some(number) = n.attributes.float(name)? {
            if parameters.len() != index {
                return Err(value(names[index - 1], "is missing"));
            }
            parameters.push(number);
        }
    }
    // Of no meaning to functions of one element.
    n.attributes.ignore("activation_axis");
    activation(n, &parameters)
}

/// The function that the attribute `activation` names. Parameters that are not given are those of ONNX's operator.
fn activation(n: &mut NodeReader<'_, '_>, parameters: &[f32]) -> Result<Option<Unary>, NodeFault> {
    let Some(name) = n.attributes.string("activation")? else {
        return Ok(None);
    };
    let or = |index: usize, default: f32| parameters.get(index).copied().unwrap_or(default);
    let function = match name {
        "" => return Ok(None),
        "Relu" => Unary::Relu,
        "Sigmoid" => Unary::Sigmoid,
        "Tanh" => Unary::Tanh,
        "LeakyRelu" => Unary::LeakyRelu { alpha: or(0, 0.01) },
        "Clip" => Unary::Clip { min: or(0, f32::MIN), max: or(1, f32::MAX) },
        "HardSigmoid" => Unary::HardSigmoid { alpha: or(0, 0.2), beta: or(1, 0.5) },
        "HardSwish" => Unary::HardSwish,
        "Elu" => Unary::Elu { alpha: or(0, 1.0) },
        "Selu" => Unary::Selu { alpha: or(0, 1.673_263_2), gamma: or(1, 1.050_701) },
        "Celu" => Unary::Celu { alpha: or(0, 1.0) },
        "ThresholdedRelu" => Unary::ThresholdedRelu { alpha: or(0, 1.0) },
        "Softplus" => Unary::Softplus,
        "Softsign" => Unary::Softsign,
        other => {
            return Err(value(
                "activation",
                format!(
                    "is \"{other}\", supported: Celu, Clip, Elu, HardSigmoid, HardSwish, LeakyRelu, Relu, Selu, Sigmoid, \
                     Softplus, Softsign, Tanh, ThresholdedRelu"
                ),
            ));
        }
    };
    Ok(Some(function))
}

/// The result of a constructor that has one.
pub(super) fn the_one(results: Vec<Value>) -> Result<Value, NodeFault> {
    results.first().copied().ok_or_else(|| NodeFault::invalid("has no results"))
}
