//! What passes fuse into a layer, kernels do: every kind of layer × what comes before it × what comes behind × padding × stride,
//! as passes leave it.

use nnc::code::float::Float;
use nnc::passes::{self, PassOptions};
use nnc::plan::Winograd;
use nnc::target::Target;
use nnc_ir::{Graph, text};

use super::support::{TARGETS, check, graph, nests, planned};

/// A layer over 8 channels of 9×7 pixels.
#[derive(Clone, Copy)]
struct Kind {
    name: &'static str,
    kernel: usize,
    groups: usize,
    results: usize,
    dilation: usize,
}

const fn conv(name: &'static str, kernel: usize, groups: usize, results: usize, dilation: usize) -> Kind {
    Kind { name, kernel, groups, results, dilation }
}

const KINDS: [Kind; 10] = [
    conv("conv", 1, 1, 12, 1),
    conv("conv", 3, 1, 12, 1),
    conv("conv", 3, 1, 20, 2),
    conv("conv", 5, 1, 6, 1),
    conv("conv", 1, 2, 12, 1),
    conv("conv", 3, 2, 12, 1),
    conv("conv", 3, 8, 8, 1),
    conv("max_pool", 3, 1, 8, 1),
    conv("average_pool", 3, 1, 8, 1),
    conv("global_average_pool", 0, 1, 8, 1),
];

/// What comes before a layer, on a path of its own.
const BEFORE: [&[&str]; 8] = [
    &[],
    &["relu"],
    &["clip {min=-0.5, max=0.75}"],
    &["clip {min=0.25, max=1}"],
    &["leaky_relu {alpha=0.1}"],
    &["hard_swish"],
    &["batch"],
    &["batch", "relu"],
];

const BEHIND: [&[&str]; 11] = [
    &[],
    &["relu"],
    &["clip {min=0, max=6}"],
    &["hard_swish"],
    &["sigmoid"],
    &["add"],
    &["add", "relu"],
    &["silu", "add"],
    &["tanh"],
    &["add", "gelu"],
    &["mish", "add"],
];

/// The graph of one case: the input of the layer is read without what comes before it, too, so that this is not fused into the
/// layer before.
fn case(kind: Kind, before: &[&str], behind: &[&str], padding: usize, stride: usize) -> String {
    let Kind { name, kernel, groups, results, dilation } = kind;
    let mut lines = vec![
        "%x = input : f32[1x8x9x7]".to_string(),
        "%w0 = const f32[8x8x1x1] hash(seed=1, scale=1)".into(),
        "%v0 = conv %x, %w0 : f32[1x8x9x7]".into(),
    ];
    for (name, data) in [
        ("gamma", "{1, -1, 0.5, 2, 1, -0.25, 3, 1}"),
        ("beta", "{0.5, -0.5, 0, 1, 0.25, 0, -1, 2}"),
        ("mean", "{0, 0.5, -0.5, 0.25, 0, 1, 0.5, 0}"),
        ("var", "{1, 2, 0.5, 1, 4, 1, 0.25, 1}"),
    ] {
        lines.push(format!("%{name} = const f32[8] {data}"));
    }
    let mut last = "v0".to_string();
    let mut then = |lines: &mut Vec<String>, what: &str, rest: &str, ty: &str| {
        let next = format!("v{}", lines.len());
        let (op, attributes) = what.split_once(' ').unwrap_or((what, ""));
        lines.push(format!("%{next} = {op} %{last}{rest} {attributes} : {ty}"));
        last.clone_from(&next);
    };
    for what in before {
        match *what {
            "batch" => then(
                &mut lines,
                "batch_normalization {epsilon=0.001}",
                ", %gamma, %beta, %mean, %var",
                "f32[1x8x9x7]",
            ),
            what => then(&mut lines, what, "", "f32[1x8x9x7]"),
        }
    }
    let extent = |n: usize| (n + 2 * padding - dilation * kernel.saturating_sub(1) - 1) / stride + 1;
    let ty = match kernel {
        0 => format!("f32[1x{results}x1x1]"),
        _ => format!("f32[1x{results}x{}x{}]", extent(9), extent(7)),
    };
    let window = format!(
        "kernel={kernel}x{kernel}, strides={stride}x{stride}, pads={padding}x{padding}:{padding}x{padding}"
    );
    match name {
        "conv" => {
            let window = window.split_once(", ").unwrap().1;
            let weights = format!("f32[{results}x{}x{kernel}x{kernel}]", 8 / groups);
            lines.push(format!("%w1 = const {weights} hash(seed=2, scale=1)"));
            let attributes = format!("{{{window}, dilations={dilation}x{dilation}, groups={groups}}}");
            then(&mut lines, &format!("conv {attributes}"), ", %w1", &ty);
        }
        "global_average_pool" => then(&mut lines, name, "", &ty),
        _ => then(&mut lines, &format!("{name} {{{window}}}"), "", &ty),
    }
    lines.push(format!("%r = input : {ty}"));
    for what in behind {
        match *what {
            "add" => then(&mut lines, "add", ", %r", &ty),
            what => then(&mut lines, what, "", &ty),
        }
    }
    lines.push(format!("output y = %{last}"));
    lines.push("output x = %v0".into());
    lines.join("\n") + "\n"
}

fn optimised(given: &Graph) -> Graph {
    let mut after = given.clone();
    passes::optimise(&mut after, &PassOptions::default()).unwrap_or_else(|e| panic!("{e}"));
    after
}

/// The same graph with other elements.
fn with_elements(given: &str, float: Float) -> Graph {
    graph(&given.replace("f32[", &format!("{}[", float.word())))
}

fn each_case(mut body: impl FnMut(&Graph, &Graph)) {
    for kind in KINDS {
        for before in BEFORE {
            for behind in BEHIND {
                for (padding, stride) in [(0, 1), (1, 1), (1, 2)] {
                    // A pool over the whole picture has neither.
                    if kind.kernel == 0 && (padding, stride) != (0, 1) || padding > kind.kernel {
                        continue;
                    }
                    // Half floats fuse as f32 does; of each kind of layer, what is beside it takes its turn.
                    for float in Float::ALL {
                        if float.is_half() && (padding, stride) != (1, 1) {
                            continue;
                        }
                        let given = with_elements(&case(kind, before, behind, padding, stride), float);
                        body(&given, &optimised(&given));
                    }
                }
            }
        }
    }
}

#[test]
fn no_fusion_takes_a_layer_away_from_its_kernels() {
    let mut cases = 0;
    each_case(|_, after| {
        for name in ["x86-64-v4", "aarch64"] {
            let plan = planned(after, &Target::named(name).expect("a target"), Winograd::WhereFaster);
            assert_eq!(nests(&plan), [""; 0], "{name}\n{}", text::print(after));
        }
        cases += 1;
    });
    assert!(cases > 1000, "{cases} cases");
}

#[test]
fn what_is_fused_is_computed_by_every_kernel() {
    // Each kind of layer with each of what comes before and behind it; the combinations of these are the tiles' own tests.
    for (index, kind) in KINDS.into_iter().enumerate() {
        for at in 0..BEFORE.len() {
            let (padding, stride) = [(1, 1), (1, 2), (0, 1)][(index + at) % 3];
            let (padding, stride) = if kind.kernel == 0 { (0, 1) } else { (padding, stride) };
            let behind = BEHIND[(index + 3 * at) % BEHIND.len()];
            for (turn, float) in Float::ALL.into_iter().enumerate() {
                let given = with_elements(&case(kind, BEFORE[at], behind, padding, stride), float);
                check(&given, &optimised(&given), &[TARGETS[(index + at + turn) % TARGETS.len()]]);
            }
        }
    }
}
