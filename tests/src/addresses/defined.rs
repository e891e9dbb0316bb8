//! Whether what is read has been written.
//!
//! The arena starts with whatever was in memory. A step may read only what an earlier step has written, with one exception
//! that is by design: the slots of a pixel are padded to whole vectors, and a layer with channels in lanes loads, computes and
//! stores the padding with the rest. No lane sees another one, so what nobody has written ends in padding again:
//!
//! ```text
//!   slots of a pixel   c0 c1 c2 c3  c4 c5 ?? ??       6 channels, 2 slots of padding
//!         depthwise     │  │  │  │   │  │  │  │        one vector each
//!                      d0 d1 d2 d3  d4 d5 ?? ??
//! ```
//!
//! So a lane that reads an undefined byte leaves its output undefined; every other step, and the reader of an output, must
//! meet defined bytes only. A vector begins with a channel. Behind its own padding may come channels of a neighbour, whose
//! results are padding too: a part of channels that a split has cut off need not end where a vector does.

use std::collections::BTreeMap;

use nnc::plan::{LayerCode, Plan, PlanStep};
use nnc_runtime::abi::{Region, Strips};

use super::{Bases, Intervals, Walk, lanes};

/// The bytes of arena and outputs that hold something, step after step.
#[derive(Clone, Debug, Default)]
pub struct Defined {
    bytes: BTreeMap<Region, Intervals>,
}

impl Defined {
    /// What a session has written before the first step: the records of indices that lead outside.
    pub fn before(plan: &Plan) -> Defined {
        let records = plan.index_checks.iter().filter_map(|check| check.range());
        let records = records.map(|range| range.start as i64..range.end as i64).collect();
        Defined { bytes: BTreeMap::from([(Region::Arena, records)]) }
    }

    /// The bytes of a set that hold nothing yet.
    fn missing(&self, touched: &BTreeMap<Region, Intervals>) -> u64 {
        let nothing = Intervals::default();
        (touched.iter())
            .filter(|(region, _)| matches!(region, Region::Arena | Region::Output(_) | Region::Strip(_)))
            .map(|(region, bytes)| bytes.minus(self.bytes.get(region).unwrap_or(&nothing)).bytes())
            .sum()
    }

    /// Goes on behind a step, of which `walk` says what it touches. Returns how many undefined bytes it reads as padding.
    ///
    /// # Errors
    ///
    /// The step reads bytes that nothing has written and that are no padding.
    pub fn step(&mut self, plan: &Plan, step: &PlanStep, walk: &Walk) -> Result<u64, String> {
        self.forget_strips(plan, step);
        let missing = self.missing(&walk.read);
        let mut undefined = Vec::new();
        if missing > 0 {
            let LayerCode::Lanes(code) = &step.code else {
                return Err(format!("\"{}\" reads {missing} bytes that nothing has written", step.name));
            };
            let constants = plan.constants.bytes();
            let bases = Bases { args: &step.args, constants: &constants };
            for vector in lanes::lanes(code, bases)? {
                let holds = |lane: &Walk| self.missing(&lane.read) == 0;
                if vector.first().is_some_and(|channel| !holds(channel)) {
                    return Err(format!("\"{}\" reads a channel that nothing has written", step.name));
                }
                undefined.extend(vector.into_iter().filter(|lane| !holds(lane)));
            }
        }
        for (region, bytes) in &walk.written {
            let defined = self.bytes.entry(*region).or_default();
            *defined = defined.or(bytes);
        }
        for (region, bytes) in undefined.iter().flat_map(|lane| &lane.written) {
            let defined = self.bytes.entry(*region).or_default();
            *defined = defined.minus(bytes);
        }
        Ok(missing)
    }

    /// Images in strips are gone with the last of the steps that run strip by strip.
    fn forget_strips(&mut self, plan: &Plan, step: &PlanStep) {
        let first =
            |group: &Strips| plan.steps.get(group.first as usize).is_some_and(|s| std::ptr::eq(s, step));
        if plan.strips.iter().any(first) {
            self.bytes.retain(|region, _| !matches!(region, Region::Strip(_)));
        }
    }

    /// Forgets what lies in buffers that end with a step: whoever reads it behind that reads what is not his.
    pub fn end(&mut self, plan: &Plan, step: usize) {
        let ended = plan.lives.iter().filter(|life| life.steps.end == step + 1);
        let ended = ended.map(|life| life.bytes.start as i64..life.bytes.end as i64).collect();
        if let Some(arena) = self.bytes.get_mut(&Region::Arena) {
            *arena = arena.minus(&ended);
        }
    }

    /// Which output is not defined as a whole, if one is not.
    pub fn unfinished(&self, plan: &Plan) -> Option<String> {
        let whole = |(i, port): (u32, &nnc_runtime::abi::Port)| {
            let all = BTreeMap::from([(Region::Output(i), Intervals::first(port.bytes() as i64))]);
            (self.missing(&all) > 0).then(|| format!("output \"{}\" is not written as a whole", port.name))
        };
        (0..).zip(&plan.outputs).find_map(whole)
    }
}

#[cfg(test)]
mod tests {
    use nnc::code::nest::{Expr, Nest, Operand, Vectorised};
    use std::ops::Range;

    use nnc::plan::{Life, MemoryReport, StepMemory, Traffic};
    use nnc_ir::DType;
    use nnc_runtime::Constants;
    use nnc_runtime::abi::{Arg, ElemType, Port};

    use super::super::{Audit, lanes::sample, outside, walk};
    use super::*;

    fn step(name: &str, code: LayerCode, units: usize, args: Vec<Arg>) -> PlanStep {
        PlanStep {
            name: name.into(),
            op: String::new(),
            shape: String::new(),
            code,
            args,
            memory: StepMemory::default(),
            units,
            times: 1,
            macc: 0,
            params: 0,
            traffic: Traffic::default(),
            fused: Vec::new(),
            merged: Vec::new(),
            note: None,
            refused: None,
        }
    }

    /// Copies the first `slots` of 25 pixels of 8 slots.
    fn copy(slots: usize, from: (Region, u64), to: (Region, u64)) -> PlanStep {
        let operand =
            |arg| Operand { arg, offset: 0, dtype: DType::F32, strides: vec![32, 4], tables: Vec::new() };
        let nest = Nest {
            loops: vec![25, slots],
            unit_axes: 1,
            reduce: Vec::new(),
            operands: vec![operand(0)],
            result: operand(1),
            accumulators: Vec::new(),
            value: Expr::Operand(0),
            vectorised: Vectorised::Scalar,
        };
        let args = [from, to].map(|(region, offset)| Arg { region, offset });
        step("copy", LayerCode::Nest(nest), 25, args.to_vec())
    }

    /// A depthwise convolution of the 8 slots of 25 pixels at 0 in the arena, with its result at 1024.
    fn depthwise() -> PlanStep {
        let plan = sample::whole_vectors();
        let units = plan.units();
        step("depthwise", LayerCode::Lanes(plan), units, sample::args(1024))
    }

    fn life(bytes: Range<u64>, steps: Range<usize>) -> Life {
        Life { bytes, steps }
    }

    fn plan(steps: Vec<PlanStep>) -> Plan {
        let port = |name: &str| Port {
            name: name.into(),
            elem: ElemType::F32,
            shape: vec![25, 8],
            counts: Vec::new(),
        };
        Plan {
            inputs: vec![port("x")],
            outputs: vec![port("y")],
            steps,
            strips: Vec::new(),
            repeats: Vec::new(),
            constants: Constants::copy_of(&[0; 4096]).unwrap(),
            arena_bytes: 2048,
            lives: vec![life(0..2048, 0..9)],
            scratch_bytes: 0,
            denormals: Default::default(),
            index_checks: Vec::new(),
            memory: MemoryReport::default(),
        }
    }

    const INPUT: (Region, u64) = (Region::Input(0), 0);
    const ARENA: (Region, u64) = (Region::Arena, 0);
    const RESULT: (Region, u64) = (Region::Arena, 1024);
    const OUTPUT: (Region, u64) = (Region::Output(0), 0);

    fn undefined(steps: Vec<PlanStep>) -> (Vec<String>, u64) {
        let audit = Audit::of(&plan(steps)).unwrap_or_else(|error| panic!("{error}"));
        (audit.undefined, audit.padding)
    }

    #[test]
    fn what_has_been_written_may_be_read() {
        let steps = vec![copy(8, INPUT, ARENA), depthwise(), copy(8, RESULT, OUTPUT)];
        assert_eq!(undefined(steps), (vec![], 0));
    }

    #[test]
    fn lanes_may_read_padding_and_make_padding_of_it() {
        let (faults, padding) = undefined(vec![copy(6, INPUT, ARENA), depthwise(), copy(6, RESULT, OUTPUT)]);
        assert_eq!(padding, 25 * 2 * 4);
        assert_eq!(faults, ["output \"y\" is not written as a whole"]);
        let (faults, _) = undefined(vec![copy(6, INPUT, ARENA), depthwise(), copy(7, RESULT, OUTPUT)]);
        assert_eq!(faults[0], "\"copy\" reads 100 bytes that nothing has written");
    }

    #[test]
    fn channels_of_a_neighbour_may_lie_behind_the_padding() {
        let behind = |(region, offset): (Region, u64)| (region, offset + 12);
        let steps = || {
            vec![copy(2, INPUT, ARENA), copy(5, INPUT, behind(ARENA)), depthwise(), copy(2, RESULT, OUTPUT)]
        };
        assert_eq!(undefined(steps()).0, ["output \"y\" is not written as a whole"]);
        let more = [steps(), vec![copy(3, RESULT, OUTPUT)]].concat();
        assert_eq!(undefined(more).0[0], "\"copy\" reads 100 bytes that nothing has written");
    }

    #[test]
    fn padding_that_replaces_what_was_there_is_undefined() {
        let steps = vec![copy(8, INPUT, RESULT), copy(7, INPUT, ARENA), depthwise(), copy(8, RESULT, OUTPUT)];
        assert_eq!(undefined(steps).0[0], "\"copy\" reads 100 bytes that nothing has written");
    }

    #[test]
    fn what_a_vector_begins_with_is_no_padding() {
        let behind = |(region, offset): (Region, u64)| (region, offset + 4);
        let steps = vec![copy(7, INPUT, behind(ARENA)), depthwise()];
        assert_eq!(undefined(steps).0[0], "\"depthwise\" reads a channel that nothing has written");
        let (faults, _) = undefined(vec![copy(4, INPUT, ARENA), depthwise()]);
        assert_eq!(
            faults[0], "\"depthwise\" reads a channel that nothing has written",
            "a vector of nothing else"
        );
    }

    #[test]
    fn what_lies_in_a_buffer_is_gone_with_its_last_step() {
        let steps = || vec![copy(8, INPUT, ARENA), copy(8, INPUT, RESULT), copy(8, ARENA, OUTPUT)];
        let audit = |first: Range<usize>| {
            let plan = Plan { lives: vec![life(0..1024, first), life(1024..2048, 1..2)], ..plan(steps()) };
            Audit::of(&plan).unwrap_or_else(|error| panic!("{error}"))
        };
        assert_eq!((audit(0..3).outside, audit(0..3).undefined), (vec![], vec![]));
        let audit = audit(0..2);
        assert_eq!(audit.undefined[0], "\"copy\" reads 800 bytes that nothing has written");
        assert_eq!(
            audit.outside,
            ["\"copy\" touches 800 bytes of the arena outside of the buffers that are alive"]
        );
    }

    #[test]
    fn addresses_outside_of_a_space_are_noticed() {
        let found = |step: PlanStep| {
            let plan = plan(vec![step]);
            walk(&plan, &plan.steps[0]).map(|walk| outside(&plan, &walk))
        };
        assert_eq!(found(copy(8, INPUT, (Region::Arena, 1248))), Ok(None));
        let beyond = Some("touches bytes 1252..2052 of Arena, which has 2048".to_string());
        assert_eq!(found(copy(8, INPUT, (Region::Arena, 1252))), Ok(beyond));
        assert_eq!(found(copy(8, ARENA, INPUT)), Ok(Some("writes to Input(0)".to_string())));
        assert_eq!(
            found(copy(8, (Region::Input(1), 0), ARENA)),
            Ok(Some("there is no Input(1)".to_string()))
        );
    }

    #[test]
    fn a_step_has_the_units_of_its_loops() {
        let mut plan = plan(vec![copy(8, INPUT, ARENA)]);
        plan.steps[0].units = 24;
        assert_eq!(walk(&plan, &plan.steps[0]), Err("\"copy\" has 24 units, its loops have 25".to_string()));
    }
}
