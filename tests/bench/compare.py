#!/usr/bin/env python3
"""Compares nnc with onnxruntime on the seed networks: one thread, one process, round by round.

    python3 tests/bench/compare.py                      all networks
    python3 tests/bench/compare.py shufflenet nasnet    those whose name contains one of these
    python3 tests/bench/compare.py --load               also what it takes to load them

README.md in this folder says how it measures and how to read the table.
"""

import argparse
import gc
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time
import venv

FOLDER = pathlib.Path(__file__).resolve().parent
ROOT = FOLDER.parent.parent
VENV = ROOT / "target" / "bench-venv"
OUTPUT = ROOT / "target" / "bench"

MIN_ROUNDS = 30
RUNS = 3  # timed in each round, for each engine
LOADS = 7
TOLERANCE = 1e-3  # of the largest absolute output


def main():
    arguments = parse()
    if pathlib.Path(sys.prefix).resolve() != VENV.resolve():
        enter_venv()
    nnc = pathlib.Path(arguments.nnc) if arguments.nnc else build()
    pin()

    import report
    from networks import NETWORKS
    from peak import Peak

    chosen = [name for name in NETWORKS if not arguments.only or any(part in name for part in arguments.only)]
    if not chosen:
        sys.exit(f"no network has such a name; there are {', '.join(NETWORKS)}")
    try:
        peak = Peak()
    except OSError as error:
        peak = None
        print(f"no shares of the limit: {error}", file=sys.stderr)
    OUTPUT.mkdir(parents=True, exist_ok=True)
    rows = []
    for name in chosen:
        files = prepare(nnc, name, NETWORKS[name])
        row = {"network": name, **compare(files, arguments.seconds, peak)}
        if arguments.load:
            row |= compare_loading(nnc, files["model"])
        rows.append(row)
        if peak:
            share_of_limit(rows, peak.best)
        print(", ".join(f"{key} {value:.3g}" if isinstance(value, float) else f"{value}" for key, value in row.items()),
              file=sys.stderr)
        report.write(OUTPUT, rows)
        gc.collect()
    print(report.markdown(rows))


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("only", nargs="*", help="parts of the names of networks; all, if there are none")
    parser.add_argument("--nnc", help="the nnc to use, instead of building it")
    parser.add_argument("--seconds", type=float, default=6, help="for each network (default: 6)")
    parser.add_argument("--load", action="store_true", help="also measure loading")
    return parser.parse_args()


def enter_venv():
    """Starts again in the folder's own environment, made when it is needed."""
    python = VENV / "bin" / "python"
    # pip comes last: without it, making the environment was interrupted.
    if not (VENV / "bin" / "pip").exists():
        venv.create(VENV, with_pip=True, clear=True)
    requirements = str(FOLDER / "requirements.txt")
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", requirements], check=True)
    os.execv(python, [str(python), *sys.argv])


def build():
    command = ["cargo", "build", "--release", "--package", "nnc", "--message-format=json-render-diagnostics"]
    built = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    messages = (json.loads(line) for line in built.stdout.splitlines())
    return next(pathlib.Path(m["executable"]) for m in messages if m.get("executable"))


def pin():
    """Keeps this process, and what it starts, on the last core that it may use."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def prepare(nnc, name, arguments):
    """Writes the model, compiles it, and counts its multiply-accumulates."""
    model = OUTPUT / f"{name}.onnx"
    artefact = OUTPUT / f"{name}.nnc.so"
    subprocess.run([nnc, "models", "write", *arguments, "-o", model], check=True, capture_output=True)
    # A new file, not new bytes in the old one, which this process may have mapped.
    artefact.unlink(missing_ok=True)
    subprocess.run([nnc, "compile", model, "-o", artefact], check=True, capture_output=True)
    inspected = subprocess.run([nnc, "inspect", "--json", model], check=True, capture_output=True, text=True)
    return {"model": model, "artefact": artefact, "macc": json.loads(inspected.stdout)["totals"]["macc"]}


def compare(files, seconds, peak):
    from engines import Nnc, Onnxruntime

    ort = Onnxruntime(files["model"], make_input)
    nnc = Nnc(files["artefact"], ort.inputs, ort.output_shapes)
    engines = [nnc, ort]
    for engine in engines:
        engine.run()
    error = difference(nnc.outputs(), ort.outputs())
    if not error <= TOLERANCE:
        sys.exit(f"{files['model'].name}: the outputs differ by {error:.1e} of the largest one; nothing is timed")

    best = [[], []]  # of each engine, the shortest run of each round
    every = [[], []]
    end = time.perf_counter() + seconds
    while len(best[0]) < MIN_ROUNDS or time.perf_counter() < end:
        if peak:
            peak.sample()
        # Each engine goes first in every other round.
        first = len(best[0]) % 2
        for which in (first, 1 - first):
            runs = timed(engines[which])
            best[which].append(min(runs))
            every[which] += runs

    return {
        "macc": files["macc"],
        "rounds": len(best[0]),
        "nnc_min_s": min(every[0]),
        "nnc_median_s": statistics.median(every[0]),
        "ort_min_s": min(every[1]),
        "ort_median_s": statistics.median(every[1]),
        "ratio_min": min(every[1]) / min(every[0]),
        "ratio_median": statistics.median(o / n for n, o in zip(*best)),
        "error": error,
    }


def share_of_limit(rows, peak):
    """The limit is that each multiply-accumulate takes two operations at the best peak seen in this run."""
    for row in rows:
        limit = 2 * row["macc"] / peak
        row |= {"peak_flops": peak, "nnc_share": limit / row["nnc_min_s"], "ort_share": limit / row["ort_min_s"]}


def timed(engine):
    """Seconds of each run, after one that warms the caches for this engine."""
    engine.run()
    seconds = []
    for _ in range(RUNS):
        start = time.perf_counter()
        engine.run()
        seconds.append(time.perf_counter() - start)
    return seconds


def compare_loading(nnc, model):
    """From the file in the page cache to the first run: parse, optimise, pack, generate code."""
    from engines import session

    ours, theirs = [], []
    command = [nnc, "bench", model, "--json", "--threads", "1", "--seconds", "0.001"]
    for _ in range(LOADS):
        start = time.perf_counter()
        session(model)
        theirs.append(time.perf_counter() - start)
        told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        ours.append((told["load_ms"] + told["compile_ms"]) / 1e3)
    return {"nnc_load_s": min(ours), "ort_load_s": min(theirs), "load_ratio": min(theirs) / min(ours)}


def make_input(shape):
    """Any numbers of the size of normalised pixels, the same in every run."""
    import numpy as np

    return np.random.default_rng(1).uniform(-2, 2, shape).astype(np.float32)


def difference(ours, theirs):
    """The largest difference, as a share of the largest absolute value."""
    import numpy as np

    return max(float(np.max(np.abs(a - b)) / np.max(np.abs(b))) for a, b in zip(ours, theirs))


if __name__ == "__main__":
    main()
