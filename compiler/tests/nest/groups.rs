//! Maps over integers, booleans and mixed types, sixteen elements at a time: as evaluated, for every function and pair of types.

use cranelift_codegen::settings;
use cranelift_object::{ObjectBuilder, ObjectModule};
use nnc::code::nest::{Nest, Vectorised, emit};
use nnc::code::tile::programs::functions;
use nnc::plan::generic::GenericStep;
use nnc::target::Target;
use nnc_ir::op::elementwise::BinaryFn;
use nnc_ir::op::{Binary, Cast, Unary, Where};
use nnc_ir::{DType, Op, Tensor, TensorType};

use crate::harness::{GuardedWindow, Layout, Random, check, compiled, floats, layouts, lowered, run_steps};

const INTEGERS: [DType; 8] =
    [DType::I8, DType::U8, DType::I16, DType::U16, DType::I32, DType::U32, DType::I64, DType::U64];

/// All that an element can be in a group.
const TYPES: [DType; 12] = [
    DType::I8,
    DType::U8,
    DType::I16,
    DType::U16,
    DType::I32,
    DType::U32,
    DType::I64,
    DType::U64,
    DType::Bool,
    DType::F32,
    DType::F16,
    DType::BF16,
];

/// A few groups in flight, one, and a rest.
const LONG: [usize; 2] = [3, 64 + 32 + 16 + 5];

const FUNCTIONS: [BinaryFn; 15] = {
    use BinaryFn::*;
    [
        Add,
        Sub,
        Mul,
        Min,
        Max,
        Equal,
        Less,
        LessOrEqual,
        Greater,
        GreaterOrEqual,
        BitAnd,
        BitOr,
        BitXor,
        And,
        Or,
    ]
};

/// Bits of all kinds, whatever number they are: all of one byte, and of more the extremes and random ones.
fn bits(random: &mut Random, dtype: DType, shape: &[usize]) -> Tensor {
    let count: usize = shape.iter().product();
    let mut bytes = Vec::new();
    for i in 0..count {
        let word = match (random.below(4), dtype) {
            (_, DType::Bool) => random.below(2) as u64,
            (0, _) => [0, 1, u64::MAX, 1 << 63, i64::MAX as u64, 1 << 31, 1 << 7][i % 7],
            (1, _) => u64::MAX << random.below(64),
            (2, DType::F32) => ((random.below(600) as f32 - 300.0) * 0.7).to_bits().into(),
            (2, _) => random.below(300) as u64,
            _ => random.next() << 20 ^ random.next(),
        };
        bytes.extend(&word.to_le_bytes()[..dtype.bytes()]);
    }
    Tensor::from_bytes(TensorType::new(dtype, shape.to_vec()), bytes).unwrap()
}

fn nests(op: &Op, inputs: &[&Tensor]) -> Vec<Nest> {
    let types: Vec<Option<&TensorType>> = inputs.iter().map(|t| Some(t.ty())).collect();
    let results = op.infer(&types).unwrap();
    let windows = inputs.iter().enumerate().map(|(i, t)| GuardedWindow::of(i, t, Layout::Dense).view);
    let views: Vec<_> = windows.map(Some).collect();
    let y = GuardedWindow::new(inputs.len(), &results[0], Layout::Dense).view;
    let steps = lowered(op, &views, &[y]).unwrap().steps;
    let nests = steps.into_iter().map(|step| match step {
        GenericStep::Nest(nest) => nest,
        GenericStep::Routine(_) => panic!("{op} is a routine"),
    });
    nests.collect()
}

/// Checks an operator whose nests must go in groups.
fn check_groups(op: impl Into<Op>, inputs: &[&Tensor]) {
    let op = op.into();
    for nest in nests(&op, inputs) {
        assert!(matches!(nest.vectorised, Vectorised::Groups { .. }), "{op} of {:?}", inputs[0].ty());
    }
    check(op, inputs, &[], Layout::Dense, 0.0);
}

/// Whether a map is one of floats only, or a copy: those have other ways.
fn is_floats(types: &[DType]) -> bool {
    types.iter().all(|t| matches!(t, DType::F32 | DType::F16 | DType::BF16))
}

/// Casts that go one by one.
fn is_single(from: DType, to: DType) -> bool {
    let halves = matches!(to, DType::F16 | DType::BF16);
    (from == DType::U64 && to.is_float()) || (halves && !from.is_float() && from.bytes() > 2)
}

#[test]
fn a_cast_from_any_type_to_any_other_is_as_evaluated() {
    let mut random = Random::new(1);
    for from in TYPES {
        for to in TYPES.into_iter().filter(|&to| to != from) {
            if is_floats(&[from, to]) || is_single(from, to) {
                continue;
            }
            // Bytes are numbers that floats hold.
            if from == DType::U8 && is_floats(&[to]) {
                check(Cast { to }, &[&bits(&mut random, from, &LONG)], &[], Layout::Dense, 0.0);
                continue;
            }
            check_groups(Cast { to }, &[&bits(&mut random, from, &LONG)]);
            // Those that 32 bits hold go another way.
            check_groups(Cast { to }, &[&random.tensor(from, &LONG)]);
        }
    }
}

#[test]
fn a_cast_to_or_from_long_floats_is_as_evaluated() {
    let mut random = Random::new(3);
    let x = bits(&mut random, DType::F32, &LONG);
    check_groups(Cast { to: DType::F64 }, &[&x]);
    check_groups(Cast { to: DType::F64 }, &[&random.tensor(DType::F16, &LONG)]);
    let known = x.elems::<f32>().unwrap().into_owned();
    let wide = known.into_iter().map(f64::from).chain([0.1, -1e300, 1e-300, f64::MAX, 16777217.0, 1e-40]);
    let wide: Vec<f64> = wide.cycle().take(LONG.iter().product()).collect();
    check_groups(Cast { to: DType::F32 }, &[&Tensor::new(LONG.to_vec(), &wide).unwrap()]);
}

#[test]
fn functions_of_integers_are_as_evaluated() {
    let mut random = Random::new(2);
    for dtype in INTEGERS {
        let x = bits(&mut random, dtype, &LONG);
        for f in [
            Unary::Relu,
            Unary::Abs,
            Unary::Neg,
            Unary::Sign,
            Unary::Clip { min: -2.5, max: 6.0 },
            Unary::Clip { min: 3.0, max: 1e20 },
            Unary::Clip { min: -1e20, max: 100.0 },
        ] {
            if f.result_dtype(dtype).is_some() && !(f == Unary::Relu && dtype.name().starts_with('u')) {
                check_groups(f, &[&x]);
            }
        }
    }
    check_groups(Unary::Not, &[&random.tensor(DType::Bool, &LONG)]);
}

#[test]
fn functions_of_two_integers_or_conditions_are_as_evaluated() {
    let mut random = Random::new(3);
    for dtype in INTEGERS.into_iter().chain([DType::Bool]) {
        let (x, y) = (bits(&mut random, dtype, &LONG), bits(&mut random, dtype, &LONG));
        let one = bits(&mut random, dtype, &[LONG[0], 1]);
        for function in FUNCTIONS.into_iter().chain([BinaryFn::Xor]) {
            if function.result_dtype(dtype, dtype).is_some() {
                check_groups(Binary { function, activation: None }, &[&x, &y]);
                check_groups(Binary { function, activation: None }, &[&x, &x]);
                check_groups(Binary { function, activation: None }, &[&one, &y]);
            }
        }
    }
}

#[test]
fn comparisons_and_choices_of_floats_are_as_evaluated() {
    let mut random = Random::new(4);
    let condition = random.tensor(DType::Bool, &LONG);
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        let (x, y) = (bits(&mut random, dtype, &LONG), bits(&mut random, dtype, &LONG));
        for function in [BinaryFn::Equal, BinaryFn::Less, BinaryFn::GreaterOrEqual] {
            check_groups(Binary { function, activation: None }, &[&x, &y]);
        }
        check_groups(Unary::IsNan, &[&x]);
        check_groups(Unary::IsInf { negative: true, positive: false }, &[&x]);
    }
    for dtype in TYPES.into_iter().filter(|t| !matches!(t, DType::F16 | DType::BF16)) {
        let (x, y) = (bits(&mut random, dtype, &LONG), bits(&mut random, dtype, &[LONG[1]]));
        check_groups(Where, &[&condition, &x, &y]);
        check_groups(Where, &[&random.tensor(DType::Bool, &[1]), &x, &y]);
    }
}

#[test]
fn functions_of_f64_and_rare_ones_of_f32_have_the_bits_of_one_element() {
    let mut random = Random::new(8);
    let rare = [
        Unary::Sin,
        Unary::Cos,
        Unary::Tan,
        Unary::Asin,
        Unary::Acos,
        Unary::Atan,
        Unary::Sinh,
        Unary::Cosh,
        Unary::Asinh,
        Unary::Acosh,
        Unary::Atanh,
        Unary::Power { exponent: 0.3 },
    ];
    for dtype in [DType::F32, DType::F64] {
        for f in rare.into_iter().chain([Unary::Exp, Unary::Log, Unary::Tanh]) {
            // Some of `f32` are tile programs.
            let is_rare = rare.contains(&f) && !functions::has(f);
            if dtype == DType::F32 && !is_rare {
                continue;
            }
            for x in [bits(&mut random, dtype, &[4, 15]), random.tensor(dtype, &[4, 15])] {
                let op = Op::from(f);
                let by_groups = matches!(nests(&op, &[&x])[0].vectorised, Vectorised::Groups { .. });
                assert!(by_groups, "{op} of {dtype}");
                // Rows that are apart, and too short for a group.
                let apart = Layout::Strided(4);
                let together = compiled(&op, &[Some(&x)], &[], Layout::Dense).remove(0);
                let one_by_one = compiled(&op, &[Some(&x)], &[apart], apart).remove(0);
                for ((x, a), b) in floats(&x).iter().zip(floats(&together)).zip(floats(&one_by_one)) {
                    let same = a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
                    assert!(same, "{op} of {x}: {a}, alone {b}");
                }
            }
        }
    }
}

#[test]
fn a_map_over_its_own_operand_takes_each_element_once() {
    let x = Random::new(7).tensor(DType::I32, &[3, 21]);
    let op = Op::from(Unary::Neg);
    let expected = op.eval(&[Some(&x)]).unwrap().remove(0);
    let mut window = GuardedWindow::of(0, &x, Layout::Strided(4));
    // Rows are apart, so that none goes on in the next one.
    let steps = lowered(&op, &[Some(window.view.clone())], &[window.view.clone()]).unwrap().steps;
    assert!(matches!(&steps[0], GenericStep::Nest(n) if matches!(n.vectorised, Vectorised::Groups { .. })));
    run_steps(&steps, &mut [&mut window]);
    assert_eq!(window.read("in place").bytes(), expected.bytes());
}

#[test]
fn groups_take_any_strides() {
    let mut random = Random::new(5);
    let c = random.tensor(DType::Bool, &[2, 19, 3, 17]);
    for dtype in [DType::F32, DType::U8, DType::I64] {
        let (x, y) = (random.tensor(dtype, &[2, 19, 3, 17]), random.tensor(dtype, &[19, 1, 1]));
        for (inputs, out) in layouts() {
            check(Where, &[&c, &x, &y], &inputs, out, 0.0);
            check(Cast { to: DType::I32 }, &[&x], &inputs, out, 0.0);
        }
    }
}

/// Cranelift does not have every instruction for every vector: what it lacks, it says when it compiles.
#[test]
fn every_target_has_the_instructions_of_groups() {
    let mut random = Random::new(6);
    let shape = [40];
    let mut nests_of = Vec::new();
    for from in TYPES.into_iter().chain([DType::F64]) {
        let x = random.tensor(from, &shape);
        for to in TYPES.into_iter().filter(|&to| to != from) {
            nests_of.extend(nests(&Cast { to }.into(), &[&x]));
        }
        for function in FUNCTIONS.into_iter().filter(|f| f.result_dtype(from, from).is_some()) {
            nests_of.extend(nests(&Binary { function, activation: None }.into(), &[&x, &x]));
        }
        for f in [Unary::Abs, Unary::Sign, Unary::Not, Unary::Clip { min: 1.0, max: 2.0 }] {
            if f.result_dtype(from).is_some() {
                nests_of.extend(nests(&f.into(), &[&x]));
            }
        }
        for f in
            [Unary::Sin, Unary::Tan, Unary::Atan, Unary::Acosh, Unary::Atanh, Unary::Power { exponent: 0.3 }]
        {
            if f.result_dtype(from).is_some() {
                nests_of.extend(nests(&f.into(), &[&x]));
            }
        }
        if from.is_float() {
            nests_of.extend(nests(&Binary { function: BinaryFn::Pow, activation: None }.into(), &[&x, &x]));
        }
        let c = random.tensor(DType::Bool, &shape);
        nests_of.extend(nests(&Where.into(), &[&c, &x, &x]));
    }
    for name in ["x86-64-v2", "x86-64-v3", "x86-64-v4", "aarch64"] {
        let target = Target::named(name).unwrap();
        let isa = nnc::code::isa::for_layers(&target, true).unwrap();
        assert_eq!(isa.flags().opt_level(), settings::OptLevel::None);
        let names = cranelift_module::default_libcall_names();
        let mut module = ObjectModule::new(ObjectBuilder::new(isa, "groups", names).unwrap());
        for (i, nest) in nests_of.iter().enumerate() {
            emit::emit(nest, &mut module, &format!("nest{i}"), &target)
                .unwrap_or_else(|e| panic!("{name}: {e:?}: {nest:?}"));
        }
    }
}
