//! Which architectures there are, which options they have, and how a specification is checked against that.

use std::fmt;
use std::ops::RangeInclusive;

use crate::arch;
use crate::builder::{Features, Map, Net};
use crate::{Error, Spec};

/// One architecture and its options.
#[derive(Debug)]
pub struct Architecture {
    /// What `Spec::name` says.
    pub name: &'static str,
    /// What it is, in one line.
    pub summary: &'static str,
    /// Where it was published.
    pub paper: &'static str,
    /// Width multipliers, if it has any.
    pub width: Option<Choice<f64>>,
    /// Height and width of the input, in pixels.
    pub resolution: Choice<usize>,
    /// Groups of its grouped convolutions, if it has any.
    pub groups: Option<Choice<usize>>,
    /// Number of classes.
    pub classes: Choice<usize>,
    build: fn(&mut Net, &Map, &Config) -> Features,
}

/// The values that an option can have.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice<T: 'static> {
    /// What it is unless the specification says otherwise.
    pub default: T,
    /// What it may be.
    pub allowed: Allowed<T>,
}

/// The values that are allowed.
#[derive(Debug, Clone, PartialEq)]
pub enum Allowed<T: 'static> {
    /// One of these.
    OneOf(&'static [T]),
    /// Anything in between, both ends included.
    Within(RangeInclusive<T>),
}

impl<T: fmt::Display> fmt::Display for Allowed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OneOf(values) => {
                let words: Vec<String> = values.iter().map(T::to_string).collect();
                f.write_str(&words.join(", "))
            }
            Self::Within(range) => write!(f, "{} to {}", range.start(), range.end()),
        }
    }
}

/// A specification with every option decided. An option that the architecture lacks has a neutral value.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) width: f64,
    pub(crate) resolution: usize,
    pub(crate) groups: usize,
    pub(crate) classes: usize,
}

impl Architecture {
    /// The architecture with this name.
    pub(crate) fn find(name: &str) -> Result<&'static Self, Error> {
        ARCHITECTURES.iter().find(|a| a.name == name).ok_or_else(|| unknown(name))
    }

    /// Checks a specification and fills in what it leaves open.
    pub(crate) fn configure(&self, spec: &Spec) -> Result<Config, Error> {
        Ok(Config {
            width: self.optional("width", &self.width, spec.width)?.unwrap_or(1.0),
            resolution: self.decide("resolution", &self.resolution, spec.resolution)?,
            groups: self.optional("groups", &self.groups, spec.groups)?.unwrap_or(1),
            classes: self.decide("classes", &self.classes, spec.classes)?,
        })
    }

    pub(crate) fn build(&self, net: &mut Net, input: &Map, config: &Config) -> Features {
        (self.build)(net, input, config)
    }

    fn optional<T: Copy + PartialOrd + fmt::Display>(
        &self,
        option: &'static str,
        choice: &Option<Choice<T>>,
        value: Option<T>,
    ) -> Result<Option<T>, Error> {
        match (choice, value) {
            (Some(choice), value) => self.decide(option, choice, value).map(Some),
            (None, None) => Ok(None),
            (None, Some(_)) => {
                Err(Error::OptionDoesNotApply { model: self.name, option, hint: self.options() })
            }
        }
    }

    fn decide<T: Copy + PartialOrd + fmt::Display>(
        &self,
        option: &'static str,
        choice: &Choice<T>,
        value: Option<T>,
    ) -> Result<T, Error> {
        let value = value.unwrap_or(choice.default);
        let fits = match &choice.allowed {
            Allowed::OneOf(values) => values.contains(&value),
            Allowed::Within(range) => range.contains(&value),
        };
        if fits {
            return Ok(value);
        }
        let allowed = match &choice.allowed {
            Allowed::OneOf(_) => format!("one of {}", choice.allowed),
            Allowed::Within(_) => choice.allowed.to_string(),
        };
        Err(Error::ValueOutOfRange { model: self.name, option, value: value.to_string(), allowed })
    }

    fn options(&self) -> String {
        let width = if self.width.is_some() { "width, " } else { "" };
        let groups = if self.groups.is_some() { "groups, " } else { "" };
        format!(" (it has {width}{groups}resolution, classes and seed)")
    }
}

fn unknown(name: &str) -> Error {
    let wanted = simplified(name);
    let nearest = ARCHITECTURES
        .iter()
        .map(|a| (strsim::levenshtein(&wanted, &simplified(a.name)), a.name))
        .min()
        .filter(|(distance, _)| *distance <= wanted.len().max(3) / 3);
    let hint = match nearest {
        Some((_, right)) => format!("did you mean \"{right}\"?"),
        None => {
            let names: Vec<&str> = ARCHITECTURES.iter().map(|a| a.name).collect();
            format!("choose one of {}", names.join(", "))
        }
    };
    Error::UnknownModel { name: name.into(), hint }
}

/// Lower case, without punctuation: "MobileNet_V2" and "mobilenet-v2" are the same.
fn simplified(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

const CLASSES: Choice<usize> = Choice { default: 1000, allowed: Allowed::Within(1..=100_000) };

const fn pixels(default: usize, least: usize) -> Choice<usize> {
    Choice { default, allowed: Allowed::Within(least..=4096) }
}

const ANY_WIDTH: Option<Choice<f64>> = Some(Choice { default: 1.0, allowed: Allowed::Within(0.1..=4.0) });
const SHUFFLENET_WIDTH: Option<Choice<f64>> =
    Some(Choice { default: 1.0, allowed: Allowed::OneOf(&[0.5, 1.0, 1.5, 2.0]) });

/// All architectures: the compact ones first, then what they are compared with.
pub(crate) static ARCHITECTURES: &[Architecture] = &[
    Architecture {
        name: "mobilenet-v1",
        summary: "depthwise-separable convolutions",
        paper: "Howard et al. 2017, arXiv:1704.04861",
        width: ANY_WIDTH,
        resolution: pixels(224, 32),
        groups: None,
        classes: CLASSES,
        build: arch::mobilenet_v1::build,
    },
    Architecture {
        name: "mobilenet-v2",
        summary: "inverted residuals and linear bottlenecks",
        paper: "Sandler et al. 2018, arXiv:1801.04381",
        width: ANY_WIDTH,
        resolution: pixels(224, 32),
        groups: None,
        classes: CLASSES,
        build: arch::mobilenet_v2::build,
    },
    Architecture {
        name: "squeezenet-1.0",
        summary: "fire modules after a 7x7 stem",
        paper: "Iandola et al. 2016, arXiv:1602.07360",
        width: None,
        resolution: pixels(224, 32),
        groups: None,
        classes: CLASSES,
        build: arch::squeezenet::build_1_0,
    },
    Architecture {
        name: "squeezenet-1.1",
        summary: "fire modules after a 3x3 stem, pooling earlier",
        paper: "Iandola et al. 2016, arXiv:1602.07360 and the authors' repository",
        width: None,
        resolution: pixels(224, 32),
        groups: None,
        classes: CLASSES,
        build: arch::squeezenet::build_1_1,
    },
    Architecture {
        name: "shufflenet-v1",
        summary: "grouped 1x1 convolutions and channel shuffles",
        paper: "Zhang et al. 2017, arXiv:1707.01083",
        width: SHUFFLENET_WIDTH,
        resolution: pixels(224, 32),
        groups: Some(Choice { default: 3, allowed: Allowed::OneOf(&[1, 2, 3, 4, 8]) }),
        classes: CLASSES,
        build: arch::shufflenet_v1::build,
    },
    Architecture {
        name: "shufflenet-v2",
        summary: "channel splits and channel shuffles",
        paper: "Ma et al. 2018, arXiv:1807.11164",
        width: SHUFFLENET_WIDTH,
        resolution: pixels(224, 32),
        groups: None,
        classes: CLASSES,
        build: arch::shufflenet_v2::build,
    },
    Architecture {
        name: "nasnet-a-mobile",
        summary: "searched cells, 4 @ 1056",
        paper: "Zoph et al. 2018, arXiv:1707.07012",
        width: None,
        resolution: pixels(224, 32),
        groups: None,
        classes: CLASSES,
        build: arch::nasnet::build,
    },
    Architecture {
        name: "alexnet",
        summary: "five convolutions and three fully connected layers",
        paper: "Krizhevsky 2014, arXiv:1404.5997",
        width: None,
        resolution: pixels(224, 63),
        groups: None,
        classes: CLASSES,
        build: arch::alexnet::build,
    },
    Architecture {
        name: "resnet-18",
        summary: "basic residual blocks",
        paper: "He et al. 2016, arXiv:1512.03385",
        width: None,
        resolution: pixels(224, 32),
        groups: None,
        classes: CLASSES,
        build: arch::resnet::build_18,
    },
    Architecture {
        name: "resnet-50",
        summary: "bottleneck residual blocks",
        paper: "He et al. 2016, arXiv:1512.03385",
        width: None,
        resolution: pixels(224, 32),
        groups: None,
        classes: CLASSES,
        build: arch::resnet::build_50,
    },
    Architecture {
        name: "densenet-121",
        summary: "dense blocks with normalisation before convolution",
        paper: "Huang et al. 2017, arXiv:1608.06993",
        width: None,
        resolution: pixels(224, 32),
        groups: None,
        classes: CLASSES,
        build: arch::densenet::build,
    },
    Architecture {
        name: "xception",
        summary: "separable convolutions with residual connections",
        paper: "Chollet 2017, arXiv:1610.02357",
        width: None,
        resolution: pixels(299, 32),
        groups: None,
        classes: CLASSES,
        build: arch::xception::build,
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_name_is_answered_with_the_nearest_right_one() {
        let message = |name| unknown(name).to_string();
        assert_eq!(
            message("MobileNetV2"),
            "there is no model \"MobileNetV2\"; did you mean \"mobilenet-v2\"?"
        );
        assert_eq!(message("resnet50"), "there is no model \"resnet50\"; did you mean \"resnet-50\"?");
        assert!(
            message("transformer").contains("choose one of mobilenet-v1, "),
            "{}",
            message("transformer")
        );
    }
}
