"""The engines that are compared, one file each.

A file defines `ENGINE`, how the command sees the engine: what it loads, which process runs it, what it takes on disk.
If that process is Python, the file also has `load(model, inputs, threads, precision)`, which the process calls with an array for
each of the model's inputs, by its name, and with a name of `precisions.py`. It returns an object with two methods: `run()` does one
inference, `outputs()` gives the outputs of the last one.

A new peer is a new file here, and its name in `NAMES`.
"""

import importlib

OURS = "nnc"
REFERENCE = "onnxruntime"
"""Whose outputs the others must agree with, in f32."""

OURS_F32 = "nnc-f32"
JUDGE = "judge"
"""Those that fewer bits bring in: nnc without them, and whose outputs the others' are compared with."""

NAMES = [OURS, REFERENCE, "openvino", "ncnn", "tract", "rten"]


def module(name):
    """The file of an engine. It imports the engine's own library only in `load`."""
    return importlib.import_module("engines." + name.replace("-", "_"))


def peers(rows):
    """The engines of these rows that nnc is compared with, in their order."""
    return [name for name in dict.fromkeys(row["engine"] for row in rows) if name not in (OURS, OURS_F32)]
