//! From a matrix product in the graph to a dense step.
//!
//! ```text
//!   out[b, m, n] = Σ over k of  A[b, m, k] · B[b, k, n]
//!
//!     A, out   rows are pixels with K channels; axes that lie evenly in each other are one:
//!              [8, 196, 64]  as it lies               1 row  of 1568 pixels       where all have one B
//!              [196, 8, 64]  seen as [8, 196, 64]     8 rows of  196 pixels
//!     B        in panels, like the weights of a convolution: a constant is packed when it is compiled, other matrices by a step
//!              of the run, each once for all rows that read it
//! ```
//!
//! A matrix that is computed and read by few rows is not packed, where it lies row by row: its kernels read it once, as packing would. Nor is one
//! for a single row that lies column by column, as the keys of a decoder do: the product is a nest of sums along rows.
//!
//! What lies in another way than kernels read or write it is copied; [`fits`](super::fits) has said that there is a kernel.

use nnc_ir::op::{MatMul, Op};
use nnc_ir::{DType, NodeId, Tensor, TensorType, Value};

use super::buffer::{BufferId, Home};
use super::dense::{Ahead, DenseArg, DensePlan, LoopOrder, PanelRun, Progression, WeightsPitch};
use super::dense_step::{FEW_PIXELS, GroupInput, merge_panels};
use super::draft::Draft;
use super::fits::ProductLayer;
use super::generic::ROW_ELEMENTS;
use super::packing::{PackedPanel, Packing};
use super::panels::{OutputRun, Panel, cut_panels, packed_bias};
use super::planner::{ARENA_START, Planner};
use super::sweep::{Axis, BytePitch, x_tiles};
use super::tiling::{self, Folding, LayerShape, Registers};
use super::{LayerCode, PanelWidth, PlanError, Traffic};
use crate::code::float::Float;
use crate::code::tile::programs::dense::{Accumulators, Products, Runs, panel_width};
use crate::code::tile::programs::epilogue::KernelEpilogue;
use crate::code::tile::store_registers;
use crate::code::view::View;

/// Axes before the columns that one step goes through: pictures, rows, pixels.
const SWEPT: usize = 3;

/// An axis before the columns: of a batch, or the rows of a matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct LeadingAxis {
    extent: usize,
    /// Bytes from one element to the next in A, in packed B, in the result and the residual.
    strides: [i64; 4],
}

/// Rows of A for which B is read as it lies: a tile has them all.
const FEW_ROWS: usize = 4;

/// Columns that fill vectors of every target.
const WHOLE_VECTORS: usize = 16;

/// Bytes between rows of which each line falls into the same set of the nearest cache, which has eight of them or twelve; and elements
/// by which a copy moves them apart.
const SAME_SETS: i64 = 4096;
const APART: usize = 16;

/// Rows and columns of a product from which on such a copy is worth its time.
const MANY_ROWS: usize = 32;
const MANY_COLUMNS: usize = 128;

/// Positions in [`LeadingAxis::strides`].
const A: usize = 0;
const B: usize = 1;
const OUT: usize = 2;
const RESIDUAL: usize = 3;

/// The operands and the result of a product as `[batch…, rows, columns]`.
pub(super) struct Operands {
    pub a: View,
    /// `[batch…, K, N]`; of a constant only the shape is of use.
    pub b: View,
    pub out: View,
    pub residual: Option<View>,
}

/// A product of matrices that have their places.
pub(super) struct Multiplication {
    pub node: NodeId,
    pub operands: Operands,
    /// The second matrix, if it is known, and whether it is given as its transpose.
    pub constant: Option<(Tensor, bool)>,
    pub bias: Option<Tensor>,
    /// What is added to all elements of a row, in place of a residual.
    pub of_rows: Option<RowBias>,
    pub epilogue: KernelEpilogue,
    /// Whether its first step counts as the node.
    pub counts: bool,
}

/// One element for each row of a product: from one to the next along the axes before the columns.
pub(super) struct RowBias {
    pub values: Vec<f32>,
    pub strides: Vec<i64>,
}

impl RowBias {
    /// Each element for all lanes of a panel.
    fn in_lanes(&self, lanes: usize) -> Vec<f32> {
        self.values.iter().flat_map(|&value| std::iter::repeat_n(value, lanes)).collect()
    }
}

impl Planner<'_> {
    /// Plans a product of matrices.
    pub(super) fn product(&mut self, layer: &ProductLayer) -> Result<(), PlanError> {
        if self.is_along_rows(layer) {
            return self.along_rows(layer);
        }
        let operands = self.operands(layer)?;
        let constant = self.graph.constant(layer.b).cloned().map(|tensor| (tensor, layer.trans_b));
        let bias = layer.bias.map(|bias| self.parameter(Some(bias))).transpose()?;
        let (node, epilogue) = (layer.node, layer.epilogue);
        let of_rows = None;
        self.multiplied(Multiplication { node, operands, constant, bias, of_rows, epilogue, counts: true })
    }

    /// Plans a product whose operands have their places.
    pub(super) fn multiplied(&mut self, product: Multiplication) -> Result<(), PlanError> {
        let Multiplication { node, operands, constant, bias, of_rows, epilogue, counts } = product;
        let (a, b, out) = (&operands.a, &operands.b, &operands.out);
        let rank = out.rank();
        let (k, n) = (a.shape[rank - 1], out.shape[rank - 1]);
        let input = float_of(a);
        let output = float_of(out);
        // What panels there are depends on the sweep, and where B's matrices lie on the panels.
        let matrices = distinct(b);
        let in_place = constant.is_none() && is_read_in_place(b, out.shape[rank - 2]);
        let axes: Vec<LeadingAxis> = (0..rank - 1)
            .map(|axis| LeadingAxis {
                extent: out.shape[axis],
                strides: [
                    a.strides[axis],
                    match in_place {
                        true if matrices.stride_of(axis) != 0 => b.strides[axis],
                        _ => matrices.stride_of(axis),
                    },
                    out.strides[axis],
                    match (&of_rows, &operands.residual) {
                        (Some(of_rows), _) => of_rows.strides[axis],
                        (None, residual) => residual.as_ref().map_or(0, |r| r.strides[axis]),
                    },
                ],
            })
            .collect();
        let axes = merged(&axes);
        let (outer, swept) = axes.split_at(axes.len().saturating_sub(SWEPT));
        let [mut images, mut y, mut x] = last_three(swept);
        let registers = Registers::of(self.target);
        let runs = OutputRun::all(n);
        let side_by_side = a.strides[rank - 1] == input.span(1) || k == 1;
        // What is packed by the run is `f32`.
        let products = match constant.as_ref().and_then(|(tensor, _)| Float::of(tensor.dtype())) {
            Some(Float::Bf16) if input == Float::Bf16 && side_by_side && self.multiplies_pairs() => {
                Products::Halves
            }
            Some(half @ (Float::F16 | Float::Bf16)) => Products::Widened(half),
            _ => Products::Floats,
        };
        let folding = match &constant {
            _ if products == Products::Halves => Folding::NONE,
            Some(_) if k.is_multiple_of(4) => Folding { most: 4, products: k },
            Some(_) if k.is_multiple_of(2) => Folding { most: 2, products: k },
            _ => Folding::NONE,
        };
        let folding = if a.strides[rank - 1] == input.span(1) { folding } else { Folding::NONE };
        let group = GroupInput {
            start: 0,
            k: match a.strides[rank - 1] {
                step if step != input.span(1) && k > 1 => {
                    Runs::Stepped { count: k as u32, step: step as i32 }
                }
                _ => Runs::Contiguous(k as u32),
            },
            table: Vec::new(),
            order: (0..k).collect(),
        };
        let depth = group.k.rows(products) as usize;
        let lane = depth * products.weights().bytes() as usize;
        let shape = LayerShape {
            folding,
            row: x.extent,
            rows: images.extent * y.extent,
            k: depth,
            runs: &[n],
            epilogue: epilogue.registers(store_registers(output, self.target)),
        };
        let tile = match self.options.panels {
            PanelWidth::Fastest => tiling::choose(registers, &shape),
            PanelWidth::Common => tiling::choose_common(registers, &shape),
        };
        let cut = cut_panels(&[runs], registers, tile.vectors, folding);
        let order = group.packed_order(products);
        let residual_float = operands.residual.as_ref().map_or(output, float_of);
        let mut panels = merge_panels(&cut, &[group], (output, residual_float), &[0], lane);
        let of_rows = of_rows.map(|of_rows| {
            let lanes = cut.iter().map(Panel::lanes).max().unwrap_or(0);
            for axis in [&mut images, &mut y, &mut x] {
                axis.strides[RESIDUAL] *= Float::F32.span(lanes as u32);
            }
            panels.iter_mut().for_each(|run| run.residual = Progression::default());
            of_rows.in_lanes(lanes)
        });
        let matrix_bytes: i64 = panels.iter().map(|p| panel_bytes(p, lane) * p.count as i64).sum();
        let name = self.graph.node(node).name.clone();
        let weights = match constant {
            Some((tensor, transposed)) => {
                let packing = Packing {
                    // A vector is one column, as it lies.
                    columns: !transposed && tensor.shape().rank() > 1,
                    products,
                    weights: tensor,
                    taps: 1,
                    winograd: None,
                    depth,
                    orders: vec![order],
                    panels: packed_panels(&cut, matrices.count, n),
                };
                self.packed_buffer(&name, packing)
            }
            None if in_place => {
                for run in &mut panels {
                    let column = |bytes: i64| bytes / output.span(1) * Float::F32.span(1);
                    (run.weights.start, run.weights.step) =
                        (column(run.output.start), column(run.output.step));
                }
                BufferId(b.arg as u32)
            }
            None => self.packed_by_step(node, b, output, (&matrices, &panels, matrix_bytes))?,
        };
        let of_rows = of_rows.map(|of_rows| self.constant_buffer(&name, bytemuck::cast_slice(&of_rows)));
        let has_bias = bias.is_some();
        let bias = match bias {
            None => ARENA_START,
            Some(bias) => {
                let bias = packed_bias(&cut, Some(&bias))?;
                self.constant_buffer(&name, bytemuck::cast_slice(&bias))
            }
        };
        // A matrix that is read in place has its distance and its start in bytes already.
        let (matrix, start) = if in_place { (1, b.offset) } else { (matrix_bytes, 0) };
        let weights_pitch = WeightsPitch {
            row: y.strides[B] * matrix,
            image: images.strides[B] * matrix,
            channel: if in_place { b.strides[rank - 2] } else { 0 },
        };
        let x_axis = Axis::point(x.extent);
        let tiles = x_tiles(&x_axis, tile.rows);
        let tile_units = images.extent * y.extent * tiles.iter().map(|t| t.count).sum::<usize>();
        let panel_units: usize = panels.iter().map(|p| p.count).sum();
        let few_tiles = tile_units < 8 && panel_units > tile_units;
        let by_panels = matrix_bytes as u64 > self.target.l2 / 2 || few_tiles;
        let pitch = |float: Float, which: usize| BytePitch {
            float,
            pixel: x.strides[which],
            row: y.strides[which],
            image: images.strides[which],
        };
        let plan = DensePlan {
            accumulators: Accumulators::Vectors,
            products,
            images: images.extent,
            y: Axis::point(y.extent),
            x: x_axis,
            tiles,
            input: pitch(input, A),
            output: pitch(output, OUT),
            residual: pitch(residual_float, RESIDUAL),
            weights: weights_pitch,
            panels,
            order: match by_panels && weights_pitch.is_shared() {
                true => LoopOrder::Panels,
                false => LoopOrder::Tiles,
            },
            ahead: Ahead::default(),
            epilogue,
            stage: None,
        };
        let read_matrices: usize =
            [images, y].iter().filter(|axis| axis.strides[B] != 0).map(|axis| axis.extent).product();
        // All lanes of panels have a bias.
        let lanes: usize = cut.iter().map(Panel::lanes).sum();
        let size = |elems: usize, float: Float| elems as u64 * u64::from(float.bytes());
        let swept: usize = [images, y, x].iter().map(|axis| axis.extent).product();
        // The bias of a row fills the lanes of the widest panel.
        let columns =
            cut.iter().map(|panel| panel.cols.iter().map(|col| col.used as usize).sum::<usize>()).max();
        let of_row = [images, y, x].into_iter().filter(|axis| axis.strides[RESIDUAL] != 0);
        let of_row: usize = of_row.map(|axis| axis.extent).product();
        let row_bias = of_rows.map_or(0, |_| columns.unwrap_or(0) * of_row);
        let traffic = Traffic {
            read: size(swept * k, input)
                + size(row_bias, Float::F32)
                + matrix_bytes as u64 * read_matrices as u64
                + if has_bias { size(lanes, Float::F32) } else { 0 }
                + if operands.residual.is_some() { size(swept * n, residual_float) } else { 0 },
            written: size(swept * n, output),
        };
        let buffer = |view: &View| BufferId(view.arg as u32);
        for at in indices(outer) {
            let offset = |which: usize| -> i64 {
                at.iter().zip(outer).map(|(&i, axis)| i as i64 * axis.strides[which]).sum()
            };
            let mut args = vec![(ARENA_START, 0); DenseArg::Ahead as usize + 1];
            args[DenseArg::Input as usize] = (buffer(a), (a.offset + offset(A)) as u64);
            args[DenseArg::Weights as usize] = (weights, (start + offset(B) * matrix) as u64);
            args[DenseArg::Output as usize] = (buffer(out), (out.offset + offset(OUT)) as u64);
            args[DenseArg::Bias as usize] = (bias, 0);
            if let Some(residual) = &operands.residual {
                args[DenseArg::Residual as usize] =
                    (buffer(residual), (residual.offset + offset(RESIDUAL)) as u64);
            }
            if let Some(of_rows) = of_rows {
                args[DenseArg::Residual as usize] = (of_rows, 0);
            }
            let first = at.iter().all(|&i| i == 0);
            self.step(Draft {
                name: name.clone(),
                node: (first && counts).then_some(node),
                units: plan.units(),
                scratch: 0,
                code: LayerCode::Dense(plan.clone()),
                args,
                also_reads: Vec::new(),
                traffic,
                note: None,
            });
        }
        Ok(())
    }

    /// Whether rows are multiplied with matrices of their own that are computed, and whose columns are rows in memory: read once, they are
    /// not worth packing.
    fn is_along_rows(&mut self, layer: &ProductLayer) -> bool {
        let graph = self.graph;
        let Op::MatMul(product) = &graph.node(layer.node).op else { return false };
        let types = [layer.a, layer.b, Value::from(layer.node)].map(|value| graph.ty(value));
        let [a, b, y] = types.map(|ty| &ty.shape);
        let plain = product.epilogue.activation.is_none() && types.iter().all(|ty| ty.dtype == DType::F32);
        let own =
            |rank: usize| a[..rank - 2] == b[..rank - 2] && a[rank - 2] == 1 && a[rank - 1] >= ROW_ELEMENTS;
        if !plain || graph.constant(layer.b).is_some() || a.len() < 2 || a.len() != b.len() || !own(a.len()) {
            return false;
        }
        let Some(view) = self.view(layer.b) else { return false };
        let [.., row, column] = view.strides[..] else { return false };
        let k = if layer.trans_b { column } else { row };
        k == Float::F32.span(1) && y.iter().all(|&extent| extent > 0)
    }

    /// Plans products of one row as a nest: each element of a result is a sum along a row in memory.
    fn along_rows(&mut self, layer: &ProductLayer) -> Result<(), PlanError> {
        let id = layer.node;
        let node = self.graph.node(id);
        let mut inputs = Vec::new();
        for operand in self.graph.operands(id) {
            inputs.push(operand.map(|operand| self.view_or_gather(id, operand)).transpose()?);
        }
        if let Some(Some(a)) = inputs.get_mut(MatMul::A)
            && a.strides.last() != Some(&(a.dtype.bytes() as i64))
        {
            *a = self.dense_copy(layer, a, a.dtype, "its elements lie apart")?;
        }
        let out = self.generic_output(id, id.into(), &node.outputs[0], false, &[]);
        self.generic_steps(id, &node.name, &node.op, &inputs, &[out], None)
    }

    /// Where operands and result are, with the axes that vectors lack, as kernels read and write them.
    fn operands(&mut self, layer: &ProductLayer) -> Result<Operands, PlanError> {
        let (id, graph) = (layer.node, self.graph);
        let fault = || PlanError::Internal("the operands of a product do not fit".into());
        let mut a = self.view_or_gather(id, layer.a)?;
        let mut b = match graph.constant(layer.b) {
            Some(tensor) => View::dense(0, tensor.dtype(), tensor.shape().to_vec()),
            None => self.view_or_gather(id, layer.b)?,
        };
        let mut residual = layer.residual.map(|value| self.view_or_gather(id, value)).transpose()?;
        let ty = graph.ty(id.into()).clone();
        let mut out = self.generic_output(id, Value::from(id), &ty, false, &[]);
        let columns = usize::from(b.rank() > 1);
        if a.rank() == 1 {
            a = a.with_axis(0, 1);
            let at = out.rank() - columns;
            (out, residual) = (out.with_axis(at, 1), residual.map(|r| r.with_axis(at, 1)));
        }
        if columns == 0 {
            b = b.with_axis(1, 1);
            let at = out.rank();
            (out, residual) = (out.with_axis(at, 1), residual.map(|r| r.with_axis(at, 1)));
        } else if layer.trans_b {
            let rank = b.rank();
            let turned: Vec<usize> = (0..rank - 2).chain([rank - 1, rank - 2]).collect();
            b = b.permuted(&turned).ok_or_else(fault)?;
        }
        let rank = out.rank();
        let (k, n) = (a.shape[a.rank() - 1], b.shape[b.rank() - 1]);
        let rows = out.shape[..rank - 1].to_vec();
        a = a.broadcast(&[&rows[..], &[k]].concat()).ok_or_else(fault)?;
        b = b.broadcast(&[&rows[..rank - 2], &[k, n]].concat()).ok_or_else(fault)?;
        // Of half floats that are multiplied one by one, each element is widened once, and not for each panel.
        let rows = rows.iter().product::<usize>();
        let known = graph.constant(layer.b).map(|b| b.dtype());
        let in_pairs = known == Some(DType::BF16) && a.dtype == DType::BF16 && self.multiplies_pairs();
        if float_of(&a).is_half() && rows > FEW_PIXELS && !in_pairs {
            a = self.dense_copy(layer, &a, DType::F32, "its half floats are widened once")?;
        } else if !near(a.strides[rank - 1], k, float_of(&a))
            && !near(a.strides[rank - 2], a.shape[rank - 2], float_of(&a))
        {
            let dtype = a.dtype;
            a = self.dense_copy(layer, &a, dtype, "neither its rows nor its columns lie together")?;
        }
        if shares_sets(&a) && rows >= MANY_ROWS && n >= MANY_COLUMNS {
            a = self.copy_apart(layer, &a)?;
        }
        if let Some(r) = residual.take() {
            residual = Some(match near(r.strides[rank - 1], n, float_of(&r)) {
                true => r,
                false => {
                    let dtype = r.dtype;
                    self.dense_copy(layer, &r, dtype, "the columns of a residual must lie together")?
                }
            });
        }
        Ok(Operands { a, b, out, residual })
    }

    /// A copy of a window, row-major.
    fn dense_copy(
        &mut self,
        layer: &ProductLayer,
        view: &View,
        dtype: DType,
        why: &str,
    ) -> Result<View, PlanError> {
        let name = format!("{}.gather", self.graph.node(layer.node).name);
        let copy = self.temporary(&name, &TensorType::new(dtype, view.shape.clone()));
        self.copy(layer.node, &name, view.clone(), copy.clone(), why)?;
        Ok(copy)
    }

    /// A copy of a matrix whose rows do not begin in the same sets of a cache.
    fn copy_apart(&mut self, layer: &ProductLayer, view: &View) -> Result<View, PlanError> {
        let name = format!("{}.gather", self.graph.node(layer.node).name);
        let (mut shape, columns) = (view.shape.clone(), view.rank() - 1);
        shape[columns] += APART;
        let copy = self.temporary(&name, &TensorType::new(view.dtype, shape));
        let copy = View { shape: view.shape.clone(), ..copy };
        self.copy(
            layer.node,
            &name,
            view.clone(),
            copy.clone(),
            "its rows lie in the same sets of the cache",
        )?;
        Ok(copy)
    }

    /// Packs the matrices of an operand that is computed while the program runs: a step for panels that are alike, `[matrix][panel][k]
    /// [lanes]`. Lanes without a column are zero, as those of constants are.
    fn packed_by_step(
        &mut self,
        node: NodeId,
        b: &View,
        output: Float,
        (matrices, panels, matrix_bytes): (&Matrices, &[PanelRun], i64),
    ) -> Result<BufferId, PlanError> {
        let name = format!("{}.pack", self.graph.node(node).name);
        let bytes = matrices.count as u64 * matrix_bytes as u64;
        let buffer = self.buffer(&name, Home::Arena, bytes, None);
        let rank = b.rank();
        let k = b.shape[rank - 2];
        for run in panels {
            let used: usize = run.cols.iter().map(|col| col.used as usize).sum();
            let lanes: i64 = run.cols.iter().map(|col| i64::from(col.lanes.count())).sum();
            let column = |bytes: i64| bytes / output.span(1);
            let (first, next) = (column(run.output.start), column(run.output.step));
            let (mut shape, mut from, mut to) = (Vec::new(), Vec::new(), Vec::new());
            for axis in 0..rank - 2 {
                if matrices.stride_of(axis) != 0 {
                    shape.push(b.shape[axis]);
                    from.push(b.strides[axis]);
                    to.push(matrices.stride_of(axis) * matrix_bytes);
                }
            }
            shape.extend([run.count, k, used]);
            from.extend([next * b.strides[rank - 1], b.strides[rank - 2], b.strides[rank - 1]]);
            to.extend([run.weights.step, lanes * 4, 4]);
            let offset = b.offset + first * b.strides[rank - 1];
            let from = View { arg: b.arg, offset, dtype: b.dtype, shape: shape.clone(), strides: from };
            let arg = buffer.0 as usize;
            let to = View { arg, offset: run.weights.start, dtype: DType::F32, shape, strides: to };
            self.copy(node, &name, from, to.clone(), "a matrix that is computed is packed in panels")?;
            let spare = lanes as usize - used;
            if spare > 0 {
                let mut shape = to.shape.clone();
                shape[to.rank() - 1] = spare;
                let zero = self.constant(&name, &Tensor::new([1], &[0.0f32])?);
                let zero = zero.broadcast(&shape).unwrap_or(zero);
                let rest = View { offset: to.offset + used as i64 * 4, shape, ..to };
                self.copy(node, &name, zero, rest, "lanes without a column are zero")?;
            }
        }
        Ok(buffer)
    }
}

/// Whether the rows that a tile reads at once, a few bytes of each, are more than have room in the sets that they share.
pub(super) fn shares_sets(a: &View) -> bool {
    let [.., row, column] = a.strides[..] else { return false };
    column == a.dtype.bytes() as i64 && row != 0 && row % SAME_SETS == 0
}

/// Whether kernels read a matrix that is computed row by row, for so many rows of A.
fn is_read_in_place(b: &View, rows: usize) -> bool {
    let rank = b.rank();
    let (row, column) = (b.strides[rank - 2], b.strides[rank - 1]);
    b.dtype == DType::F32
        && rows <= FEW_ROWS
        && b.shape[rank - 1].is_multiple_of(WHOLE_VECTORS)
        && column == Float::F32.span(1)
        && (1..=i64::from(i32::MAX) / 16).contains(&row)
}

/// The matrices of an operand that differ: axes along which it is broadcast have one.
struct Matrices {
    count: usize,
    /// How many matrices on the next one is, along each axis.
    strides: Vec<i64>,
}

impl Matrices {
    fn stride_of(&self, axis: usize) -> i64 {
        self.strides.get(axis).copied().unwrap_or(0)
    }
}

/// The matrices of `[batch…, K, N]`.
fn distinct(b: &View) -> Matrices {
    let batch = b.rank() - 2;
    let (mut count, mut strides) = (1, vec![0; batch]);
    for axis in (0..batch).rev() {
        if b.strides[axis] != 0 && b.shape[axis] > 1 {
            strides[axis] = count as i64;
            count *= b.shape[axis];
        }
    }
    Matrices { count, strides }
}

/// The same axes with as few of them as there can be. The last one, of the rows, stays: a tile has the rows of one matrix.
fn merged(axes: &[LeadingAxis]) -> Vec<LeadingAxis> {
    let mut merged: Vec<LeadingAxis> = Vec::new();
    let last = axes.len() - 1;
    for (index, axis) in axes.iter().enumerate().filter(|(index, axis)| axis.extent != 1 || *index == last) {
        match merged.last_mut() {
            Some(outer) if (0..4).all(|i| outer.strides[i] == axis.strides[i] * axis.extent as i64) => {
                *outer = LeadingAxis { extent: outer.extent * axis.extent, strides: axis.strides };
            }
            // One row a matrix: where all matrices are one, those around are its rows.
            Some(outer) if index == last && axis.extent == 1 && outer.strides[B] == 0 => {}
            _ => merged.push(*axis),
        }
    }
    merged
}

/// Pictures, rows and pixels of at most three axes.
fn last_three(axes: &[LeadingAxis]) -> [LeadingAxis; SWEPT] {
    let mut three = [LeadingAxis { extent: 1, strides: [0; 4] }; SWEPT];
    three[SWEPT - axes.len()..].copy_from_slice(axes);
    three
}

/// All indices along some axes, the last one fastest.
fn indices(axes: &[LeadingAxis]) -> Vec<Vec<usize>> {
    axes.iter().fold(vec![Vec::new()], |all, axis| {
        all.iter().flat_map(|at| (0..axis.extent).map(move |i| [&at[..], &[i]].concat())).collect()
    })
}

/// The panels of all matrices of a constant.
fn packed_panels(cut: &[Panel], matrices: usize, n: usize) -> Vec<PackedPanel> {
    let of = |matrix: usize| {
        cut.iter().map(move |panel| PackedPanel {
            channels: panel.channels.iter().map(|channel| matrix * n + channel).collect(),
            cols: panel.cols.clone(),
            order: 0,
        })
    };
    (0..matrices).flat_map(of).collect()
}

/// Bytes of a panel, of which each lane takes so many.
fn panel_bytes(run: &PanelRun, lane: usize) -> i64 {
    i64::from(panel_width(&run.cols)) * lane as i64
}

fn float_of(view: &View) -> Float {
    Float::of(view.dtype).unwrap_or_default()
}

/// Whether the elements of an axis lie one behind the other.
fn near(stride: i64, extent: usize, float: Float) -> bool {
    extent <= 1 || stride == float.span(1)
}
