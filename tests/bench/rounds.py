"""One network: all engines and thread counts, loaded, checked, and timed round by round."""

import random
import statistics
import time

import engines
import resources
from workers import Worker, WorkerError

TOLERANCE = 1e-3  # of the largest absolute output
RUNS = 3  # timed in each round, for each contender


def compare(case, names, threads, cores, tools, settings, peak):
    """A row for each engine and thread count. What could not be measured has a reason in the column `missing`."""
    rows = {(name, count): {"network": case.name, "threads": count, "engine": name} for count in threads for name in names}
    workers = {}
    try:
        files = prepare(case, names, tools, rows)
        for name in files:
            resources.disk(engines.module(name).ENGINE, files[name], tools, rows, name, threads)
        for _ in range(settings.loads):
            for key, row in rows.items():
                if "missing" not in row:
                    start(case, key, row, files, cores, tools, workers)
            resources.from_onnx(case, rows, cores, tools)
        resources.subtract_empty(rows, tools)
        check(case, rows, workers, files, cores, tools)
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
        try:
            files[name] = engines.module(name).ENGINE.prepare(case, tools)
        except Exception as error:  # a converter may fail in any way; the table says how
            leave_out(rows, name, f"not converted: {error}")
    return files


def leave_out(rows, name, reason):
    for (engine, _), row in rows.items():
        if engine == name:
            row["missing"] = reason


def spawn(case, name, count, files, cores, tools):
    engine = engines.module(name).ENGINE
    shape = "x".join(map(str, case.shape))
    command = [*engine.program(tools), files[name][0], case.input, shape, count]
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


def check(case, rows, workers, files, cores, tools):
    """Ends the workers whose outputs are not those of the reference."""
    reference = (engines.REFERENCE, 1)
    file = case.onnx.with_suffix(".output")
    try:
        if reference in workers:
            right = workers[reference].output(file)
        else:
            files = files | {engines.REFERENCE: [case.onnx]}
            worker = spawn(case, *reference, files, cores, tools)
            right = worker.output(file)
            worker.end()
    except WorkerError as error:
        raise SystemExit(f"{case.name}: {engines.REFERENCE}, which the others must agree with: {error}") from error
    for key in list(workers):
        try:
            error = difference(workers[key].output(file), right)
            rows[key]["error"] = error
            if not error <= TOLERANCE:
                rows[key]["missing"] = f"outputs differ by {error:.0e} of the largest one"
        except WorkerError as error:
            rows[key]["missing"] = str(error)
        if "missing" in rows[key]:
            workers.pop(key).end()


def difference(ours, right):
    """The largest difference, as a share of the largest absolute value."""
    if ours.size != right.size:
        return float("inf")
    return float(abs(ours - right).max() / abs(right).max())


def measure(workers, rows, settings, peak):
    """For each worker: the shortest run of each round, all timed runs, and the runs before them; in seconds.

    A worker that fails now is left out.
    """
    times = {key: ([], [], []) for key in workers}
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
                cold, *runs = [ns / 1e9 for ns in workers[key].run(1 + RUNS)]
            except WorkerError as error:
                rows[key]["missing"] = f"failed after {done} rounds: {error}"
                del times[key]
                continue
            best, warm, colds = times[key]
            best.append(min(runs))
            warm += runs
            colds.append(cold)
        done += 1
    return times


def compare_with_ours(rows, times):
    """Adds the ratios to nnc, as many times as it is faster: of the minima, and the median of those of each round."""
    for (name, count), (best, warm, _) in times.items():
        ours = times.get((engines.OURS, count))
        if ours:
            rows[name, count] |= {
                "ratio_min": min(warm) / min(ours[1]),
                "ratio_median": statistics.median(theirs / our for theirs, our in zip(best, ours[0])),
            }
