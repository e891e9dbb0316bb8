//! From a [`Nest`] to a layer function in Cranelift IR.
//!
//! The function is a tree of counted loops with constant bounds. On its way in, each operand's address grows by index
//! times stride, so that the innermost loop adds nothing but its own index; unrolled vectors differ by a constant
//! displacement. What does not depend on the innermost loop is loaded in front of it.

mod transpose;

use std::ops::Range;

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{
    AbiParam, BlockArg, Endianness, ExtFuncData, ExternalName, Function, InstBuilder, MemFlagsData,
    Signature, UserExternalName, UserFuncName, Value, types,
};
use cranelift_codegen::isa::{CallConv, TargetFrontendConfig};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use cranelift_module::{FuncId, Linkage, Module, ModuleError};
use nnc_ir::DType;
use nnc_ir::op::elementwise::BinaryFn;

use super::expr::Expr;
use super::group::{self, GROUP, GroupWriter};
use super::{Accumulator, Bound, Fold, LANES, Nest, Operand, Vectorised, scalar};
use crate::code::float::Float;
use crate::code::half;
use crate::code::math::Math;
use crate::code::tile::{self, Lowered};
use crate::target::{Arch, Target};

/// Elements that are moved one by one in a step of a loop.
const MOVED_TOGETHER: usize = 8;

/// The longest reduction axis that is written out.
const FEW_TAPS: usize = 4;

/// Defines the layer function of a nest in a module, and its kernel if it has one. The nest must have passed
/// [`Nest::check`].
pub fn emit(
    nest: &Nest,
    module: &mut dyn Module,
    name: &str,
    target: &Target,
) -> Result<FuncId, Box<ModuleError>> {
    let refused = |e: tile::TileError| Box::new(ModuleError::Backend(e.into()));
    let kernel = match nest.kernel_for(target) {
        Some(program) => Lowered::new(&program, target)
            .and_then(|kernel| kernel.define(module, &format!("{name}_kernel")))
            .map_err(refused)?,
        None => FuncId::from_u32(0),
    };
    define(module, name, |function, context, config| {
        build(nest, kernel.as_u32(), target, function, context, config);
    })
}

/// Defines a layer function in a module.
pub fn define(
    module: &mut dyn Module,
    name: &str,
    build: impl FnOnce(&mut Function, &mut FunctionBuilderContext, TargetFrontendConfig),
) -> Result<FuncId, Box<ModuleError>> {
    let signature = layer_signature();
    let id = module.declare_function(name, Linkage::Export, &signature)?;
    let mut context = module.make_context();
    context.func = Function::with_name_signature(UserFuncName::user(0, id.as_u32()), signature);
    let mut builder_context = FunctionBuilderContext::new();
    build(&mut context.func, &mut builder_context, module.target_config());
    module.define_function(id, &mut context)?;
    Ok(id)
}

/// `fn(bases, begin, end, scratch)`, see [`nnc_runtime::abi::LayerFn`]; of 64 bits each.
pub fn layer_signature() -> Signature {
    let mut signature = Signature::new(CallConv::SystemV);
    signature.params = vec![AbiParam::new(types::I64); 4];
    signature
}

/// What a layer function is called with, in the order of [`layer_signature`].
pub struct LayerArgs {
    /// Address of the base pointers.
    pub bases: Value,
    /// The first unit.
    pub begin: Value,
    /// The one behind the last unit.
    pub end: Value,
    /// Address of the thread's scratch.
    pub scratch: Value,
}

impl LayerArgs {
    /// Begins the body of a layer function.
    pub fn enter(b: &mut FunctionBuilder<'_>) -> LayerArgs {
        let entry = b.create_block();
        b.append_block_params_for_function_params(entry);
        b.switch_to_block(entry);
        b.seal_block(entry);
        let params = b.block_params(entry);
        LayerArgs { bases: params[0], begin: params[1], end: params[2], scratch: params[3] }
    }
}

/// Fills in the body of a layer function. `kernel` is the number by which its module knows the nest's kernel.
pub fn build(
    nest: &Nest,
    kernel: u32,
    target: &Target,
    function: &mut Function,
    context: &mut FunctionBuilderContext,
    config: TargetFrontendConfig,
) {
    let mut b = FunctionBuilder::new(function, context);
    let LayerArgs { bases, begin, end, scratch } = LayerArgs::enter(&mut b);
    let mut emitter = NestEmitter {
        nest,
        kernel,
        arch: target.arch,
        fused: target.fma,
        scratch,
        b: &mut b,
        streams: streams(nest),
        operand_types: nest.dtypes().0,
        loaded: Vec::new(),
    };
    let at = emitter.base_addresses(bases);
    let place = Position { at, index: vec![None; nest.loops.len() + nest.reduce.len()], hoisted: Vec::new() };
    emitter.units(begin, end, &place);
    b.ins().return_(&[]);
    b.finalize(config);
}

/// Something with an address: an operand, a table of one, or the result.
struct Stream {
    arg: usize,
    offset: i64,
    strides: Vec<i64>,
    /// For a table: the stream whose address its entries are added to, and the innermost loop it depends on.
    table_of: Option<(usize, Option<usize>)>,
}

/// Operands, then the result, then tables.
fn streams(nest: &Nest) -> Vec<Stream> {
    let plain =
        |o: &Operand| Stream { arg: o.arg, offset: o.offset, strides: o.strides.clone(), table_of: None };
    let mut streams: Vec<Stream> = nest.operands.iter().map(plain).collect();
    streams.push(plain(&nest.result));
    for (owner, operand) in nest.operands.iter().enumerate() {
        streams.extend(operand.tables.iter().map(|t| Stream {
            arg: t.arg,
            offset: t.offset,
            strides: t.strides.clone(),
            table_of: Some((owner, t.strides.iter().rposition(|&s| s != 0))),
        }));
    }
    streams
}

/// Where in the iteration space code is being written.
#[derive(Clone)]
struct Position {
    /// The address of each stream.
    at: Vec<Value>,
    /// The index of each loop that has been entered.
    index: Vec<Option<Value>>,
    /// Operands that have been loaded already: as one element, and in all lanes.
    hoisted: Vec<Option<(Value, Value)>>,
}

/// How elements are computed: one, or `LANES` times so many, or so many groups of any types.
#[derive(Clone, Copy, PartialEq)]
enum Width {
    One,
    Vectors(usize),
    Groups(usize),
}

impl Width {
    fn vectors(self) -> usize {
        match self {
            Width::One => 1,
            Width::Vectors(n) | Width::Groups(n) => n,
        }
    }

    fn elements(self) -> usize {
        match self {
            Width::One => 1,
            Width::Vectors(n) => LANES * n,
            Width::Groups(n) => GROUP * n,
        }
    }

    fn lanes(self) -> bool {
        self != Width::One
    }
}

/// The loops over `extent` elements: so many steps of each width, one after another.
fn sections(extent: usize, width: fn(usize) -> Width, unroll: usize) -> Vec<(Width, usize)> {
    let (one, all) = (width(1).elements(), width(unroll).elements());
    let (main, rest) = (extent / all, extent % all);
    [(width(unroll), main), (width(1), rest / one), (Width::One, rest % one)]
        .into_iter()
        .filter(|&(_, steps)| steps > 0)
        .collect()
}

struct NestEmitter<'a, 'f> {
    nest: &'a Nest,
    kernel: u32,
    arch: Arch,
    /// Whether multiply-add rounds once.
    fused: bool,
    scratch: Value,
    b: &'a mut FunctionBuilder<'f>,
    streams: Vec<Stream>,
    /// Types of operands as they are computed with.
    operand_types: Vec<DType>,
    /// What has been loaded at the places that are being computed: address, displacement, type, in lanes.
    loaded: Vec<((Value, i32, DType, bool), Value)>,
}

impl<'f> NestEmitter<'_, 'f> {
    fn base_addresses(&mut self, bases: Value) -> Vec<Value> {
        let flags = MemFlagsData::trusted().with_readonly();
        let mut loaded: Vec<(usize, Value)> = Vec::new();
        let mut at = Vec::new();
        for i in 0..self.streams.len() {
            let Stream { arg, offset, .. } = self.streams[i];
            let base = match loaded.iter().find(|(a, _)| *a == arg) {
                Some(&(_, base)) => base,
                None => {
                    let base = self.b.ins().load(types::I64, flags, bases, (arg * 8) as i32);
                    loaded.push((arg, base));
                    base
                }
            };
            at.push(self.displaced(base, offset));
        }
        // Tables that depend on no loop.
        self.add_tables(&mut at, None);
        at
    }

    fn displaced(&mut self, v: Value, by: i64) -> Value {
        if by == 0 { v } else { self.b.ins().iadd_imm_s(v, by) }
    }

    fn times(&mut self, v: Value, k: i64) -> Value {
        match k {
            1 => v,
            _ if k > 0 && k.count_ones() == 1 => self.b.ins().ishl_imm_s(v, i64::from(k.trailing_zeros())),
            _ => self.b.ins().imul_imm_s(v, k),
        }
    }

    /// The place inside of loop `axis` at an index.
    fn entered(&mut self, place: &Position, axis: usize, index: Value) -> Position {
        let mut place = place.clone();
        place.index[axis] = Some(index);
        let mut products: Vec<(i64, Value)> = Vec::new();
        for i in 0..self.streams.len() {
            let Some(&stride) = self.streams[i].strides.get(axis).filter(|s| **s != 0) else { continue };
            let product = match products.iter().find(|(s, _)| *s == stride) {
                Some(&(_, product)) => product,
                None => {
                    let product = self.times(index, stride);
                    products.push((stride, product));
                    product
                }
            };
            place.at[i] = self.b.ins().iadd(place.at[i], product);
        }
        self.add_tables(&mut place.at, Some(axis));
        place
    }

    /// Adds the entries of the tables whose address is complete behind loop `axis`.
    fn add_tables(&mut self, at: &mut [Value], axis: Option<usize>) {
        for i in 0..self.streams.len() {
            let Some((owner, innermost)) = self.streams[i].table_of else { continue };
            if innermost == axis {
                let entry = self.b.ins().load(types::I32, memory(), at[i], 0);
                let entry = self.b.ins().sextend(types::I64, entry);
                at[owner] = self.b.ins().iadd(at[owner], entry);
            }
        }
    }

    /// `for i in low..high step step`, carrying values.
    fn counted(
        &mut self,
        (low, high, step): (Value, Value, i64),
        carried: &[Value],
        body: impl FnOnce(&mut Self, Value, &[Value]) -> Vec<Value>,
    ) -> Vec<Value> {
        let any = self.b.ins().icmp(IntCC::SignedLessThan, low, high);
        self.looped(Some(any), (low, high, step), carried, body)
    }

    /// The same loop, which has a first step if `any` holds, or in any case.
    ///
    /// The condition comes behind the body, so that the block that begins the loop dominates all of it: what does not change in the loop
    /// leaves it only then.
    fn looped(
        &mut self,
        any: Option<Value>,
        (low, high, step): (Value, Value, i64),
        carried: &[Value],
        body: impl FnOnce(&mut Self, Value, &[Value]) -> Vec<Value>,
    ) -> Vec<Value> {
        let (inside, done) = (self.b.create_block(), self.b.create_block());
        self.b.append_block_param(inside, types::I64);
        for &v in carried {
            let ty = self.b.func.dfg.value_type(v);
            self.b.append_block_param(inside, ty);
            self.b.append_block_param(done, ty);
        }
        let args = |values: &[Value]| values.iter().copied().map(BlockArg::from).collect::<Vec<BlockArg>>();
        let first = args(&[&[low], carried].concat());
        match any {
            Some(any) => self.b.ins().brif(any, inside, &first, done, &args(carried)),
            None => self.b.ins().jump(inside, &first),
        };
        self.b.switch_to_block(inside);
        let params = self.b.block_params(inside).to_vec();
        let next = body(self, params[0], &params[1..]);
        let index = self.b.ins().iadd_imm_s(params[0], step);
        let more = self.b.ins().icmp(IntCC::SignedLessThan, index, high);
        self.b.ins().brif(more, inside, &args(&[&[index], &next[..]].concat()), done, &args(&next));
        self.b.seal_block(inside);
        self.b.switch_to_block(done);
        self.b.seal_block(done);
        self.b.block_params(done).to_vec()
    }

    /// A loop of constant bounds; no loop where there is one step only.
    fn fixed(
        &mut self,
        (low, steps, step): (usize, usize, usize),
        carried: &[Value],
        body: impl FnOnce(&mut Self, Value, &[Value]) -> Vec<Value>,
    ) -> Vec<Value> {
        let first = self.index(low);
        match steps {
            0 => carried.to_vec(),
            1 => body(self, first, carried),
            _ => {
                let end = self.index(low + steps * step);
                self.looped(None, (first, end, step as i64), carried, body)
            }
        }
    }

    fn index(&mut self, i: usize) -> Value {
        self.b.ins().iconst(types::I64, i as i64)
    }

    fn units(&mut self, begin: Value, end: Value, place: &Position) {
        let extents = self.nest.loops[..self.nest.unit_axes].to_vec();
        self.counted((begin, end, 1), &[], |e, unit, _| {
            let mut place = place.clone();
            let mut left = unit;
            for (axis, &extent) in extents.iter().enumerate().rev() {
                let index = if axis == 0 {
                    left
                } else {
                    let divisor = e.index(extent);
                    let index = e.b.ins().urem(left, divisor);
                    left = e.b.ins().udiv(left, divisor);
                    index
                };
                place = e.entered(&place, axis, index);
            }
            e.level(extents.len(), &place);
            Vec::new()
        });
    }

    /// Writes the loops from `axis` inwards.
    fn level(&mut self, axis: usize, place: &Position) {
        let nest = self.nest;
        let extent = nest.loops.get(axis).copied().unwrap_or(1);
        match (nest.loops.len() - axis, nest.vectorised) {
            (2, Vectorised::Kernel | Vectorised::Bytes)
                if nest.reduce.is_empty() && nest.map_rows() == Some(axis) =>
            {
                self.row(place)
            }
            (0 | 1, Vectorised::Kernel) | (1, Vectorised::Scan | Vectorised::Bytes) => self.row(place),
            (2, Vectorised::Windows | Vectorised::Resampled { .. }) => self.row(place),
            (0, _) => self.elements(std::slice::from_ref(place), Width::One),
            (1, _) => self.innermost(axis, std::slice::from_ref(place)),
            (2, Vectorised::Transpose) => self.transposed(axis, place),
            (2, Vectorised::Loop { rows, .. }) if rows > 1 => {
                let rows = usize::from(rows);
                let (together, left) = (extent / rows, extent % rows);
                for (low, rows, steps) in [(0, rows, together), (together * rows, 1, left)] {
                    self.fixed((low, steps, rows), &[], |e, index, _| {
                        let places: Vec<Position> = (0..rows)
                            .map(|row| {
                                let index = e.displaced(index, row as i64);
                                e.entered(place, axis, index)
                            })
                            .collect();
                        e.innermost(axis + 1, &places);
                        Vec::new()
                    });
                }
            }
            _ => {
                self.fixed((0, extent, 1), &[], |e, index, _| {
                    let place = e.entered(place, axis, index);
                    e.level(axis + 1, &place);
                    Vec::new()
                });
            }
        }
    }

    /// The innermost loops, the reduction, or both, by the nest's kernel.
    fn row(&mut self, place: &Position) {
        let mut args = place.at[..=self.nest.operands.len()].to_vec();
        match self.nest.vectorised {
            Vectorised::Windows => args.push(self.scratch),
            Vectorised::Resampled { .. } => {
                args.push(self.scratch);
                args.extend(&place.at[self.nest.operands.len() + 1..]);
            }
            _ => {}
        }
        let signature = self.b.func.import_signature(tile::signature(args.len()));
        let name = UserExternalName { namespace: 0, index: self.kernel };
        let name = ExternalName::user(self.b.func.declare_imported_user_function(name));
        // Near enough for a direct call, because it will be in the same module.
        let kernel = ExtFuncData { name, signature, colocated: true, patchable: false };
        let kernel = self.b.func.import_function(kernel);
        self.b.ins().call(kernel, &args);
    }

    /// The innermost loop, for some rows at once.
    fn innermost(&mut self, axis: usize, places: &[Position]) {
        let nest = self.nest;
        let extent = nest.loops[axis];
        if let ([place], true) = (places, self.moves_ones()) {
            return self.moved(axis, place);
        }
        let doubles = group::doubles(&nest.value, &self.operand_types);
        let split = match nest.vectorised {
            Vectorised::Loop { unroll, .. } => sections(extent, Width::Vectors, unroll.into()),
            Vectorised::Groups { unroll } => {
                let mut split = sections(extent, Width::Groups, unroll.into());
                // What is left over goes with elements that are done, unless it lies over an operand, or is little more than moved.
                let apart = nest.operands.iter().all(|o| o.arg != nest.result.arg);
                let group = |last: &&mut (Width, usize)| {
                    last.0 == Width::One && apart && extent >= GROUP && !(doubles && last.1 <= LANES)
                };
                if let Some(last) = split.last_mut().filter(group) {
                    *last = (Width::Groups(1), 1);
                }
                split
            }
            Vectorised::Scalar
            | Vectorised::Reduce { .. }
            | Vectorised::Kernel
            | Vectorised::Bytes
            | Vectorised::Transpose
            | Vectorised::Windows
            | Vectorised::Resampled { .. }
            | Vectorised::Scan => {
                vec![(Width::One, extent)]
            }
        };
        let places: Vec<Position> = places.iter().map(|place| self.hoisted(place, axis)).collect();
        // A few moved elements need no loop.
        let flat = nest.accumulators.is_empty() && matches!(nest.value, Expr::Operand(_)) && extent <= LANES;
        let mut low = 0;
        for (width, steps) in split {
            low = low.min(extent - steps * width.elements());
            let body = |e: &mut Self, index: Value, _: &[Value]| {
                let places: Vec<Position> =
                    places.iter().map(|place| e.entered(place, axis, index)).collect();
                e.elements(&places, width);
                Vec::new()
            };
            if flat || (doubles && width == Width::One && steps <= LANES) {
                for step in 0..steps {
                    self.fixed((low + step * width.elements(), 1, 1), &[], body);
                }
            } else {
                self.fixed((low, steps, width.elements()), &[], body);
            }
            low += steps * width.elements();
        }
    }

    /// Whether the nest moves elements one by one, whose bits stay as they are.
    fn moves_ones(&self) -> bool {
        let nest = self.nest;
        let [operand] = nest.operands.as_slice() else { return false };
        let plain = nest.reduce.is_empty() && nest.value == Expr::Operand(0);
        let alike = operand.dtype == nest.result.dtype && scalar::element_type(operand.dtype).is_some();
        nest.vectorised == Vectorised::Scalar && plain && alike
    }

    /// The innermost loop of such a nest, so many elements at a time that the loop costs little beside them.
    fn moved(&mut self, axis: usize, place: &Position) {
        let nest = self.nest;
        let extent = nest.loops[axis];
        let (operand, result) = (&nest.operands[0], &nest.result);
        let Some(ty) = scalar::element_type(operand.dtype) else { return };
        // Tables whose entries differ along the loop.
        let tables = (2..self.streams.len())
            .filter(|&i| matches!(self.streams[i].table_of, Some((0, Some(a))) if a == axis));
        let tables: Vec<(usize, i64)> = tables.map(|i| (i, self.streams[i].strides[axis])).collect();
        let steps = [operand.strides[axis], result.strides[axis]];
        let reach =
            |step: i64| step.checked_mul(MOVED_TOGETHER as i64).is_some_and(|n| i32::try_from(n).is_ok());
        let near = steps.into_iter().chain(tables.iter().map(|table| table.1)).all(reach);
        let together = if near { MOVED_TOGETHER } else { 1 };
        let (rounds, left) = (extent / together, extent % together);
        let body = |count: usize| {
            let tables = tables.clone();
            move |e: &mut Self, index: Value, _: &[Value]| {
                let mut at = place.at.clone();
                for stream in [0, 1].into_iter().chain(tables.iter().map(|table| table.0)) {
                    let by = e.times(index, e.streams[stream].strides[axis]);
                    at[stream] = e.b.ins().iadd(at[stream], by);
                }
                for n in 0..count as i64 {
                    let mut from = at[0];
                    for &(table, step) in &tables {
                        let entry = e.b.ins().load(types::I32, memory(), at[table], (n * step) as i32);
                        let entry = e.b.ins().sextend(types::I64, entry);
                        from = e.b.ins().iadd(from, entry);
                    }
                    let one = e.b.ins().load(ty, memory(), from, (n * steps[0]) as i32);
                    e.b.ins().store(memory(), one, at[1], (n * steps[1]) as i32);
                }
                Vec::new()
            }
        };
        self.fixed((0, rounds, together), &[], body(together));
        if left > 0 {
            self.fixed((rounds * together, 1, left), &[], body(left));
        }
    }

    /// Loads the operands that depend neither on the innermost loop nor on the reduction.
    fn hoisted(&mut self, place: &Position, axis: usize) -> Position {
        let nest = self.nest;
        let lanes = matches!(nest.vectorised, Vectorised::Loop { .. } | Vectorised::Reduce { .. });
        let fixed = |strides: &[i64]| strides[axis..].iter().all(|&s| s == 0);
        let hoisted = (nest.operands.iter().enumerate())
            .map(|(i, operand)| {
                if !fixed(&operand.strides) || !operand.tables.iter().all(|t| fixed(&t.strides)) {
                    return None;
                }
                let one = self.load(operand, place.at[i], 0);
                let all = match nest.vectorised {
                    Vectorised::Groups { .. } => self.groups().splat(operand.dtype, one),
                    // What is no f32 in a register stands in no vector.
                    _ if lanes && Float::of(operand.dtype).is_some() => self.b.ins().splat(types::F32X4, one),
                    _ => one,
                };
                Some((one, all))
            })
            .collect();
        Position { hoisted, ..place.clone() }
    }

    fn load(&mut self, operand: &Operand, at: Value, displacement: i32) -> Value {
        match scalar::element_type(operand.dtype) {
            Some(ty) => self.b.ins().load(ty, memory(), at, displacement),
            None => {
                let bits = self.b.ins().load(types::I16, memory(), at, displacement);
                half::widened(self.b, operand.dtype, bits)
            }
        }
    }

    /// Computes and stores the element (or the vectors) at each place.
    fn elements(&mut self, places: &[Position], width: Width) {
        let nest = self.nest;
        if let Width::Groups(groups) = width {
            return places.iter().for_each(|place| self.grouped(place, groups));
        }
        let (accumulators, width) = match nest.vectorised {
            Vectorised::Reduce { unroll } => (self.reduced_in_vectors(places, unroll.into()), Width::One),
            Vectorised::Scalar | Vectorised::Loop { .. } | Vectorised::Groups { .. } => {
                (self.reduced(places, width), width)
            }
            Vectorised::Kernel
            | Vectorised::Bytes
            | Vectorised::Transpose
            | Vectorised::Windows
            | Vectorised::Resampled { .. }
            | Vectorised::Scan => (self.reduced(places, width), width),
        };
        let inner = nest.loops.len().checked_sub(1);
        self.loaded.clear();
        let mut values = Vec::new();
        let float = Float::of(nest.result.dtype);
        let vector_bytes = LANES as i32 * nest.result.dtype.bytes() as i32;
        // Bits of half floats are moved, not converted there and back; what is the same for all lanes is made once.
        let varies = inner.is_some_and(|axis| nest.operands.first().is_some_and(|o| o.strides[axis] != 0));
        let moved = nest.moves().is_some_and(Float::is_half) && (varies || !width.lanes());
        for (i, place) in places.iter().enumerate() {
            for vector in 0..width.vectors() {
                if moved {
                    let ty = if width.lanes() { types::I64 } else { types::I16 };
                    let v = self.b.ins().load(ty, memory(), place.at[0], vector_bytes * vector as i32);
                    values.push((v, place.at[1], vector_bytes * vector as i32));
                    continue;
                }
                let at = EvalPoint { place, axis: inner, vector, lanes: width.lanes() };
                let v = self.value(&nest.value, &at, &accumulators[i * width.vectors() + vector]);
                let v = match (width.lanes(), float) {
                    (true, Some(Float::F32 | Float::U8) | None) => self.floats(v),
                    (true, Some(half)) => {
                        let v = self.floats(v);
                        half::packed(self.b, half.dtype(), v)
                    }
                    (false, Some(half @ (Float::F16 | Float::Bf16))) => {
                        half::narrowed(self.b, half.dtype(), v)
                    }
                    (false, Some(Float::F32 | Float::U8) | None) => v,
                };
                values.push((v, place.at[nest.operands.len()], vector_bytes * vector as i32));
            }
        }
        for (v, at, displacement) in values {
            self.b.ins().store(memory(), v, at, displacement);
        }
    }

    fn groups(&mut self) -> GroupWriter<'_, 'f> {
        GroupWriter { b: self.b, operands: &self.operand_types, arch: self.arch }
    }

    /// Computes and stores some groups of elements.
    fn grouped(&mut self, place: &Position, groups: usize) {
        let nest = self.nest;
        let (at, axis) = (&place.at, nest.loops.len() - 1);
        let moved = |dtype: DType, group: usize| (group * GROUP * dtype.bytes()) as i32;
        let mut values = Vec::new();
        for group in 0..groups {
            let mut loaded: Vec<Option<group::ElementGroup>> = vec![None; nest.operands.len()];
            let mut operand = |w: &mut GroupWriter<'_, '_>, i: usize| {
                let operand = &nest.operands[i];
                let value = match (&loaded[i], place.hoisted.get(i)) {
                    (Some(value), _) => return value.clone(),
                    (None, Some(Some((_, all)))) => w.repeated(operand.dtype, *all),
                    _ if operand.strides[axis] == 0 => w.load_repeated(operand.dtype, at[i]),
                    _ => w.load(operand.dtype, at[i], moved(operand.dtype, group)),
                };
                loaded[i] = Some(value.clone());
                value
            };
            values.push(self.groups().value(&nest.value, &mut operand));
        }
        for (group, value) in values.iter().enumerate() {
            let dtype = nest.result.dtype;
            let to = moved(dtype, group);
            self.groups().store(dtype, value, at[nest.operands.len()], to);
        }
    }

    /// A vector of floats, whatever the lanes were seen as.
    fn floats(&mut self, v: Value) -> Value {
        if self.b.func.dfg.value_type(v) == types::F32X4 {
            v
        } else {
            Math::new(self.b, types::F32X4).from_bits(v)
        }
    }

    fn start(&mut self, a: &Accumulator, lanes: bool) -> Value {
        scalar::constant(self.b, a.init, lanes)
    }

    /// The accumulators of each vector of each place, at the end of the reduction.
    fn reduced(&mut self, places: &[Position], width: Width) -> Vec<Vec<Value>> {
        let nest = self.nest;
        let (count, sets) = (nest.accumulators.len(), places.len() * width.vectors());
        if count == 0 {
            return vec![Vec::new(); sets];
        }
        let mut carried = Vec::new();
        for _ in 0..sets {
            for a in &nest.accumulators {
                carried.push(self.start(a, width.lanes()));
            }
        }
        let levels = 0..nest.reduce.len();
        let inner = nest.loops.len().checked_sub(1);
        let end = self.reduce_levels(levels, places, &carried, &mut |e, places, old| {
            e.loaded.clear();
            let mut new = Vec::new();
            for (set, old) in old.chunks(count).enumerate() {
                let (place, vector) = (&places[set / width.vectors()], set % width.vectors());
                let at = EvalPoint { place, axis: inner, vector, lanes: width.lanes() };
                new.extend(e.folded(&at, old));
            }
            new
        });
        end.chunks(count).map(<[Value]>::to_vec).collect()
    }

    fn folded(&mut self, at: &EvalPoint<'_>, old: &[Value]) -> Vec<Value> {
        let nest = self.nest;
        (nest.accumulators.iter().zip(old))
            .map(|(a, &state)| {
                let v = self.value(&a.value, at, old);
                match a.fold {
                    Fold::Replace | Fold::Through | Fold::Before => v,
                    Fold::With(f) | Fold::After(f) => self.fold(f, a.init.dtype(), state, v, at.lanes),
                }
            })
            .collect()
    }

    fn fold(&mut self, f: BinaryFn, dtype: DType, a: Value, v: Value, lanes: bool) -> Value {
        scalar::binary(self.b, f, (a, dtype), (v, dtype), lanes)
    }

    /// The reduction loops `levels`; `body` gets places and old accumulators.
    fn reduce_levels(
        &mut self,
        mut levels: Range<usize>,
        places: &[Position],
        carried: &[Value],
        body: &mut dyn FnMut(&mut Self, &[Position], &[Value]) -> Vec<Value>,
    ) -> Vec<Value> {
        let nest = self.nest;
        let Some(level) = levels.next() else { return body(self, places, carried) };
        let (axis, loop_axis) = (&nest.reduce[level], nest.loops.len() + level);
        let mut inside = |e: &mut Self, index: Value, carried: &[Value]| {
            let places: Vec<Position> = places.iter().map(|p| e.entered(p, loop_axis, index)).collect();
            e.reduce_levels(levels.clone(), &places, carried, body)
        };
        match axis.bound {
            // A few taps: most of what a loop costs is the loop.
            None if axis.extent <= FEW_TAPS => {
                let mut carried = carried.to_vec();
                for tap in 0..axis.extent {
                    let index = self.index(tap);
                    carried = inside(self, index, &carried);
                }
                carried
            }
            None => self.fixed((0, axis.extent, 1), carried, &mut inside),
            Some(bound) => {
                // Places differ in no loop that bounds a reduction.
                let (low, high) = self.bounds(&places[0], bound, axis.extent);
                self.counted((low, high, 1), carried, &mut inside)
            }
        }
    }

    /// The range of [`Bound::range`].
    fn bounds(&mut self, place: &Position, bound: Bound, count: usize) -> (Value, Value) {
        let zero = self.index(0);
        let count = self.index(count);
        let Some(i) = place.index[bound.axis] else { return (zero, count) };
        let at = self.times(i, bound.scale);
        let at = self.displaced(at, bound.base);
        let divided = |e: &mut Self, v: Value| {
            if bound.step == 1 {
                return v;
            }
            let step = e.b.ins().iconst(types::I64, bound.step);
            e.b.ins().sdiv(v, step)
        };
        // low = ⌈max(0, -at) / step⌉
        let low = self.b.ins().ineg(at);
        let low = self.b.ins().smax(low, zero);
        let low = self.displaced(low, bound.step - 1);
        let low = divided(self, low);
        // high = min(count, ⌊max(-step, extent - 1 - at) / step⌋ + 1)
        let room = self.b.ins().iconst(types::I64, bound.extent - 1);
        let room = self.b.ins().isub(room, at);
        let least = self.b.ins().iconst(types::I64, -bound.step);
        let room = self.b.ins().smax(room, least);
        let room = self.displaced(room, bound.step);
        let high = divided(self, room);
        (low, self.b.ins().smin(high, count))
    }

    /// The accumulators of one element, with the innermost reduction axis in vectors.
    fn reduced_in_vectors(&mut self, places: &[Position], unroll: usize) -> Vec<Vec<Value>> {
        let nest = self.nest;
        let count = nest.accumulators.len();
        let (last, axis) = (nest.reduce.len() - 1, nest.loops.len() + nest.reduce.len() - 1);
        let split = sections(nest.reduce[last].extent, Width::Vectors, unroll);
        // So many sets in vectors as the widest section needs, then one of single elements.
        let sets = split.iter().filter(|(w, _)| w.lanes()).map(|(w, _)| w.vectors()).max().unwrap_or(0);
        let mut carried = Vec::new();
        for set in 0..=sets {
            for a in &nest.accumulators {
                carried.push(self.start(a, set < sets));
            }
        }
        let end = self.reduce_levels(0..last, places, &carried, &mut |e, places, carried| {
            let mut carried = carried.to_vec();
            let mut low = 0;
            for &(width, steps) in &split {
                let (first, length) = match width {
                    Width::One => (sets * count, count),
                    Width::Vectors(n) | Width::Groups(n) => (0, n * count),
                };
                let old = carried[first..first + length].to_vec();
                let new = e.fixed((low, steps, width.elements()), &old, |e, index, old| {
                    let place = e.entered(&places[0], axis, index);
                    e.loaded.clear();
                    let mut new = Vec::new();
                    for (vector, old) in old.chunks(count).enumerate() {
                        let at = EvalPoint { place: &place, axis: Some(axis), vector, lanes: width.lanes() };
                        new.extend(e.folded(&at, old));
                    }
                    new
                });
                carried[first..first + length].copy_from_slice(&new);
                low += steps * width.elements();
            }
            carried
        });
        let mut result = end[sets * count..].to_vec();
        for (i, a) in nest.accumulators.iter().enumerate() {
            let (Fold::With(f) | Fold::After(f)) = a.fold else { continue };
            let mut vectors: Vec<Value> = (0..sets).map(|set| end[set * count + i]).collect();
            while vectors.len() > 1 {
                vectors = vectors
                    .chunks(2)
                    .map(|pair| match *pair {
                        [a, b] => self.fold(f, DType::F32, a, b, true),
                        _ => pair[0],
                    })
                    .collect();
            }
            if let Some(&vector) = vectors.first() {
                let lane: Vec<Value> =
                    (0..LANES as u8).map(|lane| self.b.ins().extractlane(vector, lane)).collect();
                let low = self.fold(f, DType::F32, lane[0], lane[2], false);
                let high = self.fold(f, DType::F32, lane[1], lane[3], false);
                let all = self.fold(f, DType::F32, low, high, false);
                result[i] = self.fold(f, DType::F32, all, result[i], false);
            }
        }
        vec![result]
    }

    /// The value of an expression.
    fn value(&mut self, e: &Expr, at: &EvalPoint<'_>, accumulators: &[Value]) -> Value {
        match e {
            Expr::Operand(i) => self.operand(*i, at),
            Expr::Const(c) => scalar::constant(self.b, *c, at.lanes),
            Expr::Index(axis) => match at.place.index[*axis] {
                Some(index) => index,
                None => self.index(0),
            },
            Expr::Acc(i) => accumulators[*i],
            Expr::Unary(f, x) => {
                let dtype = self.dtype(x);
                let x = self.value(x, at, accumulators);
                scalar::unary(self.b, f.0, dtype, x, at.lanes)
            }
            Expr::Binary(f, x, y) => {
                let (x_type, y_type) = (self.dtype(x), self.dtype(y));
                let x = self.value(x, at, accumulators);
                let y = self.value(y, at, accumulators);
                scalar::binary(self.b, *f, (x, x_type), (y, y_type), at.lanes)
            }
            Expr::Cast(to, x) => {
                let from = self.dtype(x);
                let x = self.value(x, at, accumulators);
                scalar::cast(self.b, from, *to, x)
            }
            Expr::Entry(table, place) => {
                let place = self.value(place, at, accumulators);
                let (Expr::Operand(i), true) = (&**table, !at.lanes) else { return place };
                let operand = &self.nest.operands[*i];
                let place = self.b.ins().uextend(types::I64, place);
                let place = self.times(place, operand.dtype.bytes() as i64);
                let address = self.b.ins().iadd(at.place.at[*i], place);
                self.load(operand, address, 0)
            }
            Expr::MulAdd(x, y, z) => {
                let [x, y, z] = [x, y, z].map(|e| self.value(e, at, accumulators));
                if self.fused {
                    return self.b.ins().fma(x, y, z);
                }
                let product = self.b.ins().fmul(x, y);
                self.b.ins().fadd(product, z)
            }
            Expr::Select(c, x, y) => {
                let c = self.value(c, at, accumulators);
                let x = self.value(x, at, accumulators);
                let y = self.value(y, at, accumulators);
                if at.lanes {
                    Math::new(self.b, types::F32X4).select(c, x, y)
                } else {
                    self.b.ins().select(c, x, y)
                }
            }
        }
    }

    /// The type of an expression that was checked.
    fn dtype(&self, e: &Expr) -> DType {
        let (operands, accumulators) = self.nest.dtypes();
        e.dtype(&operands, &accumulators).unwrap_or(DType::F32)
    }

    fn operand(&mut self, i: usize, at: &EvalPoint<'_>) -> Value {
        if let Some(Some((one, all))) = at.place.hoisted.get(i) {
            return if at.lanes { *all } else { *one };
        }
        let operand = &self.nest.operands[i];
        let address = at.place.at[i];
        let varies = at.axis.is_some_and(|axis| operand.strides[axis] != 0);
        let vector_bytes = LANES * operand.dtype.bytes();
        let displacement = if at.lanes && varies { (vector_bytes * at.vector) as i32 } else { 0 };
        let key = (address, displacement, operand.dtype, at.lanes);
        if let Some(&(_, v)) = self.loaded.iter().find(|(k, _)| *k == key) {
            return v;
        }
        let v = if at.lanes && varies {
            match Float::of(operand.dtype) {
                Some(half @ (Float::F16 | Float::Bf16)) => {
                    half::load_four(self.b, half.dtype(), address, displacement)
                }
                Some(Float::F32 | Float::U8) | None => {
                    self.b.ins().load(types::F32X4, memory(), address, displacement)
                }
            }
        } else {
            let one = self.load(operand, address, 0);
            if at.lanes { self.b.ins().splat(types::F32X4, one) } else { one }
        };
        self.loaded.push((key, v));
        v
    }
}

/// Where an expression is evaluated.
struct EvalPoint<'a> {
    place: &'a Position,
    /// The loop that goes in vectors, if any does.
    axis: Option<usize>,
    /// Which of the unrolled vectors.
    vector: usize,
    lanes: bool,
}

/// How bits are seen as another type.
fn little() -> MemFlagsData {
    MemFlagsData::new().with_endianness(Endianness::Little)
}

/// No trap: every access was checked. Not aligned: windows start anywhere.
fn memory() -> MemFlagsData {
    MemFlagsData::new().with_notrap().with_endianness(Endianness::Little)
}
