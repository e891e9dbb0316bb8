//! What can be wrong with a tile program or its lowering.

use super::ir::{ByteRange, ParamRole};

/// Why a tile program was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TileError {
    /// An instruction names a register or parameter that does not exist or has another type.
    #[error("tile \"{program}\": {what} does not exist or has another type; build programs with `Builder`")]
    BadRegister {
        /// The program's name.
        program: String,
        /// The register.
        what: String,
    },
    /// A register is read before it is written on some path.
    #[error("tile \"{program}\": {what} is read before it is written")]
    Undefined {
        /// The program's name.
        program: String,
        /// The register.
        what: String,
    },
    /// An operand is narrower than the result.
    #[error("tile \"{program}\": {what} has {found} lanes where {wanted} are read")]
    Width {
        /// The program's name.
        program: String,
        /// The register.
        what: String,
        /// Lanes that it has.
        found: u32,
        /// Lanes that are read.
        wanted: u32,
    },
    /// A constant of an instruction is out of its range.
    #[error("tile \"{program}\": {what} is out of range")]
    BadConstant {
        /// The program's name.
        program: String,
        /// The constant.
        what: String,
    },
    /// A program touches memory beyond the stated range of a parameter.
    #[error(
        "tile \"{program}\": touches bytes {}..{} of {role:?} but may touch only {}..{}; \
         check displacements and loop counts",
        touched.lo, touched.hi, allowed.lo, allowed.hi
    )]
    OutOfExtent {
        /// The program's name.
        program: String,
        /// The parameter.
        role: ParamRole,
        /// What the program touches at the largest counts.
        touched: ByteRange,
        /// What the parameter allows.
        allowed: ByteRange,
    },
    /// A program writes to memory that it may only read.
    #[error("tile \"{program}\": writes to {role:?}, which is read only")]
    WritesReadOnly {
        /// The program's name.
        program: String,
        /// The parameter.
        role: ParamRole,
    },
    /// More vector registers are live at once than the target has.
    #[error(
        "tile \"{program}\": needs more than the {available} vector registers of {isa}; choose a smaller tile"
    )]
    VectorPressure {
        /// The program's name.
        program: String,
        /// The instruction set.
        isa: &'static str,
        /// Number of vector registers.
        available: u32,
    },
    /// More integer registers are live at once than a leaf function may use.
    #[error("tile \"{program}\": needs more than the {available} integer registers that a leaf may use")]
    IntPressure {
        /// The program's name.
        program: String,
        /// Number of integer registers.
        available: u32,
    },
    /// A program uses more different partial widths than there are mask registers.
    #[error("tile \"{program}\": uses more than 7 different partial widths")]
    MaskPressure {
        /// The program's name.
        program: String,
    },
    /// The target has no matrix registers.
    #[error(
        "tile \"{program}\": needs matrix registers, which the target does not have; choose another kernel"
    )]
    NoMatrices {
        /// The program's name.
        program: String,
    },
    /// A descriptor does not describe a kernel.
    #[error("tile \"{program}\": {what}")]
    Descriptor {
        /// The kernel's name.
        program: String,
        /// What is wrong, and what to do.
        what: String,
    },
    /// An encoder or code generator refused the code. A defect of this compiler.
    #[error("tile \"{program}\": cannot be encoded: {message}")]
    Encode {
        /// The program's name.
        program: String,
        /// What the encoder said.
        message: String,
    },
    /// The module refused the function.
    #[error("tile \"{program}\": cannot be defined in the module: {message}")]
    Define {
        /// The program's name.
        program: String,
        /// What the module said.
        message: String,
    },
    /// The interpreter was given arguments that do not fit the program, or a program left its buffers.
    #[error("tile \"{program}\": {message}")]
    Interpret {
        /// The program's name.
        program: String,
        /// What went wrong.
        message: String,
    },
}
