//! All that addresses tell about a plan, step after step.

use nnc::plan::{Plan, Traffic};
use nnc_runtime::abi::Region;

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
        for (number, step) in plan.steps.iter().enumerate() {
            let walk = walk(plan, step)?;
            let moved = walk.traffic();
            if moved != step.traffic {
                let (kind, name) = (step.code.kind(), &step.name);
                let what = format!("{kind} \"{name}\": {:?}, addresses: {moved:?}", step.traffic);
                if step.traffic.read < moved.read || step.traffic.written < moved.written {
                    audit.understated.push(what.clone());
                }
                audit.miscounted.push(what);
            }
            audit.moved.push(moved);
            audit.outside.extend(outside(plan, &walk).map(|what| format!("\"{}\" {what}", step.name)));
            let stray = stray(plan, number, &walk);
            if stray > 0 {
                let what = "of the arena outside of the buffers that are alive";
                audit.outside.push(format!("\"{}\" touches {stray} bytes {what}", step.name));
            }
            match defined.step(plan, step, &walk) {
                Ok(bytes) => audit.padding += bytes,
                Err(what) => audit.undefined.push(what),
            }
            defined.end(plan, number);
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

/// How many bytes of the arena a step touches that belong to no buffer that is alive.
fn stray(plan: &Plan, step: usize, walk: &Walk) -> u64 {
    let alive = plan.lives.iter().filter(|life| life.steps.contains(&step));
    let alive: Intervals = alive.map(|life| life.bytes.start as i64..life.bytes.end as i64).collect();
    let touched = [&walk.read, &walk.written].into_iter().filter_map(|all| all.get(&Region::Arena));
    touched.map(|bytes| bytes.minus(&alive).bytes()).sum()
}
