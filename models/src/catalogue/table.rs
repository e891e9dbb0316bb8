//! All architectures, one entry each.

use super::{Allowed, Architecture, Choice, Family};
use crate::arch;

const fn classes(default: usize) -> Option<Choice<usize>> {
    Some(Choice { default, allowed: Allowed::Within(1..=100_000) })
}

const fn within(default: usize, least: usize, most: usize) -> Choice<usize> {
    Choice { default, allowed: Allowed::Within(least..=most) }
}

const fn pixels(default: usize, least: usize) -> Choice<usize> {
    within(default, least, 4096)
}

/// For networks that halve their maps and join what they made of them with what they had.
const fn multiples(default: usize, of: usize) -> Choice<usize> {
    Choice { default, allowed: Allowed::Multiples(of, of..=4096) }
}

const ANY_WIDTH: Option<Choice<f64>> = Some(Choice { default: 1.0, allowed: Allowed::Within(0.1..=4.0) });
const SHUFFLENET_WIDTH: Option<Choice<f64>> =
    Some(Choice { default: 1.0, allowed: Allowed::OneOf(&[0.5, 1.0, 1.5, 2.0]) });

/// A classifier of colour pictures.
const SEED: Architecture = Architecture {
    name: "",
    summary: "",
    paper: "",
    family: Family::Seed,
    width: None,
    resolution: pixels(224, 32),
    groups: None,
    classes: classes(1000),
    output: "logits",
    channels: 3,
    height: None,
    build: arch::mobilenet_v1::build,
};

const LARGE: Architecture = Architecture { family: Family::Large, ..SEED };
const MORE: Architecture = Architecture { family: Family::More, ..SEED };

/// All architectures: the compact ones first, then what they are compared with, then networks of other kinds.
pub(crate) static ARCHITECTURES: &[Architecture] = &[
    Architecture {
        name: "mobilenet-v1",
        summary: "depthwise-separable convolutions",
        paper: "Howard et al. 2017, arXiv:1704.04861",
        width: ANY_WIDTH,
        build: arch::mobilenet_v1::build,
        ..SEED
    },
    Architecture {
        name: "mobilenet-v2",
        summary: "inverted residuals and linear bottlenecks",
        paper: "Sandler et al. 2018, arXiv:1801.04381",
        width: ANY_WIDTH,
        build: arch::mobilenet_v2::build,
        ..SEED
    },
    Architecture {
        name: "squeezenet-1.0",
        summary: "fire modules after a 7x7 stem",
        paper: "Iandola et al. 2016, arXiv:1602.07360",
        build: arch::squeezenet::build_1_0,
        ..SEED
    },
    Architecture {
        name: "squeezenet-1.1",
        summary: "fire modules after a 3x3 stem, pooling earlier",
        paper: "Iandola et al. 2016, arXiv:1602.07360 and the authors' repository",
        build: arch::squeezenet::build_1_1,
        ..SEED
    },
    Architecture {
        name: "shufflenet-v1",
        summary: "grouped 1x1 convolutions and channel shuffles",
        paper: "Zhang et al. 2017, arXiv:1707.01083",
        width: SHUFFLENET_WIDTH,
        groups: Some(Choice { default: 3, allowed: Allowed::OneOf(&[1, 2, 3, 4, 8]) }),
        build: arch::shufflenet_v1::build,
        ..SEED
    },
    Architecture {
        name: "shufflenet-v2",
        summary: "channel splits and channel shuffles",
        paper: "Ma et al. 2018, arXiv:1807.11164",
        width: SHUFFLENET_WIDTH,
        build: arch::shufflenet_v2::build,
        ..SEED
    },
    Architecture {
        name: "nasnet-a-mobile",
        summary: "searched cells, 4 @ 1056",
        paper: "Zoph et al. 2018, arXiv:1707.07012",
        build: arch::nasnet::build,
        ..SEED
    },
    Architecture {
        name: "alexnet",
        summary: "five convolutions and three fully connected layers",
        paper: "Krizhevsky 2014, arXiv:1404.5997",
        resolution: pixels(224, 63),
        build: arch::alexnet::build,
        ..LARGE
    },
    Architecture {
        name: "resnet-18",
        summary: "basic residual blocks",
        paper: "He et al. 2016, arXiv:1512.03385",
        build: arch::resnet::build_18,
        ..LARGE
    },
    Architecture {
        name: "resnet-50",
        summary: "bottleneck residual blocks",
        paper: "He et al. 2016, arXiv:1512.03385",
        build: arch::resnet::build_50,
        ..LARGE
    },
    Architecture {
        name: "densenet-121",
        summary: "dense blocks with normalisation before convolution",
        paper: "Huang et al. 2017, arXiv:1608.06993",
        build: arch::densenet::build,
        ..LARGE
    },
    Architecture {
        name: "xception",
        summary: "separable convolutions with residual connections",
        paper: "Chollet 2017, arXiv:1610.02357",
        resolution: pixels(299, 32),
        build: arch::xception::build,
        ..LARGE
    },
    Architecture {
        name: "mobilenet-v3-small",
        summary: "hard swish, squeeze and excitation",
        paper: "Howard et al. 2019, arXiv:1905.02244",
        build: arch::mobilenet_v3::build_small,
        ..MORE
    },
    Architecture {
        name: "mobilenet-v3-large",
        summary: "hard swish, squeeze and excitation",
        paper: "Howard et al. 2019, arXiv:1905.02244",
        build: arch::mobilenet_v3::build_large,
        ..MORE
    },
    Architecture {
        name: "efficientnet-b0",
        summary: "inverted residuals, squeeze and excitation",
        paper: "Tan and Le 2019, arXiv:1905.11946",
        build: arch::efficientnet::build,
        ..MORE
    },
    Architecture {
        name: "ghostnet",
        summary: "half of the channels are cheap functions of the others",
        paper: "Han et al. 2020, arXiv:1911.11907",
        build: arch::ghostnet::build,
        ..MORE
    },
    Architecture {
        name: "convnext-atto",
        summary: "depthwise 7x7, layer normalisation, Gelu",
        paper: "Liu et al. 2022, arXiv:2201.03545, and timm",
        build: arch::convnext::build,
        ..MORE
    },
    Architecture {
        name: "vit-tiny-16",
        summary: "a transformer over patches of 16x16",
        paper: "Dosovitskiy et al. 2021, arXiv:2010.11929, and timm",
        resolution: within(224, 32, 1024),
        build: arch::vit::build,
        ..MORE
    },
    Architecture {
        name: "mobilevit-xxs",
        summary: "inverted residuals, and transformers over patches",
        paper: "Mehta and Rastegari 2022, arXiv:2110.02178",
        resolution: multiples(256, 64),
        build: arch::mobilevit::build,
        ..MORE
    },
    Architecture {
        name: "yolo-v8n",
        summary: "a detector: boxes and scores at three resolutions",
        paper: "Jocher et al. 2023, Ultralytics YOLO",
        resolution: multiples(640, 32),
        classes: classes(80),
        output: "detections",
        build: arch::yolo_v8::build,
        ..MORE
    },
    Architecture {
        name: "unet-small",
        summary: "segmentation: down to a sixteenth and up again",
        paper: "Ronneberger et al. 2015, arXiv:1505.04597, and PyTorch Hub",
        resolution: multiples(256, 16),
        classes: classes(1),
        output: "masks",
        build: arch::unet::build,
        ..MORE
    },
    Architecture {
        name: "espcn-x3",
        summary: "super-resolution of one channel",
        paper: "Shi et al. 2016, arXiv:1609.05158",
        resolution: pixels(224, 8),
        classes: None,
        channels: 1,
        output: "picture",
        build: arch::espcn::build,
        ..MORE
    },
    Architecture {
        name: "crnn",
        summary: "reads a line of text, 32 pixels high",
        paper: "Shi et al. 2017, arXiv:1507.05717",
        resolution: pixels(100, 8),
        classes: classes(37),
        channels: 1,
        height: Some(32),
        build: arch::crnn::build,
        ..MORE
    },
];
