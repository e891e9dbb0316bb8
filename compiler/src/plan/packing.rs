//! The weights of a dense layer in the order in which its kernels read them, `[panel][ky][kx][k][lanes]`; where Winograd's
//! algorithm does the layer, the elements of transformed kernels are in place of `[ky][kx]`.
//!
//! Planning only says what goes where; the bytes are moved when all constants have their place, by all cores, from
//! where the model has them straight to where the program will have them. Weights that are still in the model's file are read
//! panel by panel, so that no matrix is in memory twice.

use std::borrow::Cow;

use nnc_ir::Tensor;

use super::digest::TensorDigests;
use crate::code::float::Float;
use crate::code::tile::programs::dense::{Col, Products, panel_width, position};
use crate::code::tile::programs::winograd::{Form, KernelTransform};

/// Weights of a convolution, `[channel][k][ky][kx]`, or of products of matrices, to be packed.
#[derive(Clone, Debug)]
pub struct Packing {
    /// As the graph has them, of any [`Float`]; or of `i8`, of which four are packed in the place of one.
    pub weights: Tensor,
    /// Whether they are matrices with a column for each channel, `[matrix][k][channel]`; channels are counted on from one to the next.
    pub columns: bool,
    /// What they are multiplied as.
    pub products: Products,
    /// Elements of a kernel: `ky · kx`.
    pub taps: usize,
    /// Whether 3×3 kernels are transformed, and how.
    pub winograd: Option<Form>,
    /// Input channels of a group, or quads or pairs of them: the extent of `k`.
    pub depth: usize,
    /// Orders of input channels that panels name by number; a [`HOLE`] is what fills up a quad or a pair.
    pub orders: Vec<Vec<usize>>,
    /// The panels, in order.
    pub panels: Vec<PackedPanel>,
}

/// Channels that one kernel computes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackedPanel {
    /// Its output channels.
    pub channels: Vec<usize>,
    /// Its vectors; lanes without a channel are zero.
    pub cols: Vec<Col>,
    /// Which of the orders its input channels are in.
    pub order: usize,
}

impl PackedPanel {
    /// Lanes that it has.
    pub fn lanes(&self) -> usize {
        panel_width(&self.cols) as usize
    }
}

impl PartialEq for Packing {
    /// Whether both make the same bytes in the same way.
    fn eq(&self, other: &Packing) -> bool {
        // Every field is named, so that a new one is decided on.
        let Packing { weights, columns, products, taps, winograd, depth, orders, panels } = self;
        (*columns, *products, *taps) == (other.columns, other.products, other.taps)
            && (*winograd, *depth) == (other.winograd, other.depth)
            && *panels == other.panels
            && *orders == other.orders
            && weights.same_bytes(&other.weights)
    }
}

/// Bytes of a lane that are multiplied together.
pub(super) const QUAD: usize = 4;
/// Bytes of a word.
pub(super) const WORD: usize = 2;
/// Bytes of a half float.
const HALF: usize = 2;
/// In the order of input channels, a part of a quad or a pair that is no channel of them.
pub(super) const HOLE: usize = usize::MAX;

/// Input channels that are packed at a time: a cache line of each output channel's weights is read at once, whatever the
/// distance between channels.
const BLOCK: usize = 16;
/// Quads or pairs that are packed at a time: all taps of theirs are in the first cache meanwhile.
const PLACES: usize = 16;
/// Output channels that are packed at a time: together they fill cache lines of packed weights, and those of a large matrix
/// are half a megabyte.
const ROWS: usize = 16;

impl Packing {
    /// Size in bytes.
    pub fn bytes(&self) -> usize {
        self.panels.iter().map(|panel| self.panel_bytes(panel)).sum()
    }

    /// A digest of all that decides the packed bytes.
    pub(super) fn digest(&self, tensors: &TensorDigests) -> [u8; 32] {
        // Every field is named, so that a new one is decided on.
        let Packing { weights, columns, products, taps, winograd, depth, orders, panels } = self;
        let mut bytes = format!("{columns} {products:?} {taps} {winograd:?} {depth} ").into_bytes();
        // Lists are long: as text they would take longer than the rest.
        let list = |numbers: &[usize], bytes: &mut Vec<u8>| {
            let numbers = std::iter::once(numbers.len()).chain(numbers.iter().copied());
            bytes.extend(numbers.flat_map(|n| (n as u64).to_le_bytes()));
        };
        list(&[orders.len()], &mut bytes);
        orders.iter().for_each(|order| list(order, &mut bytes));
        for PackedPanel { channels, cols, order } in panels {
            let cols = format!("{cols:?}");
            list(&[*order, cols.len()], &mut bytes);
            bytes.extend(cols.into_bytes());
            list(channels, &mut bytes);
        }
        let mut hasher = blake3::Hasher::new_derive_key("nnc packed weights");
        hasher.update(&bytes).update(&tensors.of(weights));
        *hasher.finalize().as_bytes()
    }

    /// Size of a panel in bytes.
    pub fn panel_bytes(&self, panel: &PackedPanel) -> usize {
        let size = self.products.weights().bytes() as usize;
        panel.lanes() * self.winograd.map_or(self.taps, Form::elements) * self.depth * size
    }

    /// Writes a panel to zeroed bytes, as many as [`Packing::panel_bytes`].
    pub fn write(&self, panel: &PackedPanel, to: &mut [u8]) {
        let Some(order) = self.orders.get(panel.order) else { return };
        match self.products {
            Products::Floats => self.write_floats(panel, order, to.as_chunks_mut().0),
            Products::Bytes => self.write_integers::<1>(panel, order, to.as_chunks_mut().0),
            Products::Words => self.write_integers::<2>(panel, order, to.as_chunks_mut().0),
            Products::Halves => self.write_pairs(panel, order, to.as_chunks_mut().0),
            Products::Widened(float) => {
                let size = float.bytes() as usize;
                let mut wide = vec![[0; 4]; to.len() / size];
                self.write_floats(panel, order, &mut wide);
                let floats = wide.into_iter().map(f32::from_le_bytes);
                floats.zip(to.chunks_exact_mut(size)).for_each(|(value, to)| float.write(value, to));
            }
        }
    }

    fn write_floats(&self, panel: &PackedPanel, order: &[usize], to: &mut [[u8; 4]]) {
        if self.columns {
            return self.write_columns(panel, order, to);
        }
        for first in (0..panel.channels.len().min(panel.lanes())).step_by(ROWS) {
            let rows = Rows::of(self, &panel.channels[first..panel.channels.len().min(first + ROWS)]);
            match self.winograd {
                None => self.write_rows(panel, first, &rows, order, to),
                Some(form) => self.write_transformed(panel, first, &rows, order, form, to),
            }
        }
    }

    /// Writes the lanes from `first` on, for which there are rows.
    fn write_rows(
        &self,
        panel: &PackedPanel,
        first: usize,
        rows: &Rows<'_>,
        order: &[usize],
        to: &mut [[u8; 4]],
    ) {
        let lanes = panel.lanes();
        let folded = panel.cols.iter().any(|col| col.fold > 1);
        for (tap, to) in to.chunks_exact_mut((self.depth * lanes).max(1)).enumerate() {
            for (block, order) in to.chunks_mut(BLOCK * lanes).zip(order.chunks(BLOCK)) {
                for (row, lane) in rows.each().zip(first..lanes) {
                    if folded {
                        // A block is a whole number of rounds.
                        for (at, &k) in order.iter().enumerate() {
                            let to = position(&panel.cols, lane as u32, at as u32);
                            block[to] = row[k * self.taps + tap];
                        }
                    } else {
                        for (to, &k) in block.chunks_exact_mut(lanes).zip(order) {
                            to[lane] = row[k * self.taps + tap];
                        }
                    }
                }
            }
        }
    }

    /// Writes all lanes of integers of so many bytes, `[tap][quad or pair][lane][4 bytes]`: what fills up the last one is zero, so that it adds
    /// nothing whatever the image has there.
    fn write_integers<const BYTES: usize>(&self, panel: &PackedPanel, order: &[usize], to: &mut [[u8; 4]]) {
        let lanes = panel.lanes();
        let channels = &panel.channels[..panel.channels.len().min(lanes)];
        let rows = Rows::read(&self.weights, channels, self.weights.shape()[1] * self.taps);
        let together = QUAD / BYTES;
        for (block, order) in order.chunks(together * PLACES).enumerate() {
            for tap in 0..self.taps {
                let to = &mut to[(tap * self.depth + block * PLACES) * lanes..];
                for (lane, row) in rows.each_in_bytes().enumerate() {
                    for (place, channels) in order.chunks(together).enumerate() {
                        let mut element = [0; 4];
                        for (bytes, &k) in element.as_chunks_mut::<BYTES>().0.iter_mut().zip(channels) {
                            if k != HOLE {
                                let weight = i32::from(row[k * self.taps + tap] as i8).to_le_bytes();
                                bytes.copy_from_slice(&weight[..BYTES]);
                            }
                        }
                        to[place * lanes + lane] = element;
                    }
                }
            }
        }
    }

    /// Writes all lanes of pairs of half floats, `[tap][pair][lane][2]`: what has no partner is the upper one of a pair whose lower one is zero.
    fn write_pairs(&self, panel: &PackedPanel, order: &[usize], to: &mut [[u8; 4]]) {
        let (lanes, depth) = (panel.lanes(), order.iter().filter(|k| **k != HOLE).count());
        let width = self.weights.shape().last().copied().unwrap_or(1).max(1);
        let bytes = if self.columns { self.weights.bytes() } else { &[] };
        let mut row = vec![0; depth * self.taps * HALF];
        for (lane, &channel) in panel.channels.iter().take(lanes).enumerate() {
            if self.columns {
                let first = (channel / width * depth) * width + channel % width;
                for (k, to) in row.chunks_exact_mut(HALF).enumerate() {
                    let from = (first + k * width) * HALF;
                    to.copy_from_slice(&bytes[from..from + HALF]);
                }
            } else {
                let len = row.len();
                self.weights.read(channel * len..(channel + 1) * len, &mut row);
            }
            for (at, &k) in order.iter().enumerate().filter(|(_, k)| **k != HOLE) {
                for tap in 0..self.taps {
                    let to = &mut to[(tap * self.depth + at / 2) * lanes + lane];
                    let from = (k * self.taps + tap) * HALF;
                    to[at % 2 * HALF..][..HALF].copy_from_slice(&row[from..from + HALF]);
                }
            }
        }
    }

    /// Writes all lanes from weights that have their channels side by side.
    fn write_columns(&self, panel: &PackedPanel, order: &[usize], to: &mut [[u8; 4]]) {
        let (lanes, width) = (panel.lanes(), self.weights.shape().last().copied().unwrap_or(1).max(1));
        let float = Float::of(self.weights.dtype()).unwrap_or_default();
        let bytes = self.weights.bytes();
        let elem = float.bytes() as usize;
        let folded = panel.cols.iter().any(|col| col.fold > 1);
        for (block, order) in to.chunks_mut(BLOCK * lanes.max(1)).zip(order.chunks(BLOCK)) {
            for (at, &k) in order.iter().enumerate() {
                for (lane, &channel) in panel.channels.iter().take(lanes).enumerate() {
                    let from = ((channel / width * self.depth + k) * width + channel % width) * elem;
                    let to = match folded {
                        true => position(&panel.cols, lane as u32, at as u32),
                        false => at * lanes + lane,
                    };
                    let from = &bytes[from..from + elem];
                    block[to] = match float {
                        Float::F32 => [from[0], from[1], from[2], from[3]],
                        _ => float.read(from).to_le_bytes(),
                    };
                }
            }
        }
    }

    /// The same for transformed kernels.
    fn write_transformed(
        &self,
        panel: &PackedPanel,
        first: usize,
        rows: &Rows<'_>,
        order: &[usize],
        form: Form,
        to: &mut [[u8; 4]],
    ) {
        let transform = KernelTransform::new(form);
        let mut elements = vec![0.0f32; form.elements()];
        for (row, lane) in rows.each().zip(first..panel.lanes()) {
            let kernels = row.as_chunks::<9>().0;
            for (k, &channel) in order.iter().enumerate() {
                transform.apply(&kernels[channel].map(f32::from_le_bytes), &mut elements);
                for (e, value) in elements.iter().enumerate() {
                    to[(e * self.depth + k) * panel.lanes() + lane] = value.to_le_bytes();
                }
            }
        }
    }
}

/// The weights of some output channels, `[k][ky][kx]` each, as `f32` or bytes.
struct Rows<'w> {
    /// Bytes in which they are, and where each begins.
    bytes: Cow<'w, [u8]>,
    starts: Vec<usize>,
    /// Bytes of a channel.
    len: usize,
}

impl<'w> Rows<'w> {
    /// Those of floats, as `f32`.
    fn of(packing: &'w Packing, channels: &[usize]) -> Rows<'w> {
        let float = Float::of(packing.weights.dtype()).unwrap_or_default();
        let elems = packing.depth * packing.taps;
        let rows = Rows::read(&packing.weights, channels, elems * float.bytes() as usize);
        if !float.is_half() {
            return rows;
        }
        let halves = rows.each_in_bytes().flat_map(|row| row.chunks_exact(float.bytes() as usize));
        let bytes: Vec<u8> = halves.flat_map(|half| float.read(half).to_le_bytes()).collect();
        let len = elems * 4;
        Rows { starts: (0..channels.len()).map(|row| row * len).collect(), bytes: bytes.into(), len }
    }

    /// Those of so many bytes each, as they are.
    fn read(weights: &'w Tensor, channels: &[usize], len: usize) -> Rows<'w> {
        if let Some(bytes) = weights.at_hand(0..weights.ty().bytes()) {
            let starts = channels.iter().map(|channel| channel * len).collect();
            return Rows { bytes: bytes.into(), starts, len };
        }
        let mut bytes = vec![0; channels.len() * len];
        let mut rest = &mut bytes[..];
        for run in channels.chunk_by(|a, b| a + 1 == *b) {
            let (piece, after) = rest.split_at_mut(run.len() * len);
            weights.read(run[0] * len..(run[0] + run.len()) * len, piece);
            rest = after;
        }
        Rows { starts: (0..channels.len()).map(|row| row * len).collect(), bytes: bytes.into(), len }
    }

    /// Those of each channel.
    fn each(&self) -> impl Iterator<Item = &[[u8; 4]]> {
        self.each_in_bytes().map(|row| row.as_chunks::<4>().0)
    }

    fn each_in_bytes(&self) -> impl Iterator<Item = &[u8]> {
        self.starts.iter().map(|&start| &self.bytes[start..start + self.len])
    }
}

#[cfg(test)]
mod tests {
    use nnc_ir::DType;

    use super::*;
    use crate::code::tile::ir::Lanes;

    #[test]
    fn panels_are_packed_in_the_order_in_which_kernels_read_them() {
        let (channels, depth, taps) = (5, 37, 3);
        let value = |c: usize, k: usize, tap: usize| (c * 10_000 + k * 10 + tap) as f32;
        let weights: Vec<f32> = (0..channels * depth * taps)
            .map(|i| value(i / taps / depth, i / taps % depth, i % taps))
            .collect();
        let backwards: Vec<usize> = (0..depth).rev().collect();
        let packing = Packing {
            weights: Tensor::new(vec![channels, depth, 1, taps], &weights).unwrap(),
            columns: false,
            products: Products::Floats,
            taps,
            winograd: None,
            depth,
            orders: vec![(0..depth).collect(), backwards.clone()],
            panels: vec![
                PackedPanel { channels: vec![0, 1, 2, 3], cols: vec![Col::full(Lanes::X4)], order: 0 },
                PackedPanel { channels: vec![4], cols: vec![Col::full(Lanes::X4)], order: 1 },
            ],
        };
        assert_eq!(packing.bytes(), 2 * 4 * depth * taps * 4);
        for panel in &packing.panels {
            let mut bytes = vec![0; packing.panel_bytes(panel)];
            packing.write(panel, &mut bytes);
            let mut packed = bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b));
            for tap in 0..taps {
                for &k in &packing.orders[panel.order] {
                    for lane in 0..panel.lanes() {
                        let expected = panel.channels.get(lane).map_or(0.0, |&c| value(c, k, tap));
                        assert_eq!(packed.next(), Some(expected), "tap {tap}, k {k}, lane {lane}");
                    }
                }
            }
        }
    }

    /// What is equal, or has one digest, is packed once for both.
    #[test]
    fn packings_that_differ_in_anything_are_two() {
        let panel = PackedPanel { channels: vec![0], cols: vec![Col::full(Lanes::X4)], order: 0 };
        let packing = Packing {
            weights: Tensor::new([2, 9, 1, 1], &[1.0f32; 18]).unwrap(),
            columns: false,
            products: Products::Floats,
            taps: 1,
            winograd: None,
            depth: 9,
            orders: vec![(0..9).collect()],
            panels: vec![panel.clone()],
        };
        let ones = |value: f32| Tensor::new([2, 9, 1, 1], &[value; 18]).unwrap();
        let others = [
            Packing { weights: ones(2.0), ..packing.clone() },
            Packing { columns: true, ..packing.clone() },
            Packing { taps: 9, ..packing.clone() },
            Packing { products: Products::Words, ..packing.clone() },
            Packing { winograd: Some(Form::F2), ..packing.clone() },
            Packing { depth: 3, ..packing.clone() },
            Packing { orders: vec![(0..9).rev().collect()], ..packing.clone() },
            Packing { panels: vec![PackedPanel { channels: vec![1], ..panel.clone() }], ..packing.clone() },
            Packing { panels: vec![PackedPanel { order: 1, ..panel.clone() }], ..packing.clone() },
        ];
        assert_eq!(packing, packing.clone());
        let digest = |packing: &Packing| packing.digest(&TensorDigests::default());
        assert_eq!(digest(&packing), digest(&packing.clone()));
        for other in others {
            assert_ne!(packing, other);
            assert_ne!(digest(&packing), digest(&other), "{other:?}");
        }
    }

    #[test]
    fn matrices_with_a_column_for_each_channel_are_packed_like_those_with_a_row() {
        let (matrices, depth, width) = (2, 20, 6);
        let value = |b: usize, k: usize, n: usize| (b * 1000 + k * 10 + n + 1) as f32;
        let columns: Vec<f32> = (0..matrices * depth * width)
            .map(|i| value(i / width / depth, i / width % depth, i % width))
            .collect();
        let rows: Vec<f32> = (0..matrices * depth * width)
            .map(|i| value(i / depth / width, i % depth, i / depth % width))
            .collect();
        let cols = vec![Col { fold: 2, ..Col::part(Lanes::X4, 3) }];
        for cols in [vec![Col::full(Lanes::X4)], cols] {
            let panel =
                |channels: &[usize]| PackedPanel { channels: channels.into(), cols: cols.clone(), order: 0 };
            let by_rows = Packing {
                weights: Tensor::new([matrices * width, depth, 1, 1], &rows).unwrap(),
                columns: false,
                products: Products::Floats,
                taps: 1,
                winograd: None,
                depth,
                orders: vec![(0..depth).collect()],
                panels: vec![panel(&[0, 1, 2]), panel(&[3, 4, 5]), panel(&[6, 7, 8]), panel(&[10, 11])],
            };
            for float in [DType::F32, DType::F16] {
                let weights = Tensor::new([matrices, depth, width], &columns).unwrap();
                let weights = match float {
                    DType::F16 => {
                        let halves: Vec<half::f16> =
                            columns.iter().map(|&x| half::f16::from_f32(x)).collect();
                        Tensor::new([matrices, depth, width], &halves).unwrap()
                    }
                    _ => weights,
                };
                let by_columns = Packing { weights, columns: true, ..by_rows.clone() };
                for panel in &by_rows.panels {
                    let mut bytes =
                        [vec![0; by_rows.panel_bytes(panel)], vec![0; by_rows.panel_bytes(panel)]];
                    by_rows.write(panel, &mut bytes[0]);
                    by_columns.write(panel, &mut bytes[1]);
                    let len = panel.lanes() * depth * 4;
                    assert_eq!(bytes[0][..len], bytes[1][..len], "{float:?} {cols:?}");
                    assert!(bytes[0][..len].iter().any(|&b| b != 0));
                }
            }
        }
    }

    #[test]
    fn folded_columns_have_neighbouring_channels_side_by_side() {
        let (channels, depth) = (22, 40);
        let cols = vec![
            Col::full(Lanes::X16),
            Col { fold: 2, ..Col::part(Lanes::X4, 3) },
            Col { fold: 4, ..Col::part(Lanes::X4, 3) },
        ];
        let weights: Vec<f32> = (0..channels * depth).map(|i| (i + 1) as f32).collect();
        let packing = Packing {
            weights: Tensor::new(vec![channels, depth, 1, 1], &weights).unwrap(),
            columns: false,
            products: Products::Floats,
            taps: 1,
            winograd: None,
            depth,
            orders: vec![(0..depth).collect()],
            panels: vec![PackedPanel { channels: (0..channels).collect(), cols: cols.clone(), order: 0 }],
        };
        let mut bytes = vec![0; packing.bytes()];
        packing.write(&packing.panels[0], &mut bytes);
        let packed: Vec<f32> = bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        let weight = |n: usize, k: usize| (n * depth + k + 1) as f32;
        // The second round: four rows of sixteen, two vectors folded by two, one folded by four.
        let round = &packed[96..192];
        assert_eq!(round[16..18], [weight(0, 5), weight(1, 5)]);
        assert_eq!(round[64..68], [weight(16, 4), weight(16, 5), weight(17, 4), weight(17, 5)]);
        assert_eq!(round[72..74], [weight(16, 6), weight(16, 7)]);
        assert_eq!(
            round[80..85],
            [weight(20, 4), weight(20, 5), weight(20, 6), weight(20, 7), weight(21, 4)]
        );
        let mut sorted: Vec<f32> = packed.iter().copied().filter(|w| *w != 0.0).collect();
        sorted.sort_by(f32::total_cmp);
        assert_eq!(sorted, weights, "each weight once");
    }

    #[test]
    fn transformed_kernels_are_packed_by_element() {
        let form = Form::F4;
        let weights: Vec<f32> = (0..2 * 3 * 9).map(|i| (i % 11) as f32 - 4.5).collect();
        let packing = Packing {
            weights: Tensor::new([2, 3, 3, 3], &weights).unwrap(),
            columns: false,
            products: Products::Floats,
            taps: 9,
            winograd: Some(form),
            depth: 3,
            orders: vec![vec![2, 0, 1]],
            panels: vec![PackedPanel { channels: vec![1, 0], cols: vec![Col::full(Lanes::X4)], order: 0 }],
        };
        let mut bytes = vec![0; packing.bytes()];
        packing.write(&packing.panels[0], &mut bytes);
        let packed: Vec<f32> = bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        let mut elements = vec![0.0; form.elements()];
        for (k, channel) in [2, 0, 1].into_iter().enumerate() {
            for (lane, n) in [1, 0].into_iter().enumerate() {
                let kernel = weights.as_chunks::<9>().0[n * 3 + channel];
                KernelTransform::new(form).apply(&kernel, &mut elements);
                for (e, value) in elements.iter().enumerate() {
                    assert_eq!(packed[(e * 3 + k) * 4 + lane], *value, "element {e}");
                }
            }
        }
        assert_eq!(packed.chunks(4).filter(|row| row[2..] != [0.0; 2]).count(), 0);
    }
}
