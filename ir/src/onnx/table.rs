//! Which operators are read, in which versions, and how.
//!
//! A version of the operator set names, for each operator, the definition that held last: a model of opset 12 with a
//! `Clip` means the definition of 12, one of opset 10 that of 6. A row covers all versions from `since` to `until`
//! that its constructor reads. To add an operator: its constructor in [`ops`], its row here.

use super::error::NodeFault;
use super::node::NodeReader;
use super::ops::{
    activation, constant, convolution, elementwise, index, normalize, pad, pool, product, reduce, resample,
    reshape, select,
};
use crate::graph::Value;

/// The newest version of ONNX's own operator set that this table was checked against.
pub(super) const NEWEST_OPSET: i64 = 28;

/// Reads a node.
pub(super) type Read = fn(&mut NodeReader<'_, '_>) -> Result<Vec<Value>, NodeFault>;

/// How an operator is read in some versions.
pub(super) struct Row {
    pub op: &'static str,
    /// The first version that is read so.
    pub since: i64,
    /// The last one.
    pub until: i64,
    pub read: Read,
}

const fn row(op: &'static str, since: i64, until: i64, read: Read) -> Row {
    Row { op, since, until, read }
}

const NOW: i64 = NEWEST_OPSET;

/// The operators of ONNX's own domain, by name and version.
#[rustfmt::skip]
pub(super) const TABLE: &[Row] = &[
    row("Abs", 6, NOW, activation::unary),
    row("Acos", 7, NOW, activation::unary),
    row("Acosh", 9, NOW, activation::unary),
    row("Add", 7, NOW, elementwise::binary),
    row("And", 7, NOW, elementwise::binary),
    row("ArgMax", 1, NOW, reduce::arg),
    row("ArgMin", 1, NOW, reduce::arg),
    row("Asin", 7, NOW, activation::unary),
    row("Asinh", 9, NOW, activation::unary),
    row("Atan", 7, NOW, activation::unary),
    row("Atanh", 9, NOW, activation::unary),
    row("AveragePool", 1, NOW, pool::average_pool),
    row("BatchNormalization", 7, NOW, normalize::batch_norm),
    row("BitShift", 11, NOW, elementwise::binary),
    row("BitwiseAnd", 18, NOW, elementwise::binary),
    row("BitwiseNot", 18, NOW, elementwise::bitwise_not),
    row("BitwiseOr", 18, NOW, elementwise::binary),
    row("BitwiseXor", 18, NOW, elementwise::binary),
    row("Cast", 6, NOW, elementwise::cast_to),
    row("CastLike", 15, NOW, elementwise::cast_like),
    row("Ceil", 6, NOW, activation::unary),
    row("Celu", 12, NOW, activation::unary),
    row("Clip", 6, 10, activation::clip_attributes),
    row("Clip", 11, NOW, activation::clip),
    row("Compress", 9, NOW, index::compress),
    row("Concat", 4, NOW, select::concat),
    row("Constant", 1, NOW, constant::constant),
    row("ConstantOfShape", 9, NOW, constant::constant_of_shape),
    row("Conv", 1, NOW, convolution::conv),
    row("ConvTranspose", 1, NOW, convolution::conv_transpose),
    row("Cos", 7, NOW, activation::unary),
    row("Cosh", 9, NOW, activation::unary),
    row("CumProd", 26, NOW, index::cumulative),
    row("CumSum", 11, NOW, index::cumulative),
    row("DepthToSpace", 1, NOW, reshape::depth_to_space),
    row("Div", 7, NOW, elementwise::binary),
    row("Dropout", 7, NOW, constant::dropout),
    row("Elu", 6, NOW, activation::unary),
    row("Equal", 7, NOW, elementwise::binary),
    row("Erf", 9, NOW, activation::unary),
    row("Exp", 6, NOW, activation::unary),
    row("Expand", 8, NOW, select::expand),
    row("EyeLike", 9, NOW, constant::eye_like),
    row("Flatten", 1, NOW, reshape::flatten),
    row("Floor", 6, NOW, activation::unary),
    row("Gather", 1, NOW, select::gather),
    row("GatherElements", 11, NOW, index::gather_elements),
    row("GatherND", 11, NOW, index::gather_nd),
    row("Gelu", 20, NOW, activation::unary),
    row("Gemm", 7, NOW, product::gemm),
    row("GlobalAveragePool", 1, NOW, pool::global_pool),
    row("GlobalLpPool", 2, NOW, pool::global_pool),
    row("GlobalMaxPool", 1, NOW, pool::global_pool),
    row("Greater", 7, NOW, elementwise::binary),
    row("GreaterOrEqual", 12, NOW, elementwise::binary),
    row("GroupNormalization", 18, NOW, normalize::group_norm),
    row("HardSigmoid", 6, NOW, activation::unary),
    row("HardSwish", 14, NOW, activation::unary),
    row("Identity", 1, NOW, constant::identity),
    row("InstanceNormalization", 6, NOW, normalize::instance_norm),
    row("IsInf", 10, NOW, activation::unary),
    row("IsNaN", 9, NOW, activation::unary),
    row("LRN", 1, NOW, normalize::lrn),
    row("LayerNormalization", 17, NOW, normalize::layer_norm),
    row("LeakyRelu", 6, NOW, activation::unary),
    row("Less", 7, NOW, elementwise::binary),
    row("LessOrEqual", 12, NOW, elementwise::binary),
    row("Log", 6, NOW, activation::unary),
    row("LogSoftmax", 1, 12, activation::softmax_flattened),
    row("LogSoftmax", 13, NOW, activation::softmax),
    row("LpPool", 2, NOW, pool::lp_pool),
    row("MatMul", 1, NOW, product::mat_mul),
    row("Max", 8, NOW, elementwise::variadic),
    row("MaxPool", 1, NOW, pool::max_pool),
    row("MaxUnpool", 9, NOW, index::max_unpool),
    row("Mean", 8, NOW, elementwise::variadic),
    row("Min", 8, NOW, elementwise::variadic),
    row("Mish", 18, NOW, activation::unary),
    row("Mod", 10, NOW, elementwise::binary),
    row("Mul", 7, NOW, elementwise::binary),
    row("Neg", 6, NOW, activation::unary),
    row("NonMaxSuppression", 10, NOW, index::non_max_suppression),
    row("NonZero", 9, NOW, index::non_zero),
    row("Not", 1, NOW, activation::unary),
    row("OneHot", 9, NOW, index::one_hot),
    row("Or", 7, NOW, elementwise::binary),
    row("PRelu", 7, NOW, activation::prelu),
    row("Pad", 2, NOW, pad::pad),
    row("Pow", 7, NOW, elementwise::pow),
    row("Range", 11, NOW, constant::range),
    row("Reciprocal", 6, NOW, activation::unary),
    row("ReduceL1", 1, NOW, reduce::reduce),
    row("ReduceL2", 1, NOW, reduce::reduce),
    row("ReduceLogSum", 1, NOW, reduce::reduce),
    row("ReduceLogSumExp", 1, NOW, reduce::reduce),
    row("ReduceMax", 1, NOW, reduce::reduce),
    row("ReduceMean", 1, NOW, reduce::reduce),
    row("ReduceMin", 1, NOW, reduce::reduce),
    row("ReduceProd", 1, NOW, reduce::reduce),
    row("ReduceSum", 1, NOW, reduce::reduce),
    row("ReduceSumSquare", 1, NOW, reduce::reduce),
    row("Relu", 6, NOW, activation::unary),
    row("Reshape", 5, NOW, reshape::reshape),
    row("Resize", 10, 10, resample::upsample),
    row("Resize", 11, NOW, resample::resize),
    row("ReverseSequence", 10, NOW, index::reverse_sequence),
    row("Round", 11, NOW, activation::unary),
    row("Scatter", 9, 10, index::scatter_elements),
    row("ScatterElements", 11, NOW, index::scatter_elements),
    row("ScatterND", 11, NOW, index::scatter_nd),
    row("Selu", 6, NOW, activation::unary),
    row("Shape", 1, NOW, constant::shape),
    row("Sigmoid", 6, NOW, activation::unary),
    row("Sign", 9, NOW, activation::unary),
    row("Sin", 7, NOW, activation::unary),
    row("Sinh", 9, NOW, activation::unary),
    row("Size", 1, NOW, constant::size),
    row("Slice", 1, NOW, select::slice),
    row("Softmax", 1, 12, activation::softmax_flattened),
    row("Softmax", 13, NOW, activation::softmax),
    row("Softplus", 1, NOW, activation::unary),
    row("Softsign", 1, NOW, activation::unary),
    row("SpaceToDepth", 1, NOW, reshape::space_to_depth),
    row("Split", 2, NOW, select::split),
    row("Sqrt", 6, NOW, activation::unary),
    row("Squeeze", 1, NOW, reshape::squeeze),
    row("Sub", 7, NOW, elementwise::binary),
    row("Sum", 8, NOW, elementwise::variadic),
    row("Swish", 24, NOW, activation::swish),
    row("Tan", 7, NOW, activation::unary),
    row("Tanh", 6, NOW, activation::unary),
    row("ThresholdedRelu", 10, NOW, activation::unary),
    row("Tile", 6, NOW, select::tile),
    row("TopK", 1, NOW, index::top_k),
    row("Transpose", 1, NOW, reshape::transpose),
    row("Trilu", 14, NOW, index::trilu),
    row("Unique", 11, NOW, index::unique),
    row("Unsqueeze", 1, NOW, reshape::unsqueeze),
    row("Upsample", 7, 9, resample::upsample),
    row("Where", 9, NOW, elementwise::select),
    row("Xor", 7, NOW, elementwise::binary),
];

/// The row for an operator in a version of its domain.
pub(super) fn find(domain: &str, op: &str, opset: i64) -> Option<&'static Row> {
    rows(domain, op).find(|row| (row.since..=row.until).contains(&opset))
}

/// The versions of an operator that are read, in words; `None` when there are none.
pub(super) fn versions(domain: &str, op: &str) -> Option<String> {
    let since = rows(domain, op).map(|row| row.since).min()?;
    let until = rows(domain, op).map(|row| row.until).max()?;
    Some(if until == NOW { format!("{since} and later") } else { format!("{since} to {until}") })
}

fn rows(domain: &str, op: &str) -> impl Iterator<Item = &'static Row> {
    let own = domain.is_empty();
    TABLE.iter().filter(move |row| own && row.op == op)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_versions_do_not_overlap() {
        for pair in TABLE.windows(2) {
            let ordered =
                pair[0].op < pair[1].op || (pair[0].op == pair[1].op && pair[0].until < pair[1].since);
            assert!(ordered, "{} {} before {} {}", pair[0].op, pair[0].since, pair[1].op, pair[1].since);
        }
    }

    #[test]
    fn a_version_selects_the_definition_that_held_then() {
        let read = |op, opset| find("", op, opset).map(|row| row.since);
        assert_eq!(read("Clip", 10), Some(6));
        assert_eq!(read("Clip", 11), Some(11));
        assert_eq!(read("Upsample", 10), None);
        assert!(find("com.microsoft", "Clip", 1).is_none());
        assert_eq!(versions("", "Upsample").unwrap(), "7 to 9");
        assert_eq!(versions("", "Add").unwrap(), "7 and later");
        assert_eq!(versions("", "LSTM"), None);
    }
}
