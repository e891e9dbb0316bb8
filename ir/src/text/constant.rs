//! The data of constants: lists, splats, pseudo-random numbers, bytes, and digests of what is too long to show.

use crate::op::{check, number};
use crate::tensor::{Element, Tensor, TensorError};
use crate::types::{DType, Shape, TensorType};

use super::attrs::Attr;

/// How much of a constant is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Detail {
    /// Larger ones as a digest.
    Brief,
    /// Everything, to be read back.
    Full,
}

/// Elements that are listed.
const LISTED: usize = 16;

/// Bytes that a splat or hash may make: a short text must not fill the memory.
const MAX_BYTES: usize = 1 << 30;

/// A tensor of pseudo-random numbers, the same everywhere: element `i` is
///
/// ```text
///   scale · (h / 2^23 - 1),    h = the upper 24 bits of mix(mix(seed) + i)
///   mix(x):  x ^= x >> 16;  x *= 0x7feb352d;  x ^= x >> 15;  x *= 0x846ca68b;  x ^= x >> 16
/// ```
///
/// in `f64`, rounded to the element type (integers towards zero): evenly between `-scale` and `scale`. The mixing
/// function is Ettinger's and Wellons' `lowbias32`.
pub fn hash(ty: TensorType, seed: u32, scale: f32) -> Result<Tensor, TensorError> {
    let elems = ty.shape.checked_elems().ok_or_else(|| TensorError::Overflow(ty.shape.clone()))?;
    let values: Vec<f64> = (0..elems).map(|i| f64::from(scale) * unit(seed, i)).collect();
    match number::from_floats(ty.clone(), &values) {
        Ok(tensor) => Ok(tensor),
        Err(_) => Err(TensorError::Overflow(ty.shape)),
    }
}

fn unit(seed: u32, i: usize) -> f64 {
    f64::from(mix(mix(seed).wrapping_add(i as u32)) >> 8) / f64::from(1 << 23) - 1.0
}

fn mix(mut x: u32) -> u32 {
    x ^= x >> 16;
    x = x.wrapping_mul(0x7feb_352d);
    x ^= x >> 15;
    x = x.wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}

/// Seed and scale of a tensor that [`hash`] has made from a small seed and a scale of three digits, so that a graph
/// from a file test still shows them.
fn hashed(tensor: &Tensor) -> Option<(u32, f32)> {
    let elems = tensor.elems::<f32>().ok()?;
    let &first = elems.first()?;
    (0..256).find_map(|seed| {
        let scale: f32 = format!("{:.2e}", f64::from(first) / unit(seed, 0)).parse().ok()?;
        let same = |(i, v): (usize, &f32)| (f64::from(scale) * unit(seed, i)) as f32 == *v;
        elems.iter().enumerate().all(same).then_some((seed, scale))
    })
}

/// The data of a constant.
pub(super) fn write(tensor: &Tensor, detail: Detail) -> String {
    let size = tensor.dtype().bytes();
    let mut elems = tensor.bytes().chunks_exact(size);
    let count = elems.len();
    let first = elems.next();
    let texts = |n: usize| -> Option<Vec<String>> {
        tensor.bytes().chunks_exact(size).take(n).map(|b| write_element(tensor.dtype(), b)).collect()
    };
    if count > 1
        && elems.all(|e| Some(e) == first)
        && let Some(text) = texts(1)
    {
        return format!("splat({})", text.concat());
    }
    if count <= LISTED
        && let Some(texts) = texts(count)
    {
        return format!("{{{}}}", texts.join(", "));
    }
    if let Some((seed, scale)) = hashed(tensor) {
        return format!("hash(seed={seed}, scale={})", scale.write());
    }
    match detail {
        Detail::Brief => format!("digest({:016x})", digest(tensor.bytes())),
        Detail::Full => {
            let digits = tensor.bytes().iter().flat_map(|b| [b >> 4, b & 15]);
            let mut text = String::with_capacity(2 * tensor.bytes().len() + "bytes()".len());
            text.push_str("bytes(");
            text.extend(digits.map(|d| char::from(b"0123456789abcdef"[usize::from(d)])));
            text.push(')');
            text
        }
    }
}

/// FNV-1a, 64 bits.
fn digest(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

/// An element as a text that reads back as the same bits; `None` where there is none.
fn write_element(dtype: DType, bytes: &[u8]) -> Option<String> {
    fn element<T: Element>(bytes: &[u8]) -> Option<T> {
        bytemuck::try_pod_read_unaligned(bytes).ok()
    }
    let text = match dtype {
        DType::F32 => element::<f32>(bytes)?.write(),
        DType::F64 => element::<f64>(bytes)?.write(),
        DType::F16 => element::<half::f16>(bytes)?.to_f32().write(),
        DType::BF16 => element::<half::bf16>(bytes)?.to_f32().write(),
        DType::I8 => element::<i8>(bytes)?.to_string(),
        DType::U8 => element::<u8>(bytes)?.to_string(),
        DType::I16 => element::<i16>(bytes)?.to_string(),
        DType::U16 => element::<u16>(bytes)?.to_string(),
        DType::I32 => element::<i32>(bytes)?.to_string(),
        DType::U32 => element::<u32>(bytes)?.to_string(),
        DType::I64 => element::<i64>(bytes)?.to_string(),
        DType::U64 => element::<u64>(bytes)?.to_string(),
        DType::Bool => (element::<u8>(bytes)? != 0).to_string(),
    };
    // Not every NaN reads back as the one it was.
    let back = read_elements(dtype, std::slice::from_ref(&text.as_str())).ok()?;
    (back == bytes).then_some(text)
}

/// The bytes of elements that are given as text.
fn read_elements(dtype: DType, texts: &[&str]) -> Result<Vec<u8>, String> {
    let ty = TensorType::new(dtype, [texts.len()]);
    let fault = |_| format!("elements of type {dtype}");
    let tensor = match dtype {
        DType::Bool => {
            let values = texts.iter().map(|t| bool::read(t)).collect::<Result<Vec<_>, _>>()?;
            Tensor::bools([texts.len()], &values).map_err(fault)?
        }
        DType::F32 => {
            let values = texts.iter().map(|t| f32::read(t)).collect::<Result<Vec<_>, _>>()?;
            Tensor::new([texts.len()], &values).map_err(fault)?
        }
        _ if dtype.is_float() => {
            let values = texts.iter().map(|t| f64::read(t)).collect::<Result<Vec<_>, _>>()?;
            number::from_floats(ty, &values).map_err(|e| e.to_string())?
        }
        _ => {
            let (least, largest) = number::integer_range(dtype);
            let values = texts.iter().map(|t| i128::read(t)).collect::<Result<Vec<_>, _>>()?;
            if let Some(v) = values.iter().find(|v| !(least..=largest).contains(v)) {
                return Err(format!("elements of type {dtype}, which {v} does not fit"));
            }
            number::from_integers(ty, &values).map_err(|e| e.to_string())?
        }
    };
    Ok(tensor.bytes().to_vec())
}

/// A tensor of this type from its data; or what was expected.
pub(super) fn read(ty: TensorType, text: &str) -> Result<Tensor, String> {
    let text = text.trim();
    let elems = ty.shape.elems();
    let limited = || match ty.bytes() {
        n if n > MAX_BYTES => Err(format!("a constant of at most {MAX_BYTES} bytes here")),
        _ => Ok(()),
    };
    let inside =
        |open: &str, close: char| text.strip_prefix(open).and_then(|t| t.strip_suffix(close)).map(str::trim);
    let bytes = if let Some(list) = inside("{", '}') {
        let texts: Vec<&str> =
            if list.is_empty() { Vec::new() } else { list.split(',').map(str::trim).collect() };
        if texts.len() != elems {
            return Err(format!("{elems} elements for {ty}, got {}", texts.len()));
        }
        read_elements(ty.dtype, &texts)?
    } else if let Some(value) = inside("splat(", ')') {
        limited()?;
        read_elements(ty.dtype, &[value])?.repeat(elems)
    } else if let Some(arguments) = inside("hash(", ')') {
        limited()?;
        let expected = || "hash(seed=…, scale=…)".to_string();
        let (seed, scale) = arguments.split_once(',').ok_or_else(expected)?;
        let seed = seed.trim().strip_prefix("seed=").ok_or_else(expected)?;
        let scale = scale.trim().strip_prefix("scale=").ok_or_else(expected)?;
        return hash(ty, u32::read(seed)?, f32::read(scale)?).map_err(|e| e.to_string());
    } else if let Some(hex) = inside("bytes(", ')') {
        let digits: Option<Vec<u8>> = hex.chars().map(|c| c.to_digit(16).map(|d| d as u8)).collect();
        let digits = digits.filter(|d| d.len() % 2 == 0).ok_or("pairs of hexadecimal digits")?;
        digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
    } else if text.starts_with("digest(") {
        return Err(
            "the data themselves: a digest is all that a brief print shows, a full one can be read".into()
        );
    } else {
        return Err("data such as {1, 2}, splat(1), hash(seed=1, scale=1) or bytes(00)".into());
    };
    Tensor::from_bytes(ty, bytes).map_err(|e| e.to_string())
}

/// Splits `f32[2x3] …` after the type.
pub(super) fn split_type(text: &str) -> Option<(TensorType, &str)> {
    let (dtype, rest) = text.split_once('[')?;
    let (dims, rest) = rest.split_once(']')?;
    let dtype = DType::from_name(dtype.trim())?;
    let dims = dims.trim();
    let shape = if dims.is_empty() { Vec::new() } else { super::attrs::ByX::<usize>::read(dims).ok()?.0 };
    // The text of a shape is "scalar", which is no type of the form [ … ].
    if dims == "scalar" {
        return None;
    }
    Some((check::result(dtype, Shape::from(shape).to_vec()).ok()?, rest))
}
