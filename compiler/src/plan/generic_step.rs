//! Steps for operators without kernels of their own, views that need no step, gathers, and the graph's outputs.

use std::collections::BTreeMap;

use nnc_ir::op::{Cast, Op, Prefix, Transpose};
use nnc_ir::{DType, NodeId, TensorType, Value};

use super::PlanError;
use super::buffer::{BufferId, Home};
use super::draft::{Draft, LoopsDraft};
use super::generic::{self, GenericError, GenericStep, IndexRecords, OpenStep};
use super::image::{Image, Slot};
use super::pitch::Extent;
use super::planner::{Place, Planner, as_picture, is_image};
use crate::code::float::Float;
use crate::code::routine::RECORD_WORDS;
use crate::code::view::View;

impl Planner<'_> {
    /// Plans any operator as loop nests or routines.
    pub(super) fn generic(&mut self, id: NodeId) -> Result<(), PlanError> {
        if self.map_of_runs(id)? {
            return Ok(());
        }
        let node = self.graph.node(id);
        let mut inputs = Vec::new();
        let mut has_image = false;
        for operand in self.graph.operands(id) {
            inputs.push(match operand {
                Some(v) => {
                    has_image |= self.places.get(&v).is_some_and(lies_as_image)
                        && (self.graph.ty(v).shape == node.outputs[0].shape || reduces_pixels(&node.op));
                    Some(self.view_or_gather(id, v)?)
                }
                None => None,
            });
        }
        let mut outputs = Vec::new();
        for (index, ty) in node.outputs.iter().enumerate() {
            let value = Value { node: id, output: index as u32 };
            outputs.push(self.generic_output(id, value, ty, has_image, &inputs));
        }
        self.generic_steps(id, &node.name, &node.op, &inputs, &outputs, None)
    }

    /// Plans a function of the elements of an image whose channels lie apart: run by run, where they lie, into runs that are in the same
    /// order. `false` where it is another operator, or channels lie evenly.
    fn map_of_runs(&mut self, id: NodeId) -> Result<bool, PlanError> {
        let node = self.graph.node(id);
        let operands = self.graph.operands(id);
        let Some((&Some(x), others)) = operands.split_first() else { return Ok(false) };
        let is_table = matches!(node.op, Op::ByteTable(_));
        let is_map = is_table
            || matches!(node.op, Op::Unary(_) | Op::Quantize(_) | Op::Dequantize(_) | Op::IntegerSum(_));
        let one =
            |value: &Option<Value>| is_table || value.is_none_or(|v| self.graph.ty(v).shape.elems() == 1);
        let result = node.outputs[0].dtype;
        let whole = self.is_wide(id.into()) || self.leads_out(id.into());
        if !is_map || whole || !others.iter().all(one) || Float::stored(result).is_none() {
            return Ok(false);
        }
        let Some(Place::Image(image)) = self.places.get(&x).cloned() else { return Ok(false) };
        let runs = image.runs();
        let slots: usize = runs.iter().map(|run| run.len).sum();
        if image.affine().is_some() || 2 * runs.len() > image.channels() {
            return Ok(false);
        }
        let (name, op, extent) = (node.name.clone(), node.op.clone(), image.extent);
        let others: Vec<Option<View>> = others
            .iter()
            .map(|value| value.map(|value| self.view_or_gather(id, value)).transpose())
            .collect::<Result<_, _>>()?;
        let single = |view: View| if is_table { Some(view) } else { view.reshaped(&[]) };
        let others: Vec<Option<View>> = others.into_iter().map(|view| view.and_then(single)).collect();
        let buffer = self.image_buffer(&name, extent, slots, Float::stored(result).unwrap_or_default());
        let mut places = BTreeMap::new();
        let mut next = 0;
        for run in runs {
            let from: Vec<Slot> = (0..run.len).map(|i| Slot { buffer: run.buffer, at: run.at + i }).collect();
            let to: Vec<Slot> = (0..run.len).map(|i| Slot { buffer, at: next + i }).collect();
            let views = [&from, &to].map(|slots| self.rows_of_channels(extent, slots, slots.len()));
            let [Some(read), Some(written)] = views else {
                return Err(PlanError::Internal(format!("\"{name}\" has no layout")));
            };
            let inputs: Vec<Option<View>> = [Some(read)].into_iter().chain(others.iter().cloned()).collect();
            let note = (next > 0).then_some("another run of its channels");
            self.generic_steps(id, &name, &op, &inputs, &[written], note)?;
            places.extend(from.into_iter().zip(to));
            next += run.len;
        }
        let slots = image.slots.iter().filter_map(|slot| places.get(slot).copied()).collect();
        self.place(id.into(), Place::Image(Image { extent, slots }));
        Ok(true)
    }

    /// Where a generic operator writes: over an operand that dies here, the caller's output, an image, or a dense window.
    pub(super) fn generic_output(
        &mut self,
        id: NodeId,
        value: Value,
        ty: &TensorType,
        has_image: bool,
        inputs: &[Option<View>],
    ) -> View {
        let node = self.graph.node(id);
        let as_image = Float::stored(ty.dtype).is_some()
            && is_image(&ty.shape)
            && (super::is_image_op(&node.op) || has_image);
        if matches!(node.op, Op::Unary(_) | Op::Binary(_) | Op::ChannelAffine(_) | Op::IntegerSum(_))
            && !self.is_wide(value)
            && !self.leads_out(value)
        {
            let operands = self.graph.operands(id);
            for (view, operand) in inputs.iter().zip(operands) {
                let (Some(view), Some(operand)) = (view, operand) else { continue };
                // Elements of an expanded operand lie on each other: there is no room for those of a result.
                let whole = view.shape == *ty.shape && view.dtype == ty.dtype && !view.repeats();
                let buffer = BufferId(view.arg as u32);
                let used_once = inputs.iter().flatten().filter(|v| v.arg == view.arg).count() == 1;
                if whole && used_once && self.places.contains_key(&operand) && self.dies_at(buffer, id) {
                    let place = self.places[&operand].clone();
                    if matches!(&place, Place::Window(w) if w == view) || as_image {
                        self.place(value, Place::Window(view.clone()));
                        return view.clone();
                    }
                }
            }
        }
        // As an image, a reduction of one is fast, and its result small: it is copied to the caller afterwards.
        let as_caller_wants = !(as_image && reduces_pixels(&node.op));
        if let Some(i) = self.row_major_output(value).filter(|_| as_caller_wants && !self.is_wide(value)) {
            let buffer = self.buffer(&node.name, Home::Output(i), ty.bytes() as u64, None);
            let view = View::dense(buffer.0 as usize, ty.dtype, ty.shape.to_vec());
            self.place(value, Place::Window(view.clone()));
            return view;
        }
        if as_image {
            let channels = ty.shape[1];
            let (buffer, at) = self.output_slots(value, channels, true);
            let image = Image::contiguous(self.extent(value), channels, buffer, at);
            if let Some(view) = self.value_view(value, &image) {
                self.place(value, Place::Image(image));
                return view;
            }
        }
        let view = self.temporary(&node.name, ty);
        self.place(value, Place::Window(view.clone()));
        view
    }

    fn leads_out(&self, value: Value) -> bool {
        self.output_index(value).is_some()
            || (is_image(&self.graph.ty(value).shape) && self.direct_output(value).is_some())
    }

    /// Adds the steps that an operator becomes.
    pub(super) fn generic_steps(
        &mut self,
        id: NodeId,
        name: &str,
        op: &Op,
        inputs: &[Option<View>],
        outputs: &[View],
        note: Option<&str>,
    ) -> Result<(), PlanError> {
        let follows = matches!(
            op,
            Op::GatherAt(_)
                | Op::GatherElements(_)
                | Op::GatherNd(_)
                | Op::Inside(_)
                | Op::ScatterElements(_)
                | Op::ScatterNd(_)
        );
        let what = GenericWork { id, name, op: op.name(), follows, note };
        self.lowered_steps(what, |temp, constant, records| {
            generic::open(op, inputs, outputs, temp, constant, records)
        })
    }

    /// Adds the steps that some part of an operator is lowered to.
    pub(super) fn lowered_steps(
        &mut self,
        GenericWork { id, name, op, follows, note }: GenericWork<'_>,
        lower: impl FnOnce(
            &mut dyn FnMut(TensorType) -> View,
            &mut dyn FnMut(nnc_ir::Tensor) -> View,
            Option<&mut generic::RecordMemory<'_>>,
        ) -> Result<Vec<OpenStep>, GenericError>,
    ) -> Result<(), PlanError> {
        let fault = |source| PlanError::Generic { node: name.to_string(), op, source };
        let mut temporaries: Vec<TensorType> = Vec::new();
        let mut constants = Vec::new();
        let record_memory = if follows { self.index_records() } else { None };
        let mut records: Vec<IndexRecords> = Vec::new();
        // Views that the lowering asks for get numbers behind all buffers, and their buffers afterwards.
        let base = self.buffers.len();
        let mut wanted: Vec<Wanted> = Vec::new();
        let wanted_cell = std::cell::RefCell::new(&mut wanted);
        let steps = {
            let mut temp = |ty: TensorType| {
                let mut w = wanted_cell.borrow_mut();
                w.push(Wanted::Temporary(temporaries.len()));
                temporaries.push(ty.clone());
                View::dense(base + w.len() - 1, ty.dtype, ty.shape.to_vec())
            };
            let mut constant = |tensor: nnc_ir::Tensor| {
                let mut w = wanted_cell.borrow_mut();
                w.push(Wanted::Constant(constants.len()));
                let view = View::dense(base + w.len() - 1, tensor.dtype(), tensor.shape().to_vec());
                constants.push(tensor);
                view
            };
            let mut record = record_memory.map(|(buffer, taken)| {
                let records = &mut records;
                move |wanted: IndexRecords| {
                    let shape = [wanted.records, RECORD_WORDS];
                    records.push(wanted);
                    View { offset: taken as i64, ..View::dense(buffer.0 as usize, DType::I64, shape) }
                }
            });
            let record = record.as_mut().map(|record| record as &mut generic::RecordMemory<'_>);
            lower(&mut temp, &mut constant, record).map_err(fault)?
        };
        for record in &records {
            self.add_index_check(name, record);
        }
        for want in &wanted {
            match want {
                Wanted::Temporary(i) => self.temporary(name, &temporaries[*i]),
                Wanted::Constant(i) => self.constant(name, &constants[*i]),
            };
        }
        let count = steps.len();
        for (index, step) in steps.into_iter().enumerate() {
            let suffix = if count > 1 { format!(".{index}") } else { String::new() };
            let (name, node) = (format!("{name}{suffix}"), (index == 0 && note.is_none()).then_some(id));
            let note = note.map(str::to_string);
            match step {
                OpenStep::Loops(nest) => self.loops(LoopsDraft { name, node, op, nest, note }),
                OpenStep::Routine(mut routine) => {
                    let args = routine.relocate().into_iter();
                    let step = GenericStep::Routine(routine);
                    self.step(Draft {
                        name,
                        node,
                        units: step.units(),
                        scratch: 0,
                        traffic: step.traffic(),
                        code: step.into(),
                        args: args.map(|(buffer, at)| (BufferId(buffer as u32), at)).collect(),
                        also_reads: Vec::new(),
                        note,
                    });
                }
            }
        }
        Ok(())
    }

    /// A value of which data decide the size: its number is kept until the end of the run, where the caller is told.
    pub(super) fn prefix(&mut self, id: NodeId, prefix: &Prefix) -> Result<(), PlanError> {
        let mut counts = Vec::new();
        for (index, &axis) in prefix.axes.iter().enumerate() {
            if let Some(count) = self.graph.operand(id, 1 + index) {
                counts.push((axis, self.view_or_gather(id, count)?));
            }
        }
        if self.output_index(id.into()).is_none() || !self.graph.consumers(id.into()).is_empty() {
            let source = GenericError::Unsupported {
                op: "Prefix",
                what: "a value that is no output of the graph, or read by other nodes too".into(),
            };
            return Err(PlanError::Generic { node: self.graph.node(id).name.clone(), op: "Prefix", source });
        }
        self.generic(id)?;
        for (axis, count) in counts {
            let name = format!("{}.count", self.graph.node(id).name);
            let kept = self.temporary(&name, &TensorType::new(DType::I64, []));
            self.counts.entry(id.into()).or_default().push((axis, BufferId(kept.arg as u32)));
            self.copy(id, &name, count, kept, "the caller is told how many there are")?;
        }
        Ok(())
    }

    /// The value as a window; channels that are scattered are gathered first.
    pub(super) fn view_or_gather(&mut self, id: NodeId, value: Value) -> Result<View, PlanError> {
        if let Some(view) = self.view(value) {
            return Ok(view);
        }
        let Some(image) = self.image(value) else {
            return Err(PlanError::Internal(format!(
                "\"{}\" is read before it is planned",
                self.graph.node(value.node).name
            )));
        };
        let gathered = self.relayout(id, &image, "its operator reads channels at equal distances")?;
        // Others that read the value find them together.
        self.place(value, Place::Image(gathered.clone()));
        self.value_view(value, &gathered)
            .ok_or_else(|| PlanError::Internal("a gathered image is not regular".into()))
    }

    /// The value as an image; a copy of it where its bytes cannot be seen as one.
    pub(super) fn image_or_copy(&mut self, id: NodeId, value: Value) -> Result<Image, PlanError> {
        let view = self.view(value);
        if let Some(image) = self.image(value) {
            return Ok(image);
        }
        let name = format!("{}.gather", self.graph.node(id).name);
        let (extent, channels) = (self.extent(value), self.graph.ty(value).shape[1]);
        let buffer = self.image_buffer(&name, extent, channels, self.float(value));
        let copy = Image::contiguous(extent, channels, buffer, 0);
        match (view, self.value_view(value, &copy)) {
            (Some(from), Some(to)) => self.copy(id, &name, from, to, "it does not lie as an image does")?,
            _ => return Err(PlanError::Internal(format!("\"{name}\" has no layout"))),
        }
        Ok(copy)
    }

    /// Copies an image into a buffer of its own, channels side by side in natural order.
    pub(super) fn relayout(&mut self, id: NodeId, image: &Image, why: &str) -> Result<Image, PlanError> {
        let name = format!("{}.gather", self.graph.node(id).name);
        let buffer = self.gathered(&name, image, image.channels());
        let copy = Image::contiguous(image.extent, image.channels(), buffer, 0);
        self.copy_channels(id, &name, image, &copy, why)?;
        Ok(copy)
    }

    /// Copies an image into a buffer of its own, channels in the order and at the distances that those of `like` have.
    pub(super) fn relayout_like(
        &mut self,
        id: NodeId,
        image: &Image,
        like: &Image,
        why: &str,
    ) -> Result<Image, PlanError> {
        let places = like.slots.iter().map(|slot| slot.at);
        let (first, last) = (places.clone().min().unwrap_or(0), places.clone().max().unwrap_or(0));
        let name = format!("{}.gather", self.graph.node(id).name);
        let buffer = self.gathered(&name, image, last + 1 - first);
        let slots = places.map(|at| Slot { buffer, at: at - first }).collect();
        let copy = Image { extent: image.extent, slots };
        self.copy_channels(id, &name, image, &copy, why)?;
        Ok(copy)
    }

    /// A buffer for a copy of an image.
    fn gathered(&mut self, name: &str, image: &Image, slots: usize) -> BufferId {
        self.image_buffer(name, image.extent, slots, self.float_of(image))
    }

    /// Steps that copy an image to another place, channel by channel as far as they lie regularly.
    pub(super) fn copy_channels(
        &mut self,
        id: NodeId,
        name: &str,
        image: &Image,
        copy: &Image,
        why: &str,
    ) -> Result<(), PlanError> {
        let mut start = 0;
        while start < image.channels() {
            let (from, to) = (&image.slots[start..], &copy.slots[start..]);
            let each = regular_prefix(from).min(regular_prefix(to));
            let rows = alike(from, each).min(alike(to, each));
            let views = [(image, from), (copy, to)]
                .map(|(of, slots)| self.rows_of_channels(of.extent, &slots[..rows * each], each));
            let [Some(from), Some(to)] = views else {
                return Err(PlanError::Internal(format!("\"{name}\" has no layout")));
            };
            self.copy(id, name, from, to, why)?;
            start += each * rows;
        }
        Ok(())
    }

    /// Channels as a window of rows, each of so many channels at equal distances; rows lie at equal distances, too.
    fn rows_of_channels(&self, e: Extent, slots: &[Slot], each: usize) -> Option<View> {
        let first = slots.first()?;
        let pitch = self.pitch(first.buffer)?;
        let step = |to: usize| slots.get(to).map_or(0, |slot| slot.at - first.at);
        let inner = if each > 1 { step(1) } else { 0 };
        Some(View {
            arg: first.buffer.0 as usize,
            offset: pitch.bytes(first.at),
            dtype: pitch.float.dtype(),
            shape: vec![e.n, slots.len() / each, each, e.h, e.w],
            strides: [pitch.image, step(each), inner, pitch.row, pitch.pixel]
                .map(|s| pitch.bytes(s))
                .to_vec(),
        })
    }

    /// A step that copies one window to another of the same shape.
    pub(super) fn copy(
        &mut self,
        id: NodeId,
        name: &str,
        from: View,
        to: View,
        why: &str,
    ) -> Result<(), PlanError> {
        let op = match from.dtype == to.dtype {
            true => Op::Transpose(Transpose { perm: (0..from.rank()).collect() }),
            false => Op::Cast(Cast { to: to.dtype }),
        };
        self.generic_steps(id, name, &op, &[Some(from)], &[to], Some(why))
    }

    /// Operators that look at the same bytes in another way: no step, unless strides cannot say it.
    pub(super) fn reviewed(&mut self, id: NodeId) -> Result<bool, PlanError> {
        let Some(x) = self.graph.operand(id, 0) else { return Ok(false) };
        if self.graph.constant(x).is_some() {
            return Ok(false);
        }
        let Some(view) = self.view(x) else { return Ok(false) };
        let seen: Option<Vec<View>> = match &self.graph.node(id).op {
            Op::Reshape(r) => view.reshaped(&r.shape).map(|v| vec![v]),
            Op::Transpose(t) => view.permuted(&t.perm).map(|v| vec![v]),
            Op::Expand(e) => view.broadcast(&e.shape).map(|v| vec![v]),
            Op::Slice(s) => s
                .axes
                .iter()
                .try_fold(view.clone(), |v, a| v.sliced(a.axis, a.start, a.step, a.len))
                .map(|v| vec![v]),
            Op::Split(s) => {
                let mut start = 0;
                s.parts
                    .iter()
                    .map(|&len| {
                        let part = view.sliced(s.axis, start, 1, len);
                        start += len;
                        part
                    })
                    .collect()
            }
            _ => None,
        };
        let Some(views) = seen else { return Ok(false) };
        for (index, view) in views.into_iter().enumerate() {
            self.place(Value { node: id, output: index as u32 }, Place::Window(view));
        }
        Ok(true)
    }

    /// A select of channels: a new table over old slots.
    pub(super) fn select(&mut self, id: NodeId, select: &nnc_ir::op::ChannelSelect) -> bool {
        let images: Vec<Option<Image>> =
            self.graph.operands(id).into_iter().map(|v| v.and_then(|v| self.image(v))).collect();
        let slots: Option<Vec<Slot>> = select
            .sources
            .iter()
            .map(|s| images.get(s.operand as usize)?.as_ref()?.slots.get(s.channel as usize).copied())
            .collect();
        match slots {
            Some(slots) if Float::stored(self.graph.ty(id.into()).dtype).is_some() => {
                let extent = self.extent(id.into());
                self.place(id.into(), Place::Image(Image { extent, slots }));
                true
            }
            _ => false,
        }
    }

    /// Copies what is not yet where the caller wants it.
    pub(super) fn outputs(&mut self) -> Result<(), PlanError> {
        for index in 0..self.graph.outputs().len() {
            let (name, value) = self.graph.outputs()[index].clone();
            let ty = self.graph.ty(value).clone();
            if ty.shape.elems() == 0 {
                continue;
            }
            let view = self.view(value);
            let home = view.as_ref().map(|view| (self.at(BufferId(view.arg as u32)).home, view));
            if home.is_some_and(|(home, view)| {
                home == Home::Output(index as u32) && view.is_contiguous() && view.offset == 0
            }) {
                continue;
            }
            let buffer = self.buffer(&name, Home::Output(index as u32), ty.bytes() as u64, None);
            let to = View::dense(buffer.0 as usize, ty.dtype, ty.shape.to_vec());
            let (name, why) = (format!("{name}.output"), "the caller wants it row-major");
            match (view, self.image(value)) {
                (Some(view), _) => self.copy(value.node, &name, view, to, why)?,
                (None, Some(image)) => {
                    let planes = as_picture(&to).and_then(|to| self.window_as_image(&to));
                    let planes = planes.filter(|planes| planes.extent == image.extent);
                    let planes =
                        planes.ok_or_else(|| PlanError::Internal(format!("\"{name}\" has no layout")))?;
                    self.copy_channels(value.node, &name, &image, &planes, why)?;
                }
                (None, None) => return Err(PlanError::Internal(format!("\"{name}\" has no layout"))),
            }
        }
        Ok(())
    }
}

/// Whether a value has its channels side by side, in pixels.
fn lies_as_image(place: &Place) -> bool {
    match place {
        Place::Image(_) => true,
        Place::Window(view) => {
            let size = view.dtype.bytes() as i64;
            let pixels: usize = view.shape.iter().skip(2).product();
            is_image(&view.shape)
                && pixels > 1
                && view.strides[1] == size
                && view.strides[view.rank() - 1] > size
        }
    }
}

/// Whether an operator makes an image of an image by reducing pixels: what lies beside each other is read and written together.
fn reduces_pixels(op: &Op) -> bool {
    matches!(op, Op::Reduce(reduce) if reduce.keep_dims && reduce.axes.iter().all(|&axis| axis >= 2))
}

/// What steps are lowered for.
#[derive(Clone, Copy)]
pub(super) struct GenericWork<'a> {
    pub id: NodeId,
    /// Of the steps.
    pub name: &'a str,
    /// Name of the operator.
    pub op: &'static str,
    /// Whether indices of the run lead into tensors.
    pub follows: bool,
    /// Why it is done, where it is no node of the graph.
    pub note: Option<&'a str>,
}

/// What a lowering asked for while it ran.
enum Wanted {
    Temporary(usize),
    Constant(usize),
}

/// How many groups of `each` slots, from the first on, lie like the first one, at equal distances.
fn alike(slots: &[Slot], each: usize) -> usize {
    let (Some(first), Some(second)) = (slots.first(), slots.get(each)) else { return 1 };
    let Some(step) = second.at.checked_sub(first.at) else { return 1 };
    let like = |(row, group): &(usize, &[Slot])| {
        let moved = |slot: &Slot| Slot { at: slot.at + row * step, ..*slot };
        group.iter().copied().eq(slots[..each].iter().map(moved))
    };
    slots.chunks_exact(each).enumerate().take_while(like).count()
}

/// Length of the longest prefix of slots at equal distances in one buffer.
fn regular_prefix(slots: &[Slot]) -> usize {
    let Some(first) = slots.first() else { return 0 };
    let Some(second) = slots.get(1).filter(|s| s.buffer == first.buffer && s.at > first.at) else { return 1 };
    let step = second.at - first.at;
    slots
        .iter()
        .enumerate()
        .take_while(|(i, s)| s.buffer == first.buffer && s.at == first.at + i * step)
        .count()
}
