//! The phases of a transposed convolution along one axis.
//!
//! Element `o` of the result gets tap `t` from element `i` of the image where `o = i · s + t · d - p`: only every `s`-th tap. So the
//! result is cut into phases, `o = s · q + f`. In each, the taps that meet are an ordinary convolution of stride 1. Neighbouring phases
//! whose taps meet the same elements are one band: one convolution with the channels of all of them, since it reads the same window.
//!
//! ```text
//!   stride 2, kernel 4, pad 1      phase 0:  y[2q]     = w[3]·x[q - 1] + w[1]·x[q]          two bands
//!                                  phase 1:  y[2q + 1] = w[2]·x[q]     + w[0]·x[q + 1]
//!   stride 2, kernel 2, pad 0      phase 0:  y[2q]     = w[0]·x[q]                          one band
//!                                  phase 1:  y[2q + 1] = w[1]·x[q]
//! ```

use nnc_ir::op::Window;

/// Phases that follow each other and read the same elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PhaseBand {
    /// The first phase.
    pub first: usize,
    /// Which tap of the kernel each of its taps is, for each phase; none where no tap meets.
    pub taps: Vec<Vec<usize>>,
    /// Which element the first tap of element 0 meets.
    pub start: isize,
    /// Elements from one tap to the next.
    pub next: usize,
    /// Elements of each phase.
    pub positions: usize,
}

impl PhaseBand {
    /// Each phase by itself.
    pub fn apart(&self) -> impl Iterator<Item = PhaseBand> + '_ {
        let alone = |(i, taps): (usize, &Vec<usize>)| PhaseBand {
            first: self.first + i,
            taps: vec![taps.clone()],
            ..*self
        };
        self.taps.iter().enumerate().map(alone)
    }
}

/// The bands of an axis of which the result has `output` elements.
pub fn bands(window: &Window, axis: usize, output: usize) -> Vec<PhaseBand> {
    let (stride, dilation, kernel) = (window.strides[axis], window.dilations[axis], window.kernel[axis]);
    let phase = |first: usize| {
        let positions = (output - first).div_ceil(stride);
        // Tap t of element q is element q + (target - t · dilation) / stride of the image.
        let target = first as isize + window.pads_begin[axis];
        let from = |tap: usize| target - (tap * dilation) as isize;
        // From the last tap that meets, so that the image is walked through forwards.
        let meets = |&tap: &usize| from(tap).rem_euclid(stride as isize) == 0;
        // Beyond one stride taps come again.
        let mut taps: Vec<usize> = Vec::new();
        if let Some(tap) = (0..kernel.min(stride)).find(meets) {
            let apart =
                (1..=stride).find(|n| (n * (dilation % stride)).is_multiple_of(stride)).unwrap_or(stride);
            taps.extend((tap..kernel).step_by(apart));
        }
        taps.reverse();
        let start = taps.first().map_or(0, |&tap| from(tap) / stride as isize);
        let next = match taps[..] {
            [a, b, ..] => ((a - b) * dilation / stride).max(1),
            _ => 1,
        };
        PhaseBand { first, taps: vec![taps], start, next, positions }
    };
    let mut bands: Vec<PhaseBand> = Vec::new();
    for phase in (0..stride.min(output)).map(phase) {
        let taps = |band: &PhaseBand| band.taps.first().map_or(0, Vec::len);
        let window = |band: &PhaseBand| (band.start, band.next, band.positions, taps(band));
        match bands.last_mut() {
            Some(band) if window(band) == window(&phase) => band.taps.extend(phase.taps),
            _ => bands.push(phase),
        }
    }
    bands
}
