//! Sets of node cases that say more than all of them together: most of ONNX is about language models, strings and training.
//!
//! A set has the cases of its operators whose node is one of these operators; those in which a node is replaced by the
//! function that defines it are left out.

use super::{Compared, OnnxCase};

/// A set of cases.
pub struct Set {
    /// What it is about.
    pub name: &'static str,
    operators: &'static str,
}

/// What the layers of convolutional networks are made of, quantised operators, and what detectors do with results.
pub const SETS: [Set; 3] = [
    Set {
        name: "operators of convolutional networks",
        operators: "Abs Add AveragePool BatchNormalization Ceil Celu Clip Concat Constant ConstantOfShape Conv \
            ConvTranspose DepthToSpace Div Dropout Elu Erf Exp Expand Flatten Floor Gather Gelu Gemm \
            GlobalAveragePool GlobalMaxPool GridSample HardSigmoid HardSwish Identity InstanceNormalization \
            LRN LeakyRelu Log LogSoftmax LpPool MatMul Max MaxPool Mean Min Mish Mul Neg PRelu Pad Pow \
            Reciprocal Relu Reshape Resize Selu Shape Sigmoid Slice Softmax Softplus Softsign SpaceToDepth \
            Split Sqrt Squeeze Sub Sum Swish Tanh ThresholdedRelu Tile Transpose Unsqueeze Upsample Where",
    },
    Set {
        name: "reductions, norms and what detectors do with results",
        operators: "ArgMax ArgMin CumSum GatherElements GatherND GroupNormalization Hardmax LayerNormalization \
            LpNormalization MeanVarianceNormalization NonMaxSuppression NonZero OneHot RMSNormalization \
            Range ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd \
            ReduceSum ReduceSumSquare RoiAlign Scatter ScatterElements ScatterND TopK Trilu",
    },
    Set {
        name: "quantised operators",
        operators: "ConvInteger DequantizeLinear DynamicQuantizeLinear MatMulInteger QLinearConv QLinearMatMul \
            QuantizeLinear",
    },
];

impl Set {
    /// Whether a case belongs to it.
    pub fn contains(&self, case: &OnnxCase) -> bool {
        let whole = case.name.starts_with("node/") && !case.name.contains("_expanded");
        whole && self.operators.split(' ').any(|op| op == case.op) && case.check != Compared::Types
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_of_operators_that_are_read() {
        let all = nnc_ir::onnx::operators();
        for set in &SETS {
            for name in set.operators.split(' ') {
                assert!(
                    all.iter().any(|op| op.domain.is_empty() && op.name == name),
                    "{}: {name:?}",
                    set.name
                );
            }
        }
    }
}
