//! Golden outputs of the seed networks: which cases there are, the input, and what onnxruntime answered.
//!
//! ```text
//! goldens/cases.json ── cases() ──► GoldenCase { name, suite, spec } ── golden() ──► Golden { logits, samples }
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
//! let computed = golden.logits.clone(); // what the compiler under test computes for `case.input()`
//! assert!(deviation(&computed, &golden.logits) <= TOLERANCE);
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
    /// The whole output `logits`.
    pub logits: Vec<f32>,
    /// A few values of some intermediate tensors, in the order of computation.
    pub samples: Vec<Sample>,
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
    /// The input of the network, of shape `[1, 3, resolution, resolution]`.
    pub fn input(&self) -> Vec<f32> {
        let side = self.resolution();
        input(3 * side * side)
    }

    /// The height and width of the input.
    pub fn resolution(&self) -> usize {
        let default =
            || nnc_models::list().iter().find(|a| a.name == self.spec.name).map(|a| a.resolution.default);
        self.spec.resolution.or_else(default).unwrap_or_default()
    }

    /// The file with the golden outputs.
    pub fn file(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("goldens").join(format!("{}.npz", self.name))
    }

    /// Reads the golden outputs.
    ///
    /// # Errors
    ///
    /// The file is missing, not an npz archive of f32 arrays, or has no logits.
    pub fn golden(&self) -> io::Result<Golden> {
        let mut archive = npyz::npz::NpzArchive::open(self.file())?;
        let names: Vec<String> = archive.array_names().map(String::from).collect();
        let mut logits = None;
        let mut samples = vec![];
        for name in names {
            let array = archive.by_name(&name)?.ok_or(io::ErrorKind::NotFound)?;
            let elements = array.into_vec::<f32>()?;
            if name == "logits" {
                logits = Some(elements);
            } else {
                // Names in the graph are paths; in the archive they have dots, which no step of a path has.
                samples.push(Sample { value: format!("/{}", name.replace('.', "/")), elements });
            }
        }
        let logits =
            logits.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "there are no logits"))?;
        Ok(Golden { logits, samples })
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
