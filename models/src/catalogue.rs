//! Which architectures there are, which options they have, and how a specification is checked against that.

mod table;

use std::fmt;
use std::ops::{RangeInclusive, Rem};

use crate::builder::{Map, Net, Tensor};
use crate::{Error, Spec};

pub(crate) use table::ARCHITECTURES;

/// One architecture and its options.
#[derive(Debug)]
pub struct Architecture {
    /// What `Spec::name` says.
    pub name: &'static str,
    /// What it is, in one line.
    pub summary: &'static str,
    /// Where it was published.
    pub paper: &'static str,
    /// Which networks it belongs to.
    pub family: Family,
    /// Width multipliers, if it has any.
    pub width: Option<Choice<f64>>,
    /// Height and width of the input, in pixels; of a line of text, its width.
    pub resolution: Choice<usize>,
    /// Groups of its grouped convolutions, if it has any.
    pub groups: Option<Choice<usize>>,
    /// Number of classes, if it tells any apart.
    pub classes: Option<Choice<usize>>,
    /// What its output is called.
    pub output: &'static str,
    /// Channels of the input.
    channels: usize,
    /// Height of the input, where it is always the same.
    height: Option<usize>,
    build: fn(&mut Net, &Map, &Config) -> Tensor,
}

/// Which networks an architecture belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// The compact convolutional networks that nnc began with.
    Seed,
    /// Larger convolutional networks.
    Large,
    /// What came after them: gates, attention, recurrence, other tasks than classification.
    More,
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
    /// The multiples of a number in between, both ends included.
    Multiples(T, RangeInclusive<T>),
}

impl<T: fmt::Display> fmt::Display for Allowed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OneOf(values) => {
                let words: Vec<String> = values.iter().map(T::to_string).collect();
                f.write_str(&words.join(", "))
            }
            Self::Within(range) => write!(f, "{} to {}", range.start(), range.end()),
            Self::Multiples(of, range) => {
                write!(f, "multiples of {of} from {} to {}", range.start(), range.end())
            }
        }
    }
}

/// What an option's value can be.
trait Value: Copy + PartialOrd + fmt::Display + Default + Rem<Output = Self> {}

impl<T: Copy + PartialOrd + fmt::Display + Default + Rem<Output = T>> Value for T {}

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
            classes: self.optional("classes", &self.classes, spec.classes)?.unwrap_or(1),
        })
    }

    /// The shape of the input at a resolution: batch, channels, height, width.
    pub fn input(&self, resolution: usize) -> [usize; 4] {
        [1, self.channels, self.height.unwrap_or(resolution), resolution]
    }

    pub(crate) fn build(&self, net: &mut Net, input: &Map, config: &Config) -> Tensor {
        (self.build)(net, input, config)
    }

    fn optional<T: Value>(
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

    fn decide<T: Value>(
        &self,
        option: &'static str,
        choice: &Choice<T>,
        value: Option<T>,
    ) -> Result<T, Error> {
        let value = value.unwrap_or(choice.default);
        let fits = match &choice.allowed {
            Allowed::OneOf(values) => values.contains(&value),
            Allowed::Within(range) => range.contains(&value),
            Allowed::Multiples(of, range) => range.contains(&value) && value % *of == T::default(),
        };
        if fits {
            return Ok(value);
        }
        let allowed = match &choice.allowed {
            Allowed::OneOf(_) => format!("one of {}", choice.allowed),
            Allowed::Within(_) | Allowed::Multiples(..) => choice.allowed.to_string(),
        };
        Err(Error::ValueOutOfRange { model: self.name, option, value: value.to_string(), allowed })
    }

    fn options(&self) -> String {
        let width = if self.width.is_some() { "width, " } else { "" };
        let groups = if self.groups.is_some() { "groups, " } else { "" };
        let classes = if self.classes.is_some() { ", classes" } else { "" };
        format!(" (it has {width}{groups}resolution{classes} and seed)")
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
