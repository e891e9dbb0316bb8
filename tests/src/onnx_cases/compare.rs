//! Whether outputs are what a case expects, as ONNX's own runner has it: floats within a tolerance, all else exactly.

use nnc_ir::{DType, Tensor, TensorError};

use super::Compared;

/// bf16 has 8 bits of precision: two of its steps, as ONNX's runner allows.
const BF16_RTOL: f64 = 1.0 / 64.0;
/// f16 has 11 bits: two of its steps. Each operator rounds, and ONNX's expectations round after other ones.
const F16_RTOL: f64 = 1.0 / 512.0;

/// Says how the outputs differ from what is expected.
///
/// # Errors
///
/// They do: the first difference.
pub fn compare(outputs: &[Tensor], expected: &[Tensor], check: Compared) -> Result<(), String> {
    if outputs.len() != expected.len() {
        return Err(format!("{} outputs, {} expected", outputs.len(), expected.len()));
    }
    for (index, (output, expected)) in outputs.iter().zip(expected).enumerate() {
        if output.ty() != expected.ty() {
            return Err(format!("output {index} is {}, not {}", output.ty(), expected.ty()));
        }
        if let Compared::Elements { rtol, atol } = check {
            elements(output, expected, rtol, atol).map_err(|what| format!("output {index}{what}"))?;
        }
    }
    match (check, outputs) {
        (Compared::Mask, [output, mask]) => masked(output, mask),
        _ => Ok(()),
    }
}

fn elements(output: &Tensor, expected: &Tensor, rtol: f64, atol: f64) -> Result<(), String> {
    let differ = |at: usize, o: &dyn std::fmt::Display, e: &dyn std::fmt::Display| {
        Err(format!("[{at}] is {o}, not {e}, of {}", expected.ty()))
    };
    let Some(floats) = floats(expected).map_err(|e| e.to_string())? else {
        let size = expected.dtype().bytes();
        let (o, e) = (output.bytes().chunks(size), expected.bytes().chunks(size));
        return match o.zip(e).position(|(o, e)| o != e) {
            Some(at) => {
                let text = |t: &Tensor| format!("{:?}", &t.bytes()[at * size..(at + 1) * size]);
                differ(at, &text(output), &text(expected))
            }
            None => Ok(()),
        };
    };
    let computed = self::floats(output).map_err(|e| e.to_string())?.unwrap_or_default();
    let rtol = match expected.dtype() {
        DType::BF16 => rtol.max(BF16_RTOL),
        DType::F16 => rtol.max(F16_RTOL),
        _ => rtol,
    };
    // What is left where terms cancel is as exact as the terms: those of a transform are as large as its largest result.
    let largest = floats.iter().filter(|v| v.is_finite()).fold(0.0f64, |largest, v| largest.max(v.abs()));
    let atol = atol.max(largest * f64::from(f32::EPSILON));
    for (at, (&o, &e)) in computed.iter().zip(&floats).enumerate() {
        let same = o == e || (o.is_nan() && e.is_nan());
        let difference = (o - e).abs();
        if !(same || (difference.is_finite() && difference <= atol + rtol * e.abs())) {
            return differ(at, &o, &e);
        }
    }
    Ok(())
}

/// The elements of a tensor of floats.
fn floats(tensor: &Tensor) -> Result<Option<Vec<f64>>, TensorError> {
    Ok(Some(match tensor.dtype() {
        DType::F32 => tensor.elems::<f32>()?.iter().map(|&v| f64::from(v)).collect(),
        DType::F64 => tensor.elems::<f64>()?.into_owned(),
        DType::F16 => tensor.elems::<half::f16>()?.iter().map(|v| v.to_f64()).collect(),
        DType::BF16 => tensor.elems::<half::bf16>()?.iter().map(|v| v.to_f64()).collect(),
        _ => return Ok(None),
    }))
}

/// A dropped element is 0, and those that are kept are told by the mask.
fn masked(output: &Tensor, mask: &Tensor) -> Result<(), String> {
    let output = floats(output).map_err(|e| e.to_string())?.ok_or("output 0 is not of floats")?;
    let mask = mask.to_bools().map_err(|e| e.to_string())?;
    match output.iter().zip(&mask).position(|(&o, &kept)| !kept && o != 0.0) {
        Some(at) => Err(format!("output 0[{at}] is {}, but the mask says that it is dropped", output[at])),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHECK: Compared = Compared::Elements { rtol: 1e-3, atol: 1e-7 };

    fn f32s(elems: &[f32]) -> Tensor {
        Tensor::new(vec![elems.len()], elems).unwrap()
    }

    #[test]
    fn floats_may_differ_by_the_tolerance_and_no_more() {
        let differ = |o: f32, e: f32| compare(&[f32s(&[o])], &[f32s(&[e])], CHECK).is_err();
        assert!(!differ(1.0009, 1.0));
        assert!(differ(1.0011, 1.0));
        assert!(!differ(9e-8, 0.0));
        assert!(differ(2e-7, 0.0));
        let differ = |o: [f32; 2], e: [f32; 2]| compare(&[f32s(&o)], &[f32s(&e)], CHECK).is_err();
        assert!(!differ([2e-7, 4.0], [0.0, 4.0]), "beside 4, that is nothing");
        assert!(differ([1e-6, 4.0], [0.0, 4.0]));
    }

    #[test]
    fn special_values_are_only_equal_to_themselves() {
        let differ = |o: f32, e: f32| compare(&[f32s(&[o])], &[f32s(&[e])], CHECK).is_err();
        let (nan, inf) = (f32::NAN, f32::INFINITY);
        assert!(!differ(nan, nan) && !differ(inf, inf));
        assert!(
            differ(nan, 1.0) && differ(1.0, nan) && differ(inf, -inf) && differ(1.0, inf) && differ(inf, 1.0)
        );
    }

    #[test]
    fn integers_are_equal_or_differ() {
        let ints = |v: i64| Tensor::new([1], &[v]).unwrap();
        assert!(compare(&[ints(1_000_000)], &[ints(1_000_000)], CHECK).is_ok());
        assert!(compare(&[ints(1_000_001)], &[ints(1_000_000)], CHECK).is_err());
    }

    #[test]
    fn types_and_counts_are_compared_whatever_the_elements() {
        let alike = |o: &[Tensor]| compare(o, &[f32s(&[2.0])], Compared::Types).is_ok();
        assert!(alike(&[f32s(&[1.0])]));
        assert!(!alike(&[f32s(&[1.0, 2.0])]));
        assert!(!alike(&[Tensor::new([1], &[1.0f64]).unwrap()]));
        assert!(!alike(&[]));
    }

    #[test]
    fn a_mask_must_be_that_of_its_output() {
        let mask = |kept: bool| Tensor::bools([1], &[kept]).unwrap();
        let check = |v, kept| {
            let outputs = [f32s(&[v]), mask(kept)];
            compare(&outputs, &outputs, Compared::Mask)
        };
        assert!(check(2.0, true).is_ok() && check(0.0, false).is_ok() && check(0.0, true).is_ok());
        assert!(check(2.0, false).is_err());
    }
}
