//! Element types by their numbers in `onnx.proto`.

use crate::types::DType;

/// The element type of a number, or a text that names the type that is not read.
pub(super) fn dtype(code: i64) -> Result<DType, String> {
    Ok(match code {
        1 => DType::F32,
        2 => DType::U8,
        3 => DType::I8,
        4 => DType::U16,
        5 => DType::I16,
        6 => DType::I32,
        7 => DType::I64,
        9 => DType::Bool,
        10 => DType::F16,
        11 => DType::F64,
        12 => DType::U32,
        13 => DType::U64,
        16 => DType::BF16,
        0 => return Err("its element type is not given".into()),
        _ => {
            return Err(match other_name(code) {
                Some(name) => format!("elements of type {name} are not supported"),
                None => format!("elements of type number {code}, which is not known"),
            });
        }
    })
}

fn other_name(code: i64) -> Option<&'static str> {
    Some(match code {
        8 => "string",
        14 => "complex64",
        15 => "complex128",
        17 => "float8e4m3fn",
        18 => "float8e4m3fnuz",
        19 => "float8e5m2",
        20 => "float8e5m2fnuz",
        21 => "uint4",
        22 => "int4",
        23 => "float4e2m1",
        24 => "float8e8m0",
        25 => "uint2",
        26 => "int2",
        _ => return None,
    })
}
