//! Tensors in and out of a program: from files, from a picture, or by formula.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use nnc::{InputRef, Outputs};
use nnc_ir::nearest::Hint;
use nnc_ir::{DType, Setting, Tensor, TensorType};
use nnc_runtime::abi::{ElemType, Port};

use super::failure::usage;
use super::flag::flag;

/// The type of a port.
pub fn type_of(port: &Port) -> TensorType {
    let dtype = match port.elem {
        ElemType::F32 => DType::F32,
        ElemType::F64 => DType::F64,
        ElemType::F16 => DType::F16,
        ElemType::BF16 => DType::BF16,
        ElemType::U8 => DType::U8,
        ElemType::I8 => DType::I8,
        ElemType::U16 => DType::U16,
        ElemType::I16 => DType::I16,
        ElemType::U32 => DType::U32,
        ElemType::I32 => DType::I32,
        ElemType::U64 => DType::U64,
        ElemType::I64 => DType::I64,
        ElemType::Bool => DType::Bool,
    };
    TensorType::new(dtype, port.shape.clone())
}

/// The tensors for all inputs of a program, aligned as its code wants them.
pub struct InputTensors {
    buffers: Vec<(ElemType, Vec<u64>, usize)>,
}

impl InputTensors {
    /// Takes one tensor for each port, in order. Each must have the port's type.
    pub fn new(ports: &[Port], tensors: &[Tensor]) -> InputTensors {
        let aligned = |(port, tensor): (&Port, &Tensor)| {
            let bytes = tensor.bytes();
            let mut words = vec![0u64; bytes.len().div_ceil(8)];
            for (word, chunk) in words.iter_mut().zip(bytes.chunks(8)) {
                let mut padded = [0; 8];
                for (to, from) in padded.iter_mut().zip(chunk) {
                    *to = *from;
                }
                *word = u64::from_ne_bytes(padded);
            }
            (port.elem, words, bytes.len())
        };
        InputTensors { buffers: ports.iter().zip(tensors).map(aligned).collect() }
    }

    /// What a session takes.
    pub fn refs(&self) -> Vec<InputRef<'_>> {
        let mut refs = Vec::with_capacity(self.buffers.len());
        for (elem, words, len) in &self.buffers {
            let bytes = bytemuck::cast_slice::<u64, u8>(words);
            refs.push(InputRef::from_bytes(*elem, bytes.get(..*len).unwrap_or_default()));
        }
        refs
    }
}

/// All outputs of a run, by name, in the model's order.
pub fn outputs(ports: &[Port], outputs: &Outputs<'_>) -> Result<Vec<(String, Tensor)>> {
    let tensor = |(index, port): (usize, &Port)| -> Result<(String, Tensor)> {
        let ty = TensorType::new(type_of(port).dtype, outputs.shape(index)?);
        Ok((port.name.clone(), Tensor::from_bytes(ty, outputs.bytes(index)?.to_vec())?))
    };
    ports.iter().enumerate().map(tensor).collect()
}

/// Reads `--input NAME=FILE.npy`.
pub fn read_inputs(files: &[(String, PathBuf)]) -> Result<Vec<(String, Tensor)>> {
    let mut tensors: Vec<(String, Tensor)> = Vec::new();
    for (name, file) in files {
        if tensors.iter().any(|(other, _)| other == name) {
            usage!("--input is given twice for \"{name}\"; give it once");
        }
        tensors.push((name.clone(), nnc::npz::read_npy(file)?));
    }
    Ok(tensors)
}

/// Checks the names and types of arrays for inputs against those of a program.
pub fn check_inputs(ports: &[Port], arrays: &[(String, Tensor)], files: &[(String, PathBuf)]) -> Result<()> {
    for ((name, tensor), (_, file)) in arrays.iter().zip(files) {
        let Some(port) = ports.iter().find(|p| p.name == *name) else {
            let names: Vec<&str> = ports.iter().map(|p| p.name.as_str()).collect();
            usage!("--input: the model has no input \"{name}\"; {}", Hint::new(name, &names));
        };
        check(port, tensor).with_context(|| format!("\"{}\"", file.display()))?;
    }
    Ok(())
}

/// Refuses a tensor of another type than the port's.
pub fn check(port: &Port, tensor: &Tensor) -> Result<()> {
    let wanted = type_of(port);
    if *tensor.ty() == wanted {
        return Ok(());
    }
    let remedy = if tensor.shape() == &wanted.shape {
        format!("convert it to {}", wanted.dtype)
    } else {
        format!(
            "reshape it, or, if the model leaves its dims open, compile it for {}",
            flag(&Setting::shape(&port.name, tensor.shape()))
        )
    };
    bail!("input \"{}\" takes {wanted}, the file holds {}; {remedy}", port.name, tensor.ty())
}

/// A tensor by formula, the same on every machine: element `i` is the finaliser of MurmurHash3 of `i`. Floats are its
/// upper 24 bits mapped to [-2, 2), exactly; bytes and booleans its lowest bits; indices are 0, which is always in range.
pub fn by_formula(ty: &TensorType) -> Result<Tensor> {
    let hashes = (0..ty.shape.elems()).map(|i| murmur3_finaliser(i as u32));
    let float = |h: u32| (h >> 8) as f32 / (1u32 << 22) as f32 - 2.0;
    let bytes: Vec<u8> = match ty.dtype {
        DType::F32 => hashes.flat_map(|h| float(h).to_le_bytes()).collect(),
        DType::F64 => hashes.flat_map(|h| f64::from(float(h)).to_le_bytes()).collect(),
        DType::F16 => hashes.flat_map(|h| half::f16::from_f32(float(h)).to_le_bytes()).collect(),
        DType::BF16 => hashes.flat_map(|h| half::bf16::from_f32(float(h)).to_le_bytes()).collect(),
        DType::U8 | DType::I8 => hashes.map(|h| h as u8).collect(),
        DType::Bool => hashes.map(|h| (h & 1) as u8).collect(),
        _ => vec![0; ty.bytes()],
    };
    Ok(Tensor::from_bytes(ty.clone(), bytes)?)
}

fn murmur3_finaliser(i: u32) -> u32 {
    let mut h = i;
    h ^= h >> 16;
    h = h.wrapping_mul(0x85eb_ca6b);
    h ^= h >> 13;
    h = h.wrapping_mul(0xc2b2_ae35);
    h ^ (h >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(elem: ElemType, shape: &[usize]) -> Port {
        Port { name: "x".into(), elem, shape: shape.to_vec(), counts: Vec::new() }
    }

    #[test]
    fn the_formula_spreads_over_its_range() {
        let tensor = by_formula(&TensorType::f32([1000])).unwrap();
        let elems = tensor.elems::<f32>().unwrap();
        assert_eq!(elems[0], -2.0);
        assert!(elems.iter().all(|e| (-2.0..2.0).contains(e)));
        assert!(elems.iter().any(|e| *e < -1.9) && elems.iter().any(|e| *e > 1.9));
        let mean = elems.iter().sum::<f32>() / 1000.0;
        assert!(mean.abs() < 0.1, "{mean}");
    }

    #[test]
    fn a_tensor_of_another_type_is_refused_with_a_remedy() {
        let tensor = Tensor::new([1, 2], &[0f64; 2]).unwrap();
        let error = check(&port(ElemType::F32, &[1, 2]), &tensor).unwrap_err().to_string();
        assert_eq!(error, "input \"x\" takes f32[1x2], the file holds f64[1x2]; convert it to f32");
        let error = check(&port(ElemType::F64, &[1, 3]), &tensor).unwrap_err().to_string();
        assert!(error.ends_with("for --shape x=1x2"), "{error}");
    }

    #[test]
    fn buffers_hold_the_bytes_of_their_tensors() {
        let tensors = [Tensor::new([3], &[1u8, 2, 3]).unwrap(), Tensor::new([], &[7i64]).unwrap()];
        let inputs = InputTensors::new(&[port(ElemType::U8, &[3]), port(ElemType::I64, &[])], &tensors);
        assert_eq!(bytemuck::cast_slice::<u64, u8>(&inputs.buffers[0].1)[..3], [1, 2, 3]);
        assert_eq!(bytemuck::cast_slice::<u64, u8>(&inputs.buffers[1].1), 7i64.to_ne_bytes());
        assert_eq!(inputs.refs().len(), 2);
    }
}
