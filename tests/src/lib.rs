//! Shared helpers of the test suites.

pub mod addresses;
pub mod caught;
pub mod fuzz;
pub mod goldens;
pub mod onnx_cases;
pub mod pipeline;
pub mod serve;
#[path = "../../runtime/tests/common/watchdog.rs"]
pub mod watchdog;
