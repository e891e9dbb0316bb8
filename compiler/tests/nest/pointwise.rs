//! Unary, Binary, Where and Cast.

use nnc_ir::op::elementwise::BinaryFn;
use nnc_ir::op::{Binary, ByteTable, Cast, Dequantize, IntegerSum, Quantize, Requantize, Unary, Where};
use nnc_ir::{DType, Tensor};

use crate::harness::{Layout, Random, check, layouts};

const INTEGERS: [DType; 8] =
    [DType::I8, DType::U8, DType::I16, DType::U16, DType::I32, DType::U32, DType::I64, DType::U64];

#[test]
fn a_unary_takes_any_strides() {
    let mut random = Random::new(1);
    for shape in [&[2, 5, 3, 7][..], &[1, 8, 4, 4], &[13], &[], &[3, 0, 2], &[2, 3, 4, 5, 2]] {
        let x = random.tensor(DType::F32, shape);
        for (inputs, out) in layouts() {
            check(Unary::Clip { min: -1.0, max: 2.0 }, &[&x], &inputs, out, 1e-6);
            check(Unary::Sigmoid, &[&x], &inputs, out, 1e-6);
        }
    }
}

#[test]
fn a_long_tensor_is_cut_into_units_without_changing_its_bits() {
    let mut random = Random::new(2);
    for n in [100_003, 65_536, 40_000] {
        let x = random.tensor(DType::F32, &[n]);
        check(Unary::Tanh, &[&x], &[], Layout::Dense, 1e-6);
    }
}

#[test]
fn short_rows_follow_each_other_in_one_kernel() {
    let mut random = Random::new(5);
    for (rows, row) in [(1, 5), (3, 4), (4, 11), (7, 16), (29, 24), (64, 33), (131, 11), (5, 255), (6, 256)] {
        let a = random.tensor(DType::F32, &[3, rows, row]);
        // The same everywhere, in a row, in a column; of all rows, of one image.
        for shape in [&[3, rows, row][..], &[3, rows, 1], &[row], &[], &[3, 1, 1], &[rows, 1]] {
            let b = random.tensor(DType::F32, shape);
            for (inputs, out) in layouts() {
                let op = Binary { function: BinaryFn::Mul, activation: Some(Unary::Sigmoid) };
                check(op, &[&a, &b], &inputs, out, 1e-6);
            }
        }
        let steps = random.tensor(DType::U8, &[2, rows, row]);
        let (scale, zero) = (random.tensor(DType::F32, &[rows, 1]), random.tensor(DType::U8, &[]));
        for (inputs, out) in layouts() {
            check(Dequantize, &[&steps, &scale, &zero], &inputs, out, 0.0);
        }
    }
}

/// What is smaller, operands or result, is copied.
#[test]
fn what_lies_in_another_order_is_turned_before_or_after_a_map() {
    let mut random = Random::new(8);
    for shape in [[1, 37, 5, 9], [2, 16, 7, 7], [1, 4, 16, 17], [3, 3, 20, 20]] {
        let [real, half, wide] = [DType::F32, DType::F16, DType::I64].map(|t| random.tensor(t, &shape));
        let (steps, scale) = (random.tensor(DType::U8, &shape), random.tensor(DType::F32, &[shape[1], 1, 1]));
        let zero = random.tensor(DType::U8, &[]);
        for (inputs, out) in layouts() {
            check(Dequantize, &[&steps, &scale, &zero], &inputs, out, 0.0);
            check(Quantize { to: DType::U8 }, &[&real, &scale, &zero], &inputs, out, 0.0);
            check(Unary::Exp, &[&real], &inputs, out, 1e-6);
            check(Cast { to: DType::F32 }, &[&half], &inputs, out, 0.0);
            check(Cast { to: half.dtype() }, &[&real], &inputs, out, 0.0);
            check(Cast { to: DType::I32 }, &[&wide], &inputs, out, 0.0);
            check(Cast { to: DType::I64 }, &[&steps], &inputs, out, 0.0);
        }
        // Operands in the order of the result, and in another one.
        let other = random.tensor(DType::F32, &shape);
        let orders = [Layout::Dense, Layout::ChannelsLast];
        for (first, second, out) in orders.iter().flat_map(|&a| orders.map(|b| (a, b, orders[0]))) {
            let op = Binary { function: BinaryFn::Sub, activation: None };
            check(op, &[&real, &other], &[first, second], out, 0.0);
        }
    }
}

#[test]
fn bytes_are_looked_up_in_a_table() {
    let mut random = Random::new(7);
    let shapes: [&[usize]; 10] =
        [&[], &[3], &[4], &[61], &[64], &[700], &[40_000], &[1, 5, 7, 9], &[2, 64, 4, 3], &[1, 37, 20, 20]];
    for shape in shapes {
        let places = random.tensor(DType::U8, shape);
        for entries in [DType::U8, DType::I8, DType::F32, DType::I16] {
            let table = random.tensor(entries, &[ByteTable::LEN]);
            for (mut inputs, out) in layouts() {
                inputs[1] = Layout::Dense;
                check(ByteTable, &[&places, &table], &inputs, out, 0.0);
            }
        }
    }
}

#[test]
fn sums_of_steps_are_those_of_eval() {
    let mut random = Random::new(6);
    let clipped = Requantize { low: 20, high: 99, ..Requantize::steps(DType::U8, 20) };
    for shape in [&[2, 3, 5, 7][..], &[1, 2, 40, 33], &[300], &[]] {
        let images: Vec<Tensor> = (0..3).map(|_| random.tensor(DType::U8, shape)).collect();
        for result in [Requantize::steps(DType::U8, 0), Requantize::steps(DType::I8, -3), clipped] {
            for factors in [vec![1.5], vec![0.37, 0.61], vec![0.25, -0.125, 3.0]] {
                let read: Vec<&Tensor> = images.iter().take(factors.len()).collect();
                for (inputs, out) in layouts() {
                    let op = IntegerSum { factors: factors.clone(), shift: -7.25, result };
                    check(op, &read, &inputs, out, 0.0);
                }
            }
        }
    }
}

#[test]
fn a_binary_broadcasts_like_numpy() {
    let mut random = Random::new(3);
    let shapes: [(&[usize], &[usize]); 6] = [
        (&[2, 5, 3, 6], &[2, 5, 3, 6]),
        (&[2, 5, 3, 6], &[5, 1, 1]),
        (&[2, 5, 3, 6], &[]),
        (&[2, 1, 3, 1], &[1, 5, 1, 6]),
        (&[7], &[4, 7]),
        (&[2, 5, 3, 6], &[6]),
    ];
    for (a, b) in shapes {
        let (a, b) = (random.tensor(DType::F32, a), random.tensor(DType::F32, b));
        for (inputs, out) in layouts() {
            for function in [BinaryFn::Add, BinaryFn::Max, BinaryFn::Div] {
                let op = Binary { function, activation: Some(Unary::Relu) };
                check(op, &[&a, &b], &inputs, out, 1e-6);
            }
        }
    }
}

#[test]
fn every_binary_function_of_floats_is_as_evaluated() {
    use BinaryFn::*;
    let specials = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        0.5,
        -0.5,
        2.0,
        3.0,
        -3.0,
        7.25,
        1e-40,
        -1e-40,
        1e30,
        -1e30,
        1e38,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
        1e-3,
        123456.78,
    ];
    let n = specials.len();
    let a: Vec<f32> = specials.iter().flat_map(|&v| vec![v; n]).collect();
    let b: Vec<f32> = specials.repeat(n);
    let (a, b) = (Tensor::new([n * n], &a).unwrap(), Tensor::new([n * n], &b).unwrap());
    let wide = |t: &Tensor| {
        let v: Vec<f64> = t.elems::<f32>().unwrap().iter().map(|&v| v.into()).collect();
        Tensor::new(t.shape().to_vec(), &v).unwrap()
    };
    for function in [
        Add,
        Sub,
        Mul,
        Div,
        Pow,
        Min,
        Max,
        PRelu,
        Equal,
        Less,
        LessOrEqual,
        Greater,
        GreaterOrEqual,
        Mod { fmod: true },
    ] {
        let op = Binary { function, activation: None };
        check(op.clone(), &[&a, &b], &[], Layout::Dense, 1e-7);
        check(op, &[&wide(&a), &wide(&b)], &[], Layout::Dense, 1e-12);
    }
}

#[test]
fn every_binary_function_of_integers_is_as_evaluated() {
    use BinaryFn::*;
    let mut random = Random::new(4);
    for dtype in INTEGERS {
        let (a, b) = (random.tensor(dtype, &[9, 30]), random.tensor(dtype, &[9, 30]));
        for function in [
            Add,
            Sub,
            Mul,
            Div,
            Pow,
            Min,
            Max,
            Mod { fmod: false },
            Mod { fmod: true },
            PRelu,
            Equal,
            Less,
            LessOrEqual,
            Greater,
            GreaterOrEqual,
            BitAnd,
            BitOr,
            BitXor,
            ShiftLeft,
            ShiftRight,
        ] {
            if function.result_dtype(dtype, dtype).is_some() {
                check(Binary { function, activation: None }, &[&a, &b], &[], Layout::Dense, 0.0);
            }
        }
    }
}

#[test]
fn extreme_integers_wrap_and_never_trap() {
    let a = Tensor::new([4], &[i32::MIN, i32::MIN, i32::MAX, 5]).unwrap();
    let b = Tensor::new([4], &[-1, 0, -1, 0]).unwrap();
    for function in [BinaryFn::Div, BinaryFn::Mod { fmod: false }, BinaryFn::Mod { fmod: true }] {
        check(Binary { function, activation: None }, &[&a, &b], &[], Layout::Dense, 0.0);
    }
    check(Unary::Abs, &[&a], &[], Layout::Dense, 0.0);
    check(Unary::Neg, &[&a], &[], Layout::Dense, 0.0);
}

#[test]
fn unary_functions_of_integers_and_booleans_are_as_evaluated() {
    let mut random = Random::new(5);
    for dtype in INTEGERS {
        let x = random.tensor(dtype, &[5, 9]);
        for f in [Unary::Relu, Unary::Abs, Unary::Neg, Unary::Sign, Unary::Clip { min: -2.5, max: 6.0 }] {
            check(f, &[&x], &[], Layout::Dense, 0.0);
        }
    }
    let x = random.tensor(DType::Bool, &[17]);
    check(Unary::Not, &[&x], &[], Layout::Dense, 0.0);
    let y = random.tensor(DType::Bool, &[17]);
    for function in [BinaryFn::And, BinaryFn::Or, BinaryFn::Xor, BinaryFn::Equal] {
        check(Binary { function, activation: None }, &[&x, &y], &[], Layout::Dense, 0.0);
    }
}

#[test]
fn where_selects_elements_of_every_type() {
    let mut random = Random::new(6);
    let c = random.tensor(DType::Bool, &[2, 1, 3, 6]);
    for dtype in [DType::F32, DType::F64, DType::I8, DType::I64, DType::Bool, DType::F16] {
        let (x, y) = (random.tensor(dtype, &[2, 5, 3, 6]), random.tensor(dtype, &[5, 1, 1]));
        for (inputs, out) in layouts() {
            check(Where, &[&c, &x, &y], &inputs, out, 0.0);
        }
    }
}

#[test]
fn a_cast_saturates_floats_and_wraps_integers() {
    let mut random = Random::new(7);
    let extremes = [
        0.0,
        -0.9,
        1.5,
        -1.5,
        300.0,
        -300.0,
        1e10,
        -1e10,
        1e30,
        -1e30,
        f32::NAN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        65504.0,
        1e-7,
    ];
    let floats = Tensor::new([extremes.len()], &extremes).unwrap();
    let types = INTEGERS.into_iter().chain([DType::F32, DType::F64, DType::Bool]);
    for to in types.clone() {
        check(Cast { to }, &[&floats], &[], Layout::Dense, 0.0);
        for from in types.clone() {
            let x = random.tensor(from, &[3, 7]);
            check(Cast { to }, &[&x], &[], Layout::Dense, 0.0);
        }
    }
    let integers = Tensor::new([6], &[i64::MIN, i64::MAX, -1, 256, 65536, 1 << 40]).unwrap();
    for to in types {
        check(Cast { to }, &[&integers], &[], Layout::Dense, 0.0);
    }
}
