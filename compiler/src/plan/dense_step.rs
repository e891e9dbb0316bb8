//! From a convolution in the graph to a dense step: where channels are read, which [panels](super::panels) there are, and the
//! packed weights.

use std::ops::Range;

use nnc_ir::{DType, NodeId, Tensor, Value};
use nnc_runtime::abi::Denormals;

use super::buffer::{BufferId, Home};
use super::channels::output_order;
use super::dense::{
    Ahead, DenseArg, DensePlan, LoopOrder, PanelRun, Progression, Stage, StageSource, WeightsPitch,
};
use super::draft::Draft;
use super::fits::KernelLayer;
use super::image::{Image, Slot, SlotRun, runs_of};
use super::matrix::{self, MatrixCut, MatrixLayer, matrix_tiles};
use super::own::{ComputedPanel, Own, Parameter};
use super::packing::{HOLE, PackedPanel, Packing, QUAD, WORD};
use super::panels::{Panel, cut_panels, f32_elems, output_runs, packed_bias, packed_words};
use super::pitch::{LANES, Pitch};
use super::planner::{ARENA_START, Place, Planner, RunTable};
use super::quads::Quads;
use super::sweep::{Axis, BytePitch, XTiles, x_tiles};
use super::tiling::{self, Folding, LayerShape, Registers};
use super::{LayerCode, PanelWidth, PlanError, Traffic};
use crate::code::float::Float;
use crate::code::tile::ir::MATRIX_ROWS;
use crate::code::tile::programs::dense::matrix::{lanes_of_runs, widths};
use crate::code::tile::programs::dense::{Accumulators, Products, RunClass, Runs, Tap, UNROLL};
use crate::code::tile::programs::epilogue::{Activation, KernelEpilogue};
use crate::code::tile::programs::window::KernelPrologue;
use crate::code::tile::store_registers;

/// Longest run of channels that a table lists; longer ones become several entries. With one length for most of them, a
/// kernel is a short loop: with runs of up to 16, each length unrolled by itself, the kernels of a shuffled layer exceeded
/// the instruction cache, and took up to 1.7 times as long.
const LONGEST_RUN: usize = UNROLL as usize;

/// Pixels of a result for which it does not pay to widen half floats before the kernels do.
pub(super) const FEW_PIXELS: usize = 4;
/// Results that one panel has on any target: of a window of one pixel, it reads each element once.
pub(super) const ONE_PANEL: usize = 16;
/// Fewer pixels than these are done panel by panel, so that there is work for all threads.
const TILED_PIXELS: usize = 128;

/// Bound on the displacements of a table: they are 31-bit offsets into the arena.
const FARTHEST: i32 = i32::MAX;

/// How one group reads its channels.
pub(super) struct GroupInput {
    /// Bytes from the input's base pointer.
    pub start: i64,
    pub k: Runs,
    /// First slots of the runs, when they are read through a table.
    pub table: Vec<Slot>,
    /// Which of the group's channels come first, second, …
    pub order: Vec<usize>,
}

impl GroupInput {
    /// The order in which weights are packed: a channel of a run that has no partner is the second one of a pair.
    pub fn packed_order(&self, products: Products) -> Vec<usize> {
        if products != Products::Halves {
            return self.order.clone();
        }
        let lengths: Vec<usize> = match &self.k {
            Runs::Contiguous(count) | Runs::Stepped { count, .. } => vec![*count as usize],
            Runs::Table(classes) => {
                let runs = classes.iter().flat_map(|c| std::iter::repeat_n(c.length, c.count as usize));
                runs.map(|length| length as usize).collect()
            }
        };
        let (mut order, mut rest) = (Vec::new(), &self.order[..]);
        for length in lengths {
            let (run, after) = rest.split_at(length);
            let (pairs, alone) = run.as_chunks::<2>();
            order.extend_from_slice(pairs.as_flattened());
            order.extend(alone.iter().flat_map(|&k| [HOLE, k]));
            rest = after;
        }
        order
    }
}

/// Where half floats that a layer reads become `f32`. Dense kernels read each element once for each panel and tap; widened
/// beforehand they are read as fast as any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Widening {
    /// In the kernels: a few pixels, where weights take the time. And what is `f32` anyway.
    None,
    /// In the copy of a tile's pixels to scratch.
    Staged,
    /// In a copy of the picture.
    Image,
}

/// Where all groups read.
struct DenseInput {
    base: BufferId,
    pitch: Pitch,
    groups: Vec<GroupInput>,
    buffers: Vec<BufferId>,
    /// Channels are copied to scratch first.
    staged: Option<Vec<Vec<SlotRun>>>,
}

/// A layer whose values have their places.
pub(super) struct Placed<'a> {
    pub input: &'a Image,
    pub output: &'a Image,
    pub output_buffer: BufferId,
    pub residual: Option<&'a Image>,
}

impl Placed<'_> {
    /// The buffer that the residual is in.
    pub fn residual_buffer(&self) -> Option<BufferId> {
        self.residual.and_then(|r| r.slots.first()).map(|slot| slot.buffer)
    }
}

/// How a layer is swept, and how its output is cut.
struct Cut {
    images: usize,
    y: Axis,
    x: Axis,
    tiles: Vec<XTiles>,
    accumulators: Accumulators,
    panels: Vec<Panel>,
}

/// The buffers of what a layer has of its own.
struct Parameters {
    weights: BufferId,
    /// Bytes of the weights.
    weight_bytes: u64,
    bias: BufferId,
    factor: BufferId,
    addend: BufferId,
    table: BufferId,
    scale: BufferId,
    shift: BufferId,
}

impl Planner<'_> {
    /// Plans a convolution that sums over channels: by Winograd's algorithm where that takes less time.
    pub(super) fn dense(
        &mut self,
        layer: &KernelLayer,
        prologue: KernelPrologue,
        epilogue: KernelEpilogue,
    ) -> Result<(), PlanError> {
        let (id, output) = (layer.node, Value::from(layer.node));
        if self.over_planes(layer, epilogue)? {
            return Ok(());
        }
        let mut image = self.image_or_copy(id, layer.x)?;
        let own = self.own(layer)?;
        let results = self.graph.ty(output).shape[1];
        let is_read_once = is_pointwise(layer) && results <= ONE_PANEL;
        if let Some(far) = far_channels(&image).filter(|_| !is_read_once) {
            image = self.relayout(id, &image, far)?;
        } else if own.is_computed() && image.affine().is_none() {
            image =
                self.relayout(id, &image, "weights that are computed are packed in the order of channels")?;
        }
        // Where the residual is decides where the output's channels go.
        let residual = layer.residual.map(|r| self.residual_image(id, output, r)).transpose()?;
        let residual = residual.as_ref();
        let (out_image, output_buffer) = self.dense_output(id, output, &image, residual);
        let placed = Placed { input: &image, output: &out_image, output_buffer, residual };
        self.dense_or_winograd(layer, &own, prologue, epilogue, &placed, true)?;
        self.place(output, Place::Image(out_image));
        Ok(())
    }

    /// Plans a convolution whose values have their places in the way that takes less time. Of several that make one result, the first
    /// counts as the layer.
    pub(super) fn dense_or_winograd(
        &mut self,
        layer: &KernelLayer,
        own: &Own,
        prologue: KernelPrologue,
        epilogue: KernelEpilogue,
        placed: &Placed<'_>,
        is_first: bool,
    ) -> Result<(), PlanError> {
        let own = &self.with_products(layer, own, prologue, placed);
        if own.products == Products::Halves && !self.multiplies_pairs() {
            let mut layer = *layer;
            let around = match layer.is_inside() {
                true => None,
                false => Some(self.bordered(&mut layer, placed.input, Float::Bf16, 0)?),
            };
            let placed = Placed { input: around.as_ref().unwrap_or(placed.input), ..*placed };
            return self.direct(&layer, own, prologue, epilogue, &placed, is_first);
        }
        let decision = self.fits_winograd(layer, own.products, prologue, epilogue, placed);
        match (decision, &own.weights) {
            (Some(decision), Parameter::Known(weights)) => {
                self.winograd(layer, (weights, own.bias.as_ref()), placed, decision, epilogue, is_first)
            }
            _ => self.direct(layer, own, prologue, epilogue, placed, is_first),
        }
    }

    /// Plans a convolution as a sum of products.
    pub(super) fn direct(
        &mut self,
        layer: &KernelLayer,
        own: &Own,
        prologue: KernelPrologue,
        epilogue: KernelEpilogue,
        placed: &Placed<'_>,
        is_first: bool,
    ) -> Result<(), PlanError> {
        let id = layer.node;
        let widening = self.widening(layer, placed, own);
        let widened = match widening {
            Widening::Image => Some(self.widened(id, placed.input, "its half floats are widened once")?),
            Widening::Staged | Widening::None => None,
        };
        let placed = Placed { input: widened.as_ref().unwrap_or(placed.input), ..*placed };
        let staged = !prologue.is_none() || widening == Widening::Staged;
        let products = own.products;
        let (gathered, input) = match self.dense_input(layer, placed.input, staged, products) {
            Some(input) => (None, input),
            None => {
                let why = "its channels lie in buffers of different pitch";
                let image = self.relayout(id, placed.input, why)?;
                let input = self.dense_input(layer, &image, staged, products);
                let refused = || PlanError::Internal("channels that lie together cannot be read".into());
                (Some(image), input.ok_or_else(refused)?)
            }
        };
        let placed = Placed { input: gathered.as_ref().unwrap_or(placed.input), ..placed };
        let cin = input.groups.first().map_or(0, |group| group.k.channels() as usize);
        let rows = input.groups.first().map_or(0, |group| group.k.rows(products) as usize);
        let cut = self.cut(layer, &input, &placed, epilogue, own, rows);
        let mut tables = Vec::new();
        let mut table_at = Vec::new();
        for group in &input.groups {
            table_at.push(tables.len() as i64 * 4);
            tables.extend(group.table.iter().copied());
        }
        let taps = cut.y.kernel * cut.x.kernel;
        let output_pitch = self.pitch(placed.output_buffer).unwrap_or(input.pitch);
        let residual_buffer = placed.residual_buffer();
        let residual_pitch = residual_buffer.and_then(|b| self.pitch(b));
        let outer = (output_pitch, residual_pitch.unwrap_or(output_pitch));
        let outer = (outer.0.float, outer.1.float);
        let lane = taps * rows * products.weights().bytes() as usize;
        let panels = merge_panels(&cut.panels, &input.groups, outer, &table_at, lane);
        let table_entries = tables.len();
        let parameters = self.parameters(layer, own, &cut, &input, tables)?;
        let stage = self.stage(prologue, &input, cin, products);
        let tile_units = cut.images * cut.y.output * cut.tiles.iter().map(|t| t.count).sum::<usize>();
        let panel_units: usize = panels.iter().map(|p| p.count).sum();
        let few_tiles = tile_units < 8 && panel_units > tile_units;
        let order = match stage.is_none() && (parameters.weight_bytes > self.target.l2 / 2 || few_tiles) {
            true => LoopOrder::Panels,
            false => LoopOrder::Tiles,
        };
        let plan = DensePlan {
            images: cut.images,
            accumulators: cut.accumulators,
            products: own.products,
            y: cut.y,
            x: cut.x,
            tiles: cut.tiles,
            input: input.pitch.into(),
            output: output_pitch.into(),
            residual: residual_pitch.map(BytePitch::from).unwrap_or_default(),
            weights: WeightsPitch::default(),
            panels,
            order,
            ahead: Ahead::default(),
            epilogue,
            stage,
        };
        let traffic = traffic(&plan, placed.input, placed.residual, table_entries);
        let mut args = vec![(ARENA_START, 0); DenseArg::Ahead as usize + 1];
        let mut set = |arg: DenseArg, buffer: BufferId| args[arg as usize] = (buffer, 0);
        set(DenseArg::Input, input.base);
        set(DenseArg::Weights, parameters.weights);
        set(DenseArg::Output, placed.output_buffer);
        set(DenseArg::Table, parameters.table);
        set(DenseArg::Bias, parameters.bias);
        set(DenseArg::Factor, parameters.factor);
        set(DenseArg::Addend, parameters.addend);
        set(DenseArg::Residual, residual_buffer.unwrap_or(ARENA_START));
        set(DenseArg::Scale, parameters.scale);
        set(DenseArg::Shift, parameters.shift);
        if input.staged.is_some() {
            args.extend(input.buffers.iter().map(|&b| (b, 0)));
        }
        self.step(Draft {
            name: self.graph.node(id).name.clone(),
            node: is_first.then_some(id),
            units: plan.units(),
            scratch: plan.scratch(),
            code: LayerCode::Dense(plan),
            args,
            also_reads: input.buffers,
            traffic,
            note: None,
        });
        Ok(())
    }

    /// What a layer has of its own, with what is multiplied: where its weights are half floats, these, or pairs of them.
    fn with_products(
        &self,
        layer: &KernelLayer,
        own: &Own,
        prologue: KernelPrologue,
        placed: &Placed<'_>,
    ) -> Own {
        let products = match &own.weights {
            Parameter::Known(weights) if own.products == Products::Floats => {
                match Float::of(weights.dtype()) {
                    Some(Float::Bf16) if self.in_pairs(layer, prologue, placed) => Products::Halves,
                    Some(half @ (Float::F16 | Float::Bf16)) => Products::Widened(half),
                    _ => Products::Floats,
                }
            }
            _ => own.products,
        };
        Own { products, ..own.clone() }
    }

    /// Whether neighbouring channels that a layer reads are multiplied two by two, and all of its groups read as many pairs.
    fn in_pairs(&self, layer: &KernelLayer, prologue: KernelPrologue, placed: &Placed<'_>) -> bool {
        // What is copied to scratch is rounded there: bounds change no bf16 that they let through.
        let exact = !prologue.affine && matches!(prologue.activation, Activation::None | Activation::Relu);
        let floats = self.float_of(placed.input) == Float::Bf16;
        if !(exact && floats && self.flushes()) {
            return false;
        }
        if !self.multiplies_pairs() {
            return prologue.is_none() && self.fits_matrices(layer, placed);
        }
        // What cannot be read where it lies is brought together.
        let Some(input) = self.dense_input(layer, placed.input, !prologue.is_none(), Products::Halves) else {
            return true;
        };
        let rows = |group: &GroupInput| group.k.rows(Products::Halves);
        let stepped = |group: &GroupInput| matches!(group.k, Runs::Stepped { .. });
        let first = input.groups.first().map(rows);
        input.groups.iter().all(|group| Some(rows(group)) == first && !stepped(group))
    }

    /// Whether matrix registers can multiply a layer's pairs of `bf16`, which are read where they lie, once its padding lies there, too.
    fn fits_matrices(&self, layer: &KernelLayer, placed: &Placed<'_>) -> bool {
        let (products, one) = (Products::Halves, [Tap { disp: 0, rows: 0..1 }]);
        let input = self.dense_input(layer, placed.input, false, products);
        let Some(input) = input.filter(|input| self.target.has_matrices() && input.staged.is_none()) else {
            return false;
        };
        let runs = input.groups.iter().map(|group| lanes_of_runs(&group.k, &one, Float::Bf16, products));
        let runs: Option<Vec<Vec<u32>>> = runs.collect();
        runs.is_some_and(|runs| widths(runs.into_iter().flatten()).is_some())
    }

    /// Whether the target multiplies pairs of `bf16` in vectors; that takes denormals for zero.
    pub(super) fn multiplies_pairs(&self) -> bool {
        self.target.has_dot_of_halves() && self.flushes()
    }

    fn flushes(&self) -> bool {
        self.options.denormals == Denormals::Flush
    }

    /// Where half floats of a layer's input become `f32`.
    fn widening(&self, layer: &KernelLayer, placed: &Placed<'_>, own: &Own) -> Widening {
        let pixels = placed.output.extent.pixels();
        let in_pairs = own.products == Products::Halves;
        if in_pairs || !self.float_of(placed.input).is_half() || pixels <= FEW_PIXELS {
            return Widening::None;
        }
        // Layers of many weights and few tiles are done panel by panel, which leaves no tile in scratch.
        let by_panels = own.elems() as u64 * 4 > self.target.l2 / 2 || pixels < TILED_PIXELS;
        match is_pointwise(layer) && layer.groups == 1 && !by_panels {
            true => Widening::Staged,
            false => Widening::Image,
        }
    }

    /// Decides about sweep, tiles and panels of a layer.
    fn cut(
        &self,
        layer: &KernelLayer,
        input: &DenseInput,
        placed: &Placed<'_>,
        epilogue: KernelEpilogue,
        own: &Own,
        rows: usize,
    ) -> Cut {
        let (y, x) = layer.axes;
        let out = placed.output.extent;
        let flat = |buffer: BufferId, extent| self.pitch(buffer).is_some_and(|p| p.is_flat(extent));
        // All pixels are swept as one row where nothing depends on rows.
        let as_one_row = is_pointwise(layer)
            && inside_unit(&y)
            && inside_unit(&x)
            && input.buffers.iter().all(|&b| flat(b, placed.input.extent))
            && flat(placed.output_buffer, out)
            && placed.residual_buffer().is_none_or(|b| flat(b, out));
        let (images, y, x) = match as_one_row {
            true => (1, Axis::point(1), Axis::point(out.pixels())),
            false => (out.n, y, x),
        };
        let registers = Registers::multiplying(self.target, own.products);
        let padding = self.padding_of(placed.output_buffer, layer.node.into());
        let runs = output_runs(placed.output, placed.residual, layer.groups, padding);
        let taps = y.kernel * x.kernel;
        let lengths: Vec<usize> = runs.iter().map(|r| r.channels.len()).collect();
        let most = match own.is_computed() || !own.products.is_of_floats() {
            true => 1,
            false => input.groups.iter().map(|group| most_folded(&group.k)).min().unwrap_or(1),
        };
        let folding = Folding { most, products: taps * rows };
        let layer = LayerShape {
            folding,
            row: x.output,
            rows: images * y.output,
            k: taps * rows,
            runs: &lengths,
            epilogue: epilogue.registers(store_registers(self.float(layer.node.into()), self.target)),
        };
        let tile = match self.options.panels {
            PanelWidth::Fastest => tiling::choose(registers, &layer),
            PanelWidth::Common => tiling::choose_common(registers, &layer),
        };
        let in_matrices = self.in_matrices(input, own, &layer, (&y, &x));
        // Where vectors multiply no pairs, there are some for matrix registers only.
        let no_vectors = own.products == Products::Halves && !self.multiplies_pairs();
        let is_faster = |cut: &MatrixCut| no_vectors || cut.cycles < tiling::cycles(registers, &layer, tile);
        if let Some(cut) = in_matrices.filter(is_faster) {
            let panels =
                cut_panels(&runs, Registers { lanes: 16, ..registers }, cut.shape.vectors, Folding::NONE);
            let panels = panels.into_iter().map(Panel::in_full_vectors).collect();
            let (accumulators, tiles) = (Accumulators::Matrices(cut.tile), matrix_tiles(&x, cut.shape.rows));
            return Cut { images, y, x, tiles, accumulators, panels };
        }
        let panels = cut_panels(&runs, registers, tile.vectors, folding);
        Cut { images, y, x, tiles: x_tiles(&x, tile.rows), accumulators: Accumulators::Vectors, panels }
    }

    /// How a layer is done in matrix registers, if they can do it.
    fn in_matrices(
        &self,
        input: &DenseInput,
        own: &Own,
        shape: &LayerShape<'_>,
        axes: (&Axis, &Axis),
    ) -> Option<MatrixCut> {
        let multiplies =
            self.target.has_matrices() && matches!(own.products, Products::Bytes | Products::Halves);
        if !multiplies || own.is_computed() || input.staged.is_some() {
            return None;
        }
        let pitch = BytePitch::from(input.pitch);
        let groups: Vec<Runs> = input.groups.iter().map(|group| group.k.clone()).collect();
        let layer = MatrixLayer { shape, input: pitch, axes, groups: &groups, products: own.products };
        matrix::choose(&layer)
    }

    /// Puts what a layer has of its own into the constants.
    fn parameters(
        &mut self,
        layer: &KernelLayer,
        own: &Own,
        cut: &Cut,
        input: &DenseInput,
        tables: Vec<Slot>,
    ) -> Result<Parameters, PlanError> {
        let name = self.graph.node(layer.node).name.clone();
        let taps = cut.y.kernel * cut.x.kernel;
        let depth = input.groups.first().map_or(0, |group| group.k.rows(own.products) as usize);
        let weights = match &own.weights {
            Parameter::Known(tensor) => {
                self.packed_buffer(&name, packing(&cut.panels, input, tensor, (taps, depth), own.products))
            }
            Parameter::Computed(elements) => {
                let order = |panel: &Panel| &input.groups[order_of(panel, input)].order[..];
                let panels: Vec<_> = cut.panels.iter().map(|panel| computed(panel, order(panel))).collect();
                self.packed_by_run(layer.node, elements, &panels)?
            }
        };
        let weight_bytes = self.at(weights).bytes;
        let bias = match &own.bias {
            None => ARENA_START,
            Some(Parameter::Known(tensor)) if tensor.dtype() == DType::I32 => {
                let starts = packed_words(&cut.panels, tensor.bytes().as_chunks::<4>().0);
                self.constant_buffer(&name, starts.as_flattened())
            }
            Some(Parameter::Known(tensor)) => {
                let bias = packed_bias(&cut.panels, Some(tensor))?;
                self.constant_buffer(&name, bytemuck::cast_slice(&bias))
            }
            Some(Parameter::Computed(elements)) => {
                let panels: Vec<_> = cut.panels.iter().map(|panel| computed(panel, &[0])).collect();
                self.packed_by_run(layer.node, elements, &panels)?
            }
        };
        let mut rescaled = |parameter: Option<&Tensor>| match parameter {
            None => ARENA_START,
            Some(tensor) => {
                let packed = packed_words(&cut.panels, tensor.bytes().as_chunks::<4>().0);
                self.constant_buffer(&name, packed.as_flattened())
            }
        };
        let rescale = own.rescale.as_ref();
        let factor = rescaled(rescale.map(|(factor, _)| factor));
        let addend = rescaled(rescale.and_then(|(_, addend)| addend.as_ref()));
        let table = self.run_table(&name, tables);
        let mut staged = |value: Value| -> Result<BufferId, PlanError> {
            let tensor = self.parameter(Some(value))?;
            let values = f32_elems(&tensor)?;
            let staged: Vec<f32> = input.groups[0].order.iter().map(|&c| values[c]).collect();
            Ok(self.constant_buffer(&name, bytemuck::cast_slice(&staged)))
        };
        let (scale, shift) = match layer.affine {
            Some((scale, shift)) => (staged(scale)?, staged(shift)?),
            None => (ARENA_START, ARENA_START),
        };
        Ok(Parameters { weights, weight_bytes, bias, factor, addend, table, scale, shift })
    }

    /// How channels are copied to scratch, if they are.
    fn stage(
        &self,
        prologue: KernelPrologue,
        input: &DenseInput,
        cin: usize,
        products: Products,
    ) -> Option<Stage> {
        let runs = input.staged.as_ref()?;
        let sources = runs.iter().zip(&input.buffers).map(|(runs, &buffer)| StageSource {
            pitch: self.pitch(buffer).map(BytePitch::from).unwrap_or_default(),
            runs: runs.iter().map(|r| (input.pitch.bytes(r.at), r.len)).collect(),
        });
        Some(Stage {
            sources: sources.collect(),
            affine: prologue.affine,
            activation: prologue.activation,
            pixel: staged_pitch(cin, if products == Products::Halves { Float::Bf16 } else { Float::F32 }),
        })
    }

    /// The residual with all channels in one buffer.
    pub(super) fn residual_image(
        &mut self,
        id: NodeId,
        output: Value,
        residual: Value,
    ) -> Result<Image, PlanError> {
        let image = self.image_or_copy(id, residual)?;
        let channels = image.channels();
        let first = image.slots.iter().map(|s| s.at).min().unwrap_or(0);
        let span = image.slots.iter().map(|s| s.at + 1).max().unwrap_or(0) - first;
        let dense = image.buffers().len() == 1 && image.affine().is_none_or(|(_, _, step)| step == 1);
        let distinct = image.runs().iter().map(|r| r.len).sum::<usize>() == channels;
        if dense && distinct && span <= self.slot_limit(output, channels).min(2 * channels) {
            return Ok(image);
        }
        self.relayout(id, &image, "a residual must lie in one buffer")
    }

    /// Decides where the output's channels go: like the residual's, or grouped by their readers; in place of a residual
    /// that nothing else reads.
    pub(super) fn dense_output(
        &mut self,
        id: NodeId,
        output: Value,
        input: &Image,
        residual: Option<&Image>,
    ) -> (Image, BufferId) {
        let extent = self.extent(output);
        let channels = self.graph.ty(output).shape[1];
        if let Some(r) = residual {
            let buffer = r.slots[0].buffer;
            // Where images between are larger than those at both ends, pictures of a batch go through all layers one by one, and the
            // first one reads what the residual is.
            let by_pictures = extent.n > 1 && input.channels() > channels;
            let free = !by_pictures
                && self.dies_at(buffer, id)
                && !self.is_wide(output)
                && self.direct_output(output).is_none();
            // The input may be the residual under other pitches: a transposed picture.
            if free && !input.buffers().iter().any(|&of| self.root(of) == self.root(buffer)) {
                return (r.clone(), buffer);
            }
            let first = r.slots.iter().map(|s| s.at).min().unwrap_or(0);
            let last = r.slots.iter().map(|s| s.at).max().unwrap_or(0);
            let natural = r.slots.iter().enumerate().all(|(c, s)| s.at == first + c);
            let (buffer, at) = self.output_slots(output, last - first + 1, natural);
            let slots = r.slots.iter().map(|s| Slot { buffer, at: s.at - first + at }).collect();
            return (Image { extent, slots }, buffer);
        }
        let order = output_order(self.graph, output);
        let (buffer, at) = self.output_slots(output, channels, order.is_none());
        let mut image = Image::contiguous(extent, channels, buffer, at);
        if let Some(order) = order {
            for (position, &channel) in order.iter().enumerate() {
                image.slots[channel].at = at + position;
            }
        }
        (image, buffer)
    }

    /// How many slots behind a value's last one belong to it.
    pub(super) fn padding_of(&self, buffer: BufferId, output: Value) -> usize {
        let channels = self.graph.ty(output).shape[1];
        match self.at(self.root(buffer)).home {
            Home::Output(_) => 0,
            _ => channels.next_multiple_of(LANES) - channels,
        }
    }

    /// How the groups read their channels; `None` when a gather has to bring them together first.
    fn dense_input(
        &self,
        layer: &KernelLayer,
        image: &Image,
        staged: bool,
        products: Products,
    ) -> Option<DenseInput> {
        let groups = layer.groups;
        let buffers = image.buffers();
        let pitch = self.pitch(*buffers.first()?)?;
        let per_group = image.channels() / groups;
        if products.is_of_integers() {
            return self.together(layer, image, pitch, products);
        }
        let one = buffers.len() == 1;
        let same = buffers.iter().all(|&b| self.pitch(b) == Some(pitch) && self.in_arena(b));
        if staged || (!one && !same && is_pointwise(layer) && groups == 1) {
            let runs = image.runs();
            let distinct = runs.iter().map(|r| r.len).sum::<usize>() == image.channels();
            if !distinct || buffers.iter().any(|&b| self.pitch(b).is_none()) {
                return None;
            }
            let mut order: Vec<usize> = (0..image.channels()).collect();
            order.sort_by_key(|&c| image.slots[c]);
            let group =
                GroupInput { start: 0, k: Runs::Contiguous(per_group as u32), table: Vec::new(), order };
            let of = |b: &BufferId| runs.iter().copied().filter(|r| r.buffer == *b).collect();
            let staged = Some(buffers.iter().map(of).collect());
            return Some(DenseInput { base: buffers[0], pitch, groups: vec![group], buffers, staged });
        }
        if let Some((buffer, at, step)) = image.affine().filter(|_| one) {
            let group = |g: usize| GroupInput {
                start: pitch.bytes(at + g * per_group * step),
                k: match step {
                    1 => Runs::Contiguous(per_group as u32),
                    _ => Runs::Stepped { count: per_group as u32, step: pitch.bytes(step) as i32 },
                },
                table: Vec::new(),
                order: (0..per_group).collect(),
            };
            return Some(DenseInput {
                base: buffer,
                pitch,
                groups: (0..groups).map(group).collect(),
                buffers,
                staged: None,
            });
        }
        let sorted: Vec<(Vec<usize>, Vec<SlotRun>)> = (0..groups)
            .map(|g| {
                let slots = &image.slots[g * per_group..(g + 1) * per_group];
                let mut order: Vec<usize> = (0..per_group).collect();
                order.sort_by_key(|&c| slots[c]);
                let in_order: Vec<Slot> = order.iter().map(|&c| slots[c]).collect();
                (order, runs_of(&in_order))
            })
            .collect();
        if one && sorted.iter().all(|(_, runs)| runs.len() == 1) {
            let groups = sorted
                .into_iter()
                .map(|(order, runs)| GroupInput {
                    start: pitch.bytes(runs[0].at),
                    k: Runs::Contiguous(per_group as u32),
                    table: Vec::new(),
                    order,
                })
                .collect();
            return Some(DenseInput { base: buffers[0], pitch, groups, buffers, staged: None });
        }
        if !same {
            return None;
        }
        let groups = sorted.into_iter().map(|(order, runs)| table_input(order, &runs)).collect();
        Some(DenseInput { base: ARENA_START, pitch, groups, buffers, staged: None })
    }

    /// How the groups read their channels as integers: quads of bytes, which runs of them fill, or pairs of words, each of which has two slots.
    fn together(
        &self,
        layer: &KernelLayer,
        image: &Image,
        pitch: Pitch,
        products: Products,
    ) -> Option<DenseInput> {
        let buffers = image.buffers();
        let per_group = image.channels() / layer.groups;
        let together = if products == Products::Words { QUAD / WORD } else { QUAD };
        if let Some((buffer, at, step)) = image.affine().filter(|_| pitch.pixel < QUAD) {
            // Of planes, neighbours of a row are multiplied together.
            let k = Runs::Stepped { count: per_group as u32, step: pitch.bytes(step) as i32 };
            let order = (0..per_group * together).collect();
            let group = GroupInput { start: pitch.bytes(at), k, table: Vec::new(), order };
            return Some(DenseInput { base: buffer, pitch, groups: vec![group], buffers, staged: None });
        }
        if products == Products::Words {
            let (buffer, at, _) = image.affine()?;
            let group = |g: usize| GroupInput {
                start: pitch.bytes(at + g * per_group * WORD),
                k: Runs::Contiguous(per_group.div_ceil(together) as u32),
                table: Vec::new(),
                order: (0..per_group).collect(),
            };
            let groups = (0..layer.groups).map(group).collect();
            return Some(DenseInput { base: buffer, pitch, groups, buffers, staged: None });
        }
        let groups: Option<Vec<Quads>> =
            image.slots.chunks(per_group).map(|slots| Quads::of(slots, pitch.pixel)).collect();
        let groups = groups?;
        let alone = buffers.len() == 1 && groups.iter().all(|quads| quads.runs.len() == 1);
        let longest = if self.target.has_matrices() { MATRIX_ROWS.into() } else { LONGEST_RUN };
        let inputs = groups.into_iter().map(|quads| match (alone, quads.runs.first()) {
            (true, Some(run)) => GroupInput {
                start: pitch.bytes(run.at),
                k: Runs::Contiguous(run.len as u32),
                table: Vec::new(),
                order: quads.order,
            },
            _ => table_of_quads(&quads, longest),
        });
        let base = if alone { buffers[0] } else { ARENA_START };
        Some(DenseInput { base, pitch, groups: inputs.collect(), buffers, staged: None })
    }

    /// Whether it has a place in the arena that is known before.
    pub(super) fn in_arena(&self, buffer: BufferId) -> bool {
        self.at(self.root(buffer)).home == Home::Arena && self.at(buffer).moves.is_empty()
    }

    /// Reserves a table of runs; nothing for none.
    fn run_table(&mut self, name: &str, starts: Vec<Slot>) -> BufferId {
        if starts.is_empty() {
            return ARENA_START;
        }
        let bytes = starts.len() * 4;
        let at = self.constants.reserve(bytes);
        self.tables.push(RunTable { at, starts });
        self.buffer(name, Home::Const(at), bytes as u64, None)
    }
}

/// Bytes of the step's address streams, each once. `table` entries say where channels are.
fn traffic(plan: &DensePlan, image: &Image, residual: Option<&Image>, table: usize) -> Traffic {
    let taps = (plan.y.taps_used() * plan.x.taps_used()) as u64;
    let (mut weights, mut bias, mut stored) = (0, 0, 0);
    for panels in &plan.panels {
        let count = panels.count as u64;
        let lanes: u64 = panels.cols.iter().map(|c| u64::from(c.lanes.count())).sum();
        let row = lanes * u64::from(plan.products.weights().bytes());
        weights += count * row * taps * panels.k.rows(plan.products);
        bias += count * lanes * 4;
        stored += count * panels.cols.iter().map(|c| u64::from(c.used)).sum::<u64>();
    }
    let channels: usize = image.runs().iter().map(|run| run.len).sum();
    let pixels = plan.images * plan.y.positions_read() * plan.x.positions_read();
    let size = |pitch: &BytePitch| u64::from(pitch.float.bytes());
    let outputs = (plan.images * plan.y.output * plan.x.output) as u64 * stored;
    let mut read = (pixels * channels) as u64 * size(&plan.input) + weights;
    if plan.epilogue.bias {
        read += bias;
    }
    if let Some(residual) = residual {
        read += (outputs - (pixels * residual.slots_in(image)) as u64) * size(&plan.residual);
    }
    // Without a tap inside nothing looks for the channels.
    if pixels > 0 {
        let affine = plan.stage.as_ref().is_some_and(|stage| stage.affine);
        read += (table + if affine { 2 * channels } else { 0 }) as u64 * 4;
    }
    Traffic { read, written: outputs * size(&plan.output) }
}

/// The same of bytes, by quads, of which so many are a piece at most.
fn table_of_quads(quads: &Quads, longest: usize) -> GroupInput {
    let mut position = 0;
    let mut pieces: Vec<(usize, Slot, &[usize])> = Vec::new();
    for run in &quads.runs {
        for piece in pieces_of(run.len, longest) {
            let start = Slot { buffer: run.buffer, at: run.at + piece.start * QUAD };
            let bytes = piece.len() * QUAD;
            pieces.push((piece.len(), start, &quads.order[position..position + bytes]));
            position += bytes;
        }
    }
    table_of(pieces)
}

/// Runs, longest first, with long ones cut; and the order of channels that this gives.
fn table_input(order: Vec<usize>, runs: &[SlotRun]) -> GroupInput {
    let mut position = 0;
    let mut pieces: Vec<(usize, Slot, &[usize])> = Vec::new();
    for run in runs {
        for piece in pieces_of(run.len, LONGEST_RUN) {
            let start = Slot { buffer: run.buffer, at: run.at + piece.start };
            pieces.push((piece.len(), start, &order[position..position + piece.len()]));
            position += piece.len();
        }
    }
    table_of(pieces)
}

/// A run cut into pieces that a table lists.
fn pieces_of(len: usize, longest: usize) -> impl Iterator<Item = Range<usize>> {
    (0..len).step_by(longest).map(move |start| start..len.min(start + longest))
}

/// A table of pieces: their length, where they begin, and their channels.
fn table_of(mut pieces: Vec<(usize, Slot, &[usize])>) -> GroupInput {
    pieces.sort_by_key(|&(len, slot, _)| (std::cmp::Reverse(len), slot));
    let mut classes: Vec<RunClass> = Vec::new();
    for &(len, _, _) in &pieces {
        match classes.last_mut() {
            Some(class) if class.length == len as u32 => class.count += 1,
            _ => classes.push(RunClass { length: len as u32, count: 1, least: 0, most: FARTHEST }),
        }
    }
    GroupInput {
        start: 0,
        k: Runs::Table(classes),
        table: pieces.iter().map(|p| p.1).collect(),
        order: pieces.iter().flat_map(|p| p.2.iter().copied()).collect(),
    }
}

/// By how much columns may be folded that read their input like this.
fn most_folded(k: &Runs) -> u32 {
    match *k {
        Runs::Contiguous(channels) => {
            [4, 2].into_iter().find(|fold| channels.is_multiple_of(*fold)).unwrap_or(1)
        }
        _ => 1,
    }
}

/// Why the channels of an image should be brought together before a dense layer reads them, if so: each of its loads
/// would touch another cache line, and there are many of them.
pub(super) fn far_channels(image: &Image) -> Option<&'static str> {
    let (_, _, step) = image.affine()?;
    (step != 1 && image.channels() > 4).then_some("its channels lie in planes")
}

/// Whether each output sees one pixel.
fn is_pointwise(layer: &KernelLayer) -> bool {
    layer.axes.0.kernel == 1 && layer.axes.1.kernel == 1
}

/// Whether output and input positions are the same.
fn inside_unit(axis: &Axis) -> bool {
    axis.stride == 1 && axis.pad == 0 && axis.input == axis.output
}

/// Bytes from pixel to pixel in scratch: off the powers of two.
fn staged_pitch(channels: usize, float: Float) -> i64 {
    let elems = channels.next_multiple_of(16) + 16;
    float.span(elems as u32)
}

/// Which of the input's orders a panel has.
fn order_of(panel: &Panel, input: &DenseInput) -> usize {
    if input.groups.len() == 1 { 0 } else { panel.group }
}

/// A panel of what is computed.
pub(super) fn computed<'a>(panel: &Panel, order: &'a [usize]) -> ComputedPanel<'a> {
    ComputedPanel { channels: panel.channels.clone(), lanes: panel.lanes(), order }
}

/// What is packed where.
fn packing(
    panels: &[Panel],
    input: &DenseInput,
    weights: &Tensor,
    (taps, depth): (usize, usize),
    products: Products,
) -> Packing {
    let packed = panels.iter().map(|panel| PackedPanel {
        channels: panel.channels.clone(),
        cols: panel.cols.clone(),
        order: order_of(panel, input),
    });
    Packing {
        weights: weights.clone(),
        taps,
        winograd: None,
        columns: false,
        products,
        depth,
        orders: input.groups.iter().map(|group| group.packed_order(products)).collect(),
        panels: packed.collect(),
    }
}

/// Puts panels together that follow each other at constant distances. Weights of one lane take so many bytes.
pub(super) fn merge_panels(
    panels: &[Panel],
    groups: &[GroupInput],
    (output, residual): (Float, Float),
    table_at: &[i64],
    lane: usize,
) -> Vec<PanelRun> {
    let mut runs: Vec<PanelRun> = Vec::new();
    let (mut weights, mut bias) = (0i64, 0i64);
    for panel in panels {
        let g = if groups.len() == 1 { 0 } else { panel.group };
        let group = &groups[g];
        let lanes = panel.lanes();
        let starts = [
            group.start,
            weights,
            output.span(panel.at as u32),
            bias,
            residual.span(panel.residual_at as u32),
            table_at[g],
        ];
        weights += (lanes * lane) as i64;
        bias += lanes as i64 * 4;
        let follows =
            runs.last_mut().filter(|run| run.cols == panel.cols && run.k == group.k).is_some_and(|run| {
                let fields = [
                    &mut run.input,
                    &mut run.weights,
                    &mut run.output,
                    &mut run.bias,
                    &mut run.residual,
                    &mut run.table,
                ];
                Progression::take_up(fields, &mut run.count, starts)
            });
        if !follows {
            let at = Progression::at;
            runs.push(PanelRun {
                count: 1,
                cols: panel.cols.clone(),
                k: group.k.clone(),
                input: at(starts[0]),
                weights: at(starts[1]),
                output: at(starts[2]),
                bias: at(starts[3]),
                residual: at(starts[4]),
                table: at(starts[5]),
            });
        }
    }
    runs
}
