//! Domain `com.microsoft`: what ONNX Runtime's quantiser and optimiser write. It has one version.
//!
//! Where ONNX has the same operator, its constructor reads both. LayerNormalization and SimplifiedLayerNormalization of ONNX Runtime
//! are of ONNX's own domain.

use super::{Row, row};
use crate::onnx::ops::contrib::{activation, attention, fused, norm, packed, product, quantised, reshape};
use crate::onnx::ops::{index, quantize, recurrent};

/// The domain's name.
pub(super) const NAME: &str = "com.microsoft";

/// Its operators, by name.
#[rustfmt::skip]
pub(super) const TABLE: &[Row] = &[
    row("Attention", 1, 1, attention::attention),
    row("BiasAdd", 1, 1, activation::bias_add),
    row("BiasGelu", 1, 1, activation::bias_gelu),
    row("BiasSplitGelu", 1, 1, activation::bias_split_gelu),
    row("CDist", 1, 1, reshape::distances),
    row("DequantizeLinear", 1, 1, quantize::dequantize_linear),
    row("DynamicQuantizeLSTM", 1, 1, recurrent::recurrent),
    row("DynamicQuantizeMatMul", 1, 1, product::dynamic_quantize),
    row("EmbedLayerNormalization", 1, 1, norm::embed),
    row("ExpandDims", 1, 1, reshape::expand_dims),
    row("FastGelu", 1, 1, activation::fast_gelu),
    row("FusedConv", 1, 1, fused::conv),
    row("FusedGemm", 1, 1, fused::gemm),
    row("FusedMatMul", 1, 1, fused::mat_mul),
    row("FusedMatMulActivation", 1, 1, fused::mat_mul),
    row("GatherND", 1, 1, index::gather_nd),
    row("Gelu", 1, 1, activation::gelu),
    row("GemmFastGelu", 1, 1, activation::gemm_fast_gelu),
    row("MatMulInteger16", 1, 1, product::integer_16),
    row("MatMulIntegerToFloat", 1, 1, product::integer_to_float),
    row("MatMulNBits", 1, 1, packed::mat_mul),
    row("MultiHeadAttention", 1, 1, attention::multi_head),
    row("NhwcMaxPool", 1, 1, quantised::nhwc_max_pool),
    row("Pad", 1, 1, reshape::pad),
    row("QAttention", 1, 1, attention::quantised),
    row("QGemm", 1, 1, product::q_gemm),
    row("QLinearAdd", 1, 1, quantised::add),
    row("QLinearAveragePool", 1, 1, quantised::average_pool),
    row("QLinearConcat", 1, 1, quantised::concat),
    row("QLinearConv", 1, 1, quantised::conv),
    row("QLinearGlobalAveragePool", 1, 1, quantised::global_average_pool),
    row("QLinearLeakyRelu", 1, 1, quantised::unary),
    row("QLinearMul", 1, 1, quantised::multiply),
    row("QLinearReduceMean", 1, 1, quantised::reduce_mean),
    row("QLinearSigmoid", 1, 1, quantised::unary),
    row("QLinearSoftmax", 1, 1, quantised::softmax),
    row("QLinearWhere", 1, 1, quantised::choose),
    row("QuantizeLinear", 1, 1, quantize::quantize_linear),
    row("QuickGelu", 1, 1, activation::quick_gelu),
    row("Range", 1, 1, reshape::range),
    row("SkipLayerNormalization", 1, 1, norm::skip),
    row("SkipSimplifiedLayerNormalization", 1, 1, norm::skip_simplified),
    row("TransposeMatMul", 1, 1, fused::mat_mul),
    row("Trilu", 1, 1, index::trilu),
];
