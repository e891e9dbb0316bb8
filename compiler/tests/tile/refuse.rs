//! What is refused, and how.

use nnc::code::tile::error::TileError;
use nnc::code::tile::ir::{
    BinOp, Builder, ByteRange, Inst, Int, Lanes, ParamKind, ParamRole, Source, Trips, Vector, at,
};
use nnc::code::tile::verify::verify;
use nnc::code::tile::{fits, lower};
use nnc::target::{Target, TargetError, names};

/// A builder with an input and an output of 64 bytes and a count up to 4.
fn builder() -> (Builder, Int, Int, Int) {
    let mut b = Builder::new("test");
    let range = ByteRange::new(0, 64);
    let input = b.param(ParamRole::Input, ParamKind::Read { range });
    let output = b.param(ParamRole::Output, ParamKind::Write { range });
    let count = b.param(ParamRole::Tiles, ParamKind::Count { max: 4 });
    (b, input, output, count)
}

fn refused(b: Builder) -> TileError {
    verify(&b.finish()).expect_err("must be refused")
}

#[test]
fn a_load_beyond_its_range_is_refused_with_the_bytes() {
    let (mut b, input, ..) = builder();
    b.load(Lanes::X16, 16, at(input, 4));
    let error = refused(b);
    assert_eq!(
        error.to_string(),
        "tile \"test\": touches bytes 4..68 of Input but may touch only 0..64; check displacements and loop counts"
    );
}

#[test]
fn a_loop_is_refused_if_its_last_round_leaves_the_range() {
    for (max_rounds, ok) in [(4, true), (5, false)] {
        let (mut b, input, ..) = builder();
        b.begin();
        b.load(Lanes::X4, 4, at(input, 0));
        b.advance(input, 16);
        b.end(Trips::Imm(max_rounds));
        assert_eq!(verify(&b.finish()).is_ok(), ok, "{max_rounds}");
    }
}

#[test]
fn a_count_parameter_counts_with_its_maximum_even_when_nested() {
    for (step, ok) in [(4, true), (5, false)] {
        let (mut b, input, _, count) = builder();
        b.begin();
        b.begin();
        b.push(Inst::Splat { dst: Vector(0), addr: at(input, 0) });
        b.advance(input, step);
        b.end(Trips::Param(count));
        b.end(Trips::Param(count));
        let mut program = b.finish();
        program.vectors.push(Lanes::X4);
        // 16 rounds of 4 bytes fill the input exactly.
        assert_eq!(verify(&program).is_ok(), ok, "{step}");
    }
}

#[test]
fn a_pointer_that_walks_backwards_is_seen() {
    let (mut b, input, ..) = builder();
    b.begin();
    b.load(Lanes::X4, 4, at(input, 48));
    b.advance(input, -20);
    b.end(Trips::Imm(4));
    assert!(matches!(refused(b), TileError::OutOfExtent { touched: ByteRange { lo: -12, hi: 64 }, .. }));
}

#[test]
fn a_table_entry_moves_a_pointer_by_no_more_than_its_class_says() {
    for (length, ok) in [(8, true), (16, false)] {
        let (mut b, input, ..) = builder();
        let classes = vec![(2, ByteRange::new(0, 1)), (1, ByteRange::new(0, 33))];
        let table = b.param(ParamRole::Table, ParamKind::Table { classes });
        let run = b.pointer();
        b.push(Inst::Lookup { dst: run, base: input, entry: at(table, 8) });
        let lanes = Lanes::holding(length).expect("8 or 16");
        b.load(lanes, length, at(run, 0));
        assert_eq!(verify(&b.finish()).is_ok(), ok, "{length}");
    }
}

#[test]
fn a_store_to_read_only_memory_is_refused() {
    let (mut b, input, ..) = builder();
    let x = b.constant(Lanes::X4, 1.0);
    b.store(x, 4, at(input, 0));
    assert!(matches!(refused(b), TileError::WritesReadOnly { role: ParamRole::Input, .. }));
}

#[test]
fn a_register_must_be_written_on_every_path_before_it_is_read() {
    let (mut b, _, output, count) = builder();
    let x = b.vector(Lanes::X4);
    b.begin();
    b.push(Inst::Const { dst: x, bits: 0 });
    b.end(Trips::Param(count));
    b.store(x, 4, at(output, 0));
    assert!(matches!(refused(b), TileError::Undefined { .. }));

    let (mut b, _, output, _) = builder();
    let x = b.vector(Lanes::X4);
    b.begin();
    b.push(Inst::Const { dst: x, bits: 0 });
    b.end(Trips::Imm(2));
    b.store(x, 4, at(output, 0));
    assert_eq!(verify(&b.finish()), Ok(()));
}

#[test]
fn an_operand_must_be_as_wide_as_the_result() {
    let (mut b, input, ..) = builder();
    let narrow = b.load(Lanes::X4, 4, at(input, 0));
    let wide = b.load(Lanes::X8, 8, at(input, 0));
    b.bin(BinOp::Add, wide, wide, Source::Reg(narrow));
    assert!(matches!(refused(b), TileError::Width { found: 4, wanted: 8, .. }));
}

#[test]
fn a_count_is_no_pointer_and_a_pointer_no_count() {
    let (mut b, _, _, count) = builder();
    b.load(Lanes::X4, 4, at(count, 0));
    assert!(matches!(refused(b), TileError::BadRegister { .. }));

    let (mut b, input, ..) = builder();
    b.begin();
    b.constant(Lanes::X4, 0.0);
    b.end(Trips::Param(input));
    assert!(matches!(refused(b), TileError::BadRegister { .. }));
}

#[test]
fn a_tile_that_is_too_large_names_the_register_file() {
    let (mut b, input, output, _) = builder();
    let all: Vec<Vector> = (0..33).map(|_| b.load(Lanes::X4, 4, at(input, 0))).collect();
    all.iter().for_each(|v| b.store(*v, 4, at(output, 0)));
    let program = b.finish();
    for (name, registers) in [("x86-64-v3", 16), ("x86-64-v4", 32)] {
        let target = Target::named(name).expect("a known name");
        let error = fits(&program, &target).expect_err("33 registers");
        assert!(matches!(error, TileError::VectorPressure { available, .. } if available == registers));
        assert_eq!(lower(&program, &target), Err(error));
    }
    let clif = Target::named("x86-64-v2").expect("a known name");
    assert!(lower(&program, &clif).is_ok(), "Cranelift spills");
}

#[test]
fn an_unknown_target_is_refused_with_the_known_names() {
    let error = Target::named("x86-64-v5").expect_err("not a level");
    assert_eq!(error, TargetError::Unknown { name: "x86-64-v5".into() });
    for name in names() {
        assert!(error.to_string().contains(&name), "{error}");
    }
}

#[test]
fn every_known_target_has_a_code_generator() {
    for name in names() {
        let target = Target::named(&name).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(target.name, name);
        for pic in [false, true] {
            nnc::code::isa::for_layers(&target, pic).unwrap_or_else(|e| panic!("{e}"));
        }
    }
}
