#!/usr/bin/env python3
"""Compares nnc with its peers layer by layer: models of one or a few layers, in many kinds and sizes, outputs first, then time.

    python3 tests/bench/operators.py                                all
    python3 tests/bench/operators.py --only '^(Conv1d|LSTM)' --quick
    python3 tests/bench/operators.py --threads 1 --json             JSON in place of tables

README.md in this folder says how it measures and how to read the tables.
"""

import json
import re
import subprocess
import sys

import command
import environment
import gaps

NAME = "operators"


def main():
    settings = parse()
    bench = command.Bench(settings)

    import layers
    import report

    rows = [row for row in layers.rows() if settings.only.search(f"{row.kind}: {row.name}")]
    if not rows:
        sys.exit("no row has such a name")
    folder = environment.OUTPUT / NAME
    folder.mkdir(exist_ok=True)
    rates = read_rates(bench.tools.nnc)
    for row in rows:
        case, size = write(bench.tools.nnc, folder, row)
        found = bench.compare(case)
        for line in found:
            line["bytes"] = size
        gaps.add(found, rates)
        gaps.write(environment.OUTPUT, NAME, bench.rows)
        print(report.progress(found), file=sys.stderr)
        for file in folder.iterdir():  # of all rows together, they would take hundreds of megabytes
            file.unlink()
    print(json.dumps(bench.rows) if settings.json else gaps.markdown(bench.rows))


def parse():
    names = ["nnc", "onnxruntime", "openvino"]
    parser = command.parser(__doc__, "row", names, command.Effort(seconds=1, rounds=10, loads=1))
    gaps.options(parser, "row")
    return command.parse(parser, quick=command.Effort(seconds=0.1, rounds=4, loads=1), turn=0.004, resources=False)


def write(nnc, folder, row):
    """The row's model and inputs as files, and the bytes that a run of it has to move at least."""
    import onnx
    from case import Case, macc
    from layers.model import build, size_of

    proto, arrays = build(row)
    name = re.sub(r"[^\w.-]+", "-", f"{row.kind} {row.name}")
    file = folder / f"{name}.onnx"
    onnx.save(proto, file)
    count = macc(nnc, file)
    case = Case(row.name, file, arrays, kind=row.kind, macc=count, tolerance=row.tolerance, steps=row.steps)
    return case, size_of(proto, arrays)


def read_rates(nnc):
    """Bytes a second that a core reads, by the size of what it reads again and again."""
    done = subprocess.run([nnc, "bench", "--roofline", "--json"], check=True, capture_output=True, text=True)
    return {entry["bytes"]: entry["rate"] for entry in json.loads(done.stdout)["bytes_per_second"]}


if __name__ == "__main__":
    main()
