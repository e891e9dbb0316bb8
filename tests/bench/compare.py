#!/usr/bin/env python3
"""Compares nnc with its peers on the seed networks: outputs first, then time, round by round, then loading, memory, disk.

    python3 tests/bench/compare.py                             the seeds and the large ones
    python3 tests/bench/compare.py --only shufflenet,nasnet    networks whose name contains one of these
    python3 tests/bench/compare.py --networks more             gates, attention, recurrence
    python3 tests/bench/compare.py --engines nnc,ncnn --threads 1 --quick

README.md in this folder says how it measures and how to read the tables.
"""

import subprocess
import sys

import command
import engines
import environment
from networks import NETWORKS, SETS


def main():
    settings = parse()
    bench = command.Bench(settings)

    import report

    for name in settings.networks:
        found = bench.compare(write(bench.tools.nnc, name))
        report.write(environment.OUTPUT, bench.rows)
        print(report.progress(found), file=sys.stderr)
    print(report.markdown(bench.rows))


def parse():
    parser = command.parser(__doc__, "network", engines.NAMES, command.Effort(seconds=30, rounds=10, loads=3))
    parser.add_argument(
        "--networks",
        type=command.words,
        default=["seeds", "large"],
        help=f"sets of networks: {', '.join(SETS)} (default: seeds,large)",
    )
    parser.add_argument("--only", type=command.words, help="parts of the names of networks (default: all of the sets)")
    settings = command.parse(parser, quick=command.Effort(seconds=2, rounds=3, loads=1))
    unknown = set(settings.networks) - set(SETS)
    if unknown:
        parser.error(f"there is no set {', '.join(sorted(unknown))}; there are {', '.join(SETS)}")
    there = [name for key in settings.networks for name in SETS[key]]
    settings.networks = [n for n in there if not settings.only or any(part in n for part in settings.only)]
    if not settings.networks:
        parser.error(f"no network has such a name; there are {', '.join(there)}")
    return settings


def write(nnc, name):
    """Writes the model and an input for it, and counts its multiply-accumulates."""
    import numpy as np
    from case import Case, inspect

    model = environment.OUTPUT / f"{name}.onnx"
    subprocess.run([nnc, "models", "write", *NETWORKS[name], "-o", model], check=True, capture_output=True)
    told = inspect(nnc, model)
    shape = told["inputs"][0]["shape"]
    # Any numbers of the size of normalised pixels, the same in every run.
    value = np.random.default_rng(1).uniform(-2, 2, shape).astype(np.float32)
    return Case(name, model, {told["inputs"][0]["name"]: value}, macc=told["totals"]["macc"])


if __name__ == "__main__":
    main()
