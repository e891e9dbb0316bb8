//! Golden outputs of the built-in networks: which cases there are, the input, and what onnxruntime answered.
//!
//! ```text
//! goldens/cases.json ── cases() ──► GoldenCase { name, suite, spec } ── golden() ──► Golden { output, samples }
//!                                          │                          ▲
//!                                          └─ spec ► nnc_models       └─ goldens/NAME.npz
//! ```
//!
//! `goldens/README.md` says how the files are made. A runner builds `case.spec`, feeds [`input`], and compares with
//! [`deviation`]:
//!
//! ```
//! use nnc_tests::goldens::{TOLERANCE, cases, deviation};
//!
//! let case = &cases()[0];
//! let golden = case.golden()?;
//! let computed = golden.output.elements.clone(); // what the compiler under test computes for `case.input()`
//! assert!(deviation(&computed, &golden.output.elements) <= TOLERANCE);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::io;
use std::path::{Path, PathBuf};

use nnc_models::Spec;
use serde_json::Value;

/// How far results may be from the goldens, relative to the largest absolute golden value.
pub const TOLERANCE: f64 = 1e-4;

/// The most values that are kept of an intermediate tensor.
const SAMPLES: usize = 64;

/// The most values that are kept of an output: all logits of a classifier, some of a picture.
const OUTPUT_SAMPLES: usize = 4096;

/// Which tests a case belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suite {
    /// Reduced resolution and classes: quick enough for every test run.
    Small,
    /// The published sizes.
    Full,
}

/// One network whose outputs are stored.
#[derive(Debug, Clone, PartialEq)]
pub struct GoldenCase {
    /// The name of the case and of its file.
    pub name: String,
    /// Which tests it belongs to.
    pub suite: Suite,
    /// The network.
    pub spec: Spec,
}

/// What onnxruntime computed for a case.
#[derive(Debug, Clone, PartialEq)]
pub struct Golden {
    /// The output.
    pub output: Output,
    /// A few values of some intermediate tensors, in the order of computation.
    pub samples: Vec<Sample>,
}

/// The network's output, or, of a large one, some of its values.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// Its name in the ONNX graph.
    pub name: String,
    /// Its elements at multiples of [`output_stride`].
    pub elements: Vec<f32>,
}

impl Output {
    /// The elements of the whole computed output (in row-major order) that are kept.
    pub fn of(&self, computed: &[f32]) -> Vec<f32> {
        computed.iter().copied().step_by(output_stride(computed.len())).collect()
    }
}

/// The distance between the elements that are kept of an output of `len` elements: 1 up to [`OUTPUT_SAMPLES`], then a
/// multiple of neither 2 nor 3, so that samples wander over the pixels that a shuffle puts side by side.
pub fn output_stride(len: usize) -> usize {
    let least = len.div_ceil(OUTPUT_SAMPLES);
    (least..).find(|stride| !stride.is_multiple_of(2) && !stride.is_multiple_of(3)).unwrap_or(least)
}

/// A few values of one intermediate tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The name of the tensor in the ONNX graph.
    pub value: String,
    /// Its elements at multiples of [`sample_stride`].
    pub elements: Vec<f32>,
}

impl Sample {
    /// The elements of the whole computed tensor (in row-major order) that this sample has.
    pub fn of(&self, computed: &[f32]) -> Vec<f32> {
        computed.iter().copied().step_by(sample_stride(computed.len())).collect()
    }
}

/// The distance between sampled elements in a tensor of `len` elements: odd, so that samples wander over columns.
pub fn sample_stride(len: usize) -> usize {
    len.div_ceil(SAMPLES) | 1
}

/// All cases, the small ones first.
///
/// # Panics
///
/// If `cases.json`, which is part of this crate, is malformed.
pub fn cases() -> Vec<GoldenCase> {
    let list: Value =
        serde_json::from_str(include_str!("../goldens/cases.json")).expect("cases.json is JSON");
    list.as_array().expect("cases.json is a list").iter().map(case).collect()
}

fn case(entry: &Value) -> GoldenCase {
    let text = |key: &str| entry[key].as_str().unwrap_or_else(|| panic!("{entry} has no {key}"));
    let number = |key: &str| entry[key].as_u64();
    let size = |key: &str| number(key).map(|n| n as usize);
    let suite = match text("suite") {
        "small" => Suite::Small,
        "full" => Suite::Full,
        other => panic!("there is no suite {other}"),
    };
    let spec = Spec {
        name: text("model").into(),
        width: entry["width"].as_f64(),
        resolution: size("resolution"),
        groups: size("groups"),
        classes: size("classes"),
        seed: number("seed").unwrap_or(0),
    };
    GoldenCase { name: text("name").into(), suite, spec }
}

impl GoldenCase {
    /// The input of the network.
    pub fn input(&self) -> Vec<f32> {
        input(self.input_shape().iter().product())
    }

    /// The shape of the input: batch, channels, height, width.
    ///
    /// # Panics
    ///
    /// If there is no such architecture.
    pub fn input_shape(&self) -> [usize; 4] {
        let architecture = nnc_models::list().iter().find(|a| a.name == self.spec.name);
        let architecture = architecture.unwrap_or_else(|| panic!("there is no model {}", self.spec.name));
        architecture.input(self.spec.resolution.unwrap_or(architecture.resolution.default))
    }

    /// The file with the golden outputs.
    pub fn file(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("goldens").join(format!("{}.npz", self.name))
    }

    /// Reads the golden outputs.
    ///
    /// # Errors
    ///
    /// The file is missing, not an npz archive of f32 arrays, or has no output.
    pub fn golden(&self) -> io::Result<Golden> {
        let mut archive = npyz::npz::NpzArchive::open(self.file())?;
        let names: Vec<String> = archive.array_names().map(String::from).collect();
        let mut output = None;
        let mut samples = vec![];
        for name in names {
            let array = archive.by_name(&name)?.ok_or(io::ErrorKind::NotFound)?;
            let elements = array.into_vec::<f32>()?;
            // Names inside the graph are paths; in the archive they have dots, which neither a step of a path has nor
            // the name of an output.
            if !name.contains('.') {
                output = Some(Output { name, elements });
            } else {
                samples.push(Sample { value: format!("/{}", name.replace('.', "/")), elements });
            }
        }
        let output =
            output.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "there is no output"))?;
        Ok(Golden { output, samples })
    }
}

/// The golden input of `len` elements.
pub fn input(len: usize) -> Vec<f32> {
    (0..len).map(|i| input_element(i as u32)).collect()
}

/// Element `i` of the golden input: the finaliser of MurmurHash3 of `i`, its upper 24 bits mapped to `[-2, 2)` in
/// steps of 2⁻²², which f32 represents exactly.
pub fn input_element(i: u32) -> f32 {
    let mut h = i;
    h ^= h >> 16;
    h = h.wrapping_mul(0x85eb_ca6b);
    h ^= h >> 13;
    h = h.wrapping_mul(0xc2b2_ae35);
    h ^= h >> 16;
    (h >> 8) as f32 / (1 << 22) as f32 - 2.0
}

/// The largest absolute difference, relative to the largest absolute value of `expected`. It is infinite where the
/// lengths differ or a computed value is not a number.
pub fn deviation(computed: &[f32], expected: &[f32]) -> f64 {
    if computed.len() != expected.len() {
        return f64::INFINITY;
    }
    let scale = expected.iter().fold(0.0, |largest: f64, &e| largest.max(f64::from(e).abs()));
    let difference = computed.iter().zip(expected).fold(0.0, |largest: f64, (&c, &e)| {
        let difference = (f64::from(c) - f64::from(e)).abs();
        if difference.is_nan() { f64::INFINITY } else { largest.max(difference) }
    });
    if difference == 0.0 { 0.0 } else { difference / scale }
}
