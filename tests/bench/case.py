"""What a row of the tables measures: a model, its inputs, and how near to the reference's its outputs must be."""

import dataclasses
import json
import pathlib
import subprocess

import engines


@dataclasses.dataclass
class Case:
    name: str
    onnx: pathlib.Path
    """The model. Files beside it, with other suffixes, are the case's own."""
    inputs: dict
    """An array for each of the model's inputs, by its name."""
    kind: str = ""
    """What rows are grouped by, if they are."""
    macc: int = 0
    """Multiply-accumulates of the model."""
    tolerance: float = 1e-3
    """The largest difference allowed, of the largest absolute value of an output."""
    by_rms: bool = False
    """Whether the root of the mean square is held against that, in place of the largest difference."""
    steps: int = 0
    """The largest difference allowed of integers."""
    least: float = 0.0
    """What the largest value counts as at least: 1 for probabilities, all of which may be next to 0."""
    binding: list = dataclasses.field(default_factory=list)
    """Options of nnc's commands that bind what the model leaves open, or tell the precision."""
    precision: str = "f32"
    """One of `precisions.py`."""
    f32: "Case | None" = None
    """The same in f32, if this one is not."""

    @property
    def reference(self):
        """The engine that has the right outputs."""
        return engines.REFERENCE if self.precision == "f32" else engines.JUDGE

    def __post_init__(self):
        import numpy as np

        self.file = self.onnx.with_suffix(".npz")
        np.savez(self.file, **self.inputs)


def macc(nnc, onnx, binding=()):
    """Multiply-accumulates as nnc counts them; 0 if it refuses the model, which compiling it will tell."""
    try:
        return inspect(nnc, onnx, binding)["totals"]["macc"]
    except subprocess.CalledProcessError:
        return 0


def inspect(nnc, onnx, binding=()):
    """What `nnc` tells of a model: `inputs`, and in `totals` the multiply-accumulates, `macc`."""
    told = subprocess.run([nnc, "inspect", "--json", onnx, *binding], check=True, capture_output=True, text=True)
    return json.loads(told.stdout)
