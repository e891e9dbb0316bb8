//! Compiles operators by the general loop nest or as routines, runs them over strided windows, and compares with the evaluator.

use cranelift_codegen::settings::{self, Configurable};
use cranelift_jit::{JITBuilder, JITModule};
use cranelift_module::default_libcall_names;
use nnc::code::view::View;
use nnc::code::{nest, routine};
use nnc::plan::generic::{GenericError, GenericStep, lower};
use nnc::target::Target;
use nnc_ir::{DType, Op, Tensor, TensorType};
use nnc_runtime::abi::{Denormals, LayerFn};

/// A small generator of numbers, the same on every run.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    pub fn float(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * (self.next() & 0xFFFF_FFFF) as f64 / 4294967296.0
    }

    /// A tensor of small numbers of any type.
    pub fn tensor(&mut self, dtype: DType, shape: &[usize]) -> Tensor {
        let n: usize = shape.iter().product();
        let mut bytes = Vec::new();
        for _ in 0..n {
            let f = self.float(-3.0, 3.0);
            let i = self.next();
            match dtype {
                DType::F32 => bytes.extend((f as f32).to_le_bytes()),
                DType::F64 => bytes.extend(f.to_le_bytes()),
                DType::Bool => bytes.push((i & 1) as u8),
                DType::F16 => bytes.extend(half::f16::from_f64(f).to_le_bytes()),
                DType::BF16 => bytes.extend(half::bf16::from_f64(f).to_le_bytes()),
                _ => bytes.extend(
                    &((i % 23) as i64 - if dtype.name().starts_with('u') { 0 } else { 11 }).to_le_bytes()
                        [..dtype.bytes()],
                ),
            }
        }
        Tensor::from_bytes(TensorType::new(dtype, shape.to_vec()), bytes).unwrap()
    }
}

const GUARD: usize = 64;
const UNTOUCHED: u8 = 0xA5;

/// How a tensor lies in memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Layout {
    Dense,
    /// Axes in another order (for rank 4: channels last), some pitches padded.
    Strided(u64),
    /// Channels last without padding.
    ChannelsLast,
}

/// A window into a guarded buffer.
pub struct GuardedWindow {
    pub view: View,
    pub bytes: Vec<u8>,
}

impl GuardedWindow {
    pub fn new(arg: usize, ty: &TensorType, layout: Layout) -> GuardedWindow {
        let size = ty.dtype.bytes();
        let rank = ty.shape.rank();
        let mut order: Vec<usize> = (0..rank).collect();
        let mut random = Random::new(17);
        match layout {
            Layout::Dense => {}
            Layout::ChannelsLast => {
                if rank > 2 {
                    order.remove(1);
                    order.push(1);
                }
            }
            Layout::Strided(seed) => {
                random = Random::new(seed);
                if rank == 4 && random.below(2) == 0 {
                    order = vec![0, 2, 3, 1];
                } else {
                    for i in (1..rank).rev() {
                        order.swap(i, random.below(i + 1));
                    }
                }
            }
        }
        let padded = matches!(layout, Layout::Strided(_));
        let (mut strides, mut pitch) = (vec![0i64; rank], size);
        for &axis in order.iter().rev() {
            strides[axis] = pitch as i64;
            pitch *= ty.shape[axis].max(1);
            if padded && random.below(2) == 0 {
                pitch += size * (1 + random.below(3));
            }
        }
        let mut offset = if padded { (size * random.below(3)) as i64 } else { 0 };
        if padded && rank > 0 && random.below(3) == 0 {
            // One axis runs backwards.
            let axis = random.below(rank);
            offset += strides[axis] * (ty.shape[axis].max(1) as i64 - 1);
            strides[axis] = -strides[axis];
        }
        let view = View { arg, offset, dtype: ty.dtype, shape: ty.shape.to_vec(), strides };
        GuardedWindow { view, bytes: vec![UNTOUCHED; 2 * GUARD + pitch + 3 * size] }
    }

    pub fn of(arg: usize, tensor: &Tensor, layout: Layout) -> GuardedWindow {
        let mut window = GuardedWindow::new(arg, tensor.ty(), layout);
        let size = tensor.dtype().bytes();
        for (at, element) in window.places().into_iter().zip(tensor.bytes().chunks(size)) {
            window.bytes[at..at + size].copy_from_slice(element);
        }
        window
    }

    fn places(&self) -> Vec<usize> {
        let v = &self.view;
        let mut places = Vec::new();
        for mut i in 0..v.elems() {
            let mut at = v.offset + GUARD as i64;
            for (&extent, &stride) in v.shape.iter().zip(&v.strides).rev() {
                at += (i % extent) as i64 * stride;
                i /= extent;
            }
            places.push(at as usize);
        }
        places
    }

    /// The elements; all other bytes must be as they were.
    pub fn read(&self, what: &str) -> Tensor {
        let size = self.view.dtype.bytes();
        let mut inside = vec![false; self.bytes.len()];
        let mut data = Vec::new();
        for at in self.places() {
            data.extend(&self.bytes[at..at + size]);
            inside[at..at + size].fill(true);
        }
        let spilled = inside.iter().zip(&self.bytes).position(|(&inside, &b)| !inside && b != UNTOUCHED);
        assert_eq!(spilled, None, "{what}: a byte outside of the result was written");
        Tensor::from_bytes(TensorType::new(self.view.dtype, self.view.shape.clone()), data).unwrap()
    }
}

/// What an operator became.
pub struct LoweredOp {
    pub steps: Vec<GenericStep>,
    extra: Vec<GuardedWindow>,
}

pub fn lowered(op: &Op, inputs: &[Option<View>], outputs: &[View]) -> Result<LoweredOp, GenericError> {
    let next = std::cell::Cell::new(inputs.len() + outputs.len());
    let extra = std::cell::RefCell::new(Vec::new());
    let mut temp = |ty: TensorType| {
        let window = GuardedWindow::new(next.replace(next.get() + 1), &ty, Layout::Dense);
        let view = window.view.clone();
        extra.borrow_mut().push(window);
        view
    };
    let mut constant = |t: Tensor| {
        let window = GuardedWindow::of(next.replace(next.get() + 1), &t, Layout::Dense);
        let view = window.view.clone();
        extra.borrow_mut().push(window);
        view
    };
    let steps = lower(op, inputs, outputs, &mut temp, &mut constant, None)?;
    Ok(LoweredOp { steps, extra: extra.into_inner() })
}

pub fn module() -> JITModule {
    let mut flags = settings::builder();
    for (name, value) in [("opt_level", "speed"), ("is_pic", "false"), ("enable_verifier", "true")] {
        flags.set(name, value).unwrap();
    }
    let isa = cranelift_native::builder().unwrap().finish(settings::Flags::new(flags)).unwrap();
    JITModule::new(JITBuilder::with_isa(isa, default_libcall_names()))
}

/// Runs steps over windows (whose `arg` is their position), all units of each in parts cut by `cuts`. What is in scratch before a part
/// is no number.
fn run(functions: &[(LayerFn, usize)], windows: &mut [&mut GuardedWindow], cuts: usize, scratch: usize) {
    let mut scratch = vec![u8::MAX; scratch + GUARD];
    let bases: Vec<*mut u8> = windows.iter_mut().map(|w| w.bytes[GUARD..].as_mut_ptr()).collect();
    for &(function, units) in functions {
        let step = units.div_ceil(cuts).max(1);
        for begin in (0..units).step_by(step) {
            let end = (begin + step).min(units);
            // SAFETY: `lower` has checked that the steps stay inside of the views, which lie in these buffers, and scratch is as long
            // as any of them asks for.
            unsafe { function(bases.as_ptr(), begin as u64, end as u64, scratch.as_mut_ptr()) };
            let own = scratch.len() - GUARD;
            assert!(scratch[own..].iter().all(|&b| b == u8::MAX), "a byte behind the scratch was written");
            scratch.fill(u8::MAX);
        }
    }
}

/// Runs steps over windows, whose `arg` is their position, all units of each at once.
pub fn run_steps(steps: &[GenericStep], windows: &mut [&mut GuardedWindow]) {
    let mut module = module();
    let functions = emitted(steps, &mut module, "steps");
    let scratch = steps.iter().map(GenericStep::scratch).max();
    run(&functions, windows, 1, scratch.unwrap_or(0));
    // SAFETY: no function of the module is called any more.
    unsafe { module.free_memory() };
}

/// The layer functions of steps, and how many units each has.
fn emitted(steps: &[GenericStep], module: &mut JITModule, what: &str) -> Vec<(LayerFn, usize)> {
    // Functions are called as they are, without what a run does to denormals.
    let target = Target::host().unwrap().treating(Denormals::Keep);
    let ids: Vec<_> = (steps.iter().enumerate())
        .map(|(i, step)| {
            let name = format!("step{i}");
            let emitted = match step {
                GenericStep::Nest(nest) => nest::emit::emit(nest, module, &name, &target),
                GenericStep::Routine(routine) => routine::emit::emit(routine, module, &name),
            };
            emitted.unwrap_or_else(|e| panic!("{what}: {e:?}"))
        })
        .collect();
    module.finalize_definitions().unwrap();
    (ids.iter().zip(steps))
        .map(|(&id, step)| {
            let code = module.get_finalized_function(id);
            // SAFETY: `emit` gives every function the signature of a layer.
            (unsafe { std::mem::transmute::<*const u8, LayerFn>(code) }, step.units())
        })
        .collect()
}

/// The results of an operator as compiled, for these layouts of operands and results.
pub fn compiled(op: &Op, inputs: &[Option<&Tensor>], layouts: &[Layout], out: Layout) -> Vec<Tensor> {
    let types: Vec<Option<&TensorType>> = inputs.iter().map(|t| t.map(Tensor::ty)).collect();
    let results = op.infer(&types).unwrap();
    let what = format!("{op} of {inputs:?} as {layouts:?} to {out:?}");
    let mut windows: Vec<GuardedWindow> = Vec::new();
    let mut views = Vec::new();
    for (i, input) in inputs.iter().enumerate() {
        let layout = layouts.get(i).copied().unwrap_or(Layout::Dense);
        match input {
            Some(t) => {
                windows.push(GuardedWindow::of(i, t, layout));
                views.push(Some(windows[i].view.clone()));
            }
            None => {
                windows.push(GuardedWindow::new(i, &TensorType::f32([0]), Layout::Dense));
                views.push(None);
            }
        }
    }
    for (i, ty) in results.iter().enumerate() {
        windows.push(GuardedWindow::new(inputs.len() + i, ty, out));
    }
    let outputs: Vec<View> = windows[inputs.len()..].iter().map(|w| w.view.clone()).collect();
    let mut lowered = lowered(op, &views, &outputs).unwrap_or_else(|e| panic!("{what}: {e:?}"));
    let mut module = module();
    let functions = emitted(&lowered.steps, &mut module, &what);
    let before: Vec<Vec<u8>> = windows.iter().map(|w| w.bytes.clone()).collect();
    let mut first: Option<Vec<Tensor>> = None;
    for cuts in [1, 3, usize::MAX] {
        for (w, bytes) in windows.iter_mut().zip(&before) {
            w.bytes.clone_from(bytes);
        }
        let mut all: Vec<&mut GuardedWindow> = windows.iter_mut().chain(lowered.extra.iter_mut()).collect();
        let scratch = lowered.steps.iter().map(GenericStep::scratch).max();
        run(&functions, &mut all, cuts, scratch.unwrap_or(0));
        for (w, bytes) in windows.iter().zip(&before).take(inputs.len()) {
            assert!(w.bytes == *bytes, "{what}: an operand was written");
        }
        let results: Vec<Tensor> = windows[inputs.len()..].iter().map(|w| w.read(&what)).collect();
        match &first {
            None => first = Some(results),
            Some(first) => {
                let same = first.iter().zip(&results).all(|(a, b)| a.bytes() == b.bytes());
                assert!(same, "{what}: other bits when the units are cut");
            }
        }
    }
    // SAFETY: no function of the module is called any more.
    unsafe { module.free_memory() };
    first.unwrap_or_default()
}

/// Elements as `f64`.
pub fn floats(t: &Tensor) -> Vec<f64> {
    match t.dtype() {
        DType::F32 => t.elems::<f32>().unwrap().iter().map(|&v| v.into()).collect(),
        DType::F64 => t.elems::<f64>().unwrap().to_vec(),
        DType::F16 => t.elems::<half::f16>().unwrap().iter().map(|v| v.to_f64()).collect(),
        DType::BF16 => t.elems::<half::bf16>().unwrap().iter().map(|v| v.to_f64()).collect(),
        _ => t
            .bytes()
            .chunks(t.dtype().bytes())
            .map(|c| {
                let mut wide = [0u8; 8];
                wide[..c.len()].copy_from_slice(c);
                i64::from_le_bytes(wide) as f64
            })
            .collect(),
    }
}

/// Compiles and runs an operator, and compares it with the evaluator: integers exactly, floats to `tolerance`,
/// relative to the larger of the value and 1.
pub fn check(op: impl Into<Op>, inputs: &[&Tensor], layouts: &[Layout], out: Layout, tolerance: f64) {
    let inputs: Vec<Option<&Tensor>> = inputs.iter().map(|t| Some(*t)).collect();
    check_optional(&op.into(), &inputs, layouts, out, tolerance);
}

pub fn check_optional(op: &Op, inputs: &[Option<&Tensor>], layouts: &[Layout], out: Layout, tolerance: f64) {
    let expected = op.eval(inputs).unwrap();
    let got = compiled(op, inputs, layouts, out);
    assert_eq!(expected.len(), got.len());
    for (expected, got) in expected.iter().zip(&got) {
        assert_eq!(expected.ty(), got.ty());
        if !expected.dtype().is_float() || tolerance == 0.0 {
            assert!(
                expected.bytes() == got.bytes(),
                "{op:?} of {inputs:?}, {layouts:?}, {out:?}: expected {:?}, got {:?}",
                floats(expected),
                floats(got)
            );
            continue;
        }
        for (i, (e, g)) in floats(expected).into_iter().zip(floats(got)).enumerate() {
            let close = e == g || (e.is_nan() && g.is_nan()) || (e - g).abs() <= tolerance * e.abs().max(1.0);
            assert!(close, "{op:?} of {inputs:?}, {layouts:?}, {out:?}: element {i} is {g}, expected {e}");
        }
    }
}

/// A few layouts for operands and results, the dense one first.
pub fn layouts() -> impl Iterator<Item = (Vec<Layout>, Layout)> {
    let strided = |seed: u64| Layout::Strided(seed);
    [
        (vec![Layout::Dense; 8], Layout::Dense),
        (vec![Layout::ChannelsLast; 8], Layout::ChannelsLast),
        (vec![Layout::Dense; 8], Layout::ChannelsLast),
        (vec![Layout::ChannelsLast; 8], Layout::Dense),
    ]
    .into_iter()
    .chain((0..6).map(move |i| ((0..8).map(|k| strided(10 * i + k)).collect(), strided(10 * i + 9))))
}
