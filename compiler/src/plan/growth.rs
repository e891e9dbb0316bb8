//! How much larger than the model's weights the program's constants may become, and which layers come first.
//!
//! Kernels that Winograd's algorithm has transformed are two to four times as large, and each byte more wins with each pixel: so layers
//! of many pixels have theirs first, wherever in the network they are. A U-Net's are at both of its ends; the middle has most of the
//! weights.
//!
//! ```text
//!   pixels    128²   64²   32²   64²   128²
//!   weights    ▪     ▪▪    ▪▪▪▪  ▪▪▪    ▪▪       limit: as much again as ▪▪▪▪▪▪
//!   grows      ✓     ✓      ·     ✓     ✓
//! ```

use nnc_ir::op::Conv;
use nnc_ir::{Graph, NodeId, Op};

use crate::code::tile::programs::winograd::{Form, KERNEL};

/// A layer whose weights may grow: of how many pixels, and by how many bytes at most.
#[derive(Clone, Copy, Debug)]
struct GrowingLayer {
    node: NodeId,
    pixels: usize,
    bytes: u64,
}

/// What is left of the bytes that constants may become more.
#[derive(Clone, Debug, Default)]
pub(super) struct Growth {
    left: u64,
    /// In the order in which they are planned.
    layers: Vec<GrowingLayer>,
}

impl Growth {
    /// By so many bytes, of a graph.
    pub fn of(graph: &Graph, order: &[NodeId], bytes: u64) -> Growth {
        let layers = order.iter().filter_map(|&node| growing(graph, node)).collect();
        Growth { left: bytes, layers }
    }

    /// Bytes by which the weights of a layer may grow: what is left, when those layers behind it have theirs that have more pixels.
    pub fn room(&self, node: NodeId) -> u64 {
        let Some(at) = self.layers.iter().position(|layer| layer.node == node) else { return self.left };
        let first = self.layers[at + 1..].iter().filter(|other| other.pixels > self.layers[at].pixels);
        first.fold(self.left, |left, other| left.saturating_sub(other.bytes))
    }

    /// Takes what a layer has become more.
    pub fn take(&mut self, bytes: u64) {
        self.left = self.left.saturating_sub(bytes);
    }
}

/// A convolution that Winograd's algorithm may do.
fn growing(graph: &Graph, node: NodeId) -> Option<GrowingLayer> {
    let Op::Conv(conv) = &graph.node(node).op else { return None };
    let all = |list: &[usize], what: usize| list.iter().all(|&n| n == what);
    let window = &conv.window;
    let plain = all(&window.kernel, KERNEL) && all(&window.strides, 1) && all(&window.dilations, 1);
    let weights = graph.ty(graph.operand(node, Conv::W)?).shape.elems() as u64;
    let (&[images, _], picture) = graph.ty(node.into()).shape.split_first_chunk::<2>()?;
    let more = (Form::F4.elements() / (KERNEL * KERNEL) - 1) as u64;
    (plain && conv.groups == 1).then(|| GrowingLayer {
        node,
        pixels: images * picture.iter().product::<usize>(),
        bytes: weights.saturating_mul(4 * more),
    })
}

#[cfg(test)]
mod tests {
    use nnc_ir::text;

    use super::*;

    #[test]
    fn layers_of_many_pixels_come_first_wherever_they_are() {
        let graph = text::parse(
            "%x = input : f32[1x2x8x8]
%w = const f32[2x2x3x3] hash(seed=1, scale=1)
%first = conv %x, %w {pads=1x1:1x1} : f32[1x2x8x8]
%small = conv %first, %w : f32[1x2x6x6]
%large = conv %small, %w {pads=3x3:3x3} : f32[1x2x10x10]
%pointwise = const f32[2x2x1x1] hash(seed=2, scale=1)
%none = conv %large, %pointwise : f32[1x2x10x10]
output y = %none
",
        )
        .expect("a graph");
        let order = graph.order().expect("an order");
        let node = |name: &str| *order.iter().find(|&&id| graph.node(id).name == name).expect("a node");
        let each = 36 * 4 * 3;
        let mut growth = Growth::of(&graph, &order, 2 * each + 1);
        assert_eq!(growth.room(node("first")), each + 1, "the large one comes before it");
        growth.take(each);
        assert_eq!(growth.room(node("small")), 1);
        assert_eq!(growth.room(node("large")), each + 1);
    }
}
