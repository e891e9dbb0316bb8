//! Loops and branches: the steps of a graph inside of a node, in the one list of steps, with a [`RepeatDraft`] around them.
//!
//! ```text
//!   initial ─ copy ─▶ state ─┐                                     before
//!   ┌ repeat, 10 times ──────┼──────────────────────────────────┐
//!   │   scanned[i] ──────────┴─▶ steps of the body ─▶ new state │   the slice's base pointer moves on
//!   │                                  part ─ copy ─▶ all[i]    │
//!   │                             new state ─ copy ─▶ state     │   at the end, when all have been read
//!   └───────────────────────────────────────────────────────────┘
//!   state                                                          the result
//! ```
//!
//! A state stays where it is in all iterations. Slices and parts are not copied to or from anywhere but where they are in the
//! whole: their buffers move along it ([`Planner::moving`]). What a body captures is read where it lies. All steps of a body
//! are of equal shapes in each iteration, so its code and its plan are as long as for one.
//!
//! A branch is a repeat of at most one iteration, and an If is two of them: one looks at the condition, the other at its opposite.

use nnc_ir::op::{Binary, BinaryFn, Body, If, Loop, Op, Unary};
use nnc_ir::{DType, NodeId, Tensor, TensorType, Value};

use super::PlanError;
use super::buffer::{BufferId, Home};
use super::image::Image;
use super::planner::{Place, Planner};
use super::repeat::RepeatDraft;
use crate::code::float::Float;
use crate::code::view::View;

/// Where a state is, or the result of a branch: the bytes to copy to, and where its readers find it.
#[derive(Clone)]
struct Kept {
    view: View,
    place: Place,
}

impl<'g> Planner<'g> {
    /// Plans a loop.
    pub(super) fn repeated(&mut self, id: NodeId, op: &'g Loop) -> Result<(), PlanError> {
        let name = self.graph.node(id).name.clone();
        let operands: Vec<Value> = self.graph.operands(id).into_iter().flatten().collect();
        let result = |index: usize| Value { node: id, output: index as u32 };
        let body = op.body.graph();
        let bool = TensorType::new(DType::Bool, []);
        let count_type = TensorType::new(DType::I64, []);

        let mut states = Vec::new();
        for &operand in &operands[op.first_state()..op.first_scanned()] {
            let initial = self.view_or_gather(id, operand)?;
            let kept = self.kept(&format!("{name}.state"), self.graph.ty(operand));
            self.copy(id, &format!("{name}.first"), initial, kept.view.clone(), "a loop begins with it")?;
            states.push(kept);
        }
        let going = match op.by_data {
            true => {
                let first = self.view_or_gather(id, operands[0])?;
                let kept = self.temporary(&format!("{name}.going"), &bool);
                self.copy(id, &format!("{name}.goes"), first, kept.clone(), "a loop looks at it")?;
                Some(kept)
            }
            false => None,
        };
        // Which iteration it is, for a body that asks, or to be told how many there were.
        let iteration = Value::from(body.inputs()[0]);
        let counts = op.by_data || !body.consumers(iteration).is_empty() || body.is_output(iteration);
        let counter = match counts {
            true => {
                let zero = self.constant(&name, &Tensor::new([], &[0i64])?);
                let counter = self.temporary(&format!("{name}.iteration"), &count_type);
                self.copy(id, &format!("{name}.zero"), zero, counter.clone(), "a loop counts from there")?;
                Some(counter)
            }
            false => None,
        };
        let mut wholes = Vec::new();
        for index in 0..op.parts() {
            let value = result(op.states + index);
            let ty = self.graph.ty(value).clone();
            let home = self.output_index(value).map_or(Home::Arena, Home::Output);
            let whole = self.buffer(&name, home, ty.bytes() as u64, None);
            wholes.push(View::dense(whole.0 as usize, ty.dtype, ty.shape.to_vec()));
        }

        let mut scanned = Vec::new();
        for &operand in &operands[op.first_scanned()..op.first_captured()] {
            scanned.push(self.view_or_gather(id, operand)?);
        }
        let captured = self.captured(id, &operands[op.first_captured()..])?;

        let repeat = self.repeats.len();
        let start = self.drafts.len();
        let condition = going.as_ref().map(|view| BufferId(view.arg as u32));
        self.repeats.push(RepeatDraft { steps: start..start, trips: op.trips, going: condition });
        let mut places: Vec<Option<Place>> = vec![counter.clone().map(Place::Window)];
        places.extend(states.iter().map(|kept| Some(kept.place.clone())));
        for whole in &scanned {
            places.push(self.slice(whole, repeat).map(Place::Window));
        }
        places.extend(captured.into_iter().map(Some));
        let slices: Vec<Option<View>> = wholes.iter().map(|whole| self.slice(whole, repeat)).collect();

        let moved = "an iteration's part of the whole";
        let at_end = |planner: &mut Self, id: NodeId, results: &[View]| {
            let (decided, results) = results.split_at(op.first_state());
            let (new, parts) = results.split_at(op.states);
            // States are read until all else is done.
            for (view, slice) in parts.iter().zip(&slices) {
                if let Some(slice) = slice {
                    planner.copy(id, &format!("{name}.part"), view.clone(), slice.clone(), moved)?;
                }
            }
            for (view, kept) in decided.iter().zip(&going) {
                planner.copy(
                    id,
                    &format!("{name}.goes"),
                    view.clone(),
                    kept.clone(),
                    "a loop looks at it",
                )?;
            }
            planner.next_states(id, &name, new, &states)?;
            if let Some(counter) = &counter {
                let one = planner.constant(&name, &Tensor::new([], &[1i64])?);
                let add = Op::from(Binary { function: BinaryFn::Add, activation: None });
                let operands = [Some(counter.clone()), Some(one)];
                let result = std::slice::from_ref(counter);
                let note = Some("the number of the next iteration");
                planner.generic_steps(id, &format!("{name}.count"), &add, &operands, result, note)?;
            }
            Ok(())
        };
        if op.trips > 0 {
            self.inside(id, &op.body, places, at_end)?;
        }
        self.end(repeat);

        for (index, kept) in states.into_iter().enumerate() {
            self.place(result(index), kept.place);
        }
        for (index, whole) in wholes.into_iter().enumerate() {
            self.place(result(op.states + index), Place::Window(whole));
        }
        if let Some(counter) = counter.filter(|_| op.by_data) {
            self.place(result(op.states + op.parts()), Place::Window(counter));
        }
        Ok(())
    }

    /// Plans two branches of which one runs.
    pub(super) fn branches(&mut self, id: NodeId, op: &'g If) -> Result<(), PlanError> {
        let name = self.graph.node(id).name.clone();
        let operands: Vec<Value> = self.graph.operands(id).into_iter().flatten().collect();
        let bool = TensorType::new(DType::Bool, []);
        let holds = self.view_or_gather(id, operands[0])?;
        let then = self.temporary(&format!("{name}.then"), &bool);
        let otherwise = self.temporary(&format!("{name}.else"), &bool);
        self.copy(id, &format!("{name}.holds"), holds.clone(), then.clone(), "a branch looks at it")?;
        let not = Op::from(Unary::Not);
        let note = Some("a branch looks at it");
        self.generic_steps(
            id,
            &format!("{name}.not"),
            &not,
            &[Some(holds)],
            std::slice::from_ref(&otherwise),
            note,
        )?;

        let mut results = Vec::new();
        for (index, ty) in self.graph.node(id).outputs.iter().enumerate() {
            let value = Value { node: id, output: index as u32 };
            results.push(match self.output_index(value) {
                Some(output) => {
                    let buffer = self.buffer(&name, Home::Output(output), ty.bytes() as u64, None);
                    let view = View::dense(buffer.0 as usize, ty.dtype, ty.shape.to_vec());
                    Kept { view: view.clone(), place: Place::Window(view) }
                }
                None => self.kept(&name, ty),
            });
        }
        let first = op.first_otherwise();
        for (body, condition, captured) in
            [(&op.then, then, &operands[1..first]), (&op.otherwise, otherwise, &operands[first..])]
        {
            let places = self.captured(id, captured)?.into_iter().map(Some).collect();
            let repeat = self.repeats.len();
            let start = self.drafts.len();
            let going = Some(BufferId(condition.arg as u32));
            self.repeats.push(RepeatDraft { steps: start..start, trips: 1, going });
            self.inside(id, body, places, |planner, id, made| {
                for (view, kept) in made.iter().zip(&results) {
                    let why = "the result of the branch that runs";
                    planner.copy(id, &format!("{name}.result"), view.clone(), kept.view.clone(), why)?;
                }
                Ok(())
            })?;
            self.end(repeat);
        }
        for (index, kept) in results.into_iter().enumerate() {
            self.place(Value { node: id, output: index as u32 }, kept.place);
        }
        Ok(())
    }

    /// Plans the nodes of a graph inside of a node, given where its inputs are; `finish` gets its outputs.
    fn inside(
        &mut self,
        id: NodeId,
        body: &'g Body,
        places: Vec<Option<Place>>,
        finish: impl FnOnce(&mut Self, NodeId, &[View]) -> Result<(), PlanError>,
    ) -> Result<(), PlanError> {
        let graph = body.graph();
        let order = graph.order()?;
        let outer = self.enter(graph, &order);
        for (&input, place) in graph.inputs().iter().zip(places) {
            if let Some(place) = place {
                self.place(input.into(), place);
            }
        }
        self.nodes(&order)?;
        let mut results = Vec::new();
        for (_, value) in graph.outputs() {
            results.push(self.view_or_gather(value.node, *value)?);
        }
        self.leave(outer);
        finish(self, id, &results)
    }

    /// Ends a repeat: without steps, it is none.
    fn end(&mut self, repeat: usize) {
        let end = self.drafts.len();
        match self.repeats.get_mut(repeat) {
            Some(of) if of.steps.start < end => of.steps.end = end,
            _ => self.repeats.truncate(repeat),
        }
    }

    /// A place for a value that is written several times.
    fn kept(&mut self, name: &str, ty: &TensorType) -> Kept {
        if let Some(float) = Float::of(ty.dtype)
            && let &[n, channels, h, w] = &ty.shape[..]
        {
            let extent = super::pitch::Extent { n, h, w };
            let buffer = self.image_buffer(name, extent, channels, float);
            let image = Image::contiguous(extent, channels, buffer, 0);
            if let Some(view) = self.image_view(&image) {
                return Kept { view, place: Place::Image(image) };
            }
        }
        let view = self.temporary(name, ty);
        Kept { view: view.clone(), place: Place::Window(view) }
    }

    /// The slice of a whole that an iteration has; `None` where no iteration has any.
    fn slice(&mut self, whole: &View, repeat: usize) -> Option<View> {
        let (&stride, strides) = whole.strides.split_first()?;
        let buffer = self.moving(BufferId(whole.arg as u32), repeat, stride);
        let shape = whole.shape[1..].to_vec();
        Some(View { arg: buffer.0 as usize, shape, strides: strides.to_vec(), ..whole.clone() })
    }

    /// Where values are that a graph inside of the one at hand reads.
    fn captured(&mut self, id: NodeId, values: &[Value]) -> Result<Vec<Place>, PlanError> {
        let mut places = Vec::new();
        for &value in values {
            places.push(match self.places.get(&value) {
                Some(place) => place.clone(),
                None => Place::Window(self.view_or_gather(id, value)?),
            });
        }
        Ok(places)
    }

    /// Copies what an iteration has made to where the next one reads it. What is itself a state, in another place, would be
    /// overwritten on the way: it takes a detour.
    fn next_states(
        &mut self,
        id: NodeId,
        name: &str,
        made: &[View],
        states: &[Kept],
    ) -> Result<(), PlanError> {
        let mut sources = Vec::new();
        for (view, kept) in made.iter().zip(states) {
            let of_state = states.iter().any(|state| state.view.arg == view.arg);
            if !of_state || *view == kept.view {
                sources.push(view.clone());
                continue;
            }
            let detour = self.temporary(name, &TensorType::new(view.dtype, view.shape.clone()));
            let why = "states change places";
            self.copy(id, &format!("{name}.detour"), view.clone(), detour.clone(), why)?;
            sources.push(detour);
        }
        for (view, kept) in sources.into_iter().zip(states) {
            if view != kept.view {
                let why = "the next iteration reads it there";
                self.copy(id, &format!("{name}.next"), view, kept.view.clone(), why)?;
            }
        }
        Ok(())
    }
}
