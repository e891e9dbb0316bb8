//! NASNet-A's two cells (Zoph et al. 2018, figure 4).
//!
//! A cell sees the outputs of the two cells before it: `h` from the last one and `p` from the one before that. Both
//! are first brought to the cell's number of channels, and `p` to the size of `h`. (The first cell has nothing
//! before its input, which then is `p` as it is.) Then five pairs of operations are added up:
//!
//! ```text
//! normal cell                                reduction cell (stride 2 on h and p)
//!   1  sep 5×5(h)  + sep 3×3(p)                1  sep 5×5(h) + sep 7×7(p)
//!   2  sep 5×5(p)  + sep 3×3(p)                2  max 3×3(h) + sep 7×7(p)
//!   3  avg 3×3(h)  + p                         3  avg 3×3(h) + sep 5×5(p)
//!   4  avg 3×3(p)  + avg 3×3(p)                4  avg 3×3(sum 1) + sum 2        (stride 1)
//!   5  sep 3×3(h)  + h                         5  sep 3×3(sum 1) + max 3×3(h)   (stride 1 on sum 1)
//!   concat p, 1, 2, 3, 4, 5                    concat 2, 3, 4, 5
//! ```

use super::separable_conv;
use crate::builder::{Border, Conv, Gamma, Map, Net, Padding, Window};

/// Keeps the resolution; returns six times `filters` channels.
pub(crate) fn normal_cell(
    net: &mut Net,
    path: &str,
    last: &Map,
    before: Option<&Map>,
    filters: usize,
) -> Map {
    let (h, p) = adjust(net, path, last, before, filters);
    let mut cell = Cell { net, path, filters };

    let left = cell.separable("left1", &h, 5, 1);
    let right = cell.separable("right1", &p, 3, 1);
    let sum1 = cell.add("add1", &left, &right);

    let left = cell.separable("left2", &p, 5, 1);
    let right = cell.separable("right2", &p, 3, 1);
    let sum2 = cell.add("add2", &left, &right);

    let left = cell.average("left3", &h, 1);
    let sum3 = cell.add("add3", &left, &p);

    let left = cell.average("left4", &p, 1);
    let right = cell.average("right4", &p, 1);
    let sum4 = cell.add("add4", &left, &right);

    let left = cell.separable("left5", &h, 3, 1);
    let sum5 = cell.add("add5", &left, &h);

    net.concat(path, &[&p, &sum1, &sum2, &sum3, &sum4, &sum5])
}

/// Halves the resolution; returns four times `filters` channels.
pub(crate) fn reduction_cell(
    net: &mut Net,
    path: &str,
    last: &Map,
    before: Option<&Map>,
    filters: usize,
) -> Map {
    let (h, p) = adjust(net, path, last, before, filters);
    let mut cell = Cell { net, path, filters };

    let left = cell.separable("left1", &h, 5, 2);
    let right = cell.separable("right1", &p, 7, 2);
    let sum1 = cell.add("add1", &left, &right);

    let left = cell.maximum("left2", &h);
    let right = cell.separable("right2", &p, 7, 2);
    let sum2 = cell.add("add2", &left, &right);

    let left = cell.average("left3", &h, 2);
    let right = cell.separable("right3", &p, 5, 2);
    let sum3 = cell.add("add3", &left, &right);

    let left = cell.average("left4", &sum1, 1);
    let sum4 = cell.add("add4", &sum2, &left);

    let left = cell.separable("left5", &sum1, 3, 1);
    let right = cell.maximum("right5", &h);
    let sum5 = cell.add("add5", &left, &right);

    net.concat(path, &[&sum2, &sum3, &sum4, &sum5])
}

/// The operations that a cell chooses from.
struct Cell<'a> {
    net: &'a mut Net,
    path: &'a str,
    filters: usize,
}

impl Cell<'_> {
    /// Twice ReLU, separable convolution, BN; the first one has the stride.
    fn separable(&mut self, name: &str, x: &Map, kernel: usize, stride: usize) -> Map {
        let mut y = x.clone();
        for (turn, stride) in [(1, stride), (2, 1)] {
            let path = format!("{}.{name}.{turn}", self.path);
            y = self.net.relu(&path, &y);
            y = separable_conv(self.net, &path, &y, self.filters, kernel, stride);
            y = self.net.batch_norm(&format!("{path}.bn"), &y, Gamma::Unit);
        }
        y
    }

    fn average(&mut self, name: &str, x: &Map, stride: usize) -> Map {
        let window = Window::new(3, stride, Padding::Same);
        self.net.avg_pool(&format!("{}.{name}", self.path), x, window, Border::LeftOut)
    }

    fn maximum(&mut self, name: &str, x: &Map) -> Map {
        self.net.max_pool(&format!("{}.{name}", self.path), x, Window::new(3, 2, Padding::Same))
    }

    fn add(&mut self, name: &str, a: &Map, b: &Map) -> Map {
        self.net.add(&format!("{}.{name}", self.path), a, b)
    }
}

/// Brings both inputs of a cell to `filters` channels, and `before` to the size of `last`.
fn adjust(net: &mut Net, path: &str, last: &Map, before: Option<&Map>, filters: usize) -> (Map, Map) {
    let p = match before {
        None => last.clone(),
        Some(p) if p.height != last.height => {
            factorized_reduction(net, &format!("{path}.adjust"), p, filters)
        }
        Some(p) if p.channels != filters => squeeze(net, &format!("{path}.adjust"), p, filters),
        Some(p) => p.clone(),
    };
    let h = squeeze(net, &format!("{path}.squeeze"), last, filters);
    (h, p)
}

/// `x ── ReLU, 1×1, BN ──►`
fn squeeze(net: &mut Net, path: &str, x: &Map, filters: usize) -> Map {
    let y = net.relu(path, x);
    let y = net.conv(&format!("{path}.conv"), &y, Conv::pointwise(filters));
    net.batch_norm(&format!("{path}.bn"), &y, Gamma::Unit)
}

/// Halves the resolution without losing three pixels of four: one half of the channels sees the even pixels, the
/// other half the odd ones.
///
/// ```text
///            ┌─ average 1×1 stride 2 ──────────────────────── 1×1 ─┐
/// x ── ReLU ─┤                                                     ├─ concat ── BN ──►
///            └─ up and left by one ── average 1×1 stride 2 ── 1×1 ─┘
/// ```
fn factorized_reduction(net: &mut Net, path: &str, x: &Map, filters: usize) -> Map {
    let x = net.relu(path, x);
    let shifted = net.shift_up_left(&format!("{path}.shift"), &x);
    let mut half = |name: &str, x: &Map, filters: usize| {
        let pick = Window::new(1, 2, Padding::Each(0));
        let y = net.avg_pool(&format!("{path}.{name}.pool"), x, pick, Border::LeftOut);
        net.conv(&format!("{path}.{name}.conv"), &y, Conv::pointwise(filters))
    };
    let even = half("even", &x, filters / 2);
    let odd = half("odd", &shifted, filters / 2);
    let y = net.concat(path, &[&even, &odd]);
    net.batch_norm(&format!("{path}.bn"), &y, Gamma::Unit)
}
