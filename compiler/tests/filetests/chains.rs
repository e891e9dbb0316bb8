//! Chains of pads, crops, slices and concats of either sign, with a layer behind: passes take in what they can, and nothing else.

use nnc::passes::{self, PassOptions};
use nnc_ir::text;

use super::filetest::compare;

/// Chains that are tried.
const CHAINS: u32 = 600;

/// A few numbers that look random, the same each time.
struct Numbers(u32);

impl Numbers {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 16) as usize % n
    }
}

/// No pass has to be refused an edit, and results stay.
pub fn stay_what_they_are() -> Result<(), String> {
    for seed in 0..CHAINS {
        let given = chain(&mut Numbers(seed.wrapping_mul(2_654_435_769)));
        let fault = |what: String| format!("chain {seed}: {what}\n{given}");
        let before = text::parse(&given).map_err(|e| fault(e.to_string()))?;
        let mut after = before.clone();
        let report =
            passes::optimise(&mut after, &PassOptions::default()).map_err(|e| fault(e.to_string()))?;
        if let Some(refusal) = report.passes.iter().flat_map(|pass| &pass.refused).next() {
            return Err(fault(refusal.to_string()));
        }
        compare(&before, &after, 1e-5).map_err(fault)?;
    }
    Ok(())
}

fn chain(n: &mut Numbers) -> String {
    let (mut shape, mut last) = ([1, 2, 4, 5], "x".to_string());
    let mut lines = vec!["%x = input : f32[1x2x4x5]".to_string()];
    let ty = |shape: &[usize; 4]| {
        let dims: Vec<String> = shape.iter().map(ToString::to_string).collect();
        format!("f32[{}]", dims.join("x"))
    };
    for step in 0..2 + n.below(3) {
        // Any axis now and then: only those of a picture go into windows.
        let axis = if n.below(6) == 0 { n.below(4) } else { 2 + n.below(2) };
        let extent = shape[axis];
        let next = format!("v{step}");
        match n.below(4) {
            0 | 1 => {
                let (mut begin, mut end) = (n.below(9) as isize - 4, n.below(9) as isize - 4);
                if extent as isize + begin.min(0) + end.min(0) < 0 || extent as isize + begin + end < 1 {
                    (begin, end) = (begin.abs(), end.abs());
                }
                shape[axis] = (extent as isize + begin + end) as usize;
                let at = |amount: isize| {
                    let amounts: Vec<String> =
                        (0..4).map(|a| if a == axis { amount } else { 0 }.to_string()).collect();
                    amounts.join("x")
                };
                let mode = ["", "", ", mode=constant(-0.5)"][n.below(3)];
                let pads = format!("pads={}:{}", at(begin), at(end));
                lines.push(format!("%{next} = pad %{last} {{{pads}{mode}}} : {}", ty(&shape)));
            }
            2 => {
                let start = n.below(extent);
                shape[axis] = 1 + n.below(extent - start);
                let axes = format!("axes=[{axis}:{start}..{}]", start + shape[axis]);
                lines.push(format!("%{next} = slice %{last} {{{axes}}} : {}", ty(&shape)));
            }
            _ => {
                let mut part = shape;
                part[axis] = 1 + n.below(2);
                let elems: usize = part.iter().product();
                lines.push(format!("%c{step} = const {} {{{}}}", ty(&part), vec!["0"; elems].join(", ")));
                shape[axis] += part[axis];
                let terms = [format!("%c{step}, %{last}"), format!("%{last}, %c{step}")];
                let terms = &terms[n.below(2)];
                lines.push(format!("%{next} = concat {terms} {{axis={axis}}} : {}", ty(&shape)));
            }
        }
        if n.below(8) == 0 {
            lines.push(format!("output o{step} = %{next}"));
        }
        last = next;
    }
    let layer = match n.below(5) {
        0 => {
            let weights = format!("f32[2x{}x2x3]", shape[1]);
            lines.push(format!("%w = const {weights} hash(seed=2, scale=1)"));
            shape[1] = 2;
            // What comes out is as large: a window of 2 by 3 with one more element in front and two around.
            format!("conv %{last}, %w {{pads=1x1:0x1}} : {}", ty(&shape))
        }
        1 => format!("max_pool %{last} {{kernel=2x3, pads=1x1:0x1}} : {}", ty(&shape)),
        2 => {
            format!(
                "average_pool %{last} {{kernel=2x3, pads=1x1:0x1, count_include_pad=true}} : {}",
                ty(&shape)
            )
        }
        3 => format!("average_pool %{last} {{kernel=1x1}} : {}", ty(&shape)),
        _ => format!("relu %{last} : {}", ty(&shape)),
    };
    lines.push(format!("%y = {layer}"));
    lines.push("output y = %y".into());
    // Outputs come last in the text of a graph.
    lines.sort_by_key(|line| line.starts_with("output"));
    lines.join("\n") + "\n"
}
