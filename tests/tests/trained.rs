//! Trained networks on real pictures, and on seeded sounds and numbers: those of PP-OCR and of other packages, against
//! what onnxruntime computes for them.
//!
//! ```text
//! trained/cases.json ──► Case ──► part of pictures/NAME.png … ──► inputs ──► JIT, 1 and 2 threads
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
use nnc_ir::onnx::{Bindings, Model};
use nnc_ir::{DType, Graph, Tensor};
use nnc_runtime::abi::ElemType;
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
    #[serde(default)]
    observed: BTreeMap<String, String>,
}

/// A network and what it is given, by the names of its inputs.
#[derive(Clone, Deserialize)]
struct Case {
    name: String,
    model: String,
    inputs: BTreeMap<String, Source>,
}

/// Where an input comes from.
#[derive(Clone, Deserialize)]
#[serde(untagged)]
enum Source {
    Picture(Picture),
    /// Triangle waves of these periods in samples, and noise.
    Sound {
        sound: Vec<usize>,
        scale: f64,
        shape: Vec<usize>,
    },
    /// Numbers between two bounds.
    Seeded {
        seed: u64,
        low: f64,
        high: f64,
        shape: Vec<usize>,
    },
    /// The first and the last bytes of a file of the repository.
    Bytes {
        bytes: String,
        shape: Vec<usize>,
    },
    /// A number that the program is compiled for.
    Constant {
        constant: i64,
    },
}

/// A part of a picture, each pixel repeated `zoom` times in both directions.
#[derive(Clone, Deserialize)]
struct Picture {
    picture: String,
    left: u32,
    top: u32,
    width: u32,
    height: u32,
    zoom: u32,
    /// Whether it is turned upside down.
    #[serde(default)]
    turned: bool,
    /// Which channels, in which order.
    channels: String,
    /// What each channel is divided by, and what is subtracted then.
    divide: Vec<f32>,
    subtract: Vec<f32>,
    /// Whether channels are the last axis.
    #[serde(default)]
    last: bool,
}

fn main() {
    let arguments = Arguments::from_args();
    let cases: Cases = serde_json::from_str(include_str!("../trained/cases.json")).expect("cases.json");
    let folder = networks_folder();
    let is_here = |network: &Network| folder.join(&network.file).is_file();
    let absent: Vec<&str> =
        cases.networks.values().filter(|network| !is_here(network)).map(|n| n.file.as_str()).collect();
    if !absent.is_empty() {
        eprintln!(
            "\nsome trained networks are not here, so their tests do not run: {} lacks {}.\n\
             To fetch them: {FETCH}, and with --all the large ones",
            folder.display(),
            absent.join(", ")
        );
    }
    let trials = cases
        .cases
        .into_iter()
        .map(|case| {
            let network = cases.networks[&case.model].clone();
            let absent = !is_here(&network);
            let folder = folder.clone();
            let name = format!("{}_agrees_with_onnxruntime", case.name);
            Trial::test(name, move || {
                run(&case, &network, &folder).map_err(|error| Failed::from(error.to_string()))
            })
            .with_kind(if absent { "not fetched" } else { "" })
            .with_ignored_flag(absent)
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
    let mut inputs = BTreeMap::new();
    for (name, source) in &case.inputs {
        let tensor = input(source)?;
        match source {
            Source::Constant { .. } => {
                bindings.constants.insert(name.clone(), tensor);
            }
            _ => {
                bindings.shapes.insert(name.clone(), tensor.shape().to_vec());
                inputs.insert(name.clone(), tensor);
            }
        }
    }
    let graph = Model::open(&path)?.graph(&bindings)?;

    // The network as it is, and once more with what one sees inside: values that are outputs hinder fusion.
    let plain = outputs(graph.clone(), &inputs)?;
    for (i, output) in plain.iter().enumerate() {
        let name = if i == 0 { "output".to_string() } else { format!("output{i}") };
        compare(&name, output, SAMPLES / plain.len(), 1.0, case)?;
    }
    if !network.observed.is_empty() {
        let mut opened = graph;
        observe(&mut opened, network)?;
        let values = outputs(opened, &inputs)?;
        compare("output", &values[0], SAMPLES / plain.len(), 1.0, case)?;
        for (name, value) in network.observed.keys().zip(&values[plain.len()..]) {
            compare(name, value, SAMPLES, 0.0, case)?;
        }
    }
    Ok(())
}

/// What the graph computes when it is compiled, on one thread and, bit by bit the same, on two.
fn outputs(mut graph: Graph, inputs: &BTreeMap<String, Tensor>) -> Result<Vec<Vec<f32>>, Box<dyn Error>> {
    let target = Target::named("native")?;
    passes::optimise(&mut graph, &Default::default())?;
    let plan = plan::plan(&graph, &target, &Default::default(), &Default::default())?;
    let program = emit::jit::compile(plan, &target)?;
    let given: Vec<InputRef> = inputs
        .iter()
        .map(|(name, tensor)| {
            let elem = if tensor.dtype() == DType::I32 { ElemType::I32 } else { ElemType::F32 };
            InputRef::from_bytes(elem, tensor.bytes()).named(name)
        })
        .collect();
    let run = |threads| -> Result<Vec<Vec<f32>>, Box<dyn Error>> {
        let _watchdog = Watchdog::seconds(600);
        let mut session = Session::new(&program, &Pool::new(threads)?)?;
        let outputs = session.run(&given)?;
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

/// An input of a case; `make_goldens.py` makes the same.
fn input(source: &Source) -> Result<Tensor, Box<dyn Error>> {
    Ok(match source {
        Source::Picture(part) => picture(part)?,
        Source::Sound { sound, scale, shape } => {
            let mut samples = random(1, shape.iter().product());
            for (i, sample) in samples.iter_mut().enumerate() {
                *sample -= 0.5;
                for &period in sound {
                    let period = (period, period as f64);
                    *sample += 4.0 * ((i % period.0) as f64 - period.1 / 2.0).abs() / period.1 - 1.0;
                }
                *sample = *sample * scale / sound.len() as f64;
            }
            floats(shape, samples)?
        }
        Source::Seeded { seed, low, high, shape } => {
            let numbers = random(*seed, shape.iter().product());
            floats(shape, numbers.into_iter().map(|x| low + (high - low) * x).collect())?
        }
        Source::Bytes { bytes, shape } => {
            let data = std::fs::read(here().join("..").join(bytes))?;
            let half = shape.iter().product::<usize>() / 2;
            let ends = data[..half].iter().chain(&data[data.len() - half..]);
            Tensor::new(shape.clone(), &ends.map(|&byte| byte.into()).collect::<Vec<i32>>())?
        }
        Source::Constant { constant } => Tensor::new(Vec::new(), &[*constant])?,
    })
}

fn floats(shape: &[usize], numbers: Vec<f64>) -> Result<Tensor, Box<dyn Error>> {
    Ok(Tensor::new(shape.to_vec(), &numbers.into_iter().map(|x| x as f32).collect::<Vec<f32>>())?)
}

/// Numbers from 0 up to 1, by Knuth's generator of 64 bits.
fn random(mut state: u64, count: usize) -> Vec<f64> {
    let next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f64 / f64::from(1 << 24)
    };
    std::iter::repeat_with(next).take(count).collect()
}

/// The part of the picture, of shape `[1, channels, height, width]` or, if channels are last, with these at the end.
fn picture(part: &Picture) -> Result<Tensor, Box<dyn Error>> {
    let picture = image::open(here().join("trained/pictures").join(&part.picture))?.into_rgb8();
    let (width, height) = (part.width * part.zoom, part.height * part.zoom);
    let area = (width * height) as usize;
    let count = part.channels.len();
    let mut input = vec![0.0; count * area];
    for (c, letter) in part.channels.chars().enumerate() {
        let channel = "rgb".find(letter).ok_or("a channel is r, g or b")?;
        for y in 0..height {
            for x in 0..width {
                let at = (y * width + x) as usize;
                let (x, y) = if part.turned { (width - 1 - x, height - 1 - y) } else { (x, y) };
                let pixel = picture
                    .get_pixel_checked(part.left + x / part.zoom, part.top + y / part.zoom)
                    .ok_or("the case reaches beyond its picture")?;
                let at = if part.last { at * count + c } else { c * area + at };
                input[at] = f32::from(pixel.0[channel]) / part.divide[c] - part.subtract[c];
            }
        }
    }
    let (width, height) = (width as usize, height as usize);
    let shape = if part.last { [1, height, width, count] } else { [1, count, height, width] };
    Ok(Tensor::new(shape.to_vec(), &input)?)
}

/// Compares the elements that the golden file has of a value, and the sum of all. Differences are relative to the largest
/// golden value, or to `least` if that is larger: 1 for outputs, which are often probabilities next to zero.
fn compare(
    name: &str,
    computed: &[f32],
    samples: usize,
    least: f64,
    case: &Case,
) -> Result<(), Box<dyn Error>> {
    let path = here().join("trained/goldens").join(format!("{}.npz", case.name));
    let mut archive = NpzArchive::open(path)?;
    let absent = || format!("the golden file has no \"{name}\"");
    let expected = archive.by_name(name)?.ok_or_else(absent)?.into_vec::<f32>()?;
    let sums = archive.by_name(&format!("{name}.sums"))?.ok_or_else(absent)?.into_vec::<f64>()?;

    let stride = computed.len().div_ceil(samples) | 1;
    let sampled: Vec<f32> = computed.iter().copied().step_by(stride).collect();
    if sampled.len() != expected.len() {
        return Err(format!("{name}: {} samples, {} expected", sampled.len(), expected.len()).into());
    }
    let magnitude = |largest: f64, v: &f32| largest.max(f64::from(*v).abs());
    let largest = expected.iter().fold(least, magnitude);
    let bound = TOLERANCE * largest;
    if let Some(apart) = archive.by_name(&format!("{name}.apart"))? {
        let apart = apart.into_vec::<f64>()?.into_iter().fold(bound, f64::max);
        return compare_quantised(name, &sampled, &expected, apart);
    }
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

/// Compares what a quantised network computes: a step more or less somewhere changes what follows, in right results as well. So it is the
/// root of the mean square that is held against how far right results are apart.
fn compare_quantised(
    name: &str,
    computed: &[f32],
    expected: &[f32],
    apart: f64,
) -> Result<(), Box<dyn Error>> {
    let square = |(&c, &e): (&f32, &f32)| (f64::from(c) - f64::from(e)).powi(2);
    let mean = computed.iter().zip(expected).map(square).sum::<f64>() / expected.len().max(1) as f64;
    let off = mean.sqrt();
    if off.is_nan() || off > apart {
        return Err(
            format!("{name} is {off:.2e} off in the mean, right results are {apart:.2e} apart").into()
        );
    }
    Ok(())
}
