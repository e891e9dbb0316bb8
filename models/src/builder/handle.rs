//! What the layers of a network hand to each other: a name in the graph, a shape, and mostly the moments of the values.

use crate::moments::Moments;

/// A feature map `[1, channels, height, width]` in the graph under construction.
#[derive(Debug, Clone)]
pub(crate) struct Map {
    pub(super) name: String,
    pub(crate) channels: usize,
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) moments: Moments,
}

/// A vector `[1, features]` in the graph under construction.
#[derive(Debug, Clone)]
pub(crate) struct Features {
    pub(super) name: String,
    pub(crate) count: usize,
    pub(super) moments: Moments,
}

/// Rows of features `[batch, rows, features]` in the graph under construction.
#[derive(Debug, Clone)]
pub(crate) struct Tokens {
    pub(super) name: String,
    pub(crate) dims: [usize; 3],
    /// Of each feature, over all rows.
    pub(crate) moments: Moments,
}

impl Tokens {
    /// How long a row is.
    pub(crate) fn features(&self) -> usize {
        self.dims[2]
    }
}

/// A value of any shape, of whose elements nothing is known.
#[derive(Debug, Clone)]
pub(crate) struct Tensor {
    pub(super) name: String,
    pub(crate) dims: Vec<usize>,
}

impl Tensor {
    /// The same value as a feature map.
    pub(crate) fn into_map(self, moments: Moments) -> Map {
        let [1, channels, height, width] = self.dims[..] else { panic!("{} is no map", self.name) };
        Map { name: self.name, channels, height, width, moments }
    }

    /// The same value as rows of features.
    pub(crate) fn into_tokens(self, moments: Moments) -> Tokens {
        let [batch, rows, features] = self.dims[..] else { panic!("{} has no rows", self.name) };
        Tokens { name: self.name, dims: [batch, rows, features], moments }
    }
}

/// What layers that treat all elements alike need to know of a value.
pub(crate) trait Handle {
    fn name(&self) -> &str;
    fn dims(&self) -> Vec<usize>;
    fn moments(&self) -> &Moments;
    /// Another value of this shape.
    fn with(&self, name: String, moments: Moments) -> Self;

    /// The same value without what is known of its elements.
    fn tensor(&self) -> Tensor {
        Tensor { name: self.name().into(), dims: self.dims() }
    }
}

impl Handle for Map {
    fn name(&self) -> &str {
        &self.name
    }

    fn dims(&self) -> Vec<usize> {
        vec![1, self.channels, self.height, self.width]
    }

    fn moments(&self) -> &Moments {
        &self.moments
    }

    fn with(&self, name: String, moments: Moments) -> Self {
        Self { name, moments, ..*self }
    }
}

impl Handle for Features {
    fn name(&self) -> &str {
        &self.name
    }

    fn dims(&self) -> Vec<usize> {
        vec![1, self.count]
    }

    fn moments(&self) -> &Moments {
        &self.moments
    }

    fn with(&self, name: String, moments: Moments) -> Self {
        Self { name, moments, ..*self }
    }
}

impl Handle for Tokens {
    fn name(&self) -> &str {
        &self.name
    }

    fn dims(&self) -> Vec<usize> {
        self.dims.to_vec()
    }

    fn moments(&self) -> &Moments {
        &self.moments
    }

    fn with(&self, name: String, moments: Moments) -> Self {
        Self { name, moments, ..*self }
    }
}
