//! Half floats as memory of a routine: to `f32` and back.

use nnc::code::routine::{MemoryUse, Writer, emit};
use nnc::code::view::View;
use nnc_ir::{DType, Tensor, TensorType};
use nnc_runtime::abi::LayerFn;

use crate::harness::module;

/// The elements of a tensor, loaded and stored as another type.
fn converted(from: &Tensor, to: DType) -> Vec<u8> {
    let n = from.shape().elems();
    let mut w = Writer::new();
    let x = w.memory(&View::dense(0, from.dtype(), [n]), MemoryUse::Read);
    let y = w.memory(&View::dense(1, to, [n]), MemoryUse::Write);
    w.over(&[n], 1, |w, at| {
        let v = w.load(x, at);
        w.store(y, at, v);
    });
    let routine = w.finish();
    let mut result = vec![0; n * to.bytes()];
    let sizes = [from.bytes().len() as i64, result.len() as i64];
    routine.check(&|arg| Some(0..sizes[arg])).unwrap();
    let mut module = module();
    let id = emit::emit(&routine, &mut module, "convert").unwrap();
    module.finalize_definitions().unwrap();
    let code = module.get_finalized_function(id);
    // SAFETY: `emit` gives every function the signature of a layer.
    let function = unsafe { std::mem::transmute::<*const u8, LayerFn>(code) };
    let mut input = from.bytes().to_vec();
    let bases = [input.as_mut_ptr(), result.as_mut_ptr()];
    // SAFETY: the routine was checked for memory of these sizes.
    unsafe { function(bases.as_ptr(), 0, routine.units() as u64, std::ptr::null_mut()) };
    // SAFETY: no function of the module is called any more.
    unsafe { module.free_memory() };
    result
}

fn all(dtype: DType) -> Tensor {
    let bytes = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
    Tensor::from_bytes(TensorType::new(dtype, [1 << 16]), bytes).unwrap()
}

#[test]
fn every_half_float_is_read_as_what_it_is() {
    for (dtype, value) in [
        (DType::F16, (|bits| half::f16::from_bits(bits).to_f32()) as fn(u16) -> f32),
        (DType::BF16, |bits| half::bf16::from_bits(bits).to_f32()),
    ] {
        let found = converted(&all(dtype), DType::F32);
        for (bits, found) in (0..=u16::MAX).zip(found.chunks(4)) {
            let (found, expected) = (f32::from_le_bytes(found.try_into().unwrap()), value(bits));
            let same = found.to_bits() == expected.to_bits() || (found.is_nan() && expected.is_nan());
            assert!(same, "{dtype} {bits:#x} is {expected}, not {found}");
        }
    }
}

#[test]
fn floats_are_rounded_to_the_nearest_half_float() {
    // Each half float, what lies in the middle between two, and what is next to the middle.
    let mut floats: Vec<f32> = Vec::new();
    for bits in 0..=u16::MAX {
        for value in [half::f16::from_bits(bits).to_f32(), half::bf16::from_bits(bits).to_f32()] {
            let half_step = [0u32, 0xFFF, 0x1000, 0x1001, 0x7FFF, 0x8000, 0x8001];
            floats.extend(half_step.iter().map(|step| f32::from_bits(value.to_bits() ^ step)));
        }
        // Denormal steps of f16: 2^-24, in eighths.
        floats.push(f32::from(bits) * 2f32.powi(-27));
    }
    let tensor = Tensor::new([floats.len()], &floats).unwrap();
    for (dtype, rounded) in [
        (DType::F16, (|x| half::f16::from_f32(x).to_bits()) as fn(f32) -> u16),
        (DType::BF16, |x| half::bf16::from_f32(x).to_bits()),
    ] {
        let found = converted(&tensor, dtype);
        for (&x, found) in floats.iter().zip(found.chunks(2)) {
            let (found, expected) = (u16::from_le_bytes([found[0], found[1]]), rounded(x));
            assert_eq!(found, expected, "{x:e} ({:#x}) as {dtype}", x.to_bits());
        }
    }
}
