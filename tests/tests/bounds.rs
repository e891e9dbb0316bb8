//! The proof that no step touches memory that is not its own ([`nnc::emit::prove`]): every plan has it, and a plan in
//! which anything is off by a little has not.
//!
//! What may be touched is cut down to what the walk over a step's addresses finds ([`nnc_tests::addresses`]), which knows neither
//! the emitter nor the proof: with that the proof must still hold, and with a byte less it must not.

use std::collections::BTreeMap;
use std::ops::Range;

use nnc::code::tile::programs::epilogue::KernelResidual;
use nnc::code::tile::programs::winograd::{Form, Sweeps};
use nnc::emit::prove;
use nnc::plan::dense::{DenseArg, DensePlan};
use nnc::plan::lanes::{LanesArg, LanesPlan};
use nnc::plan::winograd::{StoredKernels, WinogradArg, WinogradPlan};
use nnc::plan::{LayerCode, Plan, PlanOptions, PlanStep, StripRule, Winograd};
use nnc::target::Target;
use nnc_models::Spec;
use nnc_runtime::Constants;
use nnc_runtime::abi::Region;
use nnc_tests::addresses::{Intervals, walk};
use nnc_tests::pipeline;

fn target(name: &str) -> Target {
    Target::named(name).unwrap_or_else(|error| panic!("{error}"))
}

fn planned(spec: &Spec, target: &Target, options: &PlanOptions) -> Plan {
    let graph = pipeline::read(spec).and_then(|graph| pipeline::optimise(&graph));
    let graph = graph.unwrap_or_else(|error| panic!("{}: {error}", spec.name));
    pipeline::plan_with(&graph, target, options).unwrap_or_else(|error| panic!("{}: {error}", spec.name))
}

/// Ways to plan the same network.
fn ways() -> [PlanOptions; 4] {
    let way = |winograd, strips| PlanOptions { winograd, strips, ..PlanOptions::default() };
    [
        PlanOptions::default(),
        way(Winograd::Never, StripRule::Always(3)),
        way(Winograd::Always(Form::F2, StoredKernels::Transformed), StripRule::Never),
        way(Winograd::Always(Form::F4, StoredKernels::Plain(Sweeps::Pairs)), StripRule::Always(7)),
    ]
}

#[test]
fn no_step_of_any_network_leaves_its_buffers() {
    let mut specs: Vec<Spec> = nnc_models::list().iter().map(|network| Spec::new(network.name)).collect();
    specs.extend([2, 3, 8].map(|groups| Spec::new("shufflenet-v1").groups(groups).width(0.5)));
    specs.push(Spec::new("mobilenet-v2").width(0.5).resolution(160));
    for (spec, name) in specs.iter().zip(["x86-64-v4", "x86-64-v3", "aarch64"].into_iter().cycle()) {
        for options in ways() {
            let target = target(name);
            let plan = planned(spec, &target, &options);
            if let Err(error) = prove(&plan, &target) {
                panic!("{} for {name} with {options:?}: {error}", spec.name);
            }
        }
    }
}

/// Plans with every kind of layer: small networks, as each of their steps is proved many times.
fn samples() -> Vec<(Plan, Target)> {
    let [usual, _, _, winograd] = ways();
    let sample = |spec: Spec, name: &str, options: &PlanOptions| {
        let target = target(name);
        (planned(&spec, &target, options), target)
    };
    vec![
        sample(Spec::new("mobilenet-v2").width(0.5).resolution(64), "x86-64-v3", &usual),
        sample(Spec::new("shufflenet-v1").groups(3).width(0.5).resolution(64), "x86-64-v4", &usual),
        sample(Spec::new("shufflenet-v2").width(0.5).resolution(64), "aarch64", &usual),
        sample(Spec::new("squeezenet-1.1").resolution(64), "x86-64-v3", &winograd),
        sample(Spec::new("densenet-121").resolution(64), "x86-64-v4", &usual),
        sample(Spec::new("nasnet-a-mobile").resolution(64), "x86-64-v3", &usual),
    ]
}

/// One step of a plan by itself, as a plan, which may touch what the walk over its addresses finds, and nothing else.
fn alone(plan: &Plan, step: &PlanStep) -> Plan {
    let walk = walk(plan, step).unwrap_or_else(|error| panic!("{error}"));
    let hull = |sets: &[&BTreeMap<Region, Intervals>], region: Region| {
        let touched = sets.iter().filter_map(|all| Some(all.get(&region)?.bounds()));
        let all = touched.reduce(|a, b| a.start.min(b.start)..a.end.max(b.end))?;
        Some(all.start as u64..all.end as u64)
    };
    let mut step = step.clone();
    let output = match &step.code {
        LayerCode::Dense(_) => Some(DenseArg::Output as usize),
        LayerCode::Lanes(_) => Some(LanesArg::Output as usize),
        LayerCode::Winograd(_) => Some(WinogradArg::Output as usize),
        // Some are computed in place.
        LayerCode::Nest(nest) => {
            Some(nest.result.arg).filter(|arg| nest.operands.iter().all(|o| o.arg != *arg))
        }
        LayerCode::Routine(_) => None,
    };
    for (index, (window, arg)) in step.memory.args.iter_mut().zip(&step.args).enumerate() {
        let touched = match output {
            None => hull(&[&walk.read, &walk.written], arg.region),
            Some(output) if output == index => hull(&[&walk.written], arg.region),
            Some(_) => hull(&[&walk.read], arg.region),
        };
        if let (Region::Arena | Region::Output(_), Some(touched)) = (arg.region, touched) {
            *window = touched;
        }
    }
    step.memory.displaced = hull(&[&walk.read], Region::Arena).into_iter().collect();
    Plan { steps: vec![step], strips: Vec::new(), repeats: Vec::new(), ..plan.clone() }
}

/// The sample steps, one of each code, none of them with images in strips.
fn each_step(mut check: impl FnMut(&Plan, &Target)) {
    for (plan, target) in samples() {
        let mut known: Vec<&LayerCode> = Vec::new();
        let in_strips = |step: &PlanStep| step.args.iter().any(|arg| matches!(arg.region, Region::Strip(_)));
        for step in plan.steps.iter().filter(|step| !in_strips(step)) {
            if !known.contains(&&step.code) {
                known.push(&step.code);
                check(&alone(&plan, step), &target);
            }
        }
    }
}

fn refused(plan: &Plan, target: &Target, what: &str) -> String {
    let step = &plan.steps[0];
    match prove(plan, target) {
        Ok(()) => {
            panic!("{what} of {} \"{}\" is not noticed: {:#?}", step.code.kind(), step.name, step.memory)
        }
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_buffer_that_is_one_byte_short_is_noticed() {
    let mut kinds = BTreeMap::new();
    each_step(|plan, target| {
        let step = &plan.steps[0];
        if let Err(error) = prove(plan, target) {
            panic!("{}", error);
        }
        let regions =
            step.args.iter().map(|arg| arg.region).filter(|r| matches!(r, Region::Arena | Region::Output(_)));
        let touched = walk(plan, step).unwrap_or_else(|error| panic!("{error}"));
        for region in regions {
            if !touched.read.contains_key(&region) && !touched.written.contains_key(&region) {
                continue;
            }
            let cut = |change: fn(&mut Range<u64>)| {
                let mut plan = plan.clone();
                let step = &mut plan.steps[0];
                let windows = step.memory.args.iter_mut().zip(&step.args);
                windows.filter(|(_, arg)| arg.region == region).for_each(|(window, _)| change(window));
                step.memory.displaced.iter_mut().for_each(change);
                plan
            };
            let error =
                refused(&cut(|window| window.end = window.end.saturating_sub(1)), target, "a last byte");
            assert!(error.contains("this is a defect of nnc"), "{error}");
            refused(&cut(|window| window.start += 1), target, "a first byte");
            *kinds.entry(step.code.kind()).or_insert(0) += 1;
        }
    });
    println!("{kinds:?}");
    assert_eq!(kinds.len(), 7, "every kind of layer but routines: {kinds:?}");
}

/// A change of a decision that makes its loops touch more, or elsewhere.
type Change = (&'static str, fn(&mut LayerCode) -> bool);

fn dense(code: &mut LayerCode, change: impl FnOnce(&mut DensePlan) -> bool) -> bool {
    if let LayerCode::Dense(plan) = code { change(plan) } else { false }
}

fn lanes(code: &mut LayerCode, change: impl FnOnce(&mut LanesPlan) -> bool) -> bool {
    if let LayerCode::Lanes(plan) = code { change(plan) } else { false }
}

fn winograd(code: &mut LayerCode, change: impl FnOnce(&mut WinogradPlan) -> bool) -> bool {
    if let LayerCode::Winograd(plan) = code { change(plan) } else { false }
}

/// Says that a number was changed.
fn add(to: &mut i64, n: i64) -> bool {
    *to += n;
    true
}

fn one_more(count: &mut usize) -> bool {
    *count += 1;
    true
}

const CHANGES: [Change; 19] = [
    ("one panel more", |code| {
        dense(code, |p| {
            p.panels.last_mut().is_some_and(|panels| panels.weights.step > 0 && one_more(&mut panels.count))
        })
    }),
    ("one tile more", |code| {
        dense(code, |p| p.tiles.last_mut().is_some_and(|tiles| one_more(&mut tiles.count)))
    }),
    ("one row more", |code| dense(code, |p| one_more(&mut p.y.output))),
    ("a pitch of pixels", |code| dense(code, |p| p.x.output > 1 && add(&mut p.output.pixel, 4))),
    ("a pitch of rows", |code| dense(code, |p| p.y.output > 1 && add(&mut p.output.row, 4))),
    ("displaced weights", |code| {
        dense(code, |p| p.panels.last_mut().is_some_and(|panels| add(&mut panels.weights.start, 4)))
    }),
    ("displaced outputs", |code| {
        dense(code, |p| p.panels.last_mut().is_some_and(|panels| add(&mut panels.output.start, 4)))
    }),
    ("one row of the input more", |code| {
        dense(code, |p| p.y.pad > 0 && p.y.stride == 1 && one_more(&mut p.y.input))
    }),
    ("one vector more", |code| {
        lanes(code, |p| {
            p.vectors.last_mut().is_some_and(|v| v.input.step + v.output.step != 0 && one_more(&mut v.count))
        })
    }),
    ("one block more", |code| {
        lanes(code, |p| p.blocks.last_mut().is_some_and(|blocks| one_more(&mut blocks.count)))
    }),
    ("one tile more", |code| {
        lanes(code, |p| p.tiles.last_mut().is_some_and(|tiles| one_more(&mut tiles.count)))
    }),
    ("a pitch of pixels", |code| lanes(code, |p| p.x.output > 1 && add(&mut p.output.pixel, 4))),
    ("a pitch of rows", |code| {
        lanes(code, |p| {
            p.y.input > 1
                && p.inputs.len() == 1
                && p.epilogue.residual == KernelResidual::None
                && p.inputs.iter_mut().all(|pitch| add(&mut pitch.row, 4))
        })
    }),
    ("displaced inputs", |code| {
        lanes(code, |p| {
            p.inputs.len() == 1
                && p.epilogue.residual == KernelResidual::None
                && p.vectors.iter_mut().all(|v| add(&mut v.input.start, -4))
        })
    }),
    ("displaced weights", |code| {
        winograd(code, |p| p.panels.last_mut().is_some_and(|panels| add(&mut panels.weights.start, 4)))
    }),
    ("one panel more", |code| {
        winograd(code, |p| {
            p.panels.last_mut().is_some_and(|panels| panels.weights.step > 0 && one_more(&mut panels.count))
        })
    }),
    ("one row of tiles more", |code| {
        winograd(code, |p| p.rows.last_mut().is_some_and(|span| one_more(&mut span.count)))
    }),
    ("a pitch in scratch", |code| winograd(code, |p| add(&mut p.product.element, 64))),
    ("a stride", |code| match code {
        LayerCode::Nest(nest) => {
            let far = nest
                .loops
                .iter()
                .zip(&mut nest.result.strides)
                .find(|(extent, stride)| **extent > 1 && **stride > 0);
            let apart = nest.operands.iter().all(|operand| operand.arg != nest.result.arg);
            apart && far.is_some_and(|(_, stride)| add(stride, nest.result.dtype.bytes() as i64))
        }
        _ => false,
    }),
];

#[test]
fn a_decision_that_is_off_by_one_is_noticed() {
    let mut changed = [0; CHANGES.len()];
    each_step(|plan, target| {
        for ((what, change), count) in CHANGES.iter().zip(&mut changed) {
            let mut plan = plan.clone();
            let step = &mut plan.steps[0];
            if change(&mut step.code) {
                step.units = step.code.units();
                refused(&plan, target, what);
                *count += 1;
            }
        }
    });
    for ((what, _), count) in CHANGES.iter().zip(changed) {
        assert!(count > 0, "{what}: no layer to try it on");
    }
}

#[test]
fn base_pointers_that_lead_elsewhere_are_noticed() {
    let mut packed = 0;
    each_step(|plan, target| {
        let step = &plan.steps[0];
        let changed = |change: &dyn Fn(&mut PlanStep)| {
            let mut plan = plan.clone();
            change(&mut plan.steps[0]);
            plan
        };
        assert!(refused(&changed(&|step| step.units += 1), target, "one unit more").contains("units"));
        assert!(
            refused(&changed(&|step| step.args.truncate(1)), target, "no base pointers")
                .contains("base pointer")
        );
        if let LayerCode::Dense(_) = step.code {
            packed += 1;
            let weights = DenseArg::Weights as usize;
            refused(&changed(&|step| step.args[weights].offset += 4), target, "displaced weights");
            refused(
                &changed(&|step| step.memory.args[weights].end -= 4),
                target,
                "a shorter block of weights",
            );
            let output = DenseArg::Output as usize;
            refused(&changed(&|step| step.args[output].offset += 4), target, "a displaced output");
            let read_only = changed(&|step| step.args[output] = step.args[weights]);
            refused(&read_only, target, "an output among the constants");
        }
    });
    assert!(packed > 20, "{packed}");
}

#[test]
fn memory_that_is_too_small_for_its_buffers_is_noticed() {
    for (plan, target) in samples() {
        let less = |change: fn(&mut Plan)| {
            let mut plan = plan.clone();
            change(&mut plan);
            prove(&plan, &target).err().map(|error| error.to_string())
        };
        assert!(less(|plan| plan.arena_bytes -= 64).is_some(), "the arena");
        assert!(less(|plan| plan.inputs[0].shape[1] -= 1).is_some(), "an input");
        assert!(less(|plan| plan.outputs[0].shape[1] -= 1).is_some(), "an output");
        let constants = less(|plan| {
            let all = plan.constants.len();
            plan.constants = Constants::copy_of(&plan.constants.bytes()[..all - 64]).expect("memory");
        });
        assert!(constants.is_some(), "the constants");
        if plan.scratch_bytes > 0 {
            assert!(less(|plan| plan.scratch_bytes -= 64).is_some(), "scratch");
        }
    }
}

#[test]
fn strips_that_keep_too_little_of_an_image_are_noticed() {
    let target = target("x86-64-v3");
    let [_, strips, ..] = ways();
    let plan = planned(&Spec::new("mobilenet-v2").width(0.5).resolution(64), &target, &strips);
    prove(&plan, &target).unwrap_or_else(|error| panic!("{error}"));
    let groups = plan.strips.len();
    assert!(groups > 0, "some steps run strip by strip");
    let changed = |group: usize, change: fn(&mut nnc_runtime::abi::Strips)| {
        let mut plan = plan.clone();
        change(&mut plan.strips[group]);
        prove(&plan, &target).is_err()
    };
    let mut cut = 0;
    for group in 0..groups {
        assert!(
            changed(group, |g| g.buffers[0] = g.buffers[0].wrapping_sub(64)),
            "a buffer that begins earlier"
        );
        assert!(changed(group, |g| g.buffers[0] += 64), "a buffer that begins later");
        assert!(changed(group, |g| g.strips[1].origins[0] += 64), "a row less of an image");
        let last = plan.strips[group].strips.len() - 1;
        if plan.strips[group].strips[last].units[0].start > 0 {
            cut += 1;
            let all = |g: &mut nnc_runtime::abi::Strips| {
                let units = &mut g.strips.last_mut().expect("strips").units[0];
                *units = 0..units.end;
            };
            assert!(changed(group, all), "rows that are no part of the strip");
        }
    }
    assert!(cut > 0, "some strip does not begin with the first row");
}

#[test]
fn tables_that_lead_elsewhere_are_noticed() {
    let mut tables = 0;
    each_step(|plan, target| {
        let LayerCode::Dense(code) = &plan.steps[0].code else { return };
        let is_table = |k: &nnc::code::tile::programs::dense::Runs| {
            matches!(k, nnc::code::tile::programs::dense::Runs::Table(_))
        };
        if !code.panels.iter().any(|panels| is_table(&panels.k)) {
            return;
        }
        tables += 1;
        let at = plan.steps[0].args[DenseArg::Table as usize].offset as usize;
        for entry in [-4i32, i32::MAX, plan.arena_bytes as i32] {
            let mut bytes = plan.constants.bytes().into_owned();
            bytes[at..at + 4].copy_from_slice(&entry.to_le_bytes());
            let plan = Plan { constants: Constants::copy_of(&bytes).expect("memory"), ..plan.clone() };
            assert!(refused(&plan, target, "an entry").contains("table"));
        }
    });
    assert!(tables > 0, "some layer reads channels by way of a table");
}
