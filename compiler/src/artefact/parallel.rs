//! `NAME_run_parallel`: what `NAME_run` does, on threads that the host has.
//!
//! ```c
//! typedef void NAME_parallel_for(void *context, size_t parts, void (*task)(void *argument, size_t part), void *argument);
//! int NAME_run_parallel(const void *const *inputs, void *const *outputs, void *workspace,
//!                       NAME_parallel_for *parallel_for, void *context);
//! ```
//!
//! The host's function calls `task` once for each part, on whatever threads it likes, and returns when all calls have. What is
//! divided is an *item*: a step into ranges of its units, or a group of strips into ranges of strips. Items are a table in read-only
//! data, beside that of the records ([`driver`](super::driver)):
//!
//! ```text
//!   item:  offset of its first record u32, strips u32, bytes of the records of one strip u32, 0     16 bytes
//!          strips is 0 for a step;  the offset is 2³² − 1 where a walk ends
//! ```
//!
//! What a part needs to know of its item is on the stack of the function that asks for it:
//!
//! ```text
//!   job:   regions*, first record*, strips, bytes of one strip, parts, memory for scratch*          8 bytes each
//! ```
//!
//! An item of one unit or strip is done by the calling thread, without asking. Each part has scratch of its own, so that a workspace for
//! all of them is larger than one for a single thread; that is the first part of it. Units and strips are the same as on one thread, and
//! so are the results.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{
    AbiParam, Block, BlockArg, BlockCall, FuncRef, GlobalValue, InstBuilder, JumpTableData, MemFlagsData,
    SigRef, Signature, StackSlot, StackSlotData, StackSlotKind, Value, types,
};
use cranelift_codegen::isa::CallConv;
use cranelift_frontend::FunctionBuilder;

use super::records::{RECORD, SCRATCH};

/// Into how many parts an item is divided at most: enough that threads of different speed end at about the same time, and few
/// enough that their scratch is small beside the arena.
pub const PARTS: u64 = 16;
/// Keeps the scratch of two parts on different cache lines.
pub(super) const SCRATCH_GAP: u64 = 128;
/// An item.
pub(super) const ITEM: u32 = 16;

/// Places in a job.
const REGIONS: i32 = 0;
const RECORDS: i32 = 8;
const STRIPS: i32 = 16;
const STRIP_BYTES: i32 = 24;
const JOB_PARTS: i32 = 32;
const MORE_SCRATCH: i32 = 40;
/// Size of a job.
const JOB_BYTES: u32 = 48;

/// Of the function that does a part: `(job, part)`.
pub(super) fn part_signature() -> Signature {
    let mut signature = Signature::new(CallConv::SystemV);
    signature.params = vec![AbiParam::new(types::I64); 2];
    signature
}

/// Of the host's function: `(context, parts, task, argument)`.
pub(super) fn host_signature() -> Signature {
    let mut signature = Signature::new(CallConv::SystemV);
    signature.params = vec![AbiParam::new(types::I64); 4];
    signature
}

/// The function that does a part of an item, while it is built.
pub(super) struct PartFunction<'a> {
    pub(super) builder: FunctionBuilder<'a>,
    /// The layers, in the order of the function table.
    pub(super) callees: Vec<FuncRef>,
    /// Room for the base pointers of a step.
    pub(super) bases: StackSlot,
    /// What switches the floating-point environment, and to what.
    pub(super) float_mode: (FuncRef, u64),
    /// From the scratch of one part to that of the next.
    pub(super) scratch_stride: u64,
}

impl PartFunction<'_> {
    /// Writes the function; the caller seals and finishes it.
    pub(super) fn build(mut self) -> Self {
        let trusted = MemFlagsData::trusted();
        let entry = self.builder.create_block();
        self.builder.append_block_params_for_function_params(entry);
        self.builder.switch_to_block(entry);
        let &[job, part] = self.builder.block_params(entry) else { return self };
        let (switch, wanted) = self.float_mode;
        let wanted = self.builder.ins().iconst(types::I64, wanted as i64);
        let switched = self.builder.ins().call(switch, &[wanted]);
        let before = self.builder.inst_results(switched).first().copied();

        let field = |this: &mut Self, at| this.builder.ins().load(types::I64, trusted, job, at);
        let regions = field(&mut self, REGIONS);
        let first = field(&mut self, RECORDS);
        let strips = field(&mut self, STRIPS);
        let strip_bytes = field(&mut self, STRIP_BYTES);
        let parts = field(&mut self, JOB_PARTS);
        let scratch = self.own_scratch(job, regions, part);
        let begin = self.builder.ins().uload32(trusted, first, 4);
        let end = self.builder.ins().uload32(trusted, first, 8);
        let units = self.builder.ins().isub(end, begin);
        let whole = self.builder.ins().icmp_imm_s(IntCC::Equal, strips, 0);
        let count = self.builder.ins().select(whole, units, strips);
        let [low, high] = self.share(count, part, parts);

        // Of a step, one record with some units; of strips, all records of some with all their units.
        let record_bytes = self.record_bytes(first);
        let behind_step = self.builder.ins().iadd(first, record_bytes);
        let from = self.builder.ins().imul(low, strip_bytes);
        let from = self.builder.ins().iadd(first, from);
        let to = self.builder.ins().imul(high, strip_bytes);
        let to = self.builder.ins().iadd(first, to);
        let from = self.builder.ins().select(whole, first, from);
        let to = self.builder.ins().select(whole, behind_step, to);
        let low = self.builder.ins().iadd(begin, low);
        let high = self.builder.ins().iadd(begin, high);

        let [check, run, done] = [(); 3].map(|()| self.builder.create_block());
        let record = self.builder.append_block_param(check, types::I64);
        self.builder.ins().jump(check, &[BlockArg::from(from)]);
        self.builder.switch_to_block(check);
        let more = self.builder.ins().icmp(IntCC::UnsignedLessThan, record, to);
        self.builder.ins().brif(more, run, &[], done, &[]);
        self.builder.switch_to_block(run);
        let begin = self.builder.ins().uload32(trusted, record, 4);
        let begin = self.builder.ins().select(whole, low, begin);
        let end = self.builder.ins().uload32(trusted, record, 8);
        let end = self.builder.ins().select(whole, high, end);
        let next = self.call(record, [begin, end], regions, scratch);
        self.builder.ins().jump(check, &[BlockArg::from(next)]);

        self.builder.switch_to_block(done);
        if let Some(before) = before {
            self.builder.ins().call(switch, &[before]);
        }
        self.builder.ins().return_(&[]);
        self
    }

    /// Where this part's scratch begins: that of the first one is where a run on one thread has it.
    fn own_scratch(&mut self, job: Value, regions: Value, part: Value) -> Value {
        let trusted = MemFlagsData::trusted();
        let first = self.builder.ins().load(types::I64, trusted, regions, SCRATCH as i32 * 8);
        let more = self.builder.ins().load(types::I64, trusted, job, MORE_SCRATCH);
        let number = self.builder.ins().iadd_imm_s(part, -1);
        let distance = self.builder.ins().imul_imm_s(number, self.scratch_stride as i64);
        let own = self.builder.ins().iadd(more, distance);
        let is_first = self.builder.ins().icmp_imm_s(IntCC::Equal, part, 0);
        self.builder.ins().select(is_first, first, own)
    }

    /// What of a number of units or strips is a part's: all parts together are all of them.
    fn share(&mut self, count: Value, part: Value, parts: Value) -> [Value; 2] {
        let next = self.builder.ins().iadd_imm_s(part, 1);
        [part, next].map(|part| {
            let product = self.builder.ins().imul(count, part);
            self.builder.ins().udiv(product, parts)
        })
    }

    fn record_bytes(&mut self, record: Value) -> Value {
        let args = self.builder.ins().uload32(MemFlagsData::trusted(), record, 12);
        let bytes = self.builder.ins().imul_imm_s(args, i64::from(RECORD));
        self.builder.ins().iadd_imm_s(bytes, i64::from(RECORD))
    }

    /// Calls the layer of a record; returns where the next one begins.
    fn call(&mut self, record: Value, units: [Value; 2], regions: Value, scratch: Value) -> Value {
        let trusted = MemFlagsData::trusted();
        let bytes = self.record_bytes(record);
        let next = self.builder.ins().iadd(record, bytes);
        let first_arg = self.builder.ins().iadd_imm_s(record, i64::from(RECORD));
        let bases = self.builder.ins().stack_addr(types::I64, self.bases, 0);
        let [arg, take_arg, dispatch, called] = [(); 4].map(|()| self.builder.create_block());
        let [from, to] = [(); 2].map(|()| self.builder.append_block_param(arg, types::I64));
        self.builder.ins().jump(arg, &[BlockArg::from(first_arg), BlockArg::from(bases)]);
        self.builder.switch_to_block(arg);
        let all = self.builder.ins().icmp(IntCC::Equal, from, next);
        self.builder.ins().brif(all, dispatch, &[], take_arg, &[]);

        self.builder.switch_to_block(take_arg);
        let offset = self.builder.ins().load(types::I64, trusted, from, 0);
        let region = self.builder.ins().uload32(trusted, from, 8);
        let in_scratch = self.builder.ins().icmp_imm_s(IntCC::Equal, region, i64::from(SCRATCH));
        let place = self.builder.ins().imul_imm_s(region, 8);
        let place = self.builder.ins().iadd(regions, place);
        let start = self.builder.ins().load(types::I64, trusted, place, 0);
        let start = self.builder.ins().select(in_scratch, scratch, start);
        let base = self.builder.ins().iadd(start, offset);
        self.builder.ins().store(trusted, base, to, 0);
        let from = self.builder.ins().iadd_imm_s(from, i64::from(RECORD));
        let to = self.builder.ins().iadd_imm_s(to, 8);
        self.builder.ins().jump(arg, &[BlockArg::from(from), BlockArg::from(to)]);

        self.builder.switch_to_block(dispatch);
        let func = self.builder.ins().load(types::I32, trusted, record, 0);
        let cases: Vec<Block> = self.callees.iter().map(|_| self.builder.create_block()).collect();
        let pool = &mut self.builder.func.dfg.value_lists;
        let table = cases.iter().map(|&case| BlockCall::new(case, [], pool)).collect::<Vec<_>>();
        let table = JumpTableData::new(BlockCall::new(called, [], pool), &table);
        let table = self.builder.create_jump_table(table);
        self.builder.ins().br_table(func, table);
        let [begin, end] = units;
        for (case, callee) in cases.into_iter().zip(std::mem::take(&mut self.callees)) {
            self.builder.switch_to_block(case);
            self.builder.ins().call(callee, &[bases, begin, end, scratch]);
            self.builder.ins().jump(called, &[]);
        }
        self.builder.switch_to_block(called);
        next
    }
}

/// How `NAME_run_parallel` has its items done.
#[derive(Clone, Copy)]
pub(super) struct Host {
    /// The host's function, and its context.
    pub(super) parallel_for: Value,
    pub(super) context: Value,
    pub(super) signature: SigRef,
    /// The function that does a part.
    pub(super) part: FuncRef,
    /// The table of items.
    pub(super) items: GlobalValue,
    /// The job that is asked for.
    pub(super) job: StackSlot,
}

/// The place of a job on the stack.
pub(super) fn job_slot(builder: &mut FunctionBuilder<'_>) -> StackSlot {
    builder.create_sized_stack_slot(StackSlotData::new(StackSlotKind::ExplicitSlot, JOB_BYTES, 3))
}

impl Host {
    /// Notes in the job what is the same for all items.
    pub(super) fn prepare(&self, builder: &mut FunctionBuilder<'_>, regions: StackSlot, more_scratch: Value) {
        let regions = builder.ins().stack_addr(types::I64, regions, 0);
        builder.ins().stack_store(types::I64, regions, self.job, REGIONS);
        builder.ins().stack_store(types::I64, more_scratch, self.job, MORE_SCRATCH);
    }

    /// The loop over items, which begins at `step` with the first of them, of records in the table `steps`. At the end of a walk it
    /// goes on in the block that is returned.
    pub(super) fn walk(&self, builder: &mut FunctionBuilder<'_>, step: Block, steps: GlobalValue) -> Block {
        let trusted = MemFlagsData::trusted();
        let [ask, alone, several, next, done] = [(); 5].map(|()| builder.create_block());
        builder.switch_to_block(step);
        let item = builder.append_block_param(step, types::I64);
        let offset = builder.ins().uload32(trusted, item, 0);
        let ended = builder.ins().icmp_imm_s(IntCC::Equal, offset, i64::from(u32::MAX));
        builder.ins().brif(ended, done, &[], ask, &[]);

        builder.switch_to_block(ask);
        let records = builder.ins().symbol_value(types::I64, steps);
        let record = builder.ins().iadd(records, offset);
        let strips = builder.ins().uload32(trusted, item, 4);
        let strip_bytes = builder.ins().uload32(trusted, item, 8);
        let begin = builder.ins().uload32(trusted, record, 4);
        let end = builder.ins().uload32(trusted, record, 8);
        let units = builder.ins().isub(end, begin);
        let whole = builder.ins().icmp_imm_s(IntCC::Equal, strips, 0);
        let count = builder.ins().select(whole, units, strips);
        let most = builder.ins().iconst(types::I64, PARTS as i64);
        let parts = builder.ins().umin(count, most);
        // A step without units has one part, with none of them.
        let least = builder.ins().iconst(types::I64, 1);
        let parts = builder.ins().umax(parts, least);
        for (value, at) in
            [(record, RECORDS), (strips, STRIPS), (strip_bytes, STRIP_BYTES), (parts, JOB_PARTS)]
        {
            builder.ins().stack_store(types::I64, value, self.job, at);
        }
        let job = builder.ins().stack_addr(types::I64, self.job, 0);
        let one = builder.ins().icmp_imm_s(IntCC::Equal, parts, 1);
        builder.ins().brif(one, alone, &[], several, &[]);

        builder.switch_to_block(alone);
        let first = builder.ins().iconst(types::I64, 0);
        builder.ins().call(self.part, &[job, first]);
        builder.ins().jump(next, &[]);

        builder.switch_to_block(several);
        let task = builder.ins().func_addr(types::I64, self.part);
        builder.ins().call_indirect(self.signature, self.parallel_for, &[self.context, parts, task, job]);
        builder.ins().jump(next, &[]);

        builder.switch_to_block(next);
        let item = builder.ins().iadd_imm_s(item, i64::from(ITEM));
        builder.ins().jump(step, &[BlockArg::from(item)]);
        done
    }
}
