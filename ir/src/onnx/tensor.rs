//! Constant data: from a `TensorProto` to [`Weights`], taken over without a copy where the bytes stand ready.
//!
//! ONNX writes the same data in three ways: raw bytes; a typed list (small integers, booleans and the bit patterns of
//! half floats as 32-bit numbers); or a file beside the model.

use std::ops::Range;
use std::sync::Arc;

use onnx_protobuf::TensorProto;

use super::dtype::dtype;
use super::error::Fault;
use super::external::{External, Location};
use super::narrow::Narrow;
use super::source::ModelSource;
use super::weights::{StoredTensor, Weights, normalise};
use crate::block::Block;
use crate::limits::{Exceeded, LimitName, Limits};
use crate::tensor::Tensor;
use crate::types::{DType, Shape, TensorType};

/// Reads tensors and counts their bytes.
pub(super) struct TensorReader<'l> {
    pub external: External,
    pub limits: &'l Limits,
    /// Bytes read so far.
    pub total: u64,
    /// Data in files beside the model, in the order in which the model names them.
    pub outside: Vec<StoredTensor>,
}

impl<'l> TensorReader<'l> {
    /// A reader that has read nothing yet.
    pub(super) fn new(external: External, limits: &'l Limits) -> TensorReader<'l> {
        TensorReader { external, limits, total: 0, outside: Vec::new() }
    }
}

/// Why a tensor cannot be read.
pub(super) enum TensorFault {
    /// Its file cannot be read.
    Unread(Fault),
    /// It is damaged or of a kind that is not read.
    Bad(String),
    /// Too large.
    Large(Exceeded),
}

impl From<String> for TensorFault {
    fn from(what: String) -> TensorFault {
        TensorFault::Bad(what)
    }
}

impl TensorReader<'_> {
    /// Turns a message into a tensor.
    pub(super) fn read(&mut self, proto: TensorProto) -> Result<Tensor, TensorFault> {
        let name = proto.name.clone();
        self.weights(proto, None)?.tensor(&name).map_err(TensorFault::Unread)
    }

    /// Turns a message into constant data; the raw data may be a part of the model's source.
    pub(super) fn weights(
        &mut self,
        proto: TensorProto,
        raw: Option<(&ModelSource, Range<usize>)>,
    ) -> Result<Weights, TensorFault> {
        let ty = tensor_type(&proto)?;
        self.whole(proto, ty, raw)
    }

    /// Constants whose elements share bytes.
    pub(super) fn narrow(
        &mut self,
        narrow: Narrow,
        proto: TensorProto,
        raw: Option<(&ModelSource, Range<usize>)>,
    ) -> Result<Weights, TensorFault> {
        let name = proto.name.clone();
        let ty = TensorType::new(narrow.dtype(), dims(&proto)?);
        self.limits.admit(&ty, || format!("tensor \"{name}\"")).map_err(TensorFault::Large)?;
        let elems = ty.shape.elems();
        let packed = TensorType::new(DType::U8, [narrow.bytes(elems)]);
        let packed = self.whole(proto, packed, raw)?.tensor(&name).map_err(TensorFault::Unread)?;
        let data = Block::from(narrow.unpacked(packed.bytes(), elems));
        let tensor = Tensor::from_shared(ty, &Arc::new(data), 0..elems);
        Ok(Weights::Here(tensor.map_err(|e| TensorFault::Bad(e.to_string()))?))
    }

    /// Constant data of a type whose elements are whole bytes.
    fn whole(
        &mut self,
        mut proto: TensorProto,
        ty: TensorType,
        raw: Option<(&ModelSource, Range<usize>)>,
    ) -> Result<Weights, TensorFault> {
        self.limits.admit(&ty, || format!("tensor \"{}\"", proto.name)).map_err(TensorFault::Large)?;
        let bytes = ty.bytes();
        self.total = self.total.saturating_add(bytes as u64);
        if self.total > self.limits.weight_bytes {
            let what = format!("the model with {} bytes of constants so far", self.total);
            let limit = self.limits.weight_bytes;
            return Err(TensorFault::Large(Exceeded { what, limit, name: LimitName::WeightBytes }));
        }
        if proto.segment.is_some() {
            return Err(TensorFault::Bad("it is stored in segments, which are not supported".into()));
        }
        let expected = |got: usize| match got == bytes {
            true => Ok(()),
            false => Err(TensorFault::Bad(format!("{ty} needs {bytes} bytes of data, it has {got}"))),
        };
        let raw = raw.filter(|(_, place)| !place.is_empty());
        if raw.is_some() && proto.data_location.value() == 0 && lists(&proto).iter().any(|&n| n > 0) {
            return Err(TensorFault::Bad(SEVERAL_WAYS.into()));
        }
        let (data, place) = match (proto.data_location.value(), raw) {
            (0, Some((ModelSource::File(file), place))) => {
                expected(place.len())?;
                let file = Arc::clone(file);
                return Ok(Weights::Stored(StoredTensor { ty, file, at: place.start as u64 }));
            }
            (0, Some((ModelSource::Memory(model), place))) => (Arc::clone(model), place),
            (0, None) => {
                let data = stored_data(&mut proto, ty.dtype)?;
                let place = 0..data.len();
                (Arc::new(Block::from(data)), place)
            }
            (1, _) => {
                let entries = proto.external_data.iter().map(|e| (e.key.as_str(), e.value.as_str()));
                let (file, at) = self.external.find(&Location::new(entries)?, bytes)?;
                let stored = StoredTensor { ty, file, at };
                self.outside.push(stored.clone());
                return Ok(Weights::Stored(stored));
            }
            (n, _) => {
                return Err(TensorFault::Bad(format!("its data are at a location of unknown kind {n}")));
            }
        };
        expected(place.len())?;
        let mut tensor =
            Tensor::from_shared(ty, &data, place).map_err(|e| TensorFault::Bad(e.to_string()))?;
        if tensor.dtype() == DType::Bool {
            drop(data);
            normalise(tensor.bytes_mut().map_err(|e| TensorFault::Bad(e.to_string()))?);
        }
        Ok(Weights::Here(tensor))
    }
}

fn tensor_type(proto: &TensorProto) -> Result<TensorType, String> {
    Ok(TensorType::new(dtype(i64::from(proto.data_type))?, dims(proto)?))
}

fn dims(proto: &TensorProto) -> Result<Shape, String> {
    let dims: Result<Vec<usize>, String> = proto
        .dims
        .iter()
        .map(|&d| usize::try_from(d).map_err(|_| format!("a dim of {d} makes no sense for constant data")))
        .collect();
    Ok(Shape::new(dims?))
}

/// Lengths of the ways to give data in the message itself.
fn lists(proto: &TensorProto) -> [usize; 7] {
    [
        proto.float_data.len(),
        proto.int32_data.len(),
        proto.int64_data.len(),
        proto.double_data.len(),
        proto.uint64_data.len(),
        proto.string_data.len(),
        proto.raw_data.len(),
    ]
}

const SEVERAL_WAYS: &str = "its data are given in several ways at once";

/// The data in the message itself, as little-endian bytes.
fn stored_data(proto: &mut TensorProto, dtype: DType) -> Result<Vec<u8>, String> {
    let lists = lists(proto);
    if lists.iter().filter(|&&n| n > 0).count() > 1 {
        return Err(SEVERAL_WAYS.into());
    }
    if !proto.raw_data.is_empty() || lists.iter().all(|&n| n == 0) {
        return Ok(std::mem::take(&mut proto.raw_data));
    }
    match dtype {
        DType::F32 => Ok(flat(&proto.float_data, |v| v.to_le_bytes())),
        DType::F64 => Ok(flat(&proto.double_data, |v| v.to_le_bytes())),
        DType::I64 => Ok(flat(&proto.int64_data, |v| v.to_le_bytes())),
        DType::U64 => Ok(flat(&proto.uint64_data, |v| v.to_le_bytes())),
        DType::U32 => narrow(&proto.uint64_data, |v| u32::try_from(v).ok().map(u32::to_le_bytes)),
        DType::I32 => Ok(flat(&proto.int32_data, |v| v.to_le_bytes())),
        DType::I16 => narrow(&proto.int32_data, |v| i16::try_from(v).ok().map(i16::to_le_bytes)),
        DType::U16 | DType::F16 | DType::BF16 => {
            narrow(&proto.int32_data, |v| u16::try_from(v).ok().map(u16::to_le_bytes))
        }
        DType::I8 => narrow(&proto.int32_data, |v| i8::try_from(v).ok().map(i8::to_le_bytes)),
        DType::U8 => narrow(&proto.int32_data, |v| u8::try_from(v).ok().map(u8::to_le_bytes)),
        DType::Bool => Ok(flat(&proto.int32_data, |v| [u8::from(v != 0)])),
    }
}

fn flat<T: Copy, const N: usize>(list: &[T], bytes: impl Fn(T) -> [u8; N]) -> Vec<u8> {
    list.iter().flat_map(|&v| bytes(v)).collect()
}

fn narrow<T: Copy + std::fmt::Display, const N: usize>(
    list: &[T],
    bytes: impl Fn(T) -> Option<[u8; N]>,
) -> Result<Vec<u8>, String> {
    let mut data = Vec::with_capacity(list.len() * N);
    for &v in list {
        data.extend(bytes(v).ok_or_else(|| format!("the element {v} is outside the range of its type"))?);
    }
    Ok(data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use onnx_protobuf::StringStringEntryProto;

    fn read(proto: TensorProto) -> Result<Tensor, String> {
        let limits = Limits { tensor_bytes: 1 << 20, ..Limits::default() };
        TensorReader::new(External::new(None), &limits).read(proto).map_err(|r| match r {
            TensorFault::Bad(what) => what,
            TensorFault::Large(exceeded) => exceeded.what,
            TensorFault::Unread(fault) => fault.to_string(),
        })
    }

    fn proto(data_type: i32, dims: &[i64]) -> TensorProto {
        TensorProto { data_type, dims: dims.to_vec(), ..TensorProto::new() }
    }

    #[test]
    fn raw_data_are_taken_over_as_they_are() {
        let raw_data = 1.5f32.to_le_bytes().to_vec();
        let address = raw_data.as_ptr();
        let t = read(TensorProto { raw_data, ..proto(1, &[1]) }).unwrap();
        assert_eq!(t.elems::<f32>().unwrap()[..], [1.5]);
        assert_eq!(t.bytes().as_ptr(), address);
    }

    #[test]
    fn typed_lists_are_packed_to_their_type() {
        let ints = |code, list: &[i32]| TensorProto {
            int32_data: list.to_vec(),
            ..proto(code, &[list.len() as i64])
        };
        assert_eq!(read(ints(2, &[0, 255])).unwrap().elems::<u8>().unwrap()[..], [0, 255]);
        assert_eq!(read(ints(3, &[-128, 127])).unwrap().elems::<i8>().unwrap()[..], [-128, 127]);
        assert_eq!(read(ints(4, &[65535])).unwrap().elems::<u16>().unwrap()[..], [65535]);
        assert_eq!(read(ints(5, &[-32768])).unwrap().elems::<i16>().unwrap()[..], [-32768]);
        assert_eq!(read(ints(6, &[-7])).unwrap().elems::<i32>().unwrap()[..], [-7]);
        assert_eq!(read(ints(9, &[0, 1, 2])).unwrap().to_bools().unwrap(), [false, true, true]);
        let half = read(ints(10, &[0x3e00])).unwrap();
        assert_eq!(half.elems::<half::f16>().unwrap()[0].to_f32(), 1.5);
        let brain = read(ints(16, &[0x3fc0])).unwrap();
        assert_eq!(brain.elems::<half::bf16>().unwrap()[0].to_f32(), 1.5);
        let t = read(TensorProto { float_data: vec![0.25], ..proto(1, &[]) }).unwrap();
        assert_eq!((t.shape().rank(), t.elems::<f32>().unwrap()[0]), (0, 0.25));
        let t = read(TensorProto { double_data: vec![0.25], ..proto(11, &[1]) }).unwrap();
        assert_eq!(t.elems::<f64>().unwrap()[0], 0.25);
        let t = read(TensorProto { int64_data: vec![-9], ..proto(7, &[1]) }).unwrap();
        assert_eq!(t.elems::<i64>().unwrap()[0], -9);
        let t = read(TensorProto { uint64_data: vec![9], ..proto(12, &[1]) }).unwrap();
        assert_eq!(t.elems::<u32>().unwrap()[0], 9);
        let t = read(TensorProto { uint64_data: vec![u64::MAX], ..proto(13, &[1]) }).unwrap();
        assert_eq!(t.elems::<u64>().unwrap()[0], u64::MAX);
    }

    #[test]
    fn elements_that_share_bytes_become_bytes() {
        let limits = Limits { tensor_bytes: 64, ..Limits::default() };
        let read = |code: i32, proto: TensorProto| {
            let narrow = Narrow::of(code.into()).unwrap();
            match TensorReader::new(External::new(None), &limits).narrow(narrow, proto, None) {
                Ok(weights) => Ok(weights.tensor("w").unwrap()),
                Err(TensorFault::Bad(what)) => Err(what),
                Err(TensorFault::Large(exceeded)) => Err(exceeded.what),
                Err(TensorFault::Unread(fault)) => Err(fault.to_string()),
            }
        };
        let t = read(22, TensorProto { raw_data: vec![0x2f, 0x08], ..proto(22, &[3]) }).unwrap();
        assert_eq!(t.elems::<i8>().unwrap()[..], [-1, 2, -8]);
        // In a list, too, bytes are full.
        let t = read(21, TensorProto { int32_data: vec![0x2f, 0x18], ..proto(21, &[2, 2]) }).unwrap();
        assert_eq!(t.elems::<u8>().unwrap()[..], [15, 2, 8, 1]);
        let little = read(21, TensorProto { raw_data: vec![0], ..proto(21, &[3]) });
        assert_eq!(little.unwrap_err(), "u8[2] needs 2 bytes of data, it has 1");
        let large = read(21, TensorProto { name: "w".into(), ..proto(21, &[65]) });
        assert_eq!(large.unwrap_err(), "tensor \"w\" of type u8[65] and 65 bytes");
    }

    #[test]
    fn an_empty_tensor_needs_no_data() {
        assert_eq!(read(proto(1, &[0, 3])).unwrap().shape().elems(), 0);
    }

    #[test]
    fn data_that_do_not_fit_the_type_are_refused() {
        let error = |p| read(p).unwrap_err();
        assert_eq!(error(proto(1, &[2])), "f32[2] needs 8 bytes of data, it has 0");
        assert_eq!(
            error(TensorProto { raw_data: vec![0; 9], ..proto(1, &[2]) }),
            "f32[2] needs 8 bytes of data, it has 9"
        );
        assert_eq!(
            error(TensorProto { float_data: vec![0.0], ..proto(7, &[1]) }),
            "i64[1] needs 8 bytes of data, it has 0"
        );
        assert_eq!(
            error(TensorProto { int32_data: vec![256], ..proto(2, &[1]) }),
            "the element 256 is outside the range of its type"
        );
        assert_eq!(
            error(TensorProto { raw_data: vec![0; 4], float_data: vec![0.0], ..proto(1, &[1]) }),
            "its data are given in several ways at once"
        );
    }

    #[test]
    fn impossible_sizes_are_refused_before_memory_is_taken() {
        let error = |p| read(p).unwrap_err();
        assert_eq!(error(proto(1, &[-1])), "a dim of -1 makes no sense for constant data");
        assert!(error(proto(1, &[i64::MAX, 4])).ends_with("more bytes than can be counted"));
        assert_eq!(
            error(TensorProto { name: "w".into(), ..proto(1, &[1 << 19]) }),
            "tensor \"w\" of type f32[524288] and 2097152 bytes"
        );
        assert_eq!(error(proto(1, &[1; 33])), "tensor \"\" of 33 axes");
    }

    #[test]
    fn kinds_that_are_not_read_are_named() {
        let error = |code| read(proto(code, &[1])).unwrap_err();
        assert_eq!(error(0), "its element type is not given");
        assert_eq!(error(8), "elements of type string are not supported");
        assert_eq!(error(23), "elements of type float4e2m1 are not supported");
        assert_eq!(error(99), "elements of type number 99, which is not known");
        let entry =
            StringStringEntryProto { key: "location".into(), value: "w".into(), ..Default::default() };
        let mut p = TensorProto { external_data: vec![entry], ..proto(1, &[1]) };
        p.data_location = protobuf::EnumOrUnknown::from_i32(1);
        assert!(read(p.clone()).unwrap_err().contains("without a folder"));
        p.data_location = protobuf::EnumOrUnknown::from_i32(5);
        assert_eq!(read(p).unwrap_err(), "its data are at a location of unknown kind 5");
    }
}
