//! The ways from one graph to machine code, all of which must give the same results.

use nnc::code::tile::programs::winograd::{Form, Sweeps};
use nnc::plan::winograd::StoredKernels;
use nnc::plan::{PanelWidth, PlanOptions, StripRule, Winograd};
use nnc::target::Target;

/// A target, and what the planner may do for it.
#[derive(Clone, Debug)]
pub struct Lowering {
    /// What is compiled for.
    pub target: Target,
    /// What the planner may do.
    pub options: PlanOptions,
}

/// All targets that run here: machine code of each kind, Cranelift's, and the machine at hand with caches so small that plans
/// come out differently.
pub fn targets() -> Vec<Target> {
    let named = ["native", "native-clif", "x86-64-v4", "x86-64-v3", "x86-64-v2"];
    let mut targets: Vec<Target> =
        named.iter().filter_map(|name| Target::named(name).ok()).filter(Target::runs_here).collect();
    if let Some(mut small) = targets.first().cloned() {
        small.name = "native with small caches".into();
        (small.l1d, small.l2, small.l3) = (4 << 10, 16 << 10, 64 << 10);
        targets.push(small);
    }
    targets
}

/// Turns after which [`lowerings`] are the same again.
pub const TURNS: usize = 6;

/// For one target: as the planner likes, with everything forced in turn, and with everything forbidden.
pub fn lowerings(target: &Target, turn: usize) -> Vec<Lowering> {
    let free = PlanOptions::default();
    let form = [Form::F4, Form::F2][turn % 2];
    let kernels =
        [StoredKernels::Transformed, StoredKernels::Plain(Sweeps::Pairs), StoredKernels::Plain(Sweeps::Rows)]
            [turn % 3];
    let options = [
        free,
        PlanOptions { winograd: Winograd::Always(form, kernels), ..free },
        PlanOptions { strips: StripRule::Always(2 + turn % 3), ..free },
        PlanOptions {
            winograd: Winograd::Never,
            strips: StripRule::Never,
            panels: PanelWidth::Common,
            ..PlanOptions::default()
        },
    ];
    options.into_iter().map(|options| Lowering { target: target.clone(), options }).collect()
}
