//! From what was planned to steps as they run: nests become one where that moves less, then the loops of each are put in order.

use std::collections::BTreeSet;

use nnc_ir::op::Cost;

use super::buffer::BufferId;
use super::draft::{About, Draft, LoopsDraft, StepDraft};
use super::generic::{GenericError, GenericStep};
use super::planner::Planner;
use super::{MergedStep, PlanError, loops};

impl Planner<'_> {
    /// Decides about all nests: which of them become one, and the order of their loops. Steps are then as they run.
    pub(super) fn close(&mut self) -> Result<Vec<Draft>, PlanError> {
        let mut steps: Vec<Option<StepDraft>> =
            std::mem::take(&mut self.drafts).into_iter().map(Some).collect();
        let counts = self.counts.values().flatten().map(|(_, buffer)| *buffer);
        let conditions = self.repeats.iter().filter_map(|repeat| repeat.going);
        let kept = counts.chain(conditions).chain(self.records).map(|buffer| self.root(buffer));
        let kept: BTreeSet<BufferId> = kept.collect();
        let names: Vec<String> = steps.iter().flatten().map(|step| step.name().to_string()).collect();
        let mut merged = loops::merge(&mut steps, &self.buffers, &self.repeats, &kept, self.deadline)?;
        let mut drafts = Vec::new();
        let abouts = std::mem::take(&mut self.abouts);
        let ops: Vec<(&'static str, Cost)> = abouts.iter().map(|about| (about.op, about.cost)).collect();
        let mut starts = Vec::with_capacity(steps.len() + 1);
        for (at, (step, mut about)) in steps.into_iter().zip(abouts).enumerate() {
            starts.push(drafts.len());
            for within in merged.remove(&at).unwrap_or_default() {
                let (op, cost) = ops[within];
                about.cost.macc = about.cost.macc.saturating_add(cost.macc);
                about.cost.params = about.cost.params.saturating_add(cost.params);
                about.merged.push(MergedStep { name: names[within].clone(), op });
            }
            let parts = match step {
                Some(StepDraft::Layer(draft)) => vec![*draft],
                Some(StepDraft::Loops(draft)) => self.scheduled(*draft)?,
                None => Vec::new(),
            };
            for (part, draft) in parts.into_iter().enumerate() {
                self.abouts.push(if part == 0 { about.clone() } else { About::default() });
                drafts.push(draft);
            }
        }
        starts.push(drafts.len());
        for repeat in &mut self.repeats {
            repeat.steps = starts[repeat.steps.start]..starts[repeat.steps.end];
        }
        Ok(drafts)
    }

    /// The steps that a nest becomes.
    fn scheduled(&self, draft: LoopsDraft) -> Result<Vec<Draft>, PlanError> {
        let LoopsDraft { name, node, op, nest, note } = draft;
        let fault = |source| {
            let source = GenericError::Nest { op, source };
            PlanError::Generic { node: name.clone(), op, source }
        };
        let nests = nest.schedule();
        let count = nests.len();
        let mut drafts = Vec::new();
        for (index, nest) in nests.into_iter().enumerate() {
            let room = |buffer: usize| Some(0..i64::try_from(self.buffers.get(buffer)?.bytes).ok()?);
            nest.check(&room).map_err(fault)?;
            let mut step = GenericStep::Nest(nest);
            let args = step.relocate().map_err(fault)?;
            drafts.push(Draft {
                name: if count > 1 { format!("{name}.{index}") } else { name.clone() },
                node: node.filter(|_| index == 0),
                units: step.units(),
                scratch: step.scratch() as u64,
                traffic: step.traffic(),
                code: step.into(),
                args: args.into_iter().map(|(buffer, at)| (BufferId(buffer as u32), at)).collect(),
                also_reads: Vec::new(),
                note: note.clone(),
            });
        }
        Ok(drafts)
    }
}
