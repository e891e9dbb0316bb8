//! Elements of less than a byte: weights whose scales are those of blocks. They are bytes from here on.
//!
//! ```text
//!   byte           b₇ b₆ b₅ b₄ │ b₃ b₂ b₁ b₀
//!   two elements      second   │    first          of four, the first has the lowest two bits
//! ```
//!
//! ONNX's operators that compute with them are DequantizeLinear and QuantizeLinear. What the second one makes would have to end at the
//! bounds of its type, which bytes do not have; so only the first one may read them.

use super::error::Fault;
use super::model::NodeDef;
use crate::types::DType;

/// A type of elements that share bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Narrow {
    bits: usize,
    signed: bool,
    /// Its name in ONNX.
    pub name: &'static str,
}

impl Narrow {
    /// The type of a number in `onnx.proto`.
    pub(super) fn of(code: i64) -> Option<Narrow> {
        let (bits, signed, name) = match code {
            21 => (4, false, "uint4"),
            22 => (4, true, "int4"),
            25 => (2, false, "uint2"),
            26 => (2, true, "int2"),
            _ => return None,
        };
        Some(Narrow { bits, signed, name })
    }

    /// The type that its elements have here.
    pub(super) fn dtype(self) -> DType {
        if self.signed { DType::I8 } else { DType::U8 }
    }

    /// Bytes that hold so many elements.
    pub(super) fn bytes(self, elems: usize) -> usize {
        elems.div_ceil(8 / self.bits)
    }

    /// So many elements, each in a byte of its own.
    pub(super) fn unpacked(self, packed: &[u8], elems: usize) -> Vec<u8> {
        let each = 8 / self.bits;
        let element = |i: usize| {
            let above = packed[i / each] << (8 - self.bits - i % each * self.bits);
            match self.signed {
                true => (above as i8 >> (8 - self.bits)) as u8,
                false => above >> (8 - self.bits),
            }
        };
        (0..elems).map(element).collect()
    }
}

/// Refuses nodes but DequantizeLinear that read such constants; the type of a constant is asked by its name.
pub(super) fn check_readers(nodes: &[NodeDef], narrow: impl Fn(&str) -> Option<Narrow>) -> Result<(), Fault> {
    for node in nodes {
        let reads = |names: &[String]| names.iter().find_map(|name| Some((name.clone(), narrow(name)?)));
        let within = reads(&node.captured);
        let read = reads(&node.inputs).filter(|_| node.op != "DequantizeLinear");
        if let Some((constant, of)) = within.or(read) {
            return Err(Fault::Unsupported(format!(
                "node \"{}\" ({}) reads \"{constant}\", whose elements are {}; only DequantizeLinear can, \
                 in the graph that has the constant",
                node.name, node.op, of.name
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_element_has_the_lowest_bits_and_signs_are_kept() {
        let of = |code: i64, packed: &[u8], elems| Narrow::of(code).unwrap().unpacked(packed, elems);
        assert_eq!(of(21, &[0x2f, 0x08], 3), [15, 2, 8]);
        assert_eq!(of(22, &[0x2f, 0x08], 3), [-1i8 as u8, 2, -8i8 as u8]);
        assert_eq!(of(25, &[0b11_10_01_00, 0b10], 5), [0, 1, 2, 3, 2]);
        assert_eq!(of(26, &[0b11_10_01_00], 4), [0, 1, -2i8 as u8, -1i8 as u8]);
        let [four, two] = [22, 26].map(|code| Narrow::of(code).unwrap());
        assert_eq!([four.bytes(0), four.bytes(3), four.bytes(4), two.bytes(5)], [0, 2, 2, 2]);
        assert_eq!(Narrow::of(3), None);
    }
}
