//! Which operators are read, in which versions, and how.
//!
//! A version of the operator set names, for each operator, the definition that held last: a model of opset 12 with a
//! `Clip` means the definition of 12, one of opset 10 that of 6. A row covers all versions from `since` to `until`
//! that its constructor reads, and says all of the operator in them: for which elements it is read, and what of it is not. `docs/ops.md` is
//! written from the rows. To add an operator: its constructor in [`ops`], its row here.
//!
//! Domains have versions of their own. ONNX's own domain is the table below; each other one that is read has a file:
//!
//! ```text
//!   ""               [`TABLE`]        versions 1 to 28
//!   com.microsoft    microsoft.rs     version 1: what ONNX Runtime's quantiser and optimiser write
//! ```

mod elements;
mod microsoft;

use super::error::NodeFault;
use super::node::NodeReader;
use super::ops::{
    activation, attention, batch_norm, col2im, constant, control, convolution, einsum, elementwise, index,
    loss, matrix, normalize, pad, pool, product, quantize, random, recurrent, reduce, resample, reshape,
    sample, select, sequence, signal,
};
use crate::graph::Value;

pub use elements::Elements;
use elements::Elements::{Any, Bool, Floats, Integers, Numbers};

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
    /// Those that it is read for.
    elements: Elements,
    pub read: Read,
    /// What is not read of it, in a few words; empty when nothing is left out.
    limits: &'static str,
}

const fn row(op: &'static str, since: i64, until: i64, elements: Elements, read: Read) -> Row {
    Row { op, since, until, elements, read, limits: "" }
}

impl Row {
    const fn limits(self, limits: &'static str) -> Row {
        Row { limits, ..self }
    }
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
    row("Abs", 1, NOW, Numbers, activation::unary),
    row("Acos", 7, NOW, Floats, activation::unary),
    row("Acosh", 9, NOW, Floats, activation::unary),
    row("Add", 1, NOW, Numbers, elementwise::binary),
    row("AffineGrid", 20, NOW, Floats, matrix::affine_grid).limits("size at compile time"),
    row("And", 1, NOW, Bool, elementwise::binary),
    row("ArgMax", 1, NOW, Numbers, reduce::arg),
    row("ArgMin", 1, NOW, Numbers, reduce::arg),
    row("Asin", 7, NOW, Floats, activation::unary),
    row("Asinh", 9, NOW, Floats, activation::unary),
    row("Atan", 7, NOW, Floats, activation::unary),
    row("Atanh", 9, NOW, Floats, activation::unary),
    row("Attention", 23, NOW, Floats, attention::attention),
    row("AveragePool", 1, NOW, Floats, pool::average_pool),
    row("BatchNormalization", 1, NOW, Floats, batch_norm::batch_norm).limits("before opset 7 training mode with all five outputs"),
    row("Bernoulli", 15, NOW, Floats, random::bernoulli).limits("drawn at compile time"),
    row("BitCast", 26, NOW, Any, elementwise::bit_cast),
    row("BitShift", 11, NOW, Integers, elementwise::binary),
    row("BitwiseAnd", 18, NOW, Integers, elementwise::binary),
    row("BitwiseNot", 18, NOW, Integers, elementwise::bitwise_not),
    row("BitwiseOr", 18, NOW, Integers, elementwise::binary),
    row("BitwiseXor", 18, NOW, Integers, elementwise::binary),
    row("BlackmanWindow", 17, NOW, Floats, signal::window).limits("size at compile time"),
    row("Cast", 1, NOW, Any, elementwise::cast_to),
    row("CastLike", 15, NOW, Any, elementwise::cast_like),
    row("CausalConvWithState", 27, NOW, Floats, attention::causal_conv),
    row("Ceil", 1, NOW, Floats, activation::unary),
    row("Celu", 12, NOW, Floats, activation::unary),
    row("CenterCropPad", 18, NOW, Numbers, matrix::center_crop_pad).limits("shape at compile time"),
    row("Clip", 1, 10, Numbers, activation::clip_attributes),
    row("Clip", 11, NOW, Numbers, activation::clip),
    row("Col2Im", 18, NOW, Numbers, col2im::col2im).limits("image_shape and block_shape at compile time"),
    row("Compress", 9, NOW, Any, index::compress).limits("the size is known at run time only"),
    row("Concat", 1, NOW, Any, select::concat),
    row("ConcatFromSequence", 11, NOW, Any, sequence::joined).limits("of a sequence that is known at compile time"),
    row("Constant", 1, NOW, Any, constant::constant).limits("no strings, no sparse tensors"),
    row("ConstantOfShape", 9, NOW, Any, constant::constant_of_shape).limits("shape at compile time or from sizes"),
    row("Conv", 1, NOW, Floats, convolution::conv),
    row("ConvInteger", 10, NOW, Integers, quantize::conv_integer).limits("of 8 bits"),
    row("ConvTranspose", 1, NOW, Floats, convolution::conv_transpose),
    row("Cos", 7, NOW, Floats, activation::unary),
    row("Cosh", 9, NOW, Floats, activation::unary),
    row("CumProd", 26, NOW, Numbers, index::cumulative).limits("axis at compile time"),
    row("CumSum", 11, NOW, Numbers, index::cumulative).limits("axis at compile time"),
    row("DFT", 17, NOW, Floats, signal::dft).limits("dft_length and axis at compile time; length bounded, as a matrix product"),
    row("DeformConv", 19, NOW, Floats, sample::deform_conv),
    row("DepthToSpace", 1, NOW, Any, reshape::depth_to_space),
    row("DequantizeLinear", 10, NOW, Integers, quantize::dequantize_linear).limits("from 8, 16 and 32 bits; from 2 and 4 of constants"),
    row("Det", 11, NOW, Floats, sample::det),
    row("Div", 1, NOW, Numbers, elementwise::binary),
    row("Dropout", 7, NOW, Floats, random::dropout).limits("training_mode at compile time; what training drops is drawn then, too"),
    row("DynamicQuantizeLinear", 11, NOW, Floats, quantize::dynamic_quantize_linear),
    row("Einsum", 12, NOW, Numbers, einsum::einsum),
    row("Elu", 1, NOW, Floats, activation::unary),
    row("Equal", 1, NOW, Any, elementwise::binary),
    row("Erf", 9, NOW, Floats, activation::unary),
    row("Exp", 1, NOW, Floats, activation::unary),
    row("Expand", 8, NOW, Any, select::expand).limits("shape at compile time or from sizes"),
    row("EyeLike", 9, NOW, Any, constant::eye_like),
    row("Flatten", 1, NOW, Any, reshape::flatten),
    row("Floor", 1, NOW, Floats, activation::unary),
    row("GRU", 7, NOW, Floats, recurrent::recurrent).limits("default parameters of the functions"),
    row("Gather", 1, NOW, Any, select::gather),
    row("GatherElements", 11, NOW, Any, index::gather_elements),
    row("GatherND", 11, NOW, Any, index::gather_nd),
    row("Gelu", 20, NOW, Floats, activation::unary),
    row("Gemm", 1, NOW, Numbers, product::gemm),
    row("GlobalAveragePool", 1, NOW, Floats, pool::global_pool),
    row("GlobalLpPool", 2, NOW, Floats, pool::global_pool),
    row("GlobalMaxPool", 1, NOW, Floats, pool::global_pool),
    row("Greater", 1, NOW, Numbers, elementwise::binary),
    row("GreaterOrEqual", 12, NOW, Numbers, elementwise::binary),
    row("GridSample", 16, NOW, Floats, sample::grid_sample),
    row("GroupNormalization", 18, NOW, Floats, normalize::group_norm),
    row("HammingWindow", 17, NOW, Floats, signal::window).limits("size at compile time"),
    row("HannWindow", 17, NOW, Floats, signal::window).limits("size at compile time"),
    row("HardSigmoid", 1, NOW, Floats, activation::unary),
    row("HardSwish", 14, NOW, Floats, activation::unary),
    row("Hardmax", 1, NOW, Floats, activation::hardmax),
    row("Identity", 1, NOW, Any, constant::identity),
    row("If", 1, NOW, Any, control::branch).limits("branches of equal ranks, or a condition that is known at compile time"),
    row("InstanceNormalization", 1, NOW, Floats, normalize::instance_norm),
    row("IsInf", 10, NOW, Floats, activation::unary),
    row("IsNaN", 9, NOW, Floats, activation::unary),
    row("LRN", 1, NOW, Floats, normalize::lrn),
    row("LSTM", 7, NOW, Floats, recurrent::recurrent).limits("default parameters of the functions"),
    row("LayerNormalization", 1, NOW, Floats, normalize::layer_norm).limits("before opset 17 as onnxruntime has it"),
    row("LeakyRelu", 1, NOW, Floats, activation::unary),
    row("Less", 1, NOW, Numbers, elementwise::binary),
    row("LessOrEqual", 12, NOW, Numbers, elementwise::binary),
    row("Log", 1, NOW, Floats, activation::unary),
    row("LogSoftmax", 1, 12, Floats, activation::softmax_flattened),
    row("LogSoftmax", 13, NOW, Floats, activation::softmax),
    row("Loop", 1, NOW, Any, control::repeat).limits("one body for all iterations, which may end by data; scan outputs need an M that is known at compile time. Where types or shapes differ between iterations they are written out: their number known at compile time, at most 65,536 nodes in all"),
    row("LpNormalization", 1, NOW, Floats, matrix::lp_norm),
    row("LpPool", 2, NOW, Floats, pool::lp_pool),
    row("MatMul", 1, NOW, Numbers, product::mat_mul),
    row("MatMulInteger", 10, NOW, Integers, quantize::mat_mul_integer).limits("of 8 bits"),
    row("Max", 1, NOW, Numbers, elementwise::variadic),
    row("MaxPool", 1, NOW, Numbers, pool::max_pool),
    row("MaxRoiPool", 1, NOW, Floats, sample::max_roi_pool),
    row("MaxUnpool", 9, NOW, Floats, index::max_unpool).limits("output_shape at compile time"),
    row("Mean", 1, NOW, Numbers, elementwise::variadic),
    row("MeanVarianceNormalization", 9, NOW, Floats, normalize::mean_variance),
    row("MelWeightMatrix", 17, NOW, Floats, signal::mel_weight_matrix).limits("all operands at compile time"),
    row("Min", 1, NOW, Numbers, elementwise::variadic),
    row("Mish", 18, NOW, Floats, activation::unary),
    row("Mod", 10, NOW, Numbers, elementwise::binary),
    row("Mul", 1, NOW, Numbers, elementwise::binary),
    row("Neg", 1, NOW, Numbers, activation::unary),
    row("NegativeLogLikelihoodLoss", 12, NOW, Floats, loss::negative_log_likelihood),
    row("NonMaxSuppression", 10, NOW, Floats, index::non_max_suppression).limits("max_output_boxes_per_class at compile time; the size is known at run time only"),
    row("NonZero", 9, NOW, Any, index::non_zero).limits("the size is known at run time only"),
    row("Not", 1, NOW, Bool, activation::unary),
    row("OneHot", 9, NOW, Any, index::one_hot).limits("depth at compile time"),
    row("Optional", 15, NOW, Any, sequence::get_element).limits("an operand that is there"),
    row("OptionalGetElement", 15, NOW, Any, sequence::get_element),
    row("OptionalHasElement", 15, NOW, Any, sequence::has_element).limits("answered at compile time"),
    row("Or", 1, NOW, Bool, elementwise::binary),
    row("PRelu", 1, NOW, Numbers, activation::prelu),
    row("Pad", 1, NOW, Any, pad::pad).limits("pads at compile time or from sizes, value at compile time"),
    row("Pow", 1, NOW, Numbers, elementwise::pow),
    row("QLinearConv", 10, NOW, Integers, quantize::q_linear_conv).limits("of 8 bits"),
    row("QLinearMatMul", 10, NOW, Integers, quantize::q_linear_mat_mul).limits("of 8 bits"),
    row("QuantizeLinear", 10, NOW, Floats, quantize::quantize_linear).limits("to 8 and 16 bits"),
    row("RMSNormalization", 23, NOW, Floats, normalize::rms_norm),
    row("RNN", 7, NOW, Floats, recurrent::recurrent).limits("default parameters of the functions"),
    row("RandomNormal", 1, NOW, Floats, random::random).limits("drawn at compile time"),
    row("RandomNormalLike", 1, NOW, Floats, random::random).limits("drawn at compile time"),
    row("RandomUniform", 1, NOW, Floats, random::random).limits("drawn at compile time"),
    row("RandomUniformLike", 1, NOW, Floats, random::random).limits("drawn at compile time"),
    row("Range", 11, NOW, Numbers, constant::range).limits("bounds at compile time or from sizes"),
    row("Reciprocal", 1, NOW, Floats, activation::unary),
    row("ReduceL1", 1, NOW, Numbers, reduce::reduce),
    row("ReduceL2", 1, NOW, Floats, reduce::reduce),
    row("ReduceLogSum", 1, NOW, Floats, reduce::reduce),
    row("ReduceLogSumExp", 1, NOW, Floats, reduce::reduce),
    row("ReduceMax", 1, NOW, Numbers, reduce::reduce),
    row("ReduceMean", 1, NOW, Numbers, reduce::reduce),
    row("ReduceMin", 1, NOW, Numbers, reduce::reduce),
    row("ReduceProd", 1, NOW, Numbers, reduce::reduce),
    row("ReduceSum", 1, NOW, Numbers, reduce::reduce),
    row("ReduceSumSquare", 1, NOW, Numbers, reduce::reduce),
    row("Relu", 1, NOW, Numbers, activation::unary),
    row("Reshape", 1, NOW, Any, reshape::reshape).limits("shape at compile time or from sizes"),
    row("Resize", 10, 10, Floats, resample::resize_by_scales).limits("scales or sizes at compile time"),
    row("Resize", 11, NOW, Floats, resample::resize).limits("scales or sizes at compile time"),
    row("ReverseSequence", 10, NOW, Any, index::reverse_sequence),
    row("RoiAlign", 10, NOW, Floats, sample::roi_align),
    row("RotaryEmbedding", 23, NOW, Floats, attention::rotary_embedding).limits("position_ids at compile time"),
    row("Round", 11, NOW, Floats, activation::unary),
    row("STFT", 17, NOW, Floats, signal::stft).limits("frame_step and frame_length at compile time; length bounded, as a matrix product"),
    row("Scan", 8, 8, Any, control::scan_of_batch).limits("of opset 8 without shorter sequences"),
    row("Scan", 9, NOW, Any, control::scan).limits("one body for all iterations. Where types or shapes differ between iterations they are written out: at most 65,536 nodes in all"),
    row("Scatter", 9, 10, Any, index::scatter_elements),
    row("ScatterElements", 11, NOW, Any, index::scatter_elements),
    row("ScatterND", 11, NOW, Any, index::scatter_nd),
    row("Selu", 1, NOW, Floats, activation::unary),
    row("SequenceAt", 11, NOW, Any, sequence::element).limits("position at compile time; sequences are no inputs or outputs"),
    row("SequenceConstruct", 11, NOW, Any, sequence::sequence).limits("sequences are no inputs or outputs"),
    row("SequenceEmpty", 11, NOW, Any, sequence::sequence).limits("sequences are no inputs or outputs"),
    row("SequenceErase", 11, NOW, Any, sequence::sequence).limits("position at compile time; sequences are no inputs or outputs"),
    row("SequenceInsert", 11, NOW, Any, sequence::sequence).limits("position at compile time; sequences are no inputs or outputs"),
    row("SequenceLength", 11, NOW, Any, sequence::element).limits("answered at compile time"),
    row("Shape", 1, NOW, Any, constant::shape),
    row("Shrink", 9, NOW, Numbers, activation::shrink),
    row("Sigmoid", 1, NOW, Floats, activation::unary),
    row("Sign", 9, NOW, Numbers, activation::unary),
    row("SimplifiedLayerNormalization", 1, NOW, Floats, normalize::simplified_layer_norm).limits("onnxruntime's, which is no operator of ONNX"),
    row("Sin", 7, NOW, Floats, activation::unary),
    row("Sinh", 9, NOW, Floats, activation::unary),
    row("Size", 1, NOW, Any, constant::size),
    row("Slice", 1, NOW, Any, select::slice).limits("bounds at compile time or from sizes"),
    row("Softmax", 1, 12, Floats, activation::softmax_flattened),
    row("Softmax", 13, NOW, Floats, activation::softmax),
    row("SoftmaxCrossEntropyLoss", 12, NOW, Floats, loss::softmax_cross_entropy),
    row("Softplus", 1, NOW, Floats, activation::unary),
    row("Softsign", 1, NOW, Floats, activation::unary),
    row("SpaceToDepth", 1, NOW, Any, reshape::space_to_depth),
    row("Split", 2, NOW, Any, select::split).limits("parts at compile time or from sizes"),
    row("SplitToSequence", 11, NOW, Any, sequence::split).limits("parts at compile time; sequences are no inputs or outputs"),
    row("Sqrt", 1, NOW, Floats, activation::unary),
    row("Squeeze", 1, NOW, Any, reshape::squeeze),
    row("Sub", 1, NOW, Numbers, elementwise::binary),
    row("Sum", 1, NOW, Numbers, elementwise::variadic),
    row("SwiGLU", 28, NOW, Floats, attention::swiglu),
    row("Swish", 24, NOW, Floats, activation::swish),
    row("Tan", 7, NOW, Floats, activation::unary),
    row("Tanh", 1, NOW, Floats, activation::unary),
    row("ThresholdedRelu", 10, NOW, Floats, activation::unary),
    row("Tile", 6, NOW, Any, select::tile).limits("repeats at compile time or from sizes"),
    row("TopK", 1, NOW, Numbers, index::top_k).limits("k at compile time or from sizes"),
    row("Transpose", 1, NOW, Any, reshape::transpose),
    row("Trilu", 14, NOW, Any, index::trilu).limits("k at compile time"),
    row("Unique", 11, NOW, Any, index::unique).limits("the size is known at run time only"),
    row("Unsqueeze", 1, NOW, Any, reshape::unsqueeze),
    row("Upsample", 1, 6, Floats, resample::upsample_image),
    row("Upsample", 7, 9, Floats, resample::upsample).limits("scales at compile time"),
    row("Where", 9, NOW, Any, elementwise::select),
    row("Xor", 1, NOW, Bool, elementwise::binary),
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
    pub elements: Elements,
    /// What is not read of it, in words; empty when nothing is left out.
    pub limits: String,
}

/// All operators that are read, by domain and name.
pub fn operators() -> Vec<Supported> {
    let mut list = Vec::new();
    for domain in &DOMAINS {
        for spell in domain.rows.chunk_by(|a, b| a.op == b.op && a.until + 1 == b.since) {
            let (Some(first), Some(last)) = (spell.first(), spell.last()) else { continue };
            let mut limits: Vec<&str> =
                spell.iter().map(|row| row.limits).filter(|l| !l.is_empty()).collect();
            limits.dedup();
            list.push(Supported {
                domain: domain.name,
                name: first.op,
                versions: domain.in_words(first.since, last.until),
                elements: first.elements,
                limits: limits.join("; "),
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
    fn an_operator_is_read_for_the_same_elements_in_all_versions() {
        for pair in DOMAINS.iter().flat_map(|domain| domain.rows.windows(2)) {
            assert!(pair[0].op != pair[1].op || pair[0].elements == pair[1].elements, "{}", pair[0].op);
        }
    }

    #[test]
    fn what_is_not_read_in_some_versions_is_said_of_the_operator_and_once() {
        let limits = |name| operators().into_iter().find(|op| op.name == name).map(|op| op.limits).unwrap();
        assert_eq!(limits("Upsample"), "scales at compile time", "of 7 to 9, not of 1 to 6");
        assert_eq!(limits("Resize"), "scales or sizes at compile time", "of 10, and of 11 and later");
        assert!(limits("Scan").starts_with("of opset 8 without shorter sequences; one body"));
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
