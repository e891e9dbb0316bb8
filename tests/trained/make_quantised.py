#!/usr/bin/env python3
"""Quantises trained networks of other packages, as users do: QDQ, u8 activations, s8 weights with a scale for each channel, ranges from
the pictures of this folder.

    target/ocr-venv/bin/python tests/trained/make_quantised.py                        those of quantised.json that are not there
    target/ocr-venv/bin/python tests/trained/make_quantised.py --ranges [FILE …]      finds their ranges again, and makes them

    network ─ operators since 17 ─ onnxruntime's preparations ─ ranges/FILE.json ─ quantised network
              of older networks    quantise.py of the bench     from `samples`     quantize_static

Ranges are found once and kept, since they depend on the last bits of what a processor computes; with five digits they are the same for
all. `fetch.py` runs this, and makes the environment. What was made has the checksum that quantised.json says, or it is no such network.
"""

import hashlib
import json
import os
import pathlib
import re
import sys
import tempfile

import onnx
import onnx.version_converter
from onnxruntime import quantization
from onnxruntime.quantization import calibrate

FOLDER = pathlib.Path(__file__).resolve().parent
ROOT = FOLDER.parent.parent
MODELS = pathlib.Path(os.environ.get("NNC_TRAINED") or ROOT / "target" / "trained")
LIST = FOLDER / "quantised.json"
SCHEME = "qdq-u8"
OPERATORS = 17
"""Weights have a scale for each channel since 13."""

sys.path.append(str(ROOT / "tests" / "bench"))
import quantise  # noqa: E402


def main():
    anew = "--ranges" in sys.argv[1:]
    named = [word for word in sys.argv[1:] if not word.startswith("-")]
    networks = json.loads(LIST.read_text())
    for network in networks:
        file = MODELS / network["file"]
        if named and network["file"] not in named:
            continue
        if not anew and file.is_file() and digest(file.read_bytes()) == network["sha256"]:
            continue
        source = MODELS / network["from"]
        if not source.is_file():
            print(f"{source} is not there, so {file.name} is not made")
            continue
        made = quantised(source, network, anew)
        if anew:
            network["sha256"] = digest(made)
        if digest(made) != network["sha256"]:
            print(f"{file.name} is another one when this machine makes it, and left out", file=sys.stderr)
            continue
        part = file.with_suffix(".part")
        part.write_bytes(made)
        part.replace(file)
        print(f"{file}: {len(made)} bytes")
    if anew:
        LIST.write_text(json.dumps(networks, indent=2, ensure_ascii=False) + "\n")


def digest(data):
    return hashlib.sha256(data).hexdigest()


def quantised(source, network, anew):
    """The bytes of the quantised network."""
    ranges = FOLDER / "ranges" / f"{source.stem}.json"
    with tempfile.TemporaryDirectory() as scratch, quantise.quiet():
        scratch = pathlib.Path(scratch)
        newer, prepared, cache, target = (scratch / name for name in ("newer", "prepared", "cache", "target"))
        model = onnx.load(source)
        if next(entry.version for entry in model.opset_import if not entry.domain) < OPERATORS:
            model = onnx.version_converter.convert_version(model, OPERATORS)
        onnx.save(model, newer)
        quantise.prepare(newer, prepared)
        settings = {
            "nodes_to_exclude": [node.name for node in onnx.load(prepared).graph.node if re.match(network["floats"], node.name)],
            "calibration_cache_path": cache,
        }
        if anew:
            quantise.write(prepared, target, quantise.SCHEMES[SCHEME], Pictures(network["samples"]), **settings)
            keep(cache, ranges)
        restore(ranges, cache)
        quantise.write(prepared, target, quantise.SCHEMES[SCHEME], None, **settings)
        return onnx.load(target).SerializeToString(deterministic=True)


class Pictures:
    """Samples in the form that onnxruntime reads (its CalibrationDataReader)."""

    def __init__(self, samples):
        self._left = list(samples)

    def get_next(self):
        from make_goldens import network_input

        if not self._left:
            return None
        return {name: network_input(source) for name, source in self._left.pop(0).items()}


def keep(cache, ranges):
    """Writes the ranges of onnxruntime's file as a pair of numbers for each value."""
    found = calibrate.load_tensors_data(cache)
    pairs = {name: [float(f"{bound.item():.5g}") for bound in found[name].range_value] for name in sorted(found.keys())}
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(pair)}" for name, pair in pairs.items())
    ranges.parent.mkdir(exist_ok=True)
    ranges.write_text("{\n" + lines + "\n}\n")


def restore(ranges, cache):
    """The other way round."""
    import numpy as np

    pairs = json.loads(ranges.read_text())
    single = lambda bound: np.array([bound], np.float32)
    data = {name: calibrate.TensorData(lowest=single(low), highest=single(high)) for name, (low, high) in pairs.items()}
    calibrate.save_tensors_data(calibrate.TensorsData(quantization.CalibrationMethod.MinMax, data), cache)


if __name__ == "__main__":
    main()
