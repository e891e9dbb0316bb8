//! Why a network cannot be built.

/// An error of [`build`](crate::build): the specification asks for something that does not exist.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No architecture has this name.
    #[error("there is no model \"{name}\"; {hint}")]
    UnknownModel {
        /// The name that was asked for.
        name: String,
        /// The nearest right name, or where to find all names.
        hint: String,
    },
    /// The architecture has no such option.
    #[error("model \"{model}\" has no option {option}; leave it out{hint}")]
    OptionDoesNotApply {
        /// The architecture.
        model: &'static str,
        /// The option: width or groups.
        option: &'static str,
        /// Which options it has instead.
        hint: String,
    },
    /// The option exists, the value does not.
    #[error("model \"{model}\" cannot have {option} {value}; choose {allowed}")]
    ValueOutOfRange {
        /// The architecture.
        model: &'static str,
        /// The option.
        option: &'static str,
        /// The value that was asked for.
        value: String,
        /// The values that exist.
        allowed: String,
    },
    /// The finished model could not be written as protobuf bytes.
    #[error("model \"{model}\" could not be encoded: {reason}; choose fewer classes or a smaller width")]
    Encode {
        /// The architecture.
        model: String,
        /// What the protobuf library says.
        reason: String,
    },
}
