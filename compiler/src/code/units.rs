//! How finely what has no kernel of its own is cut into units of work: loop nests and routines alike.

/// Scalar operations of a unit below which cutting further does not pay: about a microsecond of a thread, beside which claiming a
/// unit and setting up its loops have to stay small.
pub(crate) const UNIT_WORK: usize = 4096;

/// Units beyond which finer cutting does not help: enough for any number of threads to share them evenly. The number is the same on
/// every machine, since a plan may not depend on the cores that will run it.
pub(crate) const ENOUGH_UNITS: usize = 64;
