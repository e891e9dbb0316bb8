"""What code for onnxruntime asks about the machine and sets for the whole process."""

from nnc._nnc import __version__

_PROVIDER = "CPUExecutionProvider"


def get_available_providers() -> list[str]:
    """What can run models: the processor."""
    return [_PROVIDER]


def get_all_providers() -> list[str]:
    """What can run models: the processor."""
    return [_PROVIDER]


def get_device() -> str:
    """What runs models: the processor."""
    return "CPU"


def get_version_string() -> str:
    """nnc's version."""
    return __version__


def get_build_info() -> str:
    """What this is."""
    return f"nnc {__version__}"


def set_default_logger_severity(severity: int) -> None:
    """Has no effect: what nnc has to say goes to the logger `nnc` of Python's `logging`."""


def set_default_logger_verbosity(verbosity: int) -> None:
    """Has no effect: what nnc has to say goes to the logger `nnc` of Python's `logging`."""


def set_seed(seed: int) -> None:
    """Has no effect: nothing that nnc runs is random."""


def enable_telemetry_events() -> None:
    """Has no effect: nnc tells nobody anything."""


def disable_telemetry_events() -> None:
    """Has no effect: nnc tells nobody anything."""
