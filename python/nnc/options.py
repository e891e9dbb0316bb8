"""Options of sessions and runs, as code for onnxruntime sets them.

nnc takes the number of threads, dims by name, and what is to become of denormals. All other options are accepted and have no effect:
a session says so, once for each, to the logger `nnc`. Those that ask for a file nnc does not write are a warning.
"""

from enum import IntEnum
from typing import Any

from nnc.errors import SettingError


class GraphOptimizationLevel(IntEnum):
    """How much is optimised. nnc always does all it can."""

    ORT_DISABLE_ALL = 0
    ORT_ENABLE_BASIC = 1
    ORT_ENABLE_EXTENDED = 2
    ORT_ENABLE_LAYOUT = 3
    ORT_ENABLE_ALL = 99


class ExecutionMode(IntEnum):
    """In what order nodes run. nnc runs one after the other, each on all threads."""

    ORT_SEQUENTIAL = 0
    ORT_PARALLEL = 1


class ExecutionOrder(IntEnum):
    """By what the order of nodes is chosen. nnc chooses it for memory."""

    DEFAULT = 0
    PRIORITY_BASED = 1
    MEMORY_EFFICIENT = 2


class _Options:
    """Attributes with defaults, and no others."""

    _defaults: dict[str, Any] = {}

    def __init__(self) -> None:
        for name, value in self._defaults.items():
            object.__setattr__(self, name, value)
        object.__setattr__(self, "_entries", {})

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self._defaults:
            raise AttributeError(f"{type(self).__name__} has no option {name!r}; it has {', '.join(self._defaults)}")
        object.__setattr__(self, name, value)

    def _changed(self) -> dict[str, Any]:
        values = {name: getattr(self, name) for name in self._defaults}
        return {name: value for name, value in values.items() if value != self._defaults[name]}


_DENORMALS = "session.set_denormal_as_zero"


class SessionOptions(_Options):
    """Options of a session."""

    _defaults = {
        "enable_cpu_mem_arena": True,
        "enable_mem_pattern": True,
        "enable_mem_reuse": True,
        "enable_profiling": False,
        "execution_mode": ExecutionMode.ORT_SEQUENTIAL,
        "execution_order": ExecutionOrder.DEFAULT,
        "graph_optimization_level": GraphOptimizationLevel.ORT_ENABLE_ALL,
        "inter_op_num_threads": 0,
        "intra_op_num_threads": 0,
        "log_severity_level": -1,
        "log_verbosity_level": 0,
        "logid": "",
        "optimized_model_filepath": "",
        "profile_file_prefix": "onnxruntime_profile_",
        "use_deterministic_compute": False,
        "use_per_session_threads": True,
    }
    enable_cpu_mem_arena: bool
    enable_mem_pattern: bool
    enable_mem_reuse: bool
    enable_profiling: bool
    execution_mode: ExecutionMode
    execution_order: ExecutionOrder
    graph_optimization_level: GraphOptimizationLevel
    inter_op_num_threads: int
    intra_op_num_threads: int
    log_severity_level: int
    log_verbosity_level: int
    logid: str
    optimized_model_filepath: str
    profile_file_prefix: str
    use_deterministic_compute: bool
    use_per_session_threads: bool
    _entries: dict[str, str]
    _dims: dict[str, int]

    def __init__(self) -> None:
        super().__init__()
        object.__setattr__(self, "_dims", {})

    def add_free_dimension_override_by_name(self, name: str, extent: int) -> None:
        """Binds a named dim of the model's inputs."""
        self._dims[name] = extent

    def add_session_config_entry(self, key: str, value: str) -> None:
        """Sets an entry of the configuration."""
        self._entries[key] = value

    def get_session_config_entry(self, key: str) -> str:
        """An entry of the configuration that was set."""
        if key not in self._entries:
            raise SettingError(f"no entry {key!r} was set; add_session_config_entry sets one")
        return self._entries[key]

    def register_custom_ops_library(self, path: str) -> None:
        """Is refused: operators come with nnc, or from functions in the model."""
        raise SettingError(f"nnc cannot call operators of {path!r}; define them as functions in the model, or end it before them with until")

    def without_effect(self) -> list[str]:
        """What was set and has no effect here."""
        taken = {"intra_op_num_threads", "enable_profiling", "optimized_model_filepath"}
        options = [f"{name} = {value!r}" for name, value in self._changed().items() if name not in taken]
        return options + [f"{key} = {value!r}" for key, value in self._entries.items() if key != _DENORMALS]

    def asks_for(self) -> list[str]:
        """What was set that asks for a file that nnc does not write."""
        return [name for name in ("enable_profiling", "optimized_model_filepath") if getattr(self, name)]

    def _settings(self) -> dict[str, Any]:
        """What the compiler is asked for."""
        settings: dict[str, Any] = {"dims": dict(self._dims)} if self._dims else {}
        if self._entries.get(_DENORMALS) == "0":
            settings["keep_denormals"] = True
        return settings


class RunOptions(_Options):
    """Options of a run. None has an effect."""

    _defaults = {
        "log_severity_level": -1,
        "log_verbosity_level": 0,
        "logid": "",
        "only_execute_path_to_fetches": False,
        "terminate": False,
        "training_mode": False,
    }
    log_severity_level: int
    log_verbosity_level: int
    logid: str
    only_execute_path_to_fetches: bool
    terminate: bool
    training_mode: bool
    _entries: dict[str, str]

    def add_run_config_entry(self, key: str, value: str) -> None:
        """Sets an entry of the configuration."""
        self._entries[key] = value

    def get_run_config_entry(self, key: str) -> str:
        """An entry of the configuration that was set."""
        if key not in self._entries:
            raise SettingError(f"no entry {key!r} was set; add_run_config_entry sets one")
        return self._entries[key]
