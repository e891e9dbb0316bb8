//! Pictures as Pillow, OpenCV and the toolkits make them: `make_goldens.py` wrote the files, and has the arithmetic.

use std::fs;
use std::path::{Path, PathBuf};

use nnc_image::{AxisCrop, Filter, Fit, KerasMode, Limit, Picture, Preparation, Prepared};

fn goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens")
}

fn picture(name: &str) -> Picture {
    let file = goldens().join(format!("{name}.png"));
    Picture::decode(&fs::read(&file).expect("a golden")).expect("a picture")
}

const SIZES: [(usize, usize); 5] = [(16, 9), (61, 90), (100, 23), (60, 45), (7, 5)];

/// The largest difference between two pictures of one size.
fn difference(a: &Picture, b: &Picture) -> u8 {
    assert_eq!((a.width(), a.height()), (b.width(), b.height()));
    a.bytes().iter().zip(b.bytes()).map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(0)
}

#[test]
fn every_filter_gives_the_bytes_of_pillow_and_opencv() {
    let source = picture("source");
    for (name, filter) in [
        ("nearest", Filter::Nearest),
        ("bilinear", Filter::Bilinear),
        ("bicubic", Filter::Bicubic),
        ("lanczos", Filter::Lanczos),
        ("linear", Filter::Linear),
    ] {
        for (width, height) in SIZES {
            let found = source.resized(AxisCrop::whole(width), AxisCrop::whole(height), filter);
            let golden = picture(&format!("{name}-{width}x{height}"));
            assert_eq!(difference(&found, &golden), 0, "{name} {width}×{height}");
        }
    }
}

/// A golden tensor, whose name begins so and ends with its shape.
fn tensor(name: &str) -> (Vec<usize>, Vec<f32>) {
    let entries = fs::read_dir(goldens()).expect("goldens").map(|entry| entry.expect("an entry").file_name());
    let found = entries.filter_map(|file| {
        let file = file.into_string().ok()?;
        let shape = file.strip_suffix(".f32")?.strip_prefix(name)?.strip_prefix('-')?;
        let shape: Option<Vec<usize>> = shape.split('x').map(|extent| extent.parse().ok()).collect();
        Some((shape?, fs::read(goldens().join(&file)).ok()?))
    });
    let found: Vec<_> = found.filter(|(shape, _)| shape.len() == 3).collect();
    let [(shape, bytes)] = &found[..] else { panic!("{} goldens of {name}", found.len()) };
    let floats = bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().expect("four bytes")));
    (shape.clone(), floats.collect())
}

fn check(name: &str, found: &Prepared<f32>) {
    let (shape, floats) = tensor(name);
    assert_eq!(found.shape[1..], shape, "{name}");
    let differ = found.elements.iter().zip(&floats).position(|(a, b)| a.to_bits() != b.to_bits());
    let at = differ.map(|at| (at, found.elements[at], floats[at]));
    assert_eq!((at, found.elements.len()), (None, floats.len()), "{name}");
}

#[test]
fn torchvision_sees_the_same_numbers() {
    let source = picture("source");
    check("torchvision-32-28", &Preparation::torchvision(32, 28).floats(&source));
    let turned = Picture::from_fn(45, 60, |x, y| source.row(x)[y * 3..][..3].try_into().unwrap());
    check("torchvision-33-28", &Preparation::torchvision(33, 28).floats(&turned));
}

#[test]
fn keras_sees_the_same_numbers() {
    for (name, mode) in [
        ("keras-tf", KerasMode::Tf),
        ("keras-torch", KerasMode::Torch),
        ("keras-caffe", KerasMode::Caffe),
        ("keras-raw", KerasMode::Raw),
    ] {
        check(name, &Preparation::keras(20, 24, mode).floats(&picture("source")));
    }
}

#[test]
fn paddle_ocr_sees_the_same_numbers() {
    let source = picture("source");
    let detector = |limit| Preparation::paddle_ocr_detector(limit).floats(&source);
    check("paddle-detector-max-40", &detector(Limit::Longer(40)));
    check("paddle-detector-min-46", &detector(Limit::Shorter(46)));

    let recogniser = Preparation::paddle_ocr_recogniser(None);
    let small = Preparation { fit: Fit::Line { height: 12, least: 40, most: None }, ..recogniser };
    check("paddle-line-12-40", &small.floats(&source));
    let wide = Picture::from_fn(60, 8, |x, y| source.row(y + 12)[x * 3..][..3].try_into().unwrap());
    check("paddle-line-12-40-wide", &small.floats(&wide));
    assert_eq!(recogniser.floats(&source).shape, [1, 3, 48, 320]);
    assert_eq!(recogniser.floats(&wide).shape, [1, 3, 48, 360]);
    assert_eq!(Preparation::paddle_ocr_recogniser(Some(320)).floats(&wide).shape, [1, 3, 48, 320]);
    assert_eq!(Preparation::paddle_ocr_classifier().floats(&wide).shape, [1, 3, 48, 192]);
}
