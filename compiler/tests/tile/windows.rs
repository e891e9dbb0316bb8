//! Windows over planes: each lowering has the bits of the interpreter, and these are those of a plain loop, for planes of any extent.

use nnc::code::nest::{Accumulator, Bound, Constant, Expr, Fold, Nest, Operand, ReduceAxis, Vectorised};
use nnc::code::tile;
use nnc::code::tile::interp::KernelArg;
use nnc::code::tile::ir;
use nnc_ir::DType;
use nnc_ir::op::elementwise::BinaryFn;

use super::support::{Engine, Random, bytes, floats, same};

/// Windows of a plane along one axis.
#[derive(Clone, Copy)]
struct Along {
    image: usize,
    taps: usize,
    stride: usize,
    dilation: usize,
    pad: usize,
}

impl Along {
    fn windows(self) -> usize {
        (self.image + 2 * self.pad - (self.taps - 1) * self.dilation - 1) / self.stride + 1
    }

    /// The element that a window's tap sees, if there is one.
    fn seen(self, window: usize, tap: usize) -> Option<usize> {
        (window * self.stride + tap * self.dilation).checked_sub(self.pad).filter(|&at| at < self.image)
    }

    fn reduced(self, axis: usize) -> ReduceAxis {
        let bound = Bound {
            axis,
            scale: self.stride as i64,
            step: self.dilation as i64,
            base: -(self.pad as i64),
            extent: self.image as i64,
        };
        ReduceAxis { extent: self.taps, bound: (self.pad > 0).then_some(bound) }
    }
}

fn nest(function: BinaryFn, y: Along, x: Along) -> Nest {
    let row = 4 * x.image as i64;
    let operand = Operand {
        arg: 0,
        offset: -(y.pad as i64 * row + 4 * x.pad as i64),
        dtype: DType::F32,
        strides: vec![
            y.stride as i64 * row,
            4 * x.stride as i64,
            y.dilation as i64 * row,
            4 * x.dilation as i64,
        ],
        tables: Vec::new(),
    };
    let result = Operand { arg: 1, strides: vec![4 * x.windows() as i64, 4], offset: 0, ..operand.clone() };
    let neutral = if function == BinaryFn::Max { f32::NEG_INFINITY } else { 0.0 };
    let accumulator =
        Accumulator { init: Constant::from(neutral), fold: Fold::With(function), value: Expr::Operand(0) };
    Nest {
        loops: vec![y.windows(), x.windows()],
        unit_axes: 0,
        reduce: vec![y.reduced(0), x.reduced(1)],
        operands: vec![operand],
        result,
        accumulators: vec![accumulator],
        value: Expr::Acc(0),
        vectorised: Vectorised::Windows,
    }
}

#[test]
fn windows_over_planes_are_as_a_plain_loop_has_them_on_every_lowering() {
    let along = |image, taps, stride, dilation, pad| Along { image, taps, stride, dilation, pad };
    let rows = [along(1, 1, 1, 1, 0), along(9, 3, 1, 1, 1), along(14, 3, 2, 1, 1), along(7, 2, 2, 2, 0)];
    let columns = [
        along(5, 3, 1, 1, 1),
        along(16, 1, 1, 1, 0),
        along(33, 3, 2, 1, 1),
        along(70, 2, 2, 1, 0),
        along(150, 3, 1, 2, 2),
        along(200, 3, 2, 3, 4),
        along(40, 5, 4, 1, 2),
    ];
    let mut random = Random::new(3);
    for function in [BinaryFn::Max, BinaryFn::Add] {
        for (y, x) in rows.iter().flat_map(|&y| columns.iter().map(move |&x| (y, x))) {
            let nest = nest(function, y, x);
            assert!(nest.lanes_fit() && nest.kernel_fits());
            // Sums of small whole numbers are exact, whatever their order.
            let special = |random: &mut Random| match (function, random.below(30)) {
                (BinaryFn::Max, 0) => f32::NAN,
                (BinaryFn::Max, 1) => f32::NEG_INFINITY,
                _ => random.below(64) as f32,
            };
            let plane: Vec<f32> = (0..y.image * x.image).map(|_| special(&mut random)).collect();
            let folded = |row: usize, column: usize| {
                let mut folded = if function == BinaryFn::Max { f32::NEG_INFINITY } else { 0.0 };
                for tap in 0..y.taps * x.taps {
                    let places = y.seen(row, tap / x.taps).zip(x.seen(column, tap % x.taps));
                    let Some((row, column)) = places else { continue };
                    let x = plane[row * x.image + column];
                    folded = match function {
                        BinaryFn::Max if x.is_nan() || x > folded => x,
                        BinaryFn::Max => folded,
                        _ => folded + x,
                    };
                    if function == BinaryFn::Max && x.is_nan() {
                        return f32::NAN;
                    }
                }
                folded
            };
            let windows = (0..y.windows()).flat_map(|row| (0..x.windows()).map(move |column| (row, column)));
            let expected: Vec<f32> = windows.map(|(row, column)| folded(row, column)).collect();
            for engine in Engine::all() {
                let widest = match &engine {
                    Engine::Interpreter { .. } => ir::Lanes::X16,
                    Engine::Native(target) => tile::widest(target),
                };
                let program = nest.kernel(widest).expect("a kernel");
                let (mut input, mut output) = (bytes(&plane), bytes(&vec![0.5; expected.len()]));
                let mut scratch = bytes(&vec![f32::NAN; nest.scratch() / 4]);
                // The operand begins at the first tap of the first window, which may be beside the plane.
                let before = (-nest.operands[0].offset) as usize;
                input.splice(0..0, std::iter::repeat_n(0xff, before));
                let mut args = [(&mut input, 0), (&mut output, 0), (&mut scratch, 0)]
                    .map(|(bytes, origin)| KernelArg::Memory { bytes, origin });
                engine.prepare(&program).expect("it fits").call(&mut args);
                let got = floats(&output);
                let equal = got.iter().zip(&expected).all(|(a, b)| same(*a, *b));
                assert!(equal, "{} by {}: {got:?}, not {expected:?}", program.name, engine.name());
            }
        }
    }
}
