//! The state of planning: which buffer holds what, and the steps so far.

use std::collections::BTreeMap;
use std::ops::Range;

use nnc_ir::op::Op;
use nnc_ir::{DType, Graph, NodeId, Tensor, TensorType, Value};
use nnc_ir::{Deadline, Exceeded, LimitName};
use nnc_runtime::abi::{Arg, Count, ElemType, IndexCheck, Move, Port, Region, Repeat};

use super::arena::Lifetime;
use super::buffer::{Buffer, BufferId, Home};
use super::channels::{self, WideBuffers};
use super::constants::PlannedConstants;
use super::draft::{About, COPY, Draft, LoopsDraft, StepDraft};
use super::generic::IndexRecords;
use super::growth::Growth;
use super::image::{Image, Slot};
use super::memory;
use super::packing::Packing;
use super::pitch::{Extent, Pitch};
use super::repeat::{self, RepeatDraft};
use super::slow;
use super::strips;
use super::{
    Bounds, Indices, LayerCode, MemoryReport, Plan, PlanError, PlanOptions, PlanStep, Refusal, StepMemory,
    Unpacked,
};
use crate::code::float::Float;
use crate::code::view::View;
use crate::target::Target;

/// Where a value is. The `arg` of a view is the number of a buffer.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// Channels in slots of buffers.
    Image(Image),
    /// Any strided window of one buffer.
    Window(View),
}

/// A table of channel runs, to be filled with displacements from the start of the arena.
#[derive(Clone, Debug)]
pub(super) struct RunTable {
    /// Offset in the constants.
    pub at: u64,
    /// First slot of each run.
    pub starts: Vec<Slot>,
}

/// The state of planning.
pub(super) struct Planner<'g> {
    pub graph: &'g Graph,
    pub target: &'g Target,
    pub options: &'g PlanOptions,
    /// Bytes of all constants of the graph.
    pub weights: u64,
    /// Bytes that constants may become more by transforms of weights.
    pub growth: Growth,
    /// Multiply-accumulates of the whole graph.
    pub macc: u64,
    pub deadline: Deadline,
    position: BTreeMap<NodeId, usize>,
    last_use: BTreeMap<Value, usize>,
    pub buffers: Vec<Buffer>,
    /// For each buffer, the last use of any value in it.
    needed_until: BTreeMap<BufferId, usize>,
    pub places: BTreeMap<Value, Place>,
    wide: WideBuffers,
    wide_ids: BTreeMap<usize, BufferId>,
    /// How many loops and branches the graph at hand is inside of.
    pub depth: usize,
    pub drafts: Vec<StepDraft>,
    pub abouts: Vec<About>,
    /// Loops and branches, in the order in which they begin.
    pub repeats: Vec<RepeatDraft>,
    pub constants: PlannedConstants,
    pub tables: Vec<RunTable>,
    /// For values of which data decide the size: the axes, and the buffers that hold how many there are until the end of a run.
    pub counts: BTreeMap<Value, Vec<(usize, BufferId)>>,
    /// The buffer of all records of indices that lead outside, if there are any; it is kept for the whole run.
    pub records: Option<BufferId>,
    /// What they are of; they begin from the start of that buffer.
    pub index_checks: Vec<IndexCheck>,
}

/// What the planner knows of one graph, while it plans one inside of that.
pub(super) struct Outer<'g> {
    graph: &'g Graph,
    position: BTreeMap<NodeId, usize>,
    last_use: BTreeMap<Value, usize>,
    needed_until: BTreeMap<BufferId, usize>,
    places: BTreeMap<Value, Place>,
    wide: WideBuffers,
    wide_ids: BTreeMap<usize, BufferId>,
}

/// Buffer 0 stands for the start of the arena.
pub(super) const ARENA_START: BufferId = BufferId(0);

impl<'g> Planner<'g> {
    pub fn new(
        graph: &'g Graph,
        target: &'g Target,
        options: &'g PlanOptions,
        deadline: Deadline,
        order: &[NodeId],
    ) -> Planner<'g> {
        let position: BTreeMap<NodeId, usize> = order.iter().enumerate().map(|(i, &id)| (id, i)).collect();
        let last_use = last_uses(graph, order, &position);
        let wide = channels::wide_buffers(graph, order, |v| writes_image(graph, v));
        let weights = constant_bytes(graph);
        let macc = order.iter().map(|&id| graph.cost(id).macc).fold(0, u64::saturating_add);
        let start =
            Buffer { name: "arena".into(), home: Home::ArenaStart, bytes: 0, image: None, moves: Vec::new() };
        Planner {
            graph,
            target,
            options,
            weights,
            growth: Growth::of(graph, order, options.constants.room(weights)),
            macc,
            deadline,
            position,
            last_use,
            buffers: vec![start],
            needed_until: BTreeMap::new(),
            places: BTreeMap::new(),
            wide,
            wide_ids: BTreeMap::new(),
            depth: 0,
            drafts: Vec::new(),
            abouts: Vec::new(),
            repeats: Vec::new(),
            constants: PlannedConstants::default(),
            tables: Vec::new(),
            counts: BTreeMap::new(),
            records: None,
            index_checks: Vec::new(),
        }
    }

    /// Turns to a graph inside of the one at hand. What is placed as one of its inputs stays as it is while the graph runs.
    pub fn enter(&mut self, graph: &'g Graph, order: &[NodeId]) -> Outer<'g> {
        use std::mem::{replace, take};
        let position: BTreeMap<NodeId, usize> = order.iter().enumerate().map(|(i, &id)| (id, i)).collect();
        let mut last_use = last_uses(graph, order, &position);
        last_use.extend(graph.inputs().iter().map(|&id| (Value::from(id), usize::MAX)));
        let wide = channels::wide_buffers(graph, order, |v| writes_image(graph, v));
        self.depth += 1;
        Outer {
            graph: replace(&mut self.graph, graph),
            position: replace(&mut self.position, position),
            last_use: replace(&mut self.last_use, last_use),
            needed_until: take(&mut self.needed_until),
            places: take(&mut self.places),
            wide: replace(&mut self.wide, wide),
            wide_ids: take(&mut self.wide_ids),
        }
    }

    /// Turns back to the graph around.
    pub fn leave(&mut self, outer: Outer<'g>) {
        let Outer { graph, position, last_use, needed_until, places, wide, wide_ids } = outer;
        self.depth -= 1;
        self.graph = graph;
        self.position = position;
        self.last_use = last_use;
        self.needed_until = needed_until;
        self.places = places;
        self.wide = wide;
        self.wide_ids = wide_ids;
    }

    /// The output of the program that a value is.
    pub fn output_index(&self, value: Value) -> Option<u32> {
        let outputs = if self.depth == 0 { self.graph.outputs() } else { &[] };
        outputs.iter().position(|(_, v)| *v == value).map(|i| i as u32)
    }

    /// Places the graph's inputs: dense, row-major.
    pub fn inputs(&mut self) {
        for (index, &id) in self.graph.inputs().iter().enumerate() {
            let ty = self.graph.ty(id.into());
            let buffer =
                self.buffer(&self.graph.node(id).name, Home::Input(index as u32), ty.bytes() as u64, None);
            self.place(id.into(), Place::Window(View::dense(buffer.0 as usize, ty.dtype, ty.shape.to_vec())));
        }
    }

    /// Adds a buffer.
    pub fn buffer(&mut self, name: &str, home: Home, bytes: u64, image: Option<(Extent, Pitch)>) -> BufferId {
        self.buffers.push(Buffer { name: name.to_string(), home, bytes, image, moves: Vec::new() });
        BufferId(self.buffers.len() as u32 - 1)
    }

    /// The buffer of records of indices that lead outside, if a program keeps them, and how many bytes of it are taken.
    pub fn index_records(&mut self) -> Option<(BufferId, u64)> {
        if self.options.indices == Indices::Clamped {
            return None;
        }
        let records = self.records.unwrap_or_else(|| self.buffer("indices outside", Home::Arena, 0, None));
        self.records = Some(records);
        Some((records, self.at(records).bytes))
    }

    /// Takes records behind those that are there.
    pub fn add_index_check(&mut self, node: &str, check: &IndexRecords) {
        let Some((buffer, at)) = self.index_records() else { return };
        let axes = check.axes.iter().map(|&axis| axis as u32);
        let check = IndexCheck { node: node.into(), at, records: check.records as u32, axes: axes.collect() };
        let bytes = check.range().map_or(0, |range| range.end);
        self.index_checks.push(check);
        if let Some(buffer) = self.buffers.get_mut(buffer.0 as usize) {
            buffer.bytes = bytes;
        }
    }

    /// The bytes of a buffer, seen from a place that moves on in each iteration of a loop.
    pub fn moving(&mut self, of: BufferId, repeat: usize, stride: i64) -> BufferId {
        let Buffer { name, bytes, mut moves, .. } = self.at(of).clone();
        moves.push((repeat, stride));
        let home = Home::Alias(self.root(of));
        self.buffers.push(Buffer { name, home, bytes, image: None, moves });
        BufferId(self.buffers.len() as u32 - 1)
    }

    /// The buffer that has the bytes of another one.
    pub fn root(&self, id: BufferId) -> BufferId {
        match self.at(id).home {
            Home::Alias(root) => root,
            _ => id,
        }
    }

    /// Adds a buffer in the arena that holds `slots` channels of an image.
    pub fn image_buffer(&mut self, name: &str, extent: Extent, slots: usize, float: Float) -> BufferId {
        let pitch = Pitch::padded(extent, slots, float);
        self.buffer(name, Home::Arena, pitch.size(extent), Some((extent, pitch)))
    }

    /// Adds a buffer with constant bytes.
    pub fn constant_buffer(&mut self, name: &str, data: &[u8]) -> BufferId {
        let at = self.constants.add(data);
        self.buffer(name, Home::Const(at), data.len() as u64, None)
    }

    /// Adds a buffer with a tensor's bytes as they are.
    pub fn tensor_buffer(&mut self, name: &str, tensor: &Tensor) -> BufferId {
        let at = self.constants.add_tensor(tensor);
        self.buffer(name, Home::Const(at), tensor.ty().bytes() as u64, None)
    }

    /// Adds a buffer with weights that will be packed.
    pub fn packed_buffer(&mut self, name: &str, packing: Packing) -> BufferId {
        let bytes = packing.bytes() as u64;
        let at = self.constants.add_packed(packing);
        self.buffer(name, Home::Const(at), bytes, None)
    }

    /// The buffer at an id.
    pub fn at(&self, id: BufferId) -> &Buffer {
        &self.buffers[id.0 as usize]
    }

    /// Pitch of a buffer that holds images.
    pub fn pitch(&self, id: BufferId) -> Option<Pitch> {
        self.at(id).image.map(|(_, pitch)| pitch)
    }

    /// Says where a value is, and that its bytes are in these buffers.
    pub fn place(&mut self, value: Value, place: Place) {
        let buffers = match &place {
            Place::Image(image) => image.buffers(),
            Place::Window(view) => vec![BufferId(view.arg as u32)],
        };
        let last_use = self.last_use.get(&value).copied().unwrap_or(0);
        for b in buffers {
            let until = self.needed_until.entry(b).or_default();
            *until = last_use.max(*until);
        }
        self.places.insert(value, place);
    }

    /// Whether nothing reads the buffer after this node.
    pub fn dies_at(&self, buffer: BufferId, node: NodeId) -> bool {
        let now = self.position[&node];
        matches!(self.at(buffer).home, Home::Arena)
            && self.needed_until.get(&buffer).is_none_or(|until| *until <= now)
    }

    /// Whether the value is a part of a wide buffer.
    pub fn is_wide(&self, value: Value) -> bool {
        self.wide.parts.contains_key(&value)
    }

    /// The image buffer that a step writes for a value, and the first slot of the value in it: its part of a wide buffer,
    /// the caller's output when the layout is the same there, or a buffer of `slots` slots of its own.
    pub fn output_slots(&mut self, value: Value, slots: usize, natural: bool) -> (BufferId, usize) {
        let (extent, float) = (self.extent(value), self.float(value));
        let name = self.graph.node(value.node).name.clone();
        if let Some(part) = self.wide.parts.get(&value).copied() {
            if let Some(&id) = self.wide_ids.get(&part.wide) {
                return (id, part.at);
            }
            let id = self.image_buffer(&name, extent, self.wide.slots[part.wide], float);
            self.wide_ids.insert(part.wide, id);
            return (id, part.at);
        }
        if let Some(output) = self.direct_output(value).filter(|_| natural) {
            let channels = self.graph.ty(value).shape[1];
            let pitch = Pitch::of_pixel(extent, channels, float);
            let layout = Some((extent, pitch));
            return (self.buffer(&name, Home::Output(output), pitch.size(extent), layout), 0);
        }
        (self.image_buffer(&name, extent, slots, float), 0)
    }

    /// Slots that a wide part leaves for a value of `channels` channels; no limit for a buffer of its own.
    pub fn slot_limit(&self, value: Value, channels: usize) -> usize {
        if self.is_wide(value) { channels.next_multiple_of(super::pitch::LANES) } else { usize::MAX }
    }

    /// The graph output that a value may be written to directly: it, or a reshape of it, is one, and channels-last and
    /// row-major are the same for it.
    pub fn direct_output(&self, value: Value) -> Option<u32> {
        let shape = &self.graph.ty(value).shape;
        let pixels: usize = shape.get(2..)?.iter().product();
        if pixels != 1 && shape.get(1) != Some(&1) {
            return None;
        }
        self.row_major_output(value)
    }

    /// The graph output that a value may be written to where it lies row-major: it, or a reshape of it, is one.
    pub fn row_major_output(&self, value: Value) -> Option<u32> {
        self.output_index(value).or_else(|| {
            let (reader, _) = self.graph.single_consumer(value)?;
            matches!(self.graph.node(reader).op, Op::Reshape(_)).then(|| self.output_index(reader.into()))?
        })
    }

    /// What the elements of a value are that is an image.
    pub fn float(&self, value: Value) -> Float {
        Float::stored(self.graph.ty(value).dtype).unwrap_or_default()
    }

    /// What the elements of an image are where it lies.
    pub fn float_of(&self, image: &Image) -> Float {
        let pitch = image.slots.first().and_then(|slot| self.pitch(slot.buffer));
        pitch.map_or(Float::F32, |pitch| pitch.float)
    }

    /// Extent of a picture, or of a volume as the picture of all rows of all slices.
    pub fn extent(&self, value: Value) -> Extent {
        let (&w, rows) = self.graph.ty(value).shape.split_last().unwrap_or((&1, &[]));
        Extent { n: rows[0], h: rows[2..].iter().product(), w }
    }

    /// A constant that a layer has.
    pub fn parameter(&self, value: Option<Value>) -> Result<Tensor, PlanError> {
        let tensor = value.and_then(|value| self.graph.constant(value));
        tensor.cloned().ok_or_else(|| PlanError::Internal("a parameter of a layer is not known".into()))
    }

    /// Adds a step.
    pub fn step(&mut self, mut draft: Draft) {
        if draft.units == 0 {
            return;
        }
        let is_general = matches!(draft.code, LayerCode::Nest(_) | LayerCode::Routine(_));
        self.abouts.push(self.about(draft.node, is_general));
        // Nodes of graphs inside of others have numbers of their own.
        draft.node = draft.node.filter(|_| self.depth == 0);
        self.drafts.push(StepDraft::Layer(Box::new(draft)));
    }

    /// Adds a nest whose loops are put in order when all steps are known.
    pub fn loops(&mut self, mut draft: LoopsDraft) {
        self.abouts.push(self.about(draft.node, !draft.nest.goes_through_kernels()));
        draft.node = draft.node.filter(|_| self.depth == 0);
        self.drafts.push(StepDraft::Loops(Box::new(draft)));
    }

    fn about(&self, node: Option<NodeId>, is_general: bool) -> About {
        let node = node.map(|id| (id, self.graph.node(id)));
        let cost = node.map(|(id, _)| self.graph.cost(id)).unwrap_or_default();
        About {
            op: node.map_or(COPY, |(_, node)| node.op.name()),
            shape: node.and_then(|(_, node)| node.outputs.first()).map_or(String::new(), ToString::to_string),
            refused: node
                .filter(|_| is_general && cost.macc > 0)
                .map(|(id, node)| Refusal { layer: node.name.clone(), why: slow::why(self.graph, id) }),
            cost,
            merged: Vec::new(),
        }
    }

    /// The value as an image, if it can be seen as one.
    pub fn image(&mut self, value: Value) -> Option<Image> {
        match self.places.get(&value)? {
            Place::Image(image) => Some(image.clone()),
            Place::Window(view) => {
                let view = as_picture(view)?;
                self.window_as_image(&view)
            }
        }
    }

    /// A window of rank 4 with sensible strides is an image.
    pub fn window_as_image(&mut self, view: &View) -> Option<Image> {
        let float = Float::stored(view.dtype)?;
        if view.shape.len() != 4 || view.is_empty() {
            return None;
        }
        let size = i64::from(float.bytes());
        let elems = |bytes: i64| (bytes >= 0 && bytes % size == 0).then_some((bytes / size) as usize);
        let extent = Extent { n: view.shape[0], h: view.shape[2], w: view.shape[3] };
        let strides: Option<Vec<usize>> = view.strides.iter().map(|&s| elems(s)).collect();
        let s = strides?;
        let pitch = Pitch { float, image: s[0], row: s[2], pixel: s[3] };
        let at = elems(view.offset)?;
        let buffer = self.seen_as(BufferId(view.arg as u32), extent, pitch);
        Some(Image {
            extent,
            slots: (0..view.shape[1]).map(|c| Slot { buffer, at: at + c * s[1] }).collect(),
        })
    }

    /// The buffer under another pitch: the same bytes, seen as an image.
    pub(super) fn seen_as(&mut self, buffer: BufferId, extent: Extent, pitch: Pitch) -> BufferId {
        let current = self.at(buffer).image;
        if current == Some((extent, pitch)) {
            return buffer;
        }
        if current.is_none() {
            self.buffers[buffer.0 as usize].image = Some((extent, pitch));
            return buffer;
        }
        // Alias buffers share the home of the one that owns the bytes; lifetimes are taken from the owner.
        let owner = self.at(buffer).clone();
        self.buffer_alias(buffer, owner, extent, pitch)
    }

    fn buffer_alias(&mut self, of: BufferId, owner: Buffer, extent: Extent, pitch: Pitch) -> BufferId {
        let home = Home::Alias(self.root(of));
        let image = Some((extent, pitch));
        let known =
            self.buffers.iter().position(|b| b.home == home && b.image == image && b.moves == owner.moves);
        if let Some(i) = known {
            return BufferId(i as u32);
        }
        let id = self.buffer(&owner.name, home, owner.bytes, image);
        self.buffers[id.0 as usize].moves = owner.moves;
        id
    }

    /// The value as a strided window, if it can be seen as one. Constants get their bytes placed.
    pub fn view(&mut self, value: Value) -> Option<View> {
        if let Some(tensor) = self.graph.constant(value).filter(|_| !self.places.contains_key(&value)) {
            let name = self.graph.node(value.node).name.clone();
            let id = self.tensor_buffer(&name, tensor);
            let ty = tensor.ty();
            self.place(value, Place::Window(View::dense(id.0 as usize, ty.dtype, ty.shape.to_vec())));
        }
        match self.places.get(&value)? {
            Place::Window(view) => Some(view.clone()),
            Place::Image(image) => self.value_view(value, image),
        }
    }

    /// The window of a value that lies as an image.
    pub fn value_view(&self, value: Value, image: &Image) -> Option<View> {
        let mut view = self.image_view(image)?;
        if let &[_, _, slices, h, _] = &self.graph.ty(value).shape[..] {
            view.strides.insert(2, view.strides[2] * h as i64);
            view.shape.splice(2..3, [slices, h]);
        }
        Some(view)
    }

    /// An image whose channels lie at equal distances, as a window.
    pub fn image_view(&self, image: &Image) -> Option<View> {
        let (buffer, at, step) = image.affine()?;
        let pitch = self.pitch(buffer)?;
        let e = image.extent;
        Some(View {
            arg: buffer.0 as usize,
            offset: pitch.bytes(at),
            dtype: pitch.float.dtype(),
            shape: vec![e.n, image.channels(), e.h, e.w],
            strides: [pitch.image, step, pitch.row, pitch.pixel].map(|s| pitch.bytes(s)).to_vec(),
        })
    }

    /// Places a constant and returns its window.
    pub fn constant(&mut self, name: &str, tensor: &Tensor) -> View {
        let id = self.tensor_buffer(name, tensor);
        View::dense(id.0 as usize, tensor.dtype(), tensor.shape().to_vec())
    }

    /// A dense window in the arena.
    pub fn temporary(&mut self, name: &str, ty: &TensorType) -> View {
        let id = self.buffer(name, Home::Arena, ty.bytes() as u64, None);
        View::dense(id.0 as usize, ty.dtype, ty.shape.to_vec())
    }

    /// Lays out the arena, fills the tables, and resolves every buffer.
    pub fn finish(
        mut self,
        fused: &BTreeMap<String, Vec<String>>,
        bounds: &Bounds,
    ) -> Result<Unpacked, PlanError> {
        let drafts = self.close()?;
        let macc: Vec<u64> = self.abouts.iter().map(|about| about.cost.macc).collect();
        let rule = self.options.strips;
        let inside = |step: usize| self.repeats.iter().any(|repeat| repeat.steps.contains(&step));
        let alone: Vec<bool> = (0..drafts.len()).map(inside).collect();
        let groups = strips::choose(rule, &drafts, &macc, &self.buffers, &alone, self.target);
        let in_strips: BTreeMap<BufferId, u32> =
            groups.groups.iter().flat_map(|group| group.buffers.iter().copied().zip(0..)).collect();
        let mut lives: BTreeMap<BufferId, (usize, usize)> = BTreeMap::new();
        let mut touched_by: BTreeMap<BufferId, Vec<usize>> = BTreeMap::new();
        for (step, draft) in drafts.iter().enumerate() {
            let touched = draft.args.iter().map(|(b, _)| *b).chain(draft.also_reads.iter().copied());
            let touched = touched.map(|b| self.root(b)).filter(|b| self.at(*b).home == Home::Arena);
            let (first, last) = groups.span(step);
            for id in touched.filter(|b| !in_strips.contains_key(b)) {
                let life = lives.entry(id).or_insert((first, last));
                life.1 = last;
                touched_by.entry(id).or_default().push(step);
            }
        }
        repeat::live_through(&self.repeats, &mut lives, &touched_by);
        for (_, count) in self.counts.values().flatten() {
            if let Some(life) = lives.get_mut(count) {
                life.1 = drafts.len().saturating_sub(1);
            }
        }
        if let Some(life) = self.records.and_then(|records| lives.get_mut(&records)) {
            *life = (0, drafts.len().saturating_sub(1));
        }
        let ids: Vec<BufferId> = lives.keys().copied().collect();
        let lifetimes: Vec<Lifetime> = lives
            .iter()
            .map(|(id, &(first, last))| Lifetime { bytes: self.at(*id).bytes, first, last })
            .collect();
        for (what, bytes, limit, name) in [
            (
                "the memory for activations",
                memory::peak(&lifetimes),
                bounds.arena_bytes,
                LimitName::ArenaBytes,
            ),
            ("the packed constants", self.constants.bytes(), bounds.weight_bytes, LimitName::WeightBytes),
        ] {
            if bytes > limit {
                let what = format!("{what}, {bytes} bytes at least,");
                return Err(Exceeded { what, limit, name }.into());
            }
        }
        let arena = memory::allocate(&lifetimes);
        if arena.bytes > bounds.arena_bytes {
            let what = format!("the memory for activations, {} bytes,", arena.bytes);
            let limit = bounds.arena_bytes;
            return Err(Exceeded { what, limit, name: LimitName::ArenaBytes }.into());
        }
        let name = |at: usize| ids.get(at).map_or("", |id| self.at(*id).name.as_str());
        if let Some((a, b)) = memory::overlap(&lifetimes, &arena) {
            let what = format!("the buffers of \"{}\" and \"{}\" overlap", name(a), name(b));
            return Err(PlanError::Internal(what));
        }
        groups.check()?;
        let offset_of: BTreeMap<BufferId, u64> =
            ids.iter().copied().zip(arena.offsets.iter().copied()).collect();
        let offset =
            |planner: &Planner<'_>, id: BufferId| offset_of.get(&planner.root(id)).copied().unwrap_or(0);

        for table in std::mem::take(&mut self.tables) {
            let mut data = Vec::with_capacity(table.starts.len() * 4);
            for slot in &table.starts {
                let within = self.pitch(slot.buffer).map_or(0, |pitch| pitch.bytes(slot.at));
                let at = offset(&self, slot.buffer) + within as u64;
                let at = i32::try_from(at).map_err(|_| PlanError::ArenaTooLarge { bytes: arena.bytes })?;
                data.extend_from_slice(&at.to_le_bytes());
            }
            self.constants.fill(table.at, &data);
        }
        let scratch = drafts.iter().map(|draft| draft.scratch).max().unwrap_or(0);
        let places = groups.places(scratch);
        let window = |planner: &Planner<'_>, id: BufferId| match places.get(&id) {
            Some(place) => place.clone(),
            None => planner.window(planner.root(id), offset(planner, id)),
        };
        let mut steps = Vec::with_capacity(drafts.len());
        for (draft, about) in drafts.iter().zip(&self.abouts) {
            let times = repeat::times(&self.repeats, steps.len());
            let args: Vec<Arg> = draft
                .args
                .iter()
                .map(|&(id, at)| match in_strips.get(&id) {
                    Some(&buffer) => Arg { region: Region::Strip(buffer), offset: at },
                    None => self.at(self.root(id)).arg(offset(&self, id), at),
                })
                .collect();
            let memory = StepMemory {
                args: draft.args.iter().map(|&(id, _)| window(&self, id)).collect(),
                displaced: draft.also_reads.iter().map(|&id| window(&self, id)).collect(),
                scratch: draft.scratch,
            };
            let macc = about.cost.macc.saturating_mul(times);
            steps.push(PlanStep {
                name: draft.name.clone(),
                op: about.op.to_string(),
                shape: about.shape.clone(),
                code: draft.code.clone(),
                args,
                memory,
                units: draft.units,
                times,
                macc,
                params: about.cost.params,
                traffic: draft.traffic.times(times),
                fused: fused.get(&draft.name).cloned().unwrap_or_default(),
                merged: about.merged.clone(),
                note: draft.note.clone(),
                refused: about.refused.clone().filter(|_| macc >= slow::LARGE),
            });
        }
        super::ahead::decide(&mut steps, &groups, self.target.l2);
        let counts = |value: &Value| -> Vec<Count> {
            let counts = self.counts.get(value).into_iter().flatten();
            counts.map(|&(axis, buffer)| Count { axis: axis as u32, at: offset(&self, buffer) }).collect()
        };
        let records = self.records.map_or(0, |records| offset(&self, records));
        let mut index_checks = self.index_checks.clone();
        index_checks.iter_mut().for_each(|check| check.at += records);
        let mut repeats: Vec<Repeat> = (self.repeats.iter())
            .map(|repeat| Repeat {
                steps: repeat.steps.start as u32..repeat.steps.end as u32,
                trips: repeat.trips,
                going: repeat.going.map(|buffer| offset(&self, buffer)),
                moves: Vec::new(),
            })
            .collect();
        for (step, draft) in drafts.iter().enumerate() {
            for (arg, (buffer, _)) in draft.args.iter().enumerate() {
                for &(repeat, stride) in &self.at(*buffer).moves {
                    repeats[repeat].moves.push(Move { step: step as u32, arg: arg as u32, stride });
                }
            }
        }
        let memory = MemoryReport {
            arena: arena.bytes,
            planned_peak: memory::peak(&lifetimes),
            logical_peak: self.logical_peak(&drafts),
        };
        let plan = Plan {
            inputs: self
                .graph
                .inputs()
                .iter()
                .map(|&id| port(&self.graph.node(id).name, self.graph.ty(id.into())))
                .collect(),
            outputs: self
                .graph
                .outputs()
                .iter()
                .map(|(name, v)| Port { counts: counts(v), ..port(name, self.graph.ty(*v)) })
                .collect(),
            steps,
            strips: groups.describe(scratch),
            repeats,
            constants: nnc_runtime::Constants::default(),
            arena_bytes: arena.bytes,
            lives: lifetimes.iter().zip(&arena.offsets).map(|(life, &at)| life.at(at)).collect(),
            scratch_bytes: groups.scratch(scratch),
            memory,
            denormals: self.options.denormals,
            index_checks,
        };
        Ok(Unpacked { plan, constants: self.constants })
    }

    /// The bytes of a buffer in its region, given where it is if that is the arena.
    fn window(&self, id: BufferId, arena_offset: u64) -> Range<u64> {
        let buffer = self.at(id);
        let start = buffer.arg(arena_offset, 0).offset;
        start..start.saturating_add(buffer.bytes)
    }

    /// The largest sum of tensor bytes that are alive at one step, each tensor dense and by itself, in the plan's order.
    /// What a step makes of views (selects, reshapes) counts as the tensors it comes from.
    fn logical_peak(&self, drafts: &[Draft]) -> u64 {
        let step_of: BTreeMap<NodeId, usize> =
            drafts.iter().enumerate().filter_map(|(i, d)| d.node.map(|n| (n, i))).collect();
        // For each position in the order of nodes, the last step of any node up to there.
        let mut last_step = vec![0; self.position.len()];
        for (node, &step) in &step_of {
            last_step[self.position[node]] = step;
        }
        for at in 1..last_step.len() {
            last_step[at] = last_step[at].max(last_step[at - 1]);
        }
        let lives: Vec<Lifetime> = step_of
            .iter()
            .filter(|(node, _)| {
                !self.graph.node(**node).outputs.is_empty()
                    && !self.graph.is_output((**node).into())
                    && self.direct_output((**node).into()).is_none()
            })
            .map(|(node, &first)| {
                let last_node = self.last_use.get(&Value::from(*node)).copied().unwrap_or(0);
                let last = last_step.get(last_node).or(last_step.last()).copied().unwrap_or(first);
                let bytes = self.graph.ty((*node).into()).bytes() as u64;
                Lifetime { bytes, first, last: last.max(first) }
            })
            .collect();
        memory::peak(&lives)
    }
}

/// Bytes of all constants of a graph and those inside of it.
fn constant_bytes(graph: &Graph) -> u64 {
    let of_node = |id: NodeId| {
        let own = graph.constant(id.into()).map_or(0, |tensor| tensor.ty().bytes() as u64);
        let inside = graph.node(id).op.bodies().into_iter().map(|body| constant_bytes(body.graph()));
        own.saturating_add(inside.fold(0, u64::saturating_add))
    };
    graph.node_ids().map(of_node).fold(0, u64::saturating_add)
}

/// Whether a value may lie as an image: a picture, or a volume.
pub(super) fn is_image(shape: &[usize]) -> bool {
    matches!(shape.len(), 4 | 5)
}

/// A picture as it is, a volume as the picture of all rows of all slices, where they lie so.
pub(super) fn as_picture(view: &View) -> Option<View> {
    let mut picture = view.clone();
    if let (&[_, _, slices, h, _], &[_, _, slice, row, _]) = (&view.shape[..], &view.strides[..]) {
        let row = if h == 1 { slice } else { row };
        if slices > 1 && slice != row.checked_mul(i64::try_from(h).ok()?)? {
            return None;
        }
        picture.shape.splice(2..4, [slices.checked_mul(h)?]);
        picture.strides.splice(2..4, [row]);
    }
    Some(picture)
}

/// Whether a step writes the value as an image of its own.
fn writes_image(graph: &Graph, value: Value) -> bool {
    let ty = graph.ty(value);
    let op = &graph.node(value.node).op;
    Float::stored(ty.dtype).is_some() && is_image(&ty.shape) && super::is_image_op(op)
}

/// For each value, the position of the last node that reads its bytes, through nodes that only look at them differently.
fn last_uses(graph: &Graph, order: &[NodeId], position: &BTreeMap<NodeId, usize>) -> BTreeMap<Value, usize> {
    let mut last: BTreeMap<Value, usize> = BTreeMap::new();
    for &id in order.iter().rev() {
        for output in 0..graph.node(id).outputs.len() as u32 {
            let value = Value { node: id, output };
            let mut at = if graph.is_output(value) { usize::MAX } else { position[&id] };
            for (reader, _) in graph.consumers(value) {
                at = at.max(position[&reader]);
                if super::is_view_op(&graph.node(reader).op) {
                    for o in 0..graph.node(reader).outputs.len() as u32 {
                        at = at.max(last.get(&Value { node: reader, output: o }).copied().unwrap_or(0));
                    }
                }
            }
            last.insert(value, at);
        }
    }
    last
}

fn port(name: &str, ty: &TensorType) -> Port {
    let elem = match ty.dtype {
        DType::F32 => ElemType::F32,
        DType::F64 => ElemType::F64,
        DType::F16 => ElemType::F16,
        DType::I8 => ElemType::I8,
        DType::U8 => ElemType::U8,
        DType::I16 => ElemType::I16,
        DType::U16 => ElemType::U16,
        DType::I32 => ElemType::I32,
        DType::U32 => ElemType::U32,
        DType::I64 => ElemType::I64,
        DType::U64 => ElemType::U64,
        DType::Bool => ElemType::Bool,
        DType::BF16 => ElemType::BF16,
    };
    Port { name: name.to_string(), elem, shape: ty.shape.to_vec(), counts: Vec::new() }
}
