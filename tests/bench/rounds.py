"""One case: all engines and thread counts, loaded, checked, and timed round by round."""

import random
import statistics
import time

import agree
import engines
import precisions
import resources
from workers import Worker, WorkerError

RUNS = 3  # timed in each round, for each contender
MOST_RUNS = 300  # where they are so short that a turn could hold more


def compare(case, names, threads, cores, tools, settings, peak):
    """A row for each engine and thread count. What could not be measured has a reason in the column `missing`."""
    known = {"kind": case.kind} if case.kind else {}
    known |= {"network": case.name, "macc": case.macc}
    known |= {"precision": case.precision} if case.precision != "f32" else {}
    rows = {(name, count): known | {"threads": count, "engine": name} for count in threads for name in names}
    workers = {}
    try:
        files = prepare(case, names, tools, rows)
        for name in files:
            resources.disk(engines.module(name).ENGINE, files[name], tools, rows, name, threads)
        for _ in range(settings.loads):
            for key, row in rows.items():
                if "missing" not in row:
                    start(case, key, row, files, cores, tools, workers)
            if settings.resources:
                resources.from_onnx(case, rows, cores, tools)
        if settings.resources:
            resources.subtract_empty(rows, tools)
        check(case, rows, workers, cores, tools)
        times = measure(workers, rows, settings, peak)
    finally:
        for worker in workers.values():
            worker.end()
    for key, (best, warm, cold) in times.items():
        rows[key] |= {
            "rounds": len(best),
            "min_s": min(warm),
            "median_s": statistics.median(warm),
            "cold_median_s": statistics.median(cold),
        }
    compare_with_ours(rows, times)
    return list(rows.values())


def prepare(case, names, tools, rows):
    """What each engine loads, by its name."""
    files = {}
    for name in names:
        engine = engines.module(name).ENGINE
        if case.precision in engine.lacks:
            leave_out(rows, name, f"no {case.precision}: {engine.lacks[case.precision]}")
            continue
        try:
            files[name] = engine.prepare(engine.case(case), tools)
        except Exception as error:  # a converter may fail in any way; the table says how
            leave_out(rows, name, f"not converted: {error}")
    return files


def leave_out(rows, name, reason):
    for (engine, _), row in rows.items():
        if engine == name:
            row["missing"] = reason


def spawn(case, name, count, files, cores, tools):
    engine = engines.module(name).ENGINE
    command = [*engine.program(tools), files[name][0], *engine.inputs(case), count, *engine.options(case)]
    return Worker(command, engine.environment(tools), cores[-count:])


def start(case, key, row, files, cores, tools, workers):
    """Loads once more in a new process, which takes the place of the one before."""
    try:
        worker = spawn(case, *key, files, cores, tools)
    except WorkerError as error:
        row["missing"] = f"not loaded: {error}"
        return
    if key in workers:
        workers[key].end()
    workers[key] = worker
    for column, found in [
        ("load_s", worker.load_ns / 1e9),
        ("first_s", worker.first_ns / 1e9),
        ("peak_bytes", worker.peak_bytes),
    ]:
        row[column] = min(row.get(column, found), found)


def check(case, rows, workers, cores, tools):
    """Ends the workers whose outputs are not those of the reference, and all if it has none."""
    forms = {form.precision: form for form in (case, case.f32) if form}
    try:
        right = {name: right_outputs(form, case.reference, workers, cores, tools) for name, form in forms.items()}
    except WorkerError as error:
        reason = f"nothing to compare with, since {engines.module(case.reference).ENGINE.package} fails: {error}"
        for key in list(workers):
            rows[key]["missing"] = reason
            workers.pop(key).end()
        return
    if case.precision == "int8":
        changed = agree.change(right["f32"], right["int8"], case.least)
        case.tolerance = precisions.tolerance(changed[0])
        for row in rows.values():
            row |= {"change": changed[0], "change_rms": changed[1]}
    for key in list(workers):
        form = engines.module(key[0]).ENGINE.case(case)
        try:
            wrong = agree.disagreement(outputs(case, key[0], workers[key]), right[form.precision], form, rows[key])
            if wrong:
                rows[key]["wrong"] = True
        except WorkerError as error:
            wrong = str(error)
        if wrong:
            rows[key]["missing"] = wrong
            workers.pop(key).end()


def right_outputs(case, name, workers, cores, tools):
    """What the reference of this name computes with one thread."""
    if (name, 1) in workers:
        return outputs(case, name, workers[name, 1])
    worker = spawn(case, name, 1, {name: [case.onnx]}, cores, tools)
    try:
        return outputs(case, name, worker)
    finally:
        worker.end()


def outputs(case, name, worker):
    """What the worker's last run computed."""
    file = case.onnx.with_suffix(".outputs.npz")
    worker.write_outputs(file)
    return engines.module(name).ENGINE.outputs(file)


def measure(workers, rows, settings, peak):
    """For each worker: the shortest run of each round, all timed runs, and the runs before them; in seconds.

    A worker that fails now is left out.
    """
    times = {key: ([], [], []) for key in workers}
    shortest = {key: rows[key]["first_s"] for key in workers}
    order = random.Random(1)
    end = time.perf_counter() + settings.seconds
    done = 0
    while done < settings.rounds or time.perf_counter() < end:
        if peak:
            peak.sample()
        # Nobody always follows the same one, whose leavings in the caches it meets.
        keys = list(times)
        order.shuffle(keys)
        for key in keys:
            try:
                count = timed_runs(settings.turn, shortest[key])
                cold, *runs = [ns / 1e9 for ns in workers[key].run(1 + count)]
            except WorkerError as error:
                rows[key]["missing"] = f"failed after {done} rounds: {error}"
                del times[key]
                continue
            best, warm, colds = times[key]
            best.append(min(runs))
            shortest[key] = min(shortest[key], best[-1])
            warm += runs
            colds.append(cold)
        done += 1
    return times


def timed_runs(turn, seconds):
    """How many runs of so many seconds a worker does in a turn: `RUNS`, or as many as the turn holds. One, if the turn is not a
    hundredth of it: where layers are compared, such a run is many times slower than those of others."""
    if turn and seconds > 100 * turn:
        return 1
    return max(RUNS, min(MOST_RUNS, int(turn / seconds)))


def compare_with_ours(rows, times):
    """Adds the ratios to nnc, as many times as it is faster: of the minima, and the median of those of each round."""
    for (name, count), (best, warm, _) in times.items():
        ours = times.get((engines.OURS, count))
        if ours:
            rows[name, count] |= {
                "ratio_min": min(warm) / min(ours[1]),
                "ratio_median": statistics.median(theirs / our for theirs, our in zip(best, ours[0])),
            }
