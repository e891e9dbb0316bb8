#!/usr/bin/env python3
"""Compares nnc with its peers on the seed networks: outputs first, then time, round by round, then loading, memory, disk.

    python3 tests/bench/compare.py                             the seeds and the large ones
    python3 tests/bench/compare.py --only shufflenet,nasnet    networks whose name contains one of these
    python3 tests/bench/compare.py --networks more             gates, attention, recurrence
    python3 tests/bench/compare.py --engines nnc,ncnn --threads 1 --quick
    python3 tests/bench/compare.py --precision int8            the same networks, quantised; or bf16

README.md in this folder says how it measures and how to read the tables.
"""

import subprocess
import sys

import command
import engines
import environment
import precisions
import quantise
from networks import NETWORKS, SETS


def main():
    settings = parse()
    bench = command.Bench(settings)

    import report

    name = "compare" if settings.precision == "f32" else f"compare-{settings.precision}"
    for network in settings.networks:
        found = bench.compare(precisions.lower(write(bench.tools.nnc, network), settings.precision, settings.scheme))
        report.write(environment.OUTPUT, name, bench.rows)
        print(report.progress(found), file=sys.stderr)
    print(report.markdown(bench.rows))


def parse():
    parser = command.parser(__doc__, "network", engines.NAMES, command.Effort(seconds=30, rounds=10, loads=3))
    parser.add_argument(
        "--networks",
        type=command.words,
        help=f"sets of networks: {', '.join(SETS)} (default: seeds,large in f32, seeds,more in fewer bits)",
    )
    parser.add_argument("--only", type=command.words, help="parts of the names of networks (default: all of the sets)")
    parser.add_argument("--precision", choices=precisions.NAMES, default="f32", help="default: f32")
    parser.add_argument("--scheme", choices=quantise.SCHEMES, default="qdq-u8", help="how to quantise for int8 (default: qdq-u8)")
    settings = command.parse(parser, quick=command.Effort(seconds=2, rounds=3, loads=1))
    if settings.precision != "f32" and engines.OURS in settings.engines:
        settings.engines = [*settings.engines, engines.OURS_F32]
    if settings.networks is None:
        settings.networks = ["seeds", "large"] if settings.precision == "f32" else ["seeds", "more"]
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
    value = quantise.pixels(np.random.default_rng(1), shape)
    return Case(name, model, {told["inputs"][0]["name"]: value}, macc=told["totals"]["macc"])


if __name__ == "__main__":
    main()
