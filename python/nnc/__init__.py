"""Compiles ONNX models to native code and runs them on NumPy arrays.

    import nnc as ort                          # instead of: import onnxruntime as ort

    session = ort.InferenceSession("model.onnx")
    (scores,) = session.run(["y"], {"x": picture})

Code is made for the shapes that come along, when they come along; `compile` makes it beforehand, to a file that `load` runs without
compiling. `install_as_onnxruntime` serves packages that import onnxruntime themselves.
"""

from nnc._nnc import __version__, targets
from nnc.binding import IOBinding, OrtDevice, OrtValue
from nnc.compiling import compile, load
from nnc.environment import (
    disable_telemetry_events,
    enable_telemetry_events,
    get_all_providers,
    get_available_providers,
    get_build_info,
    get_device,
    get_version_string,
    set_default_logger_severity,
    set_default_logger_verbosity,
    set_seed,
)
from nnc.errors import ArtefactError, Error, InputError, ModelError, ResourceError, SettingError
from nnc.options import ExecutionMode, ExecutionOrder, GraphOptimizationLevel, RunOptions, SessionOptions
from nnc.session import InferenceSession, ModelMetadata, NodeArg
from nnc.stand_in import install_as_onnxruntime

__all__ = [
    "ArtefactError",
    "Error",
    "ExecutionMode",
    "ExecutionOrder",
    "GraphOptimizationLevel",
    "IOBinding",
    "InferenceSession",
    "InputError",
    "ModelError",
    "ModelMetadata",
    "NodeArg",
    "OrtDevice",
    "OrtValue",
    "ResourceError",
    "RunOptions",
    "SessionOptions",
    "SettingError",
    "__version__",
    "compile",
    "disable_telemetry_events",
    "enable_telemetry_events",
    "get_all_providers",
    "get_available_providers",
    "get_build_info",
    "get_device",
    "get_version_string",
    "install_as_onnxruntime",
    "load",
    "set_default_logger_severity",
    "set_default_logger_verbosity",
    "set_seed",
    "targets",
]
