//! A function of a byte as the list of its results: what any function between a Dequantize and a Quantize is.

use super::{Arithmetic, OpError, Operator, Tensors, Types, check, required, strided};
use crate::tensor::Tensor;
use crate::types::{DType, TensorType};

/// `y[i] = table[x[i]]`. Operands: 0 `x` (`u8`), 1 `table` `[256]`, of any type, which is the result's.
#[derive(Clone, Debug, PartialEq)]
pub struct ByteTable;

impl ByteTable {
    /// Position of operand `x`.
    pub const X: usize = 0;
    /// Position of operand `table`.
    pub const TABLE: usize = 1;
    /// Number of entries.
    pub const LEN: usize = 256;
}

impl Operator for ByteTable {
    fn name(&self) -> &'static str {
        "ByteTable"
    }

    fn infer(&self, operands: &Types<'_>) -> Result<Vec<TensorType>, OpError> {
        check::at_most(operands, 2)?;
        let (x, table) = (required(operands, Self::X, "x")?, required(operands, Self::TABLE, "table")?);
        check::dtype(Self::X, "x", x, DType::U8)?;
        if table.shape[..] != [Self::LEN] {
            return Err(check::unfit(Self::TABLE, "table", table, "256 elements along one axis"));
        }
        Ok(vec![check::result(table.dtype, x.shape.to_vec())?])
    }

    fn eval(&self, operands: &Tensors<'_>, results: &[TensorType]) -> Result<Vec<Tensor>, OpError> {
        let (x, table) = (required(operands, Self::X, "x")?, required(operands, Self::TABLE, "table")?);
        let [y] = results else { return Ok(Vec::new()) };
        let picked: Vec<Option<usize>> = x.bytes().iter().map(|&byte| Some(usize::from(byte))).collect();
        let bytes = strided::pick(table.bytes(), y.dtype.bytes(), &[Self::LEN], 0, &picked, &[]);
        Ok(vec![Tensor::from_bytes(y.clone(), bytes)?])
    }

    fn arithmetic(&self, _: &Types<'_>, results: &[TensorType]) -> Arithmetic {
        Arithmetic { macc: 0, ops: check::result_elems(results) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::eval;
    use super::*;

    #[test]
    fn every_byte_is_looked_up() {
        let x = Tensor::new([2, 3], &[0u8, 255, 7, 7, 128, 1]).unwrap();
        let squares: Vec<i32> = (0..256).map(|n| n * n).collect();
        let y = eval(ByteTable, &[&x, &Tensor::new([256], &squares).unwrap()]);
        assert_eq!(y.shape()[..], [2, 3]);
        assert_eq!(y.elems::<i32>().unwrap()[..], [0, 65025, 49, 49, 16384, 1]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let bytes = |dtype: DType, n: usize| TensorType::new(dtype, [n]);
        let refusal = |x: &TensorType, table: &TensorType| {
            ByteTable.infer(&[Some(x), Some(table)]).unwrap_err().to_string()
        };
        assert!(refusal(&bytes(DType::I8, 3), &bytes(DType::U8, 256)).contains("u8"));
        assert!(refusal(&bytes(DType::U8, 3), &bytes(DType::U8, 255)).contains("256"));
    }
}
