"""What loading takes: time, memory, disk.

Memory is the peak of a process that has loaded the model and run once, less the peak of the same process when it loads
nothing. The engine's own library counts as its memory, the interpreter and NumPy do not.
"""

import functools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time

import engines
from workers import Worker, WorkerError, peak_bytes, pinned

BENCH_SECONDS = 0.2  # long enough to look at the process while it runs
LOOK_SECONDS = 0.005


def disk(engine, files, tools, rows, name, threads):
    """Adds the version, and the sizes of the library and of the files it loads."""
    try:
        version, library = engine.version(tools), engine.library_bytes(tools)
    except (OSError, ImportError):  # not installed, which starting it will report
        return
    model = sum(file.stat().st_size for file in files)
    for count in threads:
        rows[name, count] |= {"version": version, "library_bytes": library, "model_bytes": model}


def subtract_empty(rows, tools):
    """Takes the empty process from each peak."""
    for (name, _), row in rows.items():
        if "peak_bytes" in row:
            row["peak_bytes"] -= empty_peak(name, tools)


@functools.cache
def empty_peak(name, tools):
    """The peak of a worker that loads nothing."""
    worker = Worker([*engines.module(name).ENGINE.program(tools), "--empty"], {}, os.sched_getaffinity(0))
    worker.end()
    return worker.peak_bytes


def from_onnx(case, rows, cores, tools):
    """nnc from the ONNX file: parse, optimise, plan, pack, generate code, run, in one process. Adds it to nnc's rows, unless it
    fails."""
    for (name, count), row in rows.items():
        if name not in (engines.OURS, engines.OURS_F32) or "missing" in row:
            continue
        own = engines.module(name).ENGINE.case(case)
        arguments = ["bench", own.onnx, *own.binding, "--json", "--threads", str(count), "--seconds", str(BENCH_SECONDS)]
        command = [*pinned(cores[-count:]), tools.nnc, *arguments]
        # A file, since nobody reads while the process is watched: the times of a small network's runs would fill a pipe.
        with tempfile.TemporaryFile("w+") as output:
            process = subprocess.Popen(command, stdout=output)
            peak = 0
            while process.poll() is None:
                try:
                    peak = max(peak, peak_bytes(process.pid))
                except WorkerError:  # it has just ended
                    break
                time.sleep(LOOK_SECONDS)
            if process.wait():
                print(f"{case.name}: nnc bench ended with {process.returncode}", file=sys.stderr)
                continue
            output.seek(0)
            told = json.load(output)
        for column, found in [
            ("compile_s", (told["load_ms"] + told["compile_ms"]) / 1e3),
            ("compile_first_s", told["first_ms"] / 1e3),
            ("compile_peak_bytes", peak - empty_nnc(tools.nnc)),
        ]:
            row[column] = min(row.get(column, found), found)


@functools.cache
def empty_nnc(nnc):
    """The peak of an nnc that waits for a model which does not come: opening a pipe without a writer blocks."""
    with tempfile.TemporaryDirectory() as folder:
        pipe = os.path.join(folder, "model.onnx")
        os.mkfifo(pipe)
        process = subprocess.Popen([nnc, "inspect", pipe], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.2)
        peak = peak_bytes(process.pid)
        process.send_signal(signal.SIGKILL)
        process.wait()
    return peak
