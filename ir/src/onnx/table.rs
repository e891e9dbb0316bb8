//! Which operators are read, in which versions, and how.
//!
//! A version of the operator set names, for each operator, the definition that held last: a model of opset 12 with a
//! `Clip` means the definition of 12, one of opset 10 that of 6. A row covers all versions from `since` to `until`
//! that its constructor reads. To add an operator: its constructor in [`ops`], its row here.
//!
//! Domains have versions of their own. ONNX's own domain is the table below; each other one that is read has a file:
//!
//! ```text
//!   ""               [`TABLE`]        versions 1 to 28
//!   com.microsoft    microsoft.rs     version 1: what ONNX Runtime's quantiser and optimiser write
//! ```

mod microsoft;

use super::error::NodeFault;
use super::node::NodeReader;
use super::notes::{self, Elements};
use super::ops::{
    activation, attention, batch_norm, col2im, constant, control, convolution, einsum, elementwise, index,
    loss, matrix, normalize, pad, pool, product, quantize, random, recurrent, reduce, resample, reshape,
    sample, select, sequence, signal,
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

/// A set of operators with versions of its own.
pub(super) struct Domain {
    /// As models write it; empty for ONNX's own.
    pub name: &'static str,
    pub rows: &'static [Row],
    /// The newest version, when more are to come.
    newest: Option<i64>,
    /// The version that a model means which uses the domain without importing it; 0 for none.
    unstated: i64,
}

/// The domains that are read.
pub(super) const DOMAINS: [Domain; 2] = [
    Domain { name: "", rows: TABLE, newest: Some(NEWEST_OPSET), unstated: 0 },
    Domain { name: microsoft::NAME, rows: microsoft::TABLE, newest: None, unstated: 1 },
];

/// Domains that are not read, and what to do about a model that uses them.
const ADVICE: &[(&str, &str)] = &[(
    "com.microsoft.nchwc",
    "domain com.microsoft.nchwc is a layout for the processor on which onnxruntime optimised the model; save the model with \
     graph_optimization_level = ORT_ENABLE_EXTENDED, or take the model that was optimised",
)];

const NOW: i64 = NEWEST_OPSET;

/// The operators of ONNX's own domain, by name and version.
#[rustfmt::skip]
pub(super) const TABLE: &[Row] = &[
    row("Abs", 1, NOW, activation::unary),
    row("Acos", 7, NOW, activation::unary),
    row("Acosh", 9, NOW, activation::unary),
    row("Add", 1, NOW, elementwise::binary),
    row("AffineGrid", 20, NOW, matrix::affine_grid),
    row("And", 1, NOW, elementwise::binary),
    row("ArgMax", 1, NOW, reduce::arg),
    row("ArgMin", 1, NOW, reduce::arg),
    row("Asin", 7, NOW, activation::unary),
    row("Asinh", 9, NOW, activation::unary),
    row("Atan", 7, NOW, activation::unary),
    row("Atanh", 9, NOW, activation::unary),
    row("Attention", 23, NOW, attention::attention),
    row("AveragePool", 1, NOW, pool::average_pool),
    row("BatchNormalization", 1, NOW, batch_norm::batch_norm),
    row("Bernoulli", 15, NOW, random::bernoulli),
    row("BitCast", 26, NOW, elementwise::bit_cast),
    row("BitShift", 11, NOW, elementwise::binary),
    row("BitwiseAnd", 18, NOW, elementwise::binary),
    row("BitwiseNot", 18, NOW, elementwise::bitwise_not),
    row("BitwiseOr", 18, NOW, elementwise::binary),
    row("BitwiseXor", 18, NOW, elementwise::binary),
    row("BlackmanWindow", 17, NOW, signal::window),
    row("Cast", 1, NOW, elementwise::cast_to),
    row("CastLike", 15, NOW, elementwise::cast_like),
    row("CausalConvWithState", 27, NOW, attention::causal_conv),
    row("Ceil", 1, NOW, activation::unary),
    row("Celu", 12, NOW, activation::unary),
    row("CenterCropPad", 18, NOW, matrix::center_crop_pad),
    row("Clip", 1, 10, activation::clip_attributes),
    row("Clip", 11, NOW, activation::clip),
    row("Col2Im", 18, NOW, col2im::col2im),
    row("Compress", 9, NOW, index::compress),
    row("Concat", 1, NOW, select::concat),
    row("ConcatFromSequence", 11, NOW, sequence::joined),
    row("Constant", 1, NOW, constant::constant),
    row("ConstantOfShape", 9, NOW, constant::constant_of_shape),
    row("Conv", 1, NOW, convolution::conv),
    row("ConvInteger", 10, NOW, quantize::conv_integer),
    row("ConvTranspose", 1, NOW, convolution::conv_transpose),
    row("Cos", 7, NOW, activation::unary),
    row("Cosh", 9, NOW, activation::unary),
    row("CumProd", 26, NOW, index::cumulative),
    row("CumSum", 11, NOW, index::cumulative),
    row("DFT", 17, NOW, signal::dft),
    row("DeformConv", 19, NOW, sample::deform_conv),
    row("DepthToSpace", 1, NOW, reshape::depth_to_space),
    row("DequantizeLinear", 10, NOW, quantize::dequantize_linear),
    row("Det", 11, NOW, sample::det),
    row("Div", 1, NOW, elementwise::binary),
    row("Dropout", 7, NOW, random::dropout),
    row("DynamicQuantizeLinear", 11, NOW, quantize::dynamic_quantize_linear),
    row("Einsum", 12, NOW, einsum::einsum),
    row("Elu", 1, NOW, activation::unary),
    row("Equal", 1, NOW, elementwise::binary),
    row("Erf", 9, NOW, activation::unary),
    row("Exp", 1, NOW, activation::unary),
    row("Expand", 8, NOW, select::expand),
    row("EyeLike", 9, NOW, constant::eye_like),
    row("Flatten", 1, NOW, reshape::flatten),
    row("Floor", 1, NOW, activation::unary),
    row("GRU", 7, NOW, recurrent::recurrent),
    row("Gather", 1, NOW, select::gather),
    row("GatherElements", 11, NOW, index::gather_elements),
    row("GatherND", 11, NOW, index::gather_nd),
    row("Gelu", 20, NOW, activation::unary),
    row("Gemm", 1, NOW, product::gemm),
    row("GlobalAveragePool", 1, NOW, pool::global_pool),
    row("GlobalLpPool", 2, NOW, pool::global_pool),
    row("GlobalMaxPool", 1, NOW, pool::global_pool),
    row("Greater", 1, NOW, elementwise::binary),
    row("GreaterOrEqual", 12, NOW, elementwise::binary),
    row("GridSample", 16, NOW, sample::grid_sample),
    row("GroupNormalization", 18, NOW, normalize::group_norm),
    row("HammingWindow", 17, NOW, signal::window),
    row("HannWindow", 17, NOW, signal::window),
    row("HardSigmoid", 1, NOW, activation::unary),
    row("HardSwish", 14, NOW, activation::unary),
    row("Hardmax", 1, NOW, activation::hardmax),
    row("Identity", 1, NOW, constant::identity),
    row("If", 1, NOW, control::branch),
    row("InstanceNormalization", 1, NOW, normalize::instance_norm),
    row("IsInf", 10, NOW, activation::unary),
    row("IsNaN", 9, NOW, activation::unary),
    row("LRN", 1, NOW, normalize::lrn),
    row("LSTM", 7, NOW, recurrent::recurrent),
    row("LayerNormalization", 1, NOW, normalize::layer_norm),
    row("LeakyRelu", 1, NOW, activation::unary),
    row("Less", 1, NOW, elementwise::binary),
    row("LessOrEqual", 12, NOW, elementwise::binary),
    row("Log", 1, NOW, activation::unary),
    row("LogSoftmax", 1, 12, activation::softmax_flattened),
    row("LogSoftmax", 13, NOW, activation::softmax),
    row("Loop", 1, NOW, control::repeat),
    row("LpNormalization", 1, NOW, matrix::lp_norm),
    row("LpPool", 2, NOW, pool::lp_pool),
    row("MatMul", 1, NOW, product::mat_mul),
    row("MatMulInteger", 10, NOW, quantize::mat_mul_integer),
    row("Max", 1, NOW, elementwise::variadic),
    row("MaxPool", 1, NOW, pool::max_pool),
    row("MaxRoiPool", 1, NOW, sample::max_roi_pool),
    row("MaxUnpool", 9, NOW, index::max_unpool),
    row("Mean", 1, NOW, elementwise::variadic),
    row("MeanVarianceNormalization", 9, NOW, normalize::mean_variance),
    row("MelWeightMatrix", 17, NOW, signal::mel_weight_matrix),
    row("Min", 1, NOW, elementwise::variadic),
    row("Mish", 18, NOW, activation::unary),
    row("Mod", 10, NOW, elementwise::binary),
    row("Mul", 1, NOW, elementwise::binary),
    row("Neg", 1, NOW, activation::unary),
    row("NegativeLogLikelihoodLoss", 12, NOW, loss::negative_log_likelihood),
    row("NonMaxSuppression", 10, NOW, index::non_max_suppression),
    row("NonZero", 9, NOW, index::non_zero),
    row("Not", 1, NOW, activation::unary),
    row("OneHot", 9, NOW, index::one_hot),
    row("Optional", 15, NOW, sequence::get_element),
    row("OptionalGetElement", 15, NOW, sequence::get_element),
    row("OptionalHasElement", 15, NOW, sequence::has_element),
    row("Or", 1, NOW, elementwise::binary),
    row("PRelu", 1, NOW, activation::prelu),
    row("Pad", 1, NOW, pad::pad),
    row("Pow", 1, NOW, elementwise::pow),
    row("QLinearConv", 10, NOW, quantize::q_linear_conv),
    row("QLinearMatMul", 10, NOW, quantize::q_linear_mat_mul),
    row("QuantizeLinear", 10, NOW, quantize::quantize_linear),
    row("RMSNormalization", 23, NOW, normalize::rms_norm),
    row("RNN", 7, NOW, recurrent::recurrent),
    row("RandomNormal", 1, NOW, random::random),
    row("RandomNormalLike", 1, NOW, random::random),
    row("RandomUniform", 1, NOW, random::random),
    row("RandomUniformLike", 1, NOW, random::random),
    row("Range", 11, NOW, constant::range),
    row("Reciprocal", 1, NOW, activation::unary),
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
    row("Relu", 1, NOW, activation::unary),
    row("Reshape", 1, NOW, reshape::reshape),
    row("Resize", 10, 10, resample::resize_by_scales),
    row("Resize", 11, NOW, resample::resize),
    row("ReverseSequence", 10, NOW, index::reverse_sequence),
    row("RoiAlign", 10, NOW, sample::roi_align),
    row("RotaryEmbedding", 23, NOW, attention::rotary_embedding),
    row("Round", 11, NOW, activation::unary),
    row("STFT", 17, NOW, signal::stft),
    row("Scan", 8, 8, control::scan_of_batch),
    row("Scan", 9, NOW, control::scan),
    row("Scatter", 9, 10, index::scatter_elements),
    row("ScatterElements", 11, NOW, index::scatter_elements),
    row("ScatterND", 11, NOW, index::scatter_nd),
    row("Selu", 1, NOW, activation::unary),
    row("SequenceAt", 11, NOW, sequence::element),
    row("SequenceConstruct", 11, NOW, sequence::sequence),
    row("SequenceEmpty", 11, NOW, sequence::sequence),
    row("SequenceErase", 11, NOW, sequence::sequence),
    row("SequenceInsert", 11, NOW, sequence::sequence),
    row("SequenceLength", 11, NOW, sequence::element),
    row("Shape", 1, NOW, constant::shape),
    row("Shrink", 9, NOW, activation::shrink),
    row("Sigmoid", 1, NOW, activation::unary),
    row("Sign", 9, NOW, activation::unary),
    row("SimplifiedLayerNormalization", 1, NOW, normalize::simplified_layer_norm),
    row("Sin", 7, NOW, activation::unary),
    row("Sinh", 9, NOW, activation::unary),
    row("Size", 1, NOW, constant::size),
    row("Slice", 1, NOW, select::slice),
    row("Softmax", 1, 12, activation::softmax_flattened),
    row("Softmax", 13, NOW, activation::softmax),
    row("SoftmaxCrossEntropyLoss", 12, NOW, loss::softmax_cross_entropy),
    row("Softplus", 1, NOW, activation::unary),
    row("Softsign", 1, NOW, activation::unary),
    row("SpaceToDepth", 1, NOW, reshape::space_to_depth),
    row("Split", 2, NOW, select::split),
    row("SplitToSequence", 11, NOW, sequence::split),
    row("Sqrt", 1, NOW, activation::unary),
    row("Squeeze", 1, NOW, reshape::squeeze),
    row("Sub", 1, NOW, elementwise::binary),
    row("Sum", 1, NOW, elementwise::variadic),
    row("SwiGLU", 28, NOW, attention::swiglu),
    row("Swish", 24, NOW, activation::swish),
    row("Tan", 7, NOW, activation::unary),
    row("Tanh", 1, NOW, activation::unary),
    row("ThresholdedRelu", 10, NOW, activation::unary),
    row("Tile", 6, NOW, select::tile),
    row("TopK", 1, NOW, index::top_k),
    row("Transpose", 1, NOW, reshape::transpose),
    row("Trilu", 14, NOW, index::trilu),
    row("Unique", 11, NOW, index::unique),
    row("Unsqueeze", 1, NOW, reshape::unsqueeze),
    row("Upsample", 1, 6, resample::upsample_image),
    row("Upsample", 7, 9, resample::upsample),
    row("Where", 9, NOW, elementwise::select),
    row("Xor", 1, NOW, elementwise::binary),
];

/// An operator that is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Supported {
    /// Its domain; empty for ONNX's own.
    pub domain: &'static str,
    /// Its name.
    pub name: &'static str,
    /// The versions of its domain in which it is read, in words.
    pub versions: String,
    /// Elements that it is read for.
    pub elements: Option<Elements>,
    /// What is not read of it, in words; empty when nothing is left out.
    pub limits: &'static str,
}

/// All operators that are read, by domain and name.
pub fn operators() -> Vec<Supported> {
    let mut list = Vec::new();
    for domain in &DOMAINS {
        for spell in domain.rows.chunk_by(|a, b| a.op == b.op && a.until + 1 == b.since) {
            let (Some(first), Some(last)) = (spell.first(), spell.last()) else { continue };
            let (elements, limits) = notes::of(domain.name, first.op).unzip();
            list.push(Supported {
                domain: domain.name,
                name: first.op,
                versions: domain.in_words(first.since, last.until),
                elements,
                limits: limits.unwrap_or_default(),
            });
        }
    }
    list
}

impl Domain {
    fn in_words(&self, since: i64, until: i64) -> String {
        match self.newest {
            Some(newest) if newest == until => format!("{since} and later"),
            _ if since == until => since.to_string(),
            _ => format!("{since} to {until}"),
        }
    }
}

/// The row for an operator in a version of its domain.
pub(super) fn find(domain: &str, op: &str, opset: i64) -> Option<&'static Row> {
    rows(domain, op).find(|row| (row.since..=row.until).contains(&opset))
}

/// The versions of an operator that are read, in words; `None` when there are none.
pub(super) fn versions(domain: &str, op: &str) -> Option<String> {
    let since = rows(domain, op).map(|row| row.since).min()?;
    let until = rows(domain, op).map(|row| row.until).max()?;
    DOMAINS.iter().find(|known| known.name == domain).map(|known| known.in_words(since, until))
}

/// The version of a domain that a model means which does not import it; 0 where there is no saying.
pub(super) fn unstated(domain: &str) -> i64 {
    DOMAINS.iter().find(|known| known.name == domain).map_or(0, |known| known.unstated)
}

/// What to do about the use of a domain that is not read; `None` for one that is.
pub(super) fn advice(domain: &str) -> Option<String> {
    if DOMAINS.iter().any(|known| known.name == domain) {
        return None;
    }
    let advice = ADVICE.iter().find(|(name, _)| *name == domain);
    Some(advice.map_or_else(
        || format!("domain {domain} is not read, but ONNX's own and {}", microsoft::NAME),
        |(_, advice)| advice.to_string(),
    ))
}

fn rows(domain: &str, op: &str) -> impl Iterator<Item = &'static Row> {
    let rows = DOMAINS.iter().find(|known| known.name == domain).map_or(&[][..], |known| known.rows);
    rows.iter().filter(move |row| row.op == op)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_versions_do_not_overlap() {
        for pair in DOMAINS.iter().flat_map(|domain| domain.rows.windows(2)) {
            let ordered =
                pair[0].op < pair[1].op || (pair[0].op == pair[1].op && pair[0].until < pair[1].since);
            assert!(ordered, "{} {} before {} {}", pair[0].op, pair[0].since, pair[1].op, pair[1].since);
        }
    }

    #[test]
    fn each_domain_has_operators_and_versions_of_its_own() {
        assert!(find("", "FusedConv", 1).is_none());
        assert!(find("com.microsoft", "FusedConv", 1).is_some());
        assert!(find("com.microsoft", "FusedConv", 22).is_none());
        assert_eq!(versions("com.microsoft", "FusedConv").unwrap(), "1");
        assert_eq!((unstated("com.microsoft"), unstated(""), unstated("my.ops")), (1, 0, 0));
    }

    #[test]
    fn a_version_selects_the_definition_that_held_then() {
        let read = |op, opset| find("", op, opset).map(|row| row.since);
        assert_eq!(read("Clip", 10), Some(1));
        assert_eq!(read("Clip", 11), Some(11));
        assert_eq!(read("Upsample", 10), None);
        assert!(find("com.microsoft", "Clip", 1).is_none());
        assert_eq!(versions("", "Upsample").unwrap(), "1 to 9");
        assert_eq!(versions("", "Hardmax").unwrap(), "1 and later");
        assert_eq!(versions("", "TfIdfVectorizer"), None);
    }
}
