//! The `.npy` format, versions 1 to 3: magic, a header that is a Python literal, then the elements.
//!
//! ```text
//!   \x93NUMPY 1 0  <length>  {'descr': '<f4', 'fortran_order': False, 'shape': (1, 3), }  <elements>
//! ```
//!
//! Source: NumPy Enhancement Proposal 1 and `numpy.lib.format`.

use nnc_ir::{DType, Tensor, TensorError, TensorType};

const MAGIC: &[u8] = b"\x93NUMPY";

/// What is wrong with an array.
#[derive(Debug, thiserror::Error)]
pub enum NpyError {
    /// The file does not start as `.npy` files do.
    #[error("is not in the .npy format; write it with numpy.save")]
    Magic,
    /// The file ends within its header.
    #[error("the file ends within its header")]
    Truncated,
    /// The header is not the literal that NumPy writes.
    #[error("the header \"{0}\" is not one that NumPy writes")]
    Header(String),
    /// Elements that nnc has no tensor for.
    #[error("elements of type \"{0}\" are not supported; convert them with astype, for example to float32")]
    DType(String),
    /// The elements do not fill the shape.
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

/// Reads an array.
pub(super) fn parse(bytes: &[u8]) -> Result<Tensor, NpyError> {
    let rest = bytes.strip_prefix(MAGIC).ok_or(NpyError::Magic)?;
    let (header, data) = match rest {
        [1, _, a, b, rest @ ..] => rest.split_at_checked(u16::from_le_bytes([*a, *b]) as usize),
        [2 | 3, _, a, b, c, d, rest @ ..] => {
            rest.split_at_checked(u32::from_le_bytes([*a, *b, *c, *d]) as usize)
        }
        [0 | 4.., ..] => return Err(NpyError::Magic),
        _ => None,
    }
    .ok_or(NpyError::Truncated)?;
    let text = String::from_utf8_lossy(header).trim().to_string();
    let header = NpyHeader::parse(&text).ok_or(NpyError::Header(text))?;
    let (dtype, big_endian) = dtype_of(&header.descr).ok_or_else(|| NpyError::DType(header.descr.clone()))?;
    let mut data = data.to_vec();
    if big_endian {
        data.chunks_exact_mut(dtype.bytes()).for_each(<[u8]>::reverse);
    }
    let stored: Vec<usize> =
        if header.fortran { header.shape.iter().rev().copied().collect() } else { header.shape.clone() };
    let tensor = Tensor::from_bytes(TensorType::new(dtype, stored), data)?;
    if header.fortran && header.shape.len() > 1 { row_major(&tensor, header.shape) } else { Ok(tensor) }
}

/// The bytes that stand before the elements of a tensor in version 1.0; the elements start at a multiple of 64.
pub(super) fn header(tensor: &Tensor) -> Vec<u8> {
    let dims: Vec<String> = tensor.shape().iter().map(|d| format!("{d},")).collect();
    // A tuple of one keeps its comma, longer ones lose the last.
    let shape = match dims.len() {
        0 | 1 => dims.concat(),
        _ => dims.join(" ").trim_end_matches(',').to_string(),
    };
    let mut text =
        format!("{{'descr': '{}', 'fortran_order': False, 'shape': ({shape}), }}", descr_of(tensor.dtype()));
    let used = MAGIC.len() + 4 + text.len() + 1;
    text.push_str(&" ".repeat(used.next_multiple_of(64) - used));
    text.push('\n');
    let mut bytes = MAGIC.to_vec();
    bytes.extend([1, 0]);
    bytes.extend((text.len() as u16).to_le_bytes());
    bytes.extend(text.into_bytes());
    bytes
}

/// Turns column-major elements (given as a tensor of the reversed shape) into row-major ones.
fn row_major(stored: &Tensor, shape: Vec<usize>) -> Result<Tensor, NpyError> {
    let size = stored.dtype().bytes();
    let ty = TensorType::new(stored.dtype(), shape);
    let mut data = Vec::with_capacity(stored.bytes().len());
    // The distance between neighbours along an axis is what the reversed shape has for the mirrored axis.
    let strides: Vec<usize> = stored.shape().strides().into_iter().rev().collect();
    let mut index = vec![0usize; ty.shape.rank()];
    for _ in 0..ty.shape.elems() {
        let at = index.iter().zip(&strides).map(|(i, s)| i * s).sum::<usize>() * size;
        data.extend_from_slice(stored.bytes().get(at..at + size).unwrap_or_default());
        for (i, extent) in index.iter_mut().zip(ty.shape.iter()).rev() {
            *i += 1;
            if *i < *extent {
                break;
            }
            *i = 0;
        }
    }
    Ok(Tensor::from_bytes(ty, data)?)
}

/// Element type and whether its bytes are reversed.
fn dtype_of(descr: &str) -> Option<(DType, bool)> {
    let (order, kind) = descr.split_at_checked(1)?;
    let dtype = match kind {
        "f8" => DType::F64,
        "f4" => DType::F32,
        "f2" => DType::F16,
        "i8" => DType::I64,
        "i4" => DType::I32,
        "i2" => DType::I16,
        "i1" => DType::I8,
        "u8" => DType::U64,
        "u4" => DType::U32,
        "u2" => DType::U16,
        "u1" => DType::U8,
        "b1" => DType::Bool,
        _ => return None,
    };
    match order {
        "<" | "|" | "=" => Some((dtype, false)),
        ">" => Some((dtype, true)),
        _ => None,
    }
}

fn descr_of(dtype: DType) -> &'static str {
    match dtype {
        DType::F64 => "<f8",
        DType::F32 => "<f4",
        DType::F16 => "<f2",
        DType::I64 => "<i8",
        DType::I32 => "<i4",
        DType::I16 => "<i2",
        DType::I8 => "|i1",
        DType::U64 => "<u8",
        DType::U32 => "<u4",
        // NumPy has no bfloat16: its bits go out as they are.
        DType::U16 | DType::BF16 => "<u2",
        DType::U8 => "|u1",
        DType::Bool => "|b1",
    }
}

struct NpyHeader {
    descr: String,
    fortran: bool,
    shape: Vec<usize>,
}

impl NpyHeader {
    /// Reads the literal; `None` when it is not a dictionary of exactly these three keys.
    fn parse(text: &str) -> Option<NpyHeader> {
        let (mut descr, mut fortran, mut shape) = (None, None, None);
        let mut rest = text.trim().strip_prefix('{')?.strip_suffix('}')?.trim();
        while !rest.is_empty() {
            let (key, after) = quoted(rest)?;
            let value = after.trim_start().strip_prefix(':')?.trim_start();
            let after = match key {
                "descr" => {
                    let (value, after) = quoted(value)?;
                    descr = Some(value.to_string());
                    after
                }
                "fortran_order" => {
                    let (value, after) = match value.strip_prefix("True") {
                        Some(after) => (true, after),
                        None => (false, value.strip_prefix("False")?),
                    };
                    fortran = Some(value);
                    after
                }
                "shape" => {
                    let (dims, after) = value.strip_prefix('(')?.split_once(')')?;
                    let dims = dims.trim().trim_end_matches(',');
                    shape = Some(match dims {
                        "" => Vec::new(),
                        _ => dims.split(',').map(|d| d.trim().parse().ok()).collect::<Option<_>>()?,
                    });
                    after
                }
                _ => return None,
            };
            rest = after.trim_start();
            rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
        }
        Some(NpyHeader { descr: descr?, fortran: fortran?, shape: shape? })
    }
}

/// A quoted string at the start, and what follows it.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    text[1..].split_once(quote)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.bytes());
        bytes.extend(data);
        bytes
    }

    #[test]
    fn a_header_is_what_numpy_writes() {
        let tensor = Tensor::new([1, 3], &[0f32; 3]).unwrap();
        let bytes = header(&tensor);
        assert_eq!(bytes.len() % 64, 0);
        let text = String::from_utf8_lossy(&bytes[10..]).into_owned();
        assert!(text.starts_with("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 3), }"), "{text}");
        let text = String::from_utf8_lossy(&header(&Tensor::new([5], &[0u8; 5]).unwrap())[10..]).into_owned();
        assert!(text.contains("'shape': (5,), "), "{text}");
        let text = String::from_utf8_lossy(&header(&Tensor::new([], &[0u8]).unwrap())[10..]).into_owned();
        assert!(text.contains("'shape': (), "), "{text}");
    }

    #[test]
    fn column_major_elements_come_out_row_major() {
        let text = "{'descr': '|u1', 'fortran_order': True, 'shape': (2, 3), }\n";
        let tensor = parse(&file(text, &[1, 4, 2, 5, 3, 6])).unwrap();
        assert_eq!(tensor, Tensor::new([2, 3], &[1u8, 2, 3, 4, 5, 6]).unwrap());
    }

    #[test]
    fn big_endian_elements_are_turned_round() {
        let text = "{'descr': '>i2', 'fortran_order': False, 'shape': (2,), }";
        assert_eq!(parse(&file(text, &[1, 2, 0, 3])).unwrap(), Tensor::new([2], &[258i16, 3]).unwrap());
    }

    #[test]
    fn every_prefix_of_a_file_is_refused() {
        let tensor = Tensor::new([2], &[1f32, 2.0]).unwrap();
        let mut bytes = header(&tensor);
        bytes.extend(tensor.bytes());
        assert_eq!(parse(&bytes).unwrap(), tensor);
        for len in 0..bytes.len() {
            assert!(parse(&bytes[..len]).is_err(), "{len} bytes were taken for an array");
        }
    }

    #[test]
    fn hostile_headers_are_refused() {
        for text in [
            "",
            "{",
            "{}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (18446744073709551615, 2), }",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (1,2,3 }",
            "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }",
            "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }",
            "{'descr': '\u{e9}f4', 'fortran_order': False, 'shape': (1,), }",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), 'extra': 1}",
        ] {
            assert!(parse(&file(text, &[0; 4])).is_err(), "{text} was taken for a header");
        }
    }
}
