//! Windows of convolutions and pools: what exporters write, and what they hardly ever do.

use nnc_ir::op::Window;

use crate::fuzz::choices::Choices;

/// A window over axes of these extents, which fits at least once.
pub fn window(c: &mut Choices<'_>, extents: &[usize]) -> Window {
    let alike = !c.one_in(4);
    let mut window =
        Window { kernel: vec![], strides: vec![], dilations: vec![], pads_begin: vec![], pads_end: vec![] };
    let mut chosen = None;
    for &extent in extents {
        let [kernel, stride, dilation, pads] = match chosen {
            Some(chosen) if alike => chosen,
            _ => *chosen.insert([
                c.of(&[1, 3, 2, 3, 5, 3, 7, 4]),
                c.of(&[1, 1, 2, 1, 3]),
                c.of(&[1, 1, 1, 2, 1, 3]),
                c.pick(6),
            ]),
        };
        let reach = dilation * (kernel - 1) + 1;
        let (begin, end) = match pads {
            0 | 1 => (reach / 2, reach / 2),
            2 => (0, 0),
            3 => same(extent, reach, stride, false),
            4 => same(extent, reach, stride, true),
            _ => (c.pick(reach.min(4)), c.pick(reach.min(4))),
        };
        let fits = extent + begin + end >= reach;
        let [kernel, dilation, begin, end] = if fits { [kernel, dilation, begin, end] } else { [1, 1, 0, 0] };
        window.kernel.push(kernel);
        window.strides.push(stride);
        window.dilations.push(dilation);
        window.pads_begin.push(begin as isize);
        window.pads_end.push(end as isize);
    }
    window
}

/// A filter of signals, along the last of some axes: more columns than any picture's, which reach beyond the line.
pub fn wide(c: &mut Choices<'_>, axes: usize) -> Window {
    let (kernel, dilation) = (40 + c.pick(60), c.of(&[1, 1, 1, 2]));
    let reach = (dilation * (kernel - 1) + 1) as isize;
    let [begin, end] = c.of(&[[reach / 2, reach / 2], [reach - 1, 0], [reach / 2, reach / 2 + 3]]);
    let other = axes - 1;
    Window {
        kernel: [vec![1; other], vec![kernel]].concat(),
        strides: [vec![1; other], vec![c.of(&[1, 2, 5])]].concat(),
        dilations: [vec![1; other], vec![dilation]].concat(),
        pads_begin: [vec![0; other], vec![begin]].concat(),
        pads_end: [vec![0; other], vec![end]].concat(),
    }
}

/// A window of a pool: each position has an element of the image. With what `ceil_mode` adds to the pads.
pub fn pool_window(c: &mut Choices<'_>, extents: &[usize]) -> (Window, Vec<usize>) {
    let mut window = window(c, extents);
    let ceil = c.one_in(3);
    let mut ceil_pads = Vec::new();
    for (axis, &extent) in extents.iter().enumerate() {
        let (kernel, stride) = (window.kernel[axis], window.strides[axis]);
        if window.dilations[axis] > 1 && (window.pads_begin[axis], window.pads_end[axis]) != (0, 0) {
            // Taps of a dilated window may step over a small image.
            window.dilations[axis] = 1;
            window.pads_begin[axis] = window.pads_begin[axis].min(kernel as isize - 1);
            window.pads_end[axis] = window.pads_end[axis].min(kernel as isize - 1);
        }
        let begin = window.pads_begin[axis] as usize;
        let padded = extent + begin + window.pads_end[axis] as usize;
        let reach = window.dilations[axis] * (kernel - 1) + 1;
        if padded < reach {
            (window.kernel[axis], window.pads_begin[axis], window.pads_end[axis]) = (1, 0, 0);
            ceil_pads.push(0);
            continue;
        }
        let more = (stride - (padded - reach) % stride) % stride;
        let last = padded + more - reach;
        let more = if ceil && window.dilations[axis] == 1 && last < extent + begin { more } else { 0 };
        window.pads_end[axis] += more as isize;
        ceil_pads.push(more);
    }
    (window, ceil_pads)
}

/// The pads of `auto_pad`: as many positions as there are strides in the axis; what is left over comes at the end, or at the start.
fn same(extent: usize, reach: usize, stride: usize, lower: bool) -> (usize, usize) {
    let total = ((extent.div_ceil(stride) - 1) * stride + reach).saturating_sub(extent);
    let small = total / 2;
    if lower { (total - small, small) } else { (small, total - small) }
}
