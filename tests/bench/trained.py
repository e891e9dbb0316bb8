#!/usr/bin/env python3
"""Compares nnc with its peers on trained networks: outputs first, then time, then from the file to a model that is ready.

    python3 tests/trained/fetch.py && python3 tests/bench/trained.py         --all brings more of them
    python3 tests/bench/trained.py --only 'detect|read' --quick
    python3 tests/bench/trained.py --threads 1 --json                        JSON in place of tables

Networks and inputs are the cases of tests/trained; what is not fetched is left out. README.md in this folder says how it measures.
"""

import json
import os
import pathlib
import shutil
import sys

import command
import environment
import gaps

NAME = "trained"
CASES = environment.ROOT / "tests" / "trained"
NETWORKS = pathlib.Path(os.environ.get("NNC_TRAINED") or environment.ROOT / "target" / "trained")


def part(picture, top, height, width, **options):
    """A part of a picture from its left edge, as cases.json says it."""
    return {"picture": picture, "left": 0, "top": top, "height": height, "width": width, **options}


MORE = {
    "networks": {
        "recogniser": {"file": "ch_PP-OCRv4_rec_infer.onnx"},
        "isnet": {"file": "isnet_fp16.onnx"},
    },
    "cases": [
        {
            "name": "read-heading",
            "model": "recogniser",
            "inputs": {"x": part("page.png", 6, 24, 160, zoom=2, channels="bgr", divide=[127.5] * 3, subtract=[1] * 3)},
        },
        {
            "name": "isnet-rocket",
            "model": "isnet",
            "inputs": {"input": part("rocket.png", 0, 128, 128, zoom=8, channels="rgb", divide=[255] * 3, subtract=[0.5] * 3)},
        },
    ],
}
"""Networks that tests/trained fetches and compares in another way than by a golden."""

QUANTISED = 0.05
"""What outputs of a quantised network may be off by, as the root of the mean square, of the largest."""


def main():
    settings = parse()
    bench = command.Bench(settings)

    import report

    folder = environment.OUTPUT / NAME
    folder.mkdir(exist_ok=True)
    for network, case in chosen(settings.only):
        found = bench.compare(write(bench.tools.nnc, folder, network, case))
        gaps.add(found)
        gaps.write(environment.OUTPUT, NAME, bench.rows)
        print(report.progress(found), file=sys.stderr)
    if not bench.rows:
        sys.exit("nothing to measure")
    print(json.dumps(bench.rows) if settings.json else gaps.markdown(bench.rows))


def parse():
    names = ["nnc", "onnxruntime", "openvino"]
    parser = command.parser(__doc__, "case", names, command.Effort(seconds=10, rounds=10, loads=3))
    gaps.options(parser, "case")
    return command.parse(parser, quick=command.Effort(seconds=1, rounds=3, loads=1), turn=0.004)


def chosen(only):
    """The network and the case, for each one that is asked for and there."""
    told = json.loads((CASES / "cases.json").read_text())
    networks = told["networks"] | MORE["networks"]
    for case in told["cases"] + MORE["cases"]:
        network = networks[case["model"]]
        if only.search(f"{case['model']}: {case['name']}"):
            if (NETWORKS / network["file"]).exists():
                yield network, case
            else:
                print(f"{case['name']}: {network['file']} was not fetched", file=sys.stderr)


def write(nnc, folder, network, case):
    """The case, with its inputs and what nnc is told of them."""
    from case import Case, macc

    sys.path.append(str(CASES))
    from make_goldens import network_input

    inputs = {name: network_input(source) for name, source in case["inputs"].items()}
    file = folder / f"{case['name']}.onnx"
    shutil.copyfile(NETWORKS / network["file"], file)
    bound = binding(inputs, {name for name, source in case["inputs"].items() if "constant" in source}, file)
    # As in tests/trained, what an output is off by counts against 1 at least, since most are probabilities.
    made = Case(case["name"], file, inputs, kind=case["model"], macc=macc(nnc, file, bound), least=1.0, binding=bound)
    if network.get("quantised"):
        # Single elements are a step off, and what follows from that, if rounding differs anywhere; the test looks closer.
        made.by_rms, made.tolerance = True, QUANTISED
    return made


def binding(inputs, constants, file):
    """Options of nnc's commands for inputs of these shapes. Those that are constants are written beside the network."""
    import numpy as np

    options = []
    for index, (name, value) in enumerate(inputs.items()):
        if name in constants:
            array = file.with_suffix(f".{index}.npy")
            np.save(array, value)
            options += ["--const", f"{name}={array}"]
        else:
            options += ["--shape", f"{name}={'x'.join(map(str, value.shape))}"]
    return options


if __name__ == "__main__":
    main()
