#!/usr/bin/env python3
"""Quantises networks as users do: with onnxruntime's own quantiser, on numbers from a seed.

    python3 tests/bench/quantise.py squeezenet-1.1 resnet-18           u8 activations, s8 weights, QDQ
    python3 tests/bench/quantise.py --scheme qdq-s8 shufflenet-v1-g3   one of the other schemes below
    python3 tests/bench/quantise.py model.onnx -o model.int8.onnx      any model with inputs in f32 of known shapes

    f32 model ─ basic optimisations, shapes ─ ranges of all values over SAMPLES runs ─ quantised model
                 quant_pre_process               quantize_static

The first step is the one that onnxruntime asks for before it quantises; it folds normalisations into convolutions, whose
weights are quantised channel by channel then. Shapes are known, so its symbolic inference would find nothing more.

A quantised model says in its metadata what it was made from, and is made again only if that is not the same any more. The same
model gives the same file, on the same processor: another one's ranges may differ in their last bits.
"""

import argparse
import contextlib
import dataclasses
import hashlib
import logging
import os
import pathlib
import subprocess
import sys

import environment
from networks import NETWORKS

SAMPLES = 4
SEED = 2
"""Not that of the input that is measured with."""

ORIGIN = "quantised from"
"""The key of the metadata."""


@dataclasses.dataclass(frozen=True)
class Scheme:
    """A way to quantise. Weights are s8, symmetric, in all of them, with a scale for each channel, except those of convolutions in
    `dynamic`, whose operator (ConvInteger) knows one for all."""

    what: str
    format: str = "QDQ"
    """`QDQ`: pairs of QuantizeLinear and DequantizeLinear around operators in f32. `QOperator`: QLinearConv and its like.
    `dynamic`: ranges are found in each run; no calibration."""
    activations: str = "u8"
    """`u8` with any zero point, or `s8` with 0."""


SCHEMES = {
    "qdq-u8": Scheme("QDQ, activations u8 with a zero point"),
    "qdq-s8": Scheme("QDQ, activations s8, symmetric", activations="s8"),
    "qoperator-u8": Scheme("QOperator, activations u8 with a zero point", format="QOperator"),
    "qoperator-s8": Scheme("QOperator, activations s8, symmetric", format="QOperator", activations="s8"),
    "dynamic": Scheme("ranges of u8 activations found in each run", format="dynamic"),
}


def main():
    settings = parse()
    environment.enter_venv()
    environment.OUTPUT.mkdir(parents=True, exist_ok=True)
    for name in settings.models:
        source = pathlib.Path(name)
        if name in NETWORKS:
            nnc = settings.nnc or environment.build_nnc()
            source = environment.OUTPUT / f"{name}.onnx"
            subprocess.run([nnc, "models", "write", *NETWORKS[name], "-o", source], check=True, stdout=subprocess.DEVNULL)
        target = settings.output or environment.OUTPUT / f"{source.stem}.{settings.scheme}.onnx"
        try:
            made = quantise(source, target, settings.scheme, settings.samples)
        except (OSError, ValueError) as error:
            sys.exit(f"{name}: {error}")
        print(f"{target}: {'made' if made else 'was there'}, {target.stat().st_size} bytes")


def parse():
    schemes = "".join(f" {name}: {scheme.what};" for name, scheme in SCHEMES.items())
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", metavar="MODEL", help=f"an ONNX file, or one of {', '.join(NETWORKS)}")
    parser.add_argument("--scheme", choices=SCHEMES, default="qdq-u8", help=f"default: qdq-u8;{schemes}".rstrip(";"))
    parser.add_argument("--samples", type=int, default=SAMPLES, help=f"runs to calibrate with (default: {SAMPLES})")
    parser.add_argument("-o", "--output", type=pathlib.Path, metavar="FILE", help="default: target/bench/MODEL.SCHEME.onnx")
    parser.add_argument("--nnc", help="the nnc that writes networks, instead of building it")
    settings = parser.parse_args()
    if settings.output and len(settings.models) > 1:
        parser.error("--output is for one model")
    if settings.samples < 1:
        parser.error("samples start at 1")
    return settings


def quantise(source, target, scheme="qdq-u8", samples=SAMPLES):
    """Writes the model `source`, quantised, to `target`, unless it is there; whether it had to."""
    import onnx
    import onnxruntime

    known = hashlib.sha256(source.read_bytes()).hexdigest()
    wanted = f"{known} {scheme}, {samples} samples of seed {SEED}, onnxruntime {onnxruntime.__version__}"
    if target.exists() and origin(onnx.load(target)) == wanted:
        return False
    prepared, unfinished = (target.with_suffix(f".{stage}.tmp") for stage in ("prepared", "quantised"))
    try:
        with quiet():
            prepare(source, prepared)
            write(prepared, unfinished, SCHEMES[scheme], Samples(inputs(prepared), samples))
        model = onnx.load(unfinished)
        model.metadata_props.add(key=ORIGIN, value=wanted)
        unfinished.write_bytes(model.SerializeToString(deterministic=True))
        unfinished.replace(target)
    finally:
        for file in (prepared, unfinished):
            file.unlink(missing_ok=True)
    return True


def prepare(source, target):
    from onnxruntime.quantization.shape_inference import quant_pre_process

    quant_pre_process(str(source), str(target), skip_symbolic_shape=True)


def write(source, target, scheme, samples, **settings):
    """Quantises a prepared model. Ranges are those that the samples lead to; `settings` are more of the quantiser's own."""
    from onnxruntime import quantization

    signed = quantization.QuantType.QInt8
    if scheme.format == "dynamic":
        quantization.quantize_dynamic(str(source), str(target), per_channel=True, weight_type=signed)
        return
    quantization.quantize_static(
        str(source),
        str(target),
        samples,
        quant_format=quantization.QuantFormat[scheme.format],
        per_channel=True,
        activation_type=signed if scheme.activations == "s8" else quantization.QuantType.QUInt8,
        weight_type=signed,
        extra_options={"ActivationSymmetric": scheme.activations == "s8", "WeightSymmetric": True},
        **settings,
    )


class Samples:
    """Inputs to find ranges with, in the form that onnxruntime reads (its CalibrationDataReader)."""

    def __init__(self, shapes, count):
        import numpy as np

        self._shapes, self._left = shapes, count
        self._random = np.random.default_rng(SEED)

    def get_next(self):
        """An array for each input, or None after the last sample."""
        if not self._left:
            return None
        self._left -= 1
        return {name: pixels(self._random, shape) for name, shape in self._shapes.items()}


def pixels(random, shape):
    """Numbers of the size of normalised pixels."""
    import numpy as np

    return random.uniform(-2, 2, shape).astype(np.float32)


def inputs(model):
    """The shapes of the model's inputs, by name."""
    import onnx

    graph = onnx.load(model, load_external_data=False).graph
    constants = {tensor.name for tensor in graph.initializer}
    found = {}
    for port in graph.input:
        if port.name in constants:
            continue
        kind = port.type.tensor_type
        shape = [dim.dim_value for dim in kind.shape.dim]
        if kind.elem_type != onnx.TensorProto.FLOAT or not all(shape):
            raise ValueError(f"input {port.name!r} is not in f32, or its shape is not known")
        found[port.name] = shape
    return found


def origin(model):
    """What the model was made from, if it was made here."""
    return next((entry.value for entry in model.metadata_props if entry.key == ORIGIN), None)


@contextlib.contextmanager
def quiet():
    """Keeps the quantiser's advice, which it prints for each model, from the tables."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            yield
    finally:
        logging.disable(before)


if __name__ == "__main__":
    main()
