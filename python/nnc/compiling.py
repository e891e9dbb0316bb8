"""Compiling beforehand, and loading what was compiled."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from nnc import _nnc
from nnc.options import SessionOptions
from nnc.session import InferenceSession, _source


def compile(
    model: str | os.PathLike[str] | bytes,
    output: str | os.PathLike[str] | None = None,
    *,
    name: str | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    dims: Mapping[str, int] | None = None,
    constants: Mapping[str, Any] | None = None,
    until: Sequence[str] | None = None,
    target: str | None = None,
    limits: Mapping[str, float] | None = None,
    keep_denormals: bool = False,
    clamp_indices: bool = False,
    compile_threads: int | None = None,
) -> bytes:
    """Compiles a model to the bytes of an artefact: a shared object with code and weights, for `load`, `nnc run`, and hosts in Rust and C.

    Args:
        model: A file, or its bytes.
        output: A file that the artefact is written to. It is written whole or not at all.
        name: What C knows the program by; else the name of the model's file, made an identifier.
        shapes: Shapes of inputs that the model leaves open.
        dims: Extents of dims by name.
        constants: Inputs that become constants of the program: those that decide shapes have to.
        until: Names of values or nodes at which the program ends.
        target: What to compile for, one of `nnc.targets()`; else the machine at hand.
        limits: How much a model may ask for, by the names of `nnc::Limits`: `{"arena_bytes": 1 << 32}`.
        keep_denormals: Compute with numbers nearer to zero than 2**-126 instead of taking them for zero.
        clamp_indices: Take the nearest element where an index of the data leads outside, instead of refusing the run.
        compile_threads: Threads that compile; else one for each core. The program is the same.
    """
    settings = {
        "shapes": shapes and {name: list(shape) for name, shape in shapes.items()},
        "dims": dims and dict(dims),
        "constants": constants and dict(constants),
        "until": until and list(until),
        "target": target,
        "limits": limits and dict(limits),
        "keep_denormals": keep_denormals,
        "clamp_indices": clamp_indices,
        "compile_threads": compile_threads,
    }
    settings = {name: value for name, value in settings.items() if value}
    file = os.path.basename(os.fspath(output)) if output is not None else None
    artefact = _nnc.compile(_source(model), name, file, settings)
    if output is not None:
        _write(os.fspath(output), artefact)
    return artefact


def load(artefact: str | os.PathLike[str] | bytes, sess_options: SessionOptions | None = None) -> InferenceSession:
    """Loads what `compile` or `nnc compile` wrote, without compiling.

    The artefact's code will run in this process. It is verified that it is whole, undamaged, of this version and for this
    processor; not who wrote it. Load artefacts only from those whom you trust.
    """
    source = artefact if isinstance(artefact, bytes) else os.path.abspath(os.fspath(artefact))
    return InferenceSession._load(source, sess_options or SessionOptions())


def _write(path: str, content: bytes) -> None:
    """Writes a file whole or not at all."""
    handle, part = tempfile.mkstemp(dir=os.path.dirname(os.path.abspath(path)), prefix=os.path.basename(path), suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(part, 0o666 & ~mask)
        os.replace(part, path)
    except BaseException:
        os.unlink(part)
        raise
