//! What `docs/ops.md` says about operators beside their names and versions.

use self::Elements::{Any, Bool, Floats, Integers, Numbers};

/// Elements that an operator is read for, in one word; ONNX has the list for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Elements {
    /// Of any type that nnc has.
    Any,
    /// Floating-point numbers.
    Floats,
    /// Floating-point numbers and integers.
    Numbers,
    /// Integers.
    Integers,
    /// Booleans.
    Bool,
}

impl Elements {
    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            Any => "any",
            Floats => "floats",
            Numbers => "numbers",
            Integers => "integers",
            Bool => "bool",
        }
    }
}

/// Name, elements, and what is not read of it.
type Note = (&'static str, Elements, &'static str);

/// About operators of ONNX's own domain.
#[rustfmt::skip]
const NOTES: &[Note] = &[
    ("Abs", Numbers, ""),
    ("Acos", Floats, ""),
    ("Acosh", Floats, ""),
    ("Add", Numbers, ""),
    ("AffineGrid", Floats, "size at compile time"),
    ("And", Bool, ""),
    ("ArgMax", Numbers, ""),
    ("ArgMin", Numbers, ""),
    ("Asin", Floats, ""),
    ("Asinh", Floats, ""),
    ("Atan", Floats, ""),
    ("Atanh", Floats, ""),
    ("Attention", Floats, ""),
    ("AveragePool", Floats, ""),
    ("BatchNormalization", Floats, "before opset 7 training mode with all five outputs"),
    ("Bernoulli", Floats, "drawn at compile time"),
    ("BitCast", Any, ""),
    ("BitShift", Integers, ""),
    ("BitwiseAnd", Integers, ""),
    ("BitwiseNot", Integers, ""),
    ("BitwiseOr", Integers, ""),
    ("BitwiseXor", Integers, ""),
    ("BlackmanWindow", Floats, "size at compile time"),
    ("Cast", Any, ""),
    ("CastLike", Any, ""),
    ("CausalConvWithState", Floats, ""),
    ("Ceil", Floats, ""),
    ("Celu", Floats, ""),
    ("CenterCropPad", Numbers, "shape at compile time"),
    ("Clip", Numbers, ""),
    ("Col2Im", Numbers, "image_shape and block_shape at compile time"),
    ("Compress", Any, "the size is known at run time only"),
    ("Concat", Any, ""),
    ("ConcatFromSequence", Any, "of a sequence that is known at compile time"),
    ("Constant", Any, "no strings, no sparse tensors"),
    ("ConstantOfShape", Any, "shape at compile time or from sizes"),
    ("Conv", Floats, ""),
    ("ConvInteger", Integers, "of 8 bits"),
    ("ConvTranspose", Floats, ""),
    ("Cos", Floats, ""),
    ("Cosh", Floats, ""),
    ("CumProd", Numbers, "axis at compile time"),
    ("CumSum", Numbers, "axis at compile time"),
    ("DFT", Floats, "dft_length and axis at compile time; length bounded, as a matrix product"),
    ("DeformConv", Floats, ""),
    ("DepthToSpace", Any, ""),
    ("DequantizeLinear", Integers, "from 8, 16 and 32 bits"),
    ("Det", Floats, ""),
    ("Div", Numbers, ""),
    ("Dropout", Floats, "training_mode at compile time; what training drops is drawn then, too"),
    ("DynamicQuantizeLinear", Floats, ""),
    ("Einsum", Numbers, ""),
    ("Elu", Floats, ""),
    ("Equal", Any, ""),
    ("Erf", Floats, ""),
    ("Exp", Floats, ""),
    ("Expand", Any, "shape at compile time or from sizes"),
    ("EyeLike", Any, ""),
    ("Flatten", Any, ""),
    ("Floor", Floats, ""),
    ("GRU", Floats, "default parameters of the functions"),
    ("Gather", Any, ""),
    ("GatherElements", Any, ""),
    ("GatherND", Any, ""),
    ("Gelu", Floats, ""),
    ("Gemm", Numbers, ""),
    ("GlobalAveragePool", Floats, ""),
    ("GlobalLpPool", Floats, ""),
    ("GlobalMaxPool", Floats, ""),
    ("Greater", Numbers, ""),
    ("GreaterOrEqual", Numbers, ""),
    ("GridSample", Floats, ""),
    ("GroupNormalization", Floats, ""),
    ("HammingWindow", Floats, "size at compile time"),
    ("HannWindow", Floats, "size at compile time"),
    ("HardSigmoid", Floats, ""),
    ("HardSwish", Floats, ""),
    ("Hardmax", Floats, ""),
    ("Identity", Any, ""),
    ("If", Any, "branches of equal ranks, or a condition that is known at compile time"),
    ("InstanceNormalization", Floats, ""),
    ("IsInf", Floats, ""),
    ("IsNaN", Floats, ""),
    ("LRN", Floats, ""),
    ("LSTM", Floats, "default parameters of the functions"),
    ("LayerNormalization", Floats, "before opset 17 as onnxruntime has it"),
    ("LeakyRelu", Floats, ""),
    ("Less", Numbers, ""),
    ("LessOrEqual", Numbers, ""),
    ("Log", Floats, ""),
    ("LogSoftmax", Floats, ""),
    ("Loop", Any, "one body for all iterations, which may end by data; scan outputs need an M that is known at compile time. Where types or shapes differ between iterations they are written out: their number known at compile time, at most 65,536 nodes in all"),
    ("LpNormalization", Floats, ""),
    ("LpPool", Floats, ""),
    ("MatMul", Numbers, ""),
    ("MatMulInteger", Integers, "of 8 bits"),
    ("Max", Numbers, ""),
    ("MaxPool", Numbers, ""),
    ("MaxRoiPool", Floats, ""),
    ("MaxUnpool", Floats, "output_shape at compile time"),
    ("Mean", Numbers, ""),
    ("MeanVarianceNormalization", Floats, ""),
    ("MelWeightMatrix", Floats, "all operands at compile time"),
    ("Min", Numbers, ""),
    ("Mish", Floats, ""),
    ("Mod", Numbers, ""),
    ("Mul", Numbers, ""),
    ("Neg", Numbers, ""),
    ("NegativeLogLikelihoodLoss", Floats, ""),
    ("NonMaxSuppression", Floats, "max_output_boxes_per_class at compile time; the size is known at run time only"),
    ("NonZero", Any, "the size is known at run time only"),
    ("Not", Bool, ""),
    ("OneHot", Any, "depth at compile time"),
    ("Optional", Any, "an operand that is there"),
    ("OptionalGetElement", Any, ""),
    ("OptionalHasElement", Any, "answered at compile time"),
    ("Or", Bool, ""),
    ("PRelu", Numbers, ""),
    ("Pad", Any, "pads at compile time or from sizes, value at compile time"),
    ("Pow", Numbers, ""),
    ("QLinearConv", Integers, "of 8 bits"),
    ("QLinearMatMul", Integers, "of 8 bits"),
    ("QuantizeLinear", Floats, "to 8 and 16 bits"),
    ("RMSNormalization", Floats, ""),
    ("RNN", Floats, "default parameters of the functions"),
    ("RandomNormal", Floats, "drawn at compile time"),
    ("RandomNormalLike", Floats, "drawn at compile time"),
    ("RandomUniform", Floats, "drawn at compile time"),
    ("RandomUniformLike", Floats, "drawn at compile time"),
    ("Range", Numbers, "bounds at compile time or from sizes"),
    ("Reciprocal", Floats, ""),
    ("ReduceL1", Numbers, ""),
    ("ReduceL2", Floats, ""),
    ("ReduceLogSum", Floats, ""),
    ("ReduceLogSumExp", Floats, ""),
    ("ReduceMax", Numbers, ""),
    ("ReduceMean", Numbers, ""),
    ("ReduceMin", Numbers, ""),
    ("ReduceProd", Numbers, ""),
    ("ReduceSum", Numbers, ""),
    ("ReduceSumSquare", Numbers, ""),
    ("Relu", Numbers, ""),
    ("Reshape", Any, "shape at compile time or from sizes"),
    ("Resize", Floats, "scales or sizes at compile time"),
    ("ReverseSequence", Any, ""),
    ("RoiAlign", Floats, ""),
    ("RotaryEmbedding", Floats, "position_ids at compile time"),
    ("Round", Floats, ""),
    ("STFT", Floats, "frame_step and frame_length at compile time; length bounded, as a matrix product"),
    ("Scan", Any, "one body for all iterations; of opset 8 without shorter sequences. Where types or shapes differ between iterations they are written out: at most 65,536 nodes in all"),
    ("Scatter", Any, ""),
    ("ScatterElements", Any, ""),
    ("ScatterND", Any, ""),
    ("Selu", Floats, ""),
    ("SequenceAt", Any, "position at compile time; sequences are no inputs or outputs"),
    ("SequenceConstruct", Any, "sequences are no inputs or outputs"),
    ("SequenceEmpty", Any, "sequences are no inputs or outputs"),
    ("SequenceErase", Any, "position at compile time; sequences are no inputs or outputs"),
    ("SequenceInsert", Any, "position at compile time; sequences are no inputs or outputs"),
    ("SequenceLength", Any, "answered at compile time"),
    ("Shape", Any, ""),
    ("Shrink", Numbers, ""),
    ("Sigmoid", Floats, ""),
    ("Sign", Numbers, ""),
    ("SimplifiedLayerNormalization", Floats, "onnxruntime's, which is no operator of ONNX"),
    ("Sin", Floats, ""),
    ("Sinh", Floats, ""),
    ("Size", Any, ""),
    ("Slice", Any, "bounds at compile time or from sizes"),
    ("Softmax", Floats, ""),
    ("SoftmaxCrossEntropyLoss", Floats, ""),
    ("Softplus", Floats, ""),
    ("Softsign", Floats, ""),
    ("SpaceToDepth", Any, ""),
    ("Split", Any, "parts at compile time"),
    ("SplitToSequence", Any, "parts at compile time; sequences are no inputs or outputs"),
    ("Sqrt", Floats, ""),
    ("Squeeze", Any, ""),
    ("Sub", Numbers, ""),
    ("Sum", Numbers, ""),
    ("SwiGLU", Floats, ""),
    ("Swish", Floats, ""),
    ("Tan", Floats, ""),
    ("Tanh", Floats, ""),
    ("ThresholdedRelu", Floats, ""),
    ("Tile", Any, "repeats at compile time or from sizes"),
    ("TopK", Numbers, "k at compile time or from sizes"),
    ("Transpose", Any, ""),
    ("Trilu", Any, "k at compile time"),
    ("Unique", Any, "the size is known at run time only"),
    ("Unsqueeze", Any, ""),
    ("Upsample", Floats, "scales at compile time"),
    ("Where", Any, ""),
    ("Xor", Bool, ""),
];

/// About those of `com.microsoft`.
#[rustfmt::skip]
const MICROSOFT: &[Note] = &[
    ("Attention", Floats, "no rotary embeddings; past and present of real lengths; masks up to rank 3"),
    ("BiasAdd", Floats, ""),
    ("BiasGelu", Floats, ""),
    ("BiasSplitGelu", Floats, ""),
    ("CDist", Floats, ""),
    ("DequantizeLinear", Integers, "from 8, 16 and 32 bits"),
    ("DynamicQuantizeLSTM", Floats, "written out step by step; all sequences as long as X; default parameters of the functions"),
    ("DynamicQuantizeMatMul", Floats, ""),
    ("EmbedLayerNormalization", Floats, ""),
    ("ExpandDims", Any, "axis at compile time"),
    ("FastGelu", Floats, ""),
    ("FusedConv", Floats, ""),
    ("FusedGemm", Floats, ""),
    ("FusedMatMul", Floats, ""),
    ("FusedMatMulActivation", Floats, ""),
    ("GatherND", Any, ""),
    ("Gelu", Floats, ""),
    ("GemmFastGelu", Floats, ""),
    ("MatMulInteger16", Integers, "of 16 bits"),
    ("MatMulIntegerToFloat", Integers, "of 8 bits"),
    ("MatMulNBits", Floats, "weights of 2, 4 and 8 bits; no g_idx; A is never rounded, whatever accuracy_level allows"),
    ("MultiHeadAttention", Floats, "past and present of real lengths; masks up to rank 3; not its fourth output"),
    ("NhwcMaxPool", Integers, "of 8 bits"),
    ("Pad", Any, "pads and value at compile time"),
    ("QAttention", Integers, "of 8 bits; past and present of real lengths; masks up to rank 3"),
    ("QGemm", Integers, "of 8 bits"),
    ("QLinearAdd", Integers, "of 8 bits; bits as on x86-64"),
    ("QLinearAveragePool", Integers, "of 8 bits; onnxruntime may be one step off"),
    ("QLinearConcat", Integers, "of 8 bits"),
    ("QLinearConv", Integers, "of 8 bits"),
    ("QLinearGlobalAveragePool", Integers, "of 8 bits"),
    ("QLinearLeakyRelu", Integers, "of 8 bits"),
    ("QLinearMul", Integers, "of 8 bits"),
    ("QLinearReduceMean", Integers, "of 8 bits"),
    ("QLinearSigmoid", Integers, "of 8 bits"),
    ("QLinearSoftmax", Integers, "of 8 bits; onnxruntime may be one step off"),
    ("QLinearWhere", Integers, "of 8 bits"),
    ("QuantizeLinear", Floats, "to 8 and 16 bits"),
    ("QuickGelu", Floats, ""),
    ("Range", Numbers, "bounds at compile time"),
    ("SkipLayerNormalization", Floats, ""),
    ("SkipSimplifiedLayerNormalization", Floats, ""),
    ("TransposeMatMul", Floats, ""),
    ("Trilu", Any, "k at compile time"),
];

fn notes(domain: &str) -> &'static [Note] {
    match domain {
        "" => NOTES,
        "com.microsoft" => MICROSOFT,
        _ => &[],
    }
}

/// The note about an operator.
pub(super) fn of(domain: &str, op: &str) -> Option<(Elements, &'static str)> {
    notes(domain).iter().find(|(name, ..)| *name == op).map(|(_, elements, limits)| (*elements, *limits))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::onnx::table;

    #[test]
    fn notes_and_rows_are_about_the_same_operators() {
        for domain in &table::DOMAINS {
            let rows: BTreeSet<&str> = domain.rows.iter().map(|row| row.op).collect();
            let notes: BTreeSet<&str> = notes(domain.name).iter().map(|(name, ..)| *name).collect();
            assert_eq!(rows.difference(&notes).collect::<Vec<_>>(), [&""; 0], "operators without a note");
            assert_eq!(notes.difference(&rows).collect::<Vec<_>>(), [&""; 0], "notes about no operator");
        }
    }

    #[test]
    fn notes_are_sorted() {
        for domain in &table::DOMAINS {
            assert!(notes(domain.name).is_sorted_by_key(|(name, ..)| *name));
        }
    }
}
