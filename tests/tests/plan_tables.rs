//! What plans promise about memory and moved bytes, for every seed network at its full size. No code is made.
//!
//! Moved bytes are counted by [`nnc_tests::addresses`], which follows the address streams of each step and knows nothing of
//! how the planner counts.
//!
//! `cargo test -p nnc-tests --test plan_tables -- --nocapture` prints the tables.

use std::fmt::Write;
use std::sync::OnceLock;

use nnc::plan::{Plan, PlanOptions, PlanStep, Traffic, Winograd};
use nnc::target::Target;
use nnc_ir::{Graph, Op};
use nnc_models::Spec;
use nnc_tests::addresses::Audit;
use nnc_tests::pipeline;

/// A network, planned.
struct Network {
    name: String,
    /// Bytes of the operands and results of all layers that compute, each counted once a layer.
    logical_bytes: u64,
    plan: Plan,
    /// What the addresses of its steps tell.
    audit: Audit,
}

impl Network {
    /// The steps, each with the bytes that it moves.
    fn steps(&self) -> impl Iterator<Item = (&PlanStep, Traffic)> {
        self.plan.steps.iter().zip(self.audit.moved.iter().copied())
    }

    /// Steps that only move data: the planner gives each of them its reason.
    fn copies(&self) -> impl Iterator<Item = (&PlanStep, Traffic)> {
        self.steps().filter(|(step, _)| step.note.is_some() || moves_data(&step.op))
    }
}

/// The networks, planned once for all tests, and for one target, so that the tables are the same on every machine.
fn networks() -> &'static [Network] {
    static NETWORKS: OnceLock<Vec<Network>> = OnceLock::new();
    NETWORKS.get_or_init(|| specs().iter().map(planned).collect())
}

fn specs() -> Vec<Spec> {
    let widths = [0.5, 1.0, 1.5, 2.0];
    let mut specs = vec![];
    for name in ["mobilenet-v1", "mobilenet-v2"] {
        specs.push(Spec::new(name));
        specs.push(Spec::new(name).width(0.5).resolution(160));
    }
    for name in ["squeezenet-1.0", "squeezenet-1.1", "nasnet-a-mobile"] {
        specs.push(Spec::new(name));
    }
    for groups in [1, 2, 3, 4, 8] {
        specs.extend(widths.map(|width| Spec::new("shufflenet-v1").groups(groups).width(width)));
    }
    specs.extend(widths.map(|width| Spec::new("shufflenet-v2").width(width)));
    for name in ["alexnet", "resnet-18", "resnet-50", "densenet-121", "xception"] {
        specs.push(Spec::new(name));
    }
    specs
}

fn planned(spec: &Spec) -> Network {
    let mut name = spec.name.clone();
    if let Some(groups) = spec.groups {
        let _ = write!(name, " g={groups}");
    }
    if let Some(width) = spec.width {
        let _ = write!(name, " ×{width}");
    }
    let target = Target::named("x86-64-v3").unwrap_or_else(|error| panic!("{error}"));
    let graph = pipeline::read(spec)
        .and_then(|graph| pipeline::optimise(&graph))
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    // Winograd's algorithm reads up to four times the weights of a layer. That is its price, and says nothing about copies.
    let options = PlanOptions { winograd: Winograd::Never, ..PlanOptions::default() };
    let plan =
        pipeline::plan_with(&graph, &target, &options).unwrap_or_else(|error| panic!("{name}: {error}"));
    let audit = Audit::of(&plan).unwrap_or_else(|error| panic!("{name}: {error}"));
    Network { name, logical_bytes: logical_bytes(&graph), plan, audit }
}

fn logical_bytes(graph: &Graph) -> u64 {
    let layers = graph.node_ids().filter(|id| {
        let op = &graph.node(*id).op;
        !matches!(op, Op::Input | Op::Constant(_)) && !moves_data(op.name())
    });
    layers.map(|id| graph.cost(id)).map(|cost| cost.bytes_read + cost.bytes_written).sum()
}

/// Whether an operator computes nothing.
fn moves_data(op: &str) -> bool {
    matches!(
        op,
        "Concat" | "ChannelSelect" | "Split" | "Slice" | "Transpose" | "Reshape" | "Pad" | "Gather" | "Copy"
    )
}

fn sum(traffic: Traffic) -> u64 {
    traffic.read + traffic.written
}

/// Prints a table, then fails if a row does.
fn check(title: &str, rows: impl Iterator<Item = (String, bool)>) {
    let mut failed = vec![];
    println!("\n{title}");
    for (row, holds) in rows {
        println!("{row}{}", if holds { "" } else { "  ◄" });
        if !holds {
            failed.push(row);
        }
    }
    assert!(failed.is_empty(), "{title}\n{}", failed.join("\n"));
}

#[test]
fn winograds_algorithm_changes_neither_steps_nor_the_arena() {
    let target = Target::named("x86-64-v3").unwrap_or_else(|error| panic!("{error}"));
    for name in ["squeezenet-1.1", "resnet-18", "densenet-121"] {
        let direct = networks().iter().find(|network| network.name == name);
        let direct = &direct.unwrap_or_else(|| panic!("{name} is in the table")).plan;
        let graph = pipeline::read(&Spec::new(name)).and_then(|graph| pipeline::optimise(&graph));
        let graph = graph.unwrap_or_else(|error| panic!("{name}: {error}"));
        let plan = pipeline::plan(&graph, &target).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(plan.steps.iter().any(|s| s.code.kind().starts_with("winograd")), "{name}:\n{plan}");
        let audit = Audit::of(&plan).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(audit.miscounted.first(), None, "{name}");
        assert_eq!(audit.faults().next(), None, "{name}");
        assert_eq!(plan.steps.len(), direct.steps.len(), "{name}");
        assert_eq!(plan.memory, direct.memory, "{name}");
    }
}

#[test]
fn the_arena_is_hardly_larger_than_what_must_be_alive_at_once() {
    check(
        "network                     arena KiB  / planned peak (≤ 1.10)  / logical peak (≤ 1.30)",
        networks().iter().map(|network| {
            let memory = network.plan.memory;
            let planned = memory.arena as f64 / memory.planned_peak as f64;
            let logical = memory.arena as f64 / memory.logical_peak as f64;
            let row = format!("{:26} {:10} {planned:24.3} {logical:24.3}", network.name, memory.arena / 1024);
            (row, planned <= 1.10 && logical <= 1.30)
        }),
    );
}

#[test]
fn shufflenets_move_hardly_more_bytes_than_their_layers_read_and_write() {
    check(
        "network                     moved KiB  / logical (≤ 1.10)  copies",
        networks().iter().filter(|network| network.name.starts_with("shufflenet")).map(traffic),
    );
}

#[test]
fn squeezenet_and_densenet_move_hardly_more_bytes_than_their_layers_read_and_write() {
    check(
        "network                     moved KiB  / logical (≤ 1.10)  copies",
        networks()
            .iter()
            .filter(|network| network.name.starts_with("squeezenet") || network.name.starts_with("densenet"))
            .map(traffic),
    );
}

fn traffic(network: &Network) -> (String, bool) {
    let moved: u64 = network.audit.moved.iter().copied().map(sum).sum();
    let ratio = moved as f64 / network.logical_bytes as f64;
    let mut row = format!("{:26} {:10} {ratio:19.3}", network.name, moved / 1024);
    for (copy, moved) in network.copies() {
        let why = copy.note.as_deref().unwrap_or("no reason given");
        let _ = write!(row, "\n      {} \"{}\", {} bytes: {why}", copy.op, copy.name, sum(moved));
    }
    (row, ratio <= 1.10)
}

#[test]
fn what_the_planner_says_of_a_step_is_what_its_addresses_touch() {
    audited("miscounted steps", |audit| &audit.miscounted);
}

#[test]
fn no_step_touches_anything_outside_of_arena_constants_and_ports() {
    audited("accesses outside", |audit| &audit.outside);
}

#[test]
fn strips_read_only_what_they_have_written_and_have_nothing_to_do_with_each_other() {
    audited("faults of strips", |audit| &audit.strips);
    let strips = networks().iter().filter(|network| network.name.starts_with("mobilenet-v2"));
    assert!(strips.into_iter().any(|network| !network.plan.strips.is_empty()), "MobileNet runs in strips");
}

#[test]
fn nothing_is_read_that_no_step_has_written_but_the_padding_of_pixels() {
    audited("reads of what nothing has written", |audit| &audit.undefined);
}

fn audited(title: &str, faults: impl Fn(&Audit) -> &Vec<String>) {
    check(
        title,
        networks().iter().map(|network| {
            let faults = faults(&network.audit);
            (format!("{:26} {faults:#?}", network.name), faults.is_empty())
        }),
    );
}

#[test]
fn shuffles_concats_and_splits_leave_no_step_without_a_reason() {
    let names = ["shufflenet", "squeezenet", "densenet"];
    check(
        "copies without a reason",
        networks().iter().filter(|network| names.iter().any(|name| network.name.starts_with(name))).map(
            |network| {
                let silent: Vec<String> = network
                    .copies()
                    .filter(|(step, _)| step.note.is_none())
                    .map(|(step, _)| format!("{} \"{}\"", step.op, step.name))
                    .collect();
                (format!("{:26} {silent:?}", network.name), silent.is_empty())
            },
        ),
    );
}

#[test]
fn no_network_has_a_step_for_padding_or_batch_normalisation() {
    check(
        "steps for padding or batch normalisation",
        networks().iter().map(|network| {
            let steps: Vec<String> = network
                .plan
                .steps
                .iter()
                .filter(|step| matches!(step.op.as_str(), "Pad" | "BatchNormalization" | "ChannelAffine"))
                .map(|step| format!("{} \"{}\"", step.op, step.name))
                .collect();
            (format!("{:26} {steps:?}", network.name), steps.is_empty())
        }),
    );
}
