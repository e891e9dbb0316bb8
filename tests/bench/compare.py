#!/usr/bin/env python3
"""Compares nnc with its peers on the seed networks: outputs first, then time, round by round, then loading, memory, disk.

    python3 tests/bench/compare.py                             everything
    python3 tests/bench/compare.py --only shufflenet,nasnet    networks whose name contains one of these
    python3 tests/bench/compare.py --engines nnc,ncnn --threads 1 --quick

README.md in this folder says how it measures and how to read the tables.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import subprocess
import sys

import engines
import environment
from networks import NETWORKS


@dataclasses.dataclass
class Case:
    """A network on its way through the comparison."""

    name: str
    onnx: pathlib.Path
    input: pathlib.Path
    """Its one input, as little-endian f32."""
    shape: list
    """Of the input."""
    macc: int
    """Its multiply-accumulates."""


def main():
    settings = parse()
    environment.enter_venv()
    rust = {"tract", "rten"} & set(settings.engines)
    tools = environment.tools(settings.nnc, rust)

    import report
    import rounds
    from peak import Peak

    cores = sorted(os.sched_getaffinity(0))
    threads = [count for count in settings.threads if count <= len(cores)]
    for count in set(settings.threads) - set(threads):
        print(f"there are no {count} cores for {count} threads", file=sys.stderr)
    if not threads:
        sys.exit("nothing to measure")
    try:
        peak = Peak(cores[-max(threads) :])
    except OSError as error:
        peak = None
        print(f"no shares of the limit: {error}", file=sys.stderr)
    environment.OUTPUT.mkdir(parents=True, exist_ok=True)
    rows = []
    for name in settings.networks:
        case = write(tools.nnc, name)
        found = rounds.compare(case, settings.engines, threads, cores, tools, settings, peak)
        for row in found:
            row["macc"] = case.macc
        rows += found
        if peak:
            share_of_limit(rows, peak)
        report.write(environment.OUTPUT, rows)
        print(report.progress(found), file=sys.stderr)
    print(report.markdown(rows))


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words = lambda text: text.split(",")
    numbers = lambda text: [int(word) for word in words(text)]
    parser.add_argument("--only", type=words, help="parts of the names of networks (default: all networks)")
    parser.add_argument("--engines", type=words, default=engines.NAMES, help=f"default: {','.join(engines.NAMES)}")
    parser.add_argument("--threads", type=numbers, default=[1, 2], help="default: 1,2")
    parser.add_argument("--seconds", type=float, default=30, help="of rounds for each network (default: 30)")
    parser.add_argument("--rounds", type=int, default=10, help="at least so many for each network (default: 10)")
    parser.add_argument("--loads", type=int, default=3, help="how often each network is loaded (default: 3)")
    parser.add_argument("--quick", action="store_true", help="the same as --seconds 2 --rounds 3 --loads 1")
    parser.add_argument("--nnc", help="the nnc to use, instead of building it")
    settings = parser.parse_args()
    if settings.quick:
        settings.seconds, settings.rounds, settings.loads = 2, 3, 1
    if min(settings.rounds, settings.loads, *settings.threads) < 1:
        parser.error("rounds, loads and threads start at 1")
    settings.networks = [n for n in NETWORKS if not settings.only or any(part in n for part in settings.only)]
    if not settings.networks:
        parser.error(f"no network has such a name; there are {', '.join(NETWORKS)}")
    unknown = set(settings.engines) - set(engines.NAMES)
    if unknown:
        parser.error(f"there is no engine {', '.join(sorted(unknown))}; there are {', '.join(engines.NAMES)}")
    return settings


def write(nnc, name):
    """Writes the model and an input for it, and counts its multiply-accumulates."""
    import numpy as np

    model = environment.OUTPUT / f"{name}.onnx"
    subprocess.run([nnc, "models", "write", *NETWORKS[name], "-o", model], check=True, capture_output=True)
    inspected = subprocess.run([nnc, "inspect", "--json", model], check=True, capture_output=True, text=True)
    told = json.loads(inspected.stdout)
    shape = told["inputs"][0]["shape"]
    # Any numbers of the size of normalised pixels, the same in every run.
    value = np.random.default_rng(1).uniform(-2, 2, shape).astype(np.float32)
    file = model.with_suffix(".input")
    value.tofile(file)
    return Case(name, model, file, shape, told["totals"]["macc"])


def share_of_limit(rows, peak):
    """The limit is that each multiply-accumulate takes two operations at the best peak seen in this run."""
    for row in rows:
        row |= {"peak_flops": peak.best, "scaling": peak.scaling()}
        if "min_s" in row:
            row["share"] = 2 * row["macc"] / (row["threads"] * peak.best) / row["min_s"]


if __name__ == "__main__":
    main()
