//! Random networks.
//!
//! A network is built from a recipe: a list of byte strings, each of which says what block to put on which of the images there are so far.
//! Any recipe makes a valid graph, and smaller bytes make simpler ones, so that a failing recipe shrinks to a few plain blocks.
//!
//! ```text
//!   images   x0 ─▶ block ─▶ image ─▶ block ─▶ image …     layers.rs: what compact networks are made of
//!                    └───────┬─────────▲                  cells.rs:  units and spellings of known networks
//!                            other ────┘                  sides.rs:  through other ranks, types and axes, and back
//!                                                         quantised.rs: layers and moves between dequantising and quantising
//! ```

mod builder;
mod cells;
mod layers;
mod quantised;
mod sides;
mod windows;

pub use builder::{GraphBuilder, square};

use nnc_ir::{Graph, Value};

use super::choices::{Choices, Rng};

/// Bytes that describe a block: kind, operand, and what else the kind wants to know.
const BLOCK: usize = 20;

/// The most channels of an image.
const CHANNELS: usize = 96;

/// The most elements of a value that is read: the evaluator is slow.
const ELEMENTS: usize = 20_000;

/// The most pixels of an image that is read, in all images of a batch.
const PIXELS: usize = 1200;

/// What a network is built from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// The input's extents.
    image: [u8; 4],
    blocks: Vec<[u8; BLOCK]>,
}

impl Recipe {
    /// The recipe of a case.
    pub fn random(rng: &mut Rng) -> Recipe {
        let blocks = 1 + rng.below(9);
        Recipe { image: rng.bytes(), blocks: (0..blocks).map(|_| rng.bytes()).collect() }
    }

    /// Simpler recipes, those first that are simpler by much.
    pub fn simpler(&self) -> Vec<Recipe> {
        let mut all = Vec::new();
        for at in 0..self.blocks.len() {
            let mut recipe = self.clone();
            recipe.blocks.remove(at);
            all.push(recipe);
        }
        let halves =
            |byte: u8| [0, byte / 2, byte.saturating_sub(1)].into_iter().filter(move |half| *half != byte);
        for (at, byte) in self.image.iter().enumerate() {
            all.extend(halves(*byte).map(|half| {
                let mut recipe = self.clone();
                recipe.image[at] = half;
                recipe
            }));
        }
        for (block, bytes) in self.blocks.iter().enumerate() {
            // The kind stays: another one is not simpler.
            for (at, byte) in bytes.iter().enumerate().skip(1) {
                all.extend(halves(*byte).map(|half| {
                    let mut recipe = self.clone();
                    recipe.blocks[block][at] = half;
                    recipe
                }));
            }
        }
        all
    }

    /// The network. Outputs are its last image, one more perhaps, and everything that nothing reads.
    pub fn network(&self) -> Graph {
        let mut net = Network::default();
        let mut c = Choices::new(&self.image);
        let wide = c.pick(4) == 3;
        let channels: &[usize] =
            if wide { &[8, 16, 24, 32, 40, 48, 17, 64] } else { &[4, 2, 3, 6, 8, 12, 5, 1] };
        let batch = c.of(&[1, 1, 1, 2, 1, 3]);
        let (channels, side) = (c.of(channels), c.pick(64));
        let (h, w) = (side % 8 + 3, (side + side / 8) % 8 + 3);
        let x = net.b.input(&[batch, channels, h + usize::from(wide) * 4, w + usize::from(wide) * 4]);
        net.images.push(x);
        for block in &self.blocks {
            let mut c = Choices::new(block);
            let (kind, operand) = (c.pick(256), c.pick(256));
            let chosen = match operand % 4 {
                3 => operand / 4 % net.images.len(),
                _ => net.images.len() - 1,
            };
            let x = net.small(chosen);
            let made = match kind % 16 {
                0..=7 => layers::add(&mut net, x, kind / 16, &mut c),
                8..=11 => cells::add(&mut net, x, kind / 16, &mut c),
                12 => quantised::add(&mut net, x, &mut c),
                _ => sides::add(&mut net, x, kind / 16, &mut c),
            };
            net.images.extend(made);
        }
        let more = self.blocks.first().map_or(0, |block| usize::from(block[BLOCK - 1]));
        net.finish(if more % 4 == 3 { Some(more / 4) } else { None })
    }
}

/// A network under construction.
#[derive(Debug, Default)]
struct Network {
    b: GraphBuilder,
    /// What blocks are put on: images of `f32`, of rank 4.
    images: Vec<Value>,
}

impl Network {
    /// This image, or one before it that is small enough.
    fn small(&self, chosen: usize) -> Value {
        let small = |value: &&Value| {
            let [n, c, h, w] = self.b.image(**value);
            n * h * w <= PIXELS && n * c * h * w <= ELEMENTS
        };
        self.images[..=chosen].iter().rev().find(small).copied().unwrap_or(self.images[0])
    }

    /// The latest image but `x` that is like that.
    fn other(&self, x: Value, like: impl Fn([usize; 4]) -> bool) -> Option<Value> {
        self.images.iter().rev().copied().find(|value| *value != x && like(self.b.image(*value)))
    }

    /// Whether a value of this shape is small enough.
    fn admits(&self, shape: &[usize]) -> bool {
        shape.iter().product::<usize>() <= ELEMENTS && shape.get(1).is_none_or(|c| *c <= CHANNELS)
    }

    fn finish(mut self, more: Option<usize>) -> Graph {
        let graph = &mut self.b.graph;
        let mut outputs = Vec::new();
        for id in graph.node_ids() {
            for output in 0..graph.node(id).outputs.len() as u32 {
                let value = Value { node: id, output };
                if graph.consumers(value).is_empty() && graph.constant(value).is_none() {
                    outputs.push(value);
                }
            }
        }
        outputs.extend(more.map(|more| self.images[more % self.images.len()]));
        for (i, value) in outputs.into_iter().enumerate() {
            graph.add_output(format!("y{i}"), value);
        }
        self.b.graph
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_recipe_makes_a_sound_graph_of_values_that_are_not_too_large() {
        for number in 0..2000 {
            let graph = Recipe::random(&mut Rng::new(7, number)).network();
            graph.verify().unwrap_or_else(|error| panic!("{number}: {error}"));
            let largest = graph
                .node_ids()
                .flat_map(|id| graph.node(id).outputs.iter())
                .map(|ty| ty.shape.elems())
                .max();
            assert!(largest.is_some_and(|largest| largest <= 8 * ELEMENTS), "{number}: {largest:?}");
        }
    }

    #[test]
    fn simpler_recipes_come_to_an_end() {
        let mut recipe = Recipe::random(&mut Rng::new(1, 1));
        let mut steps = 0;
        while let Some(simpler) = recipe.simpler().into_iter().next() {
            recipe = simpler;
            steps += 1;
            assert!(steps < 1000);
        }
        assert_eq!(recipe.blocks.len(), 0);
    }
}
