"""`InferenceSession`: a model that runs on arrays, with the methods that code for onnxruntime calls."""

from __future__ import annotations

import logging
import os
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nnc import _nnc
from nnc.arrays import Array
from nnc.binding import ONNX_NAMES, IOBinding, OrtValue
from nnc.environment import get_available_providers
from nnc.errors import ModelError, SettingError
from nnc.options import RunOptions, SessionOptions

_LOGGER = logging.getLogger("nnc")
_ELF = b"\x7fELF"
#: What onnxruntime's sessions are asked for beside options, and has no effect.
_IGNORED = {"disabled_optimizers", "enable_fallback", "read_config_from_model"}


@dataclass(frozen=True)
class NodeArg:
    """An input or output: its shape has numbers, names of dims, and None for dims without a name."""

    name: str
    type: str
    shape: list[int | str | None]


@dataclass(frozen=True)
class ModelMetadata:
    """What a model says about itself."""

    producer_name: str = ""
    producer_version: str = ""
    domain: str = ""
    version: int = 0
    description: str = ""
    graph_name: str = ""
    graph_description: str = ""
    custom_metadata_map: dict[str, str] = field(default_factory=dict)


def _ports(declared: list[_nnc.Declared]) -> list[NodeArg]:
    return [NodeArg(name, ONNX_NAMES.get(kind or "", ""), list(dims or [])) for name, kind, dims in declared]


class InferenceSession:
    """A model that runs on arrays. Any number of threads may call one session at once.

    A model whose shapes are all known is compiled when the session is made; one with open dims when a run has new shapes. Weights
    are in memory once, whatever the number of shapes. `SessionOptions.intra_op_num_threads` is the number of threads; sessions that
    ask for the same number share them.

    The keywords are those of `nnc.compile`; `cache` names a folder that keeps what was compiled for the next process. A folder's
    programs run as code: only those whom you trust may be able to write there.
    """

    def __init__(
        self,
        path_or_bytes: str | os.PathLike[str] | bytes,
        sess_options: SessionOptions | None = None,
        providers: Sequence[str | tuple[str, Mapping[str, Any]]] | None = None,
        provider_options: Sequence[Mapping[str, Any]] | None = None,
        *,
        shapes: Mapping[str, Sequence[int]] | None = None,
        dims: Mapping[str, int] | None = None,
        constants: Mapping[str, Any] | None = None,
        until: Sequence[str] | None = None,
        target: str | None = None,
        limits: Mapping[str, float] | None = None,
        cache: str | os.PathLike[str] | None = None,
        keep_denormals: bool = False,
        clamp_indices: bool = False,
        compile_threads: int | None = None,
        **ignored: Any,
    ) -> None:
        unknown = set(ignored) - _IGNORED
        if unknown:
            raise TypeError(f"InferenceSession takes no keyword {', '.join(sorted(unknown))}")
        self._options = sess_options or SessionOptions()
        _say(self._options, providers)
        asked = self._options._settings()
        keywords = {
            "shapes": shapes and {name: list(shape) for name, shape in shapes.items()},
            "dims": {**asked.pop("dims", {}), **(dims or {})},
            "constants": constants and dict(constants),
            "until": until and list(until),
            "target": target,
            "limits": limits and dict(limits),
            "cache": cache and os.fspath(cache),
            "keep_denormals": keep_denormals,
            "clamp_indices": clamp_indices,
            "compile_threads": compile_threads,
            **asked,
        }
        self._keywords = {name: value for name, value in keywords.items() if value}
        self._source = _source(path_or_bytes)
        self._session = _nnc.Session.open(self._source, self._options.intra_op_num_threads, self._keywords)
        if isinstance(self._source, bytes):
            # The model has them, too, and is asked for them if need be.
            self._source = b""

    @classmethod
    def _load(cls, source: str | bytes, options: SessionOptions) -> InferenceSession:
        """A compiled program; `nnc.load` says what that trusts."""
        session = cls.__new__(cls)
        _say(options, None)
        session._options, session._keywords, session._source = options, {}, source
        session._session = _nnc.Session.load(source, options.intra_op_num_threads)
        return session

    def run(
        self,
        output_names: Sequence[str] | None,
        input_feed: Mapping[str, Any],
        run_options: RunOptions | None = None,
        *,
        out: Mapping[str, Array] | None = None,
    ) -> list[Any]:
        """Runs the model on arrays by name; returns the named outputs, or all.

        Dense arrays in row-major order are read where they lie; others are copied, as are nested lists of numbers. Tensors that
        export their memory by DLPack are read where they lie, too. `out` gives arrays for outputs by name: they are written there
        and returned. Other threads of Python go on while the model runs; they must leave these arrays alone.
        """
        feed = input_feed if type(input_feed) is dict else dict(input_feed)
        return self._session.run(feed, output_names and list(output_names), out and dict(out))

    def run_async(
        self,
        output_names: Sequence[str] | None,
        input_feed: Mapping[str, Any],
        callback: Callable[[list[Any], Any, str], Any],
        user_data: Any,
        run_options: RunOptions | None = None,
    ) -> None:
        """Runs the model on a thread of its own, which calls `callback(outputs, user_data, error)`; the error is empty if all went well."""

        def work() -> None:
            try:
                outputs, error = self.run(output_names, input_feed), ""
            except Exception as raised:
                outputs, error = [], str(raised)
            callback(outputs, user_data, error)

        threading.Thread(target=work, name="nnc-run").start()

    def run_with_ort_values(
        self,
        output_names: Sequence[str] | None,
        input_dict_ort_values: Mapping[str, OrtValue],
        run_options: RunOptions | None = None,
    ) -> list[OrtValue]:
        """The same with values."""
        feed = {name: value.numpy() for name, value in input_dict_ort_values.items()}
        return [OrtValue(result) for result in self.run(output_names, feed)]

    def io_binding(self) -> IOBinding:
        """Inputs and outputs to bind."""
        return IOBinding(self)

    def run_with_iobinding(self, iobinding: IOBinding, run_options: RunOptions | None = None) -> None:
        """Runs the model on what is bound."""
        iobinding._run()

    def get_inputs(self) -> list[NodeArg]:
        """The inputs, in the model's order."""
        return _ports(self._session.inputs)

    def get_outputs(self) -> list[NodeArg]:
        """The outputs, in the model's order."""
        return _ports(self._session.outputs)

    def get_overridable_initializers(self) -> list[NodeArg]:
        """Inputs with a default that a run may give: none, as they are constants of the code."""
        return []

    def get_modelmeta(self) -> ModelMetadata:
        """What the model says about itself; a compiled program says nothing."""
        return ModelMetadata(**self._session.about)

    def get_session_options(self) -> SessionOptions:
        """The options that it was made with."""
        return self._options

    def get_providers(self) -> list[str]:
        """What runs it: the processor."""
        return get_available_providers()

    def get_provider_options(self) -> dict[str, dict[str, str]]:
        """Options of what runs it: none."""
        return {name: {} for name in get_available_providers()}

    def set_providers(self, providers: Sequence[Any] | None = None, provider_options: Sequence[Any] | None = None) -> None:
        """Has no effect: the processor runs it."""
        _say(SessionOptions(), providers)

    def enable_fallback(self) -> None:
        """Has no effect: there is nothing to fall back to."""

    def disable_fallback(self) -> None:
        """Has no effect: there is nothing to fall back to."""

    def end_profiling(self) -> str:
        """Is refused."""
        raise SettingError("sessions write no profile; `nnc profile MODEL` shows the time of each layer")

    @property
    def usage(self) -> dict[str, int]:
        """How many programs are kept, the bytes of their weights, how many were compiled, and how many let go."""
        return self._session.usage

    def __repr__(self) -> str:
        ports = [", ".join(port.name for port in ports) for ports in (self.get_inputs(), self.get_outputs())]
        return f"<nnc.InferenceSession ({ports[0]}) -> ({ports[1]}), {self._session.threads} threads>"

    def __reduce__(self) -> tuple[Callable[..., InferenceSession], tuple[Any, ...]]:
        source = self._source or self._session.model_bytes()
        return _restore, (type(self), source, self._options, self._keywords, self._session.is_program)


def _restore(
    cls: type[InferenceSession],
    source: str | bytes,
    options: SessionOptions,
    keywords: dict[str, Any],
    is_program: bool,
) -> InferenceSession:
    """A session that was pickled: a worker process reads and compiles the model anew."""
    return cls._load(source, options) if is_program else cls(source, options, **keywords)


def _source(path_or_bytes: str | os.PathLike[str] | bytes) -> str | bytes:
    if isinstance(path_or_bytes, (bytes, bytearray, memoryview)):
        source: str | bytes = bytes(path_or_bytes)
        start, name = source[:4], "these bytes"
    elif isinstance(path_or_bytes, (str, os.PathLike)):
        # A worker process may have another working directory.
        source = os.path.abspath(os.fspath(path_or_bytes))
        name = f'"{source}"'
        try:
            with open(source, "rb") as file:
                start = file.read(4)
        except OSError as error:
            raise ModelError(f"cannot read {name}: {error.strerror or error}") from error
    else:
        raise TypeError(f"a model is the path of a file or its bytes, not {type(path_or_bytes).__name__}")
    if start == _ELF:
        raise ModelError(f"{name} is no model but a compiled program; load it with nnc.load, which runs its code")
    return source


_said: set[str] = set()


def _say(options: SessionOptions, providers: Sequence[Any] | None) -> None:
    """Says what has no effect, each once in a process."""
    names = [provider if isinstance(provider, str) else provider[0] for provider in providers or []]
    others = [name for name in names if name not in get_available_providers()]
    notes = [f"the option {option} has no effect" for option in options.without_effect()]
    notes += [f"there is no {name}; the processor runs the model" for name in others]
    for note in notes:
        if note not in _said:
            _said.add(note)
            _LOGGER.info(note)
    for name in options.asks_for():
        if name not in _said:
            _said.add(name)
            warnings.warn(f"nnc writes no file for {name}", stacklevel=3)
