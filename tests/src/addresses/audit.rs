//! All that addresses tell about a plan, step after step.

use std::collections::BTreeMap;
use std::ops::Range;

use nnc::plan::{Plan, PlanStep, Traffic};
use nnc_runtime::abi::{Arg, Region};

use super::{Defined, Intervals, Walk, outside, strips, walk};

/// What the addresses of a plan's steps tell.
#[derive(Clone, Debug, Default)]
pub struct Audit {
    /// Bytes that each step moves.
    pub moved: Vec<Traffic>,
    /// Steps of which the planner says that they move something else.
    pub miscounted: Vec<String>,
    /// Those of which it says that they move less. What it says of a loop nest is a bound: operands that overlap in ways that
    /// are hard to count, it counts apart.
    pub understated: Vec<String>,
    /// Accesses outside of arena, constants and ports, and writes to what is only read.
    pub outside: Vec<String>,
    /// What is wrong with strips.
    pub strips: Vec<String>,
    /// Reads of what no step has written.
    pub undefined: Vec<String>,
    /// Undefined bytes that steps read as padding, which is by design.
    pub padding: u64,
}

impl Audit {
    /// Walks through a plan.
    ///
    /// # Errors
    ///
    /// A step does not fit its decision.
    pub fn of(plan: &Plan) -> Result<Audit, String> {
        let mut audit = Audit::default();
        let mut defined = Defined::before(plan);
        let visits = visits(plan);
        let mut seen = vec![false; plan.steps.len()];
        let last: BTreeMap<usize, usize> =
            visits.iter().enumerate().map(|(place, &(number, _))| (number, place)).collect();
        for (place, (number, args)) in visits.iter().enumerate() {
            let Some(step) = plan.steps.get(*number) else { continue };
            let moved_on = PlanStep { args: args.clone(), ..step.clone() };
            let step = &moved_on;
            let walk = walk(plan, step)?;
            if !std::mem::replace(&mut seen[*number], true) {
                let once = walk.traffic();
                let moved = Traffic { read: once.read * step.times, written: once.written * step.times };
                if moved != step.traffic {
                    let (kind, name) = (step.code.kind(), &step.name);
                    let what = format!("{kind} \"{name}\": {:?}, addresses: {moved:?}", step.traffic);
                    if step.traffic.read < moved.read || step.traffic.written < moved.written {
                        audit.understated.push(what.clone());
                    }
                    audit.miscounted.push(what);
                }
                audit.moved.push(moved);
            }
            audit.outside.extend(outside(plan, &walk).map(|what| format!("\"{}\" {what}", step.name)));
            let stray = stray(plan, *number, &walk);
            if stray > 0 {
                let what = "of the arena outside of the buffers that are alive";
                audit.outside.push(format!("\"{}\" touches {stray} bytes {what}", step.name));
            }
            match defined.step(plan, step, &walk) {
                Ok(bytes) => audit.padding += bytes,
                Err(what) => audit.undefined.push(what),
            }
            // What a loop reads again is alive until its last iteration is over.
            if last.get(number) == Some(&place) {
                defined.end(plan, *number);
            }
        }
        audit.undefined.extend(defined.unfinished(plan));
        audit.strips = strips(plan)?;
        Ok(audit)
    }

    /// All that is wrong in any plan.
    pub fn faults(&self) -> impl Iterator<Item = &String> {
        self.understated.iter().chain(&self.outside).chain(&self.undefined).chain(&self.strips)
    }
}

/// The steps in the order in which they run, each with the base pointers of its iteration. Loops that data end run to their
/// bound, and both branches run.
fn visits(plan: &Plan) -> Vec<(usize, Vec<Arg>)> {
    let mut visits = Vec::new();
    go(plan, 0..plan.steps.len(), 0, &mut Vec::new(), &mut visits);
    visits
}

/// Goes through steps, given the first repeat that is not around them and the iterations of those that are.
fn go(
    plan: &Plan,
    steps: Range<usize>,
    mut next: usize,
    around: &mut Vec<(usize, u64)>,
    visits: &mut Vec<(usize, Vec<Arg>)>,
) {
    let mut at = steps.start;
    while at < steps.end {
        match plan.repeats.get(next).filter(|repeat| repeat.steps().start == at) {
            Some(repeat) => {
                for iteration in 0..repeat.trips {
                    around.push((next, iteration));
                    go(plan, repeat.steps(), next + 1, around, visits);
                    around.pop();
                }
                at = repeat.steps().end;
                next += plan.repeats[next..].iter().take_while(|inner| inner.steps().start < at).count();
            }
            None => {
                let mut args = plan.steps[at].args.clone();
                for &(repeat, iteration) in around.iter() {
                    for moved in plan.repeats[repeat].moves.iter().filter(|moved| moved.step as usize == at) {
                        let arg = &mut args[moved.arg as usize];
                        let distance = moved.stride.wrapping_mul(iteration as i64);
                        arg.offset = arg.offset.wrapping_add_signed(distance);
                    }
                }
                visits.push((at, args));
                at += 1;
            }
        }
    }
}

/// How many bytes of the arena a step touches that belong to no buffer that is alive.
fn stray(plan: &Plan, step: usize, walk: &Walk) -> u64 {
    let alive = plan.lives.iter().filter(|life| life.steps.contains(&step));
    let alive: Intervals = alive.map(|life| life.bytes.start as i64..life.bytes.end as i64).collect();
    let touched = [&walk.read, &walk.written].into_iter().filter_map(|all| all.get(&Region::Arena));
    touched.map(|bytes| bytes.minus(&alive).bytes()).sum()
}

#[cfg(test)]
mod tests {
    use nnc::plan;
    use nnc::target::Target;

    use super::*;

    /// A loop in a loop, over slices of slices, with a state that both carry, and a branch.
    const NESTED: &str = "
        %s = input : f32[2x8]
        %x = input : f32[3x4x2x8]
        %c = input : bool[]
        %y = loop %s, %x, %c {trips=3, states=1, scanned=1} body {
          %i = input : i64[]
          %s = input : f32[2x8]
          %x = input : f32[4x2x8]
          %c = input : bool[]
          %z = loop %s, %x {trips=4, states=1, scanned=1} body {
            %i = input : i64[]
            %s = input : f32[2x8]
            %x = input : f32[2x8]
            %t = add %s, %x : f32[2x8]
            %u = relu %t : f32[2x8]
            output s = %u
            output t = %t
          } : f32[2x8], f32[4x2x8]
          %b = if %c, %z, %s then {
            %z = input : f32[2x8]
            %n = neg %z : f32[2x8]
            output b = %n
          } else {
            %s = input : f32[2x8]
            output b = %s
          } : f32[2x8]
          output s = %b
          output all = %z:1
        } : f32[2x8], f32[3x4x2x8]
        output last = %y
        output all = %y:1";

    fn nested() -> Plan {
        let graph = nnc_ir::text::parse(NESTED).unwrap();
        plan::plan(&graph, &Target::host().unwrap(), &plan::PlanOptions::default(), &Default::default())
            .unwrap()
    }

    #[test]
    fn all_iterations_of_loops_read_what_is_written_and_write_all_of_the_results() {
        let audit = Audit::of(&nested()).unwrap();
        assert_eq!(audit.faults().collect::<Vec<_>>(), Vec::<&String>::new());
        assert_eq!(audit.miscounted, Vec::<String>::new());
    }

    #[test]
    fn a_loop_of_too_few_iterations_or_other_moves_does_not_write_all_of_the_results() {
        let mut plan = nested();
        plan.repeats[0].trips -= 1;
        assert!(Audit::of(&plan).unwrap().undefined.iter().any(|what| what.contains("as a whole")));
        let mut plan = nested();
        plan.repeats[1].moves.iter_mut().for_each(|moved| moved.stride = 0);
        assert!(Audit::of(&plan).unwrap().undefined.iter().any(|what| what.contains("as a whole")));
    }
}
