//! Trained networks on real pictures: the text detector and the text-direction classifier of PP-OCR, against what
//! onnxruntime computes for them.
//!
//! ```text
//! trained/cases.json ──► Case ──► part of pictures/NAME.png ──► input ──► JIT, 1 and 2 threads
//!                          └────► goldens/NAME.npz ──────────────────────► compared
//! ```
//!
//! The networks are not in the repository: `tests/trained/fetch.py` gets them. Where they are absent the tests are shown
//! as ignored, with the command to run. `tests/trained/README.md` says what is compared.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};

use libtest_mimic::{Arguments, Failed, Trial};
use nnc::{emit, passes, plan, target::Target};
use nnc_ir::Graph;
use nnc_ir::onnx::{Bindings, Model};
use nnc_runtime::{InputRef, Pool, RunError, Session};
use nnc_tests::watchdog::Watchdog;
use npyz::npz::NpzArchive;
use serde::Deserialize;

/// How far results may be from the goldens, relative to the largest absolute golden value.
const TOLERANCE: f64 = 1e-4;
/// The most elements that are kept of a value.
const SAMPLES: usize = 4096;
/// What gets the networks.
const FETCH: &str = "python3 tests/trained/fetch.py";

#[derive(Deserialize)]
struct Cases {
    networks: BTreeMap<String, Network>,
    cases: Vec<Case>,
}

#[derive(Clone, Deserialize)]
struct Network {
    file: String,
    /// Values inside the network that are compared as well: a name for each, and the node that it enters first.
    observed: BTreeMap<String, String>,
}

/// A part of a picture, each pixel repeated `zoom` times in both directions, and the network that looks at it.
#[derive(Clone, Deserialize)]
struct Case {
    name: String,
    model: String,
    picture: String,
    left: u32,
    top: u32,
    width: u32,
    height: u32,
    zoom: u32,
    /// Whether it is turned upside down.
    #[serde(default)]
    turned: bool,
}

fn main() {
    let arguments = Arguments::from_args();
    let cases: Cases = serde_json::from_str(include_str!("../trained/cases.json")).expect("cases.json");
    let folder = networks_folder();
    let absent = cases.networks.values().find(|network| !folder.join(&network.file).is_file());
    if let Some(network) = absent {
        eprintln!(
            "\nthe trained networks are not here, so their tests do not run: there is no {}.\n\
             To fetch them: {FETCH}",
            folder.join(&network.file).display()
        );
    }
    let trials = cases
        .cases
        .into_iter()
        .map(|case| {
            let network = cases.networks[&case.model].clone();
            let folder = folder.clone();
            let name = format!("{}_agrees_with_onnxruntime", case.name);
            Trial::test(name, move || {
                run(&case, &network, &folder).map_err(|error| Failed::from(error.to_string()))
            })
            .with_kind(if absent.is_some() { "not fetched" } else { "" })
            .with_ignored_flag(absent.is_some())
        })
        .collect();
    libtest_mimic::run(&arguments, trials).exit();
}

/// Where `fetch.py` puts the networks.
fn networks_folder() -> PathBuf {
    match std::env::var_os("NNC_TRAINED") {
        Some(folder) if !folder.is_empty() => folder.into(),
        _ => here().join("../target/trained"),
    }
}

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn run(case: &Case, network: &Network, folder: &Path) -> Result<(), Box<dyn Error>> {
    let path = folder.join(&network.file);
    if !path.is_file() {
        return Err(format!("{} is missing; to fetch it: {FETCH}", path.display()).into());
    }
    let mut bindings = Bindings::new();
    let (width, height) = ((case.width * case.zoom) as usize, (case.height * case.zoom) as usize);
    bindings.shapes.insert("x".into(), vec![1, 3, height, width]);
    let graph = Model::open(&path)?.graph(&bindings)?;
    let input = input(case)?;

    // The network as it is, and once more with what one sees inside: values that are outputs hinder fusion.
    let mut opened = graph.clone();
    observe(&mut opened, network)?;
    compare("output", &outputs(graph, &input)?[0], case)?;
    let names = std::iter::once("output").chain(network.observed.keys().map(String::as_str));
    for (name, value) in names.zip(&outputs(opened, &input)?) {
        compare(name, value, case)?;
    }
    Ok(())
}

/// What the graph computes when it is compiled, on one thread and, bit by bit the same, on two.
fn outputs(mut graph: Graph, input: &[f32]) -> Result<Vec<Vec<f32>>, Box<dyn Error>> {
    let target = Target::named("native")?;
    passes::optimise(&mut graph, &Default::default())?;
    let plan = plan::plan(&graph, &target, &Default::default(), &Default::default())?;
    let program = emit::jit::compile(plan, &target)?;
    let run = |threads| -> Result<Vec<Vec<f32>>, Box<dyn Error>> {
        let _watchdog = Watchdog::seconds(600);
        let mut session = Session::new(&program, &Pool::new(threads)?)?;
        let outputs = session.run(&[InputRef::new(input)])?;
        Ok((0..outputs.count())
            .map(|i| Ok(outputs.get::<f32>(i)?.to_vec()))
            .collect::<Result<_, RunError>>()?)
    };
    let (one, two) = (run(1)?, run(2)?);
    let bits =
        |v: &[Vec<f32>]| v.iter().map(|v| v.iter().map(|x| x.to_bits()).collect()).collect::<Vec<Vec<_>>>();
    if bits(&one) != bits(&two) {
        return Err("one and two threads disagree".into());
    }
    Ok(one)
}

/// Makes the observed values outputs, after the network's own.
fn observe(graph: &mut Graph, network: &Network) -> Result<(), String> {
    for (name, entered) in &network.observed {
        let value = graph
            .node_ids()
            .find(|&id| graph.node(id).name == *entered)
            .and_then(|id| graph.operand(id, 0))
            .ok_or_else(|| format!("the network has no node \"{entered}\" with an operand"))?;
        graph.add_output(name.clone(), value);
    }
    Ok(())
}

/// The case's part of its picture, of shape `[1, 3, height, width]`, blue first as PP-OCR is trained.
fn input(case: &Case) -> Result<Vec<f32>, Box<dyn Error>> {
    let picture = image::open(here().join("trained/pictures").join(&case.picture))?.into_rgb8();
    let (width, height) = (case.width * case.zoom, case.height * case.zoom);
    let mut input = Vec::with_capacity((3 * width * height) as usize);
    for channel in [2, 1, 0] {
        for y in 0..height {
            for x in 0..width {
                let (x, y) = if case.turned { (width - 1 - x, height - 1 - y) } else { (x, y) };
                let pixel = picture
                    .get_pixel_checked(case.left + x / case.zoom, case.top + y / case.zoom)
                    .ok_or("the case reaches beyond its picture")?;
                input.push(f32::from(pixel.0[channel]) / 127.5 - 1.0);
            }
        }
    }
    Ok(input)
}

/// Compares the elements that the golden file has of a value, and the sum of all.
fn compare(name: &str, computed: &[f32], case: &Case) -> Result<(), Box<dyn Error>> {
    let path = here().join("trained/goldens").join(format!("{}.npz", case.name));
    let mut archive = NpzArchive::open(path)?;
    let absent = || format!("the golden file has no \"{name}\"");
    let expected = archive.by_name(name)?.ok_or_else(absent)?.into_vec::<f32>()?;
    let sums = archive.by_name(&format!("{name}.sums"))?.ok_or_else(absent)?.into_vec::<f64>()?;

    let stride = computed.len().div_ceil(SAMPLES) | 1;
    let sampled: Vec<f32> = computed.iter().copied().step_by(stride).collect();
    if sampled.len() != expected.len() {
        return Err(format!("{name}: {} samples, {} expected", sampled.len(), expected.len()).into());
    }
    let magnitude = |largest: f64, v: &f32| largest.max(f64::from(*v).abs());
    // The network's own outputs are probabilities, and of pictures without text all next to zero.
    let largest = if name == "output" { 1.0 } else { expected.iter().fold(0.0, magnitude) };
    let bound = TOLERANCE * largest;
    for (i, (&c, &e)) in sampled.iter().zip(&expected).enumerate() {
        let difference = (f64::from(c) - f64::from(e)).abs();
        if difference.is_nan() || difference > bound {
            let at = i * stride;
            return Err(
                format!("{name}[{at}] is {c}, not {e}: {difference:.2e} apart, allowed {bound:.2e}").into()
            );
        }
    }
    let sum: f64 = computed.iter().map(|&v| f64::from(v)).sum();
    let allowed = TOLERANCE * sums[1].max(largest);
    let difference = (sum - sums[0]).abs();
    if difference.is_nan() || difference > allowed {
        return Err(format!("{name}: the sum is {sum}, not {}", sums[0]).into());
    }
    Ok(())
}
