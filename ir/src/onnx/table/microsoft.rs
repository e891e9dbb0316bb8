//! Domain `com.microsoft`: what ONNX Runtime's quantiser and optimiser write. It has one version.
//!
//! Where ONNX has the same operator, its constructor reads both. LayerNormalization and SimplifiedLayerNormalization of ONNX Runtime
//! are of ONNX's own domain.

use super::Elements::{Any, Floats, Integers, Numbers};
use super::{Row, row};
use crate::onnx::ops::contrib::{activation, attention, fused, norm, packed, product, quantised, reshape};
use crate::onnx::ops::{index, quantize, recurrent};

/// The domain's name.
pub(super) const NAME: &str = "com.microsoft";

/// Its operators, by name.
#[rustfmt::skip]
pub(super) const TABLE: &[Row] = &[
    row("Attention", 1, 1, Floats, attention::attention).limits("no rotary embeddings; past and present of real lengths; masks up to rank 3"),
    row("BiasAdd", 1, 1, Floats, activation::bias_add),
    row("BiasGelu", 1, 1, Floats, activation::bias_gelu),
    row("BiasSplitGelu", 1, 1, Floats, activation::bias_split_gelu),
    row("CDist", 1, 1, Floats, reshape::distances),
    row("DequantizeLinear", 1, 1, Integers, quantize::dequantize_linear).limits("from 8, 16 and 32 bits; from 2 and 4 of constants"),
    row("DynamicQuantizeLSTM", 1, 1, Floats, recurrent::recurrent).limits("written out step by step; all sequences as long as X; default parameters of the functions"),
    row("DynamicQuantizeMatMul", 1, 1, Floats, product::dynamic_quantize),
    row("EmbedLayerNormalization", 1, 1, Floats, norm::embed),
    row("ExpandDims", 1, 1, Any, reshape::expand_dims).limits("axis at compile time"),
    row("FastGelu", 1, 1, Floats, activation::fast_gelu),
    row("FusedConv", 1, 1, Floats, fused::conv),
    row("FusedGemm", 1, 1, Floats, fused::gemm),
    row("FusedMatMul", 1, 1, Floats, fused::mat_mul),
    row("FusedMatMulActivation", 1, 1, Floats, fused::mat_mul),
    row("GatherND", 1, 1, Any, index::gather_nd),
    row("Gelu", 1, 1, Floats, activation::gelu),
    row("GemmFastGelu", 1, 1, Floats, activation::gemm_fast_gelu),
    row("MatMulInteger16", 1, 1, Integers, product::integer_16).limits("of 16 bits"),
    row("MatMulIntegerToFloat", 1, 1, Integers, product::integer_to_float).limits("of 8 bits"),
    row("MatMulNBits", 1, 1, Floats, packed::mat_mul).limits("weights of 2, 4 and 8 bits; no g_idx; A is never rounded, whatever accuracy_level allows"),
    row("MultiHeadAttention", 1, 1, Floats, attention::multi_head).limits("past and present of real lengths; masks up to rank 3; not its fourth output"),
    row("NhwcMaxPool", 1, 1, Integers, quantised::nhwc_max_pool).limits("of 8 bits"),
    row("Pad", 1, 1, Any, reshape::pad).limits("pads and value at compile time"),
    row("QAttention", 1, 1, Integers, attention::quantised).limits("of 8 bits; past and present of real lengths; masks up to rank 3"),
    row("QGemm", 1, 1, Integers, product::q_gemm).limits("of 8 bits"),
    row("QLinearAdd", 1, 1, Integers, quantised::add).limits("of 8 bits"),
    row("QLinearAveragePool", 1, 1, Integers, quantised::average_pool).limits("of 8 bits"),
    row("QLinearConcat", 1, 1, Integers, quantised::concat).limits("of 8 bits"),
    row("QLinearConv", 1, 1, Integers, quantised::conv).limits("of 8 bits"),
    row("QLinearGlobalAveragePool", 1, 1, Integers, quantised::global_average_pool).limits("of 8 bits"),
    row("QLinearLeakyRelu", 1, 1, Integers, quantised::unary).limits("of 8 bits"),
    row("QLinearMul", 1, 1, Integers, quantised::multiply).limits("of 8 bits"),
    row("QLinearReduceMean", 1, 1, Integers, quantised::reduce_mean).limits("of 8 bits"),
    row("QLinearSigmoid", 1, 1, Integers, quantised::unary).limits("of 8 bits"),
    row("QLinearSoftmax", 1, 1, Integers, quantised::softmax).limits("of 8 bits"),
    row("QLinearWhere", 1, 1, Integers, quantised::choose).limits("of 8 bits"),
    row("QuantizeLinear", 1, 1, Floats, quantize::quantize_linear).limits("to 8 and 16 bits"),
    row("QuickGelu", 1, 1, Floats, activation::quick_gelu),
    row("Range", 1, 1, Numbers, reshape::range).limits("bounds at compile time"),
    row("SkipLayerNormalization", 1, 1, Floats, norm::skip),
    row("SkipSimplifiedLayerNormalization", 1, 1, Floats, norm::skip_simplified),
    row("TransposeMatMul", 1, 1, Floats, fused::mat_mul),
    row("Trilu", 1, 1, Any, index::trilu).limits("k at compile time"),
];
