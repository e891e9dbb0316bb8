"""Writes what was measured: a CSV file with everything, Markdown tables with ratios alone, the plot."""

import csv
import statistics
import textwrap

import engines
import plot
from networks import SEEDS

FIRST_COLUMNS = ["network", "threads", "engine", "ratio_min", "ratio_median", "share", "missing"]

RESOURCES = {
    "loading, nnc from the ONNX file": (["load_s"], ["compile_s"]),
    "loading, nnc from an artefact": (["load_s"], ["load_s"]),
    "loading and first run, nnc from the ONNX file": (["load_s", "first_s"], ["compile_s", "compile_first_s"]),
    "loading and first run, nnc from an artefact": (["load_s", "first_s"], ["load_s", "first_s"]),
    "peak memory, nnc from the ONNX file": (["peak_bytes"], ["compile_peak_bytes"]),
    "peak memory, nnc from an artefact": (["peak_bytes"], ["peak_bytes"]),
    "library on disk": (["library_bytes"], ["library_bytes"]),
    "model on disk": (["model_bytes"], ["model_bytes"]),
}
"""Lines of the second table: what is added up for a peer, and what for nnc."""


def write(folder, name, rows):
    """Writes NAME.csv, NAME.md and NAME.svg into `folder`."""
    keys = list(dict.fromkeys(FIRST_COLUMNS + [key for row in rows for key in row]))
    with open(folder / f"{name}.csv", "w", newline="") as file:
        table = csv.DictWriter(file, keys)
        table.writeheader()
        table.writerows(rows)
    (folder / f"{name}.md").write_text(markdown(rows) + "\n")
    (folder / f"{name}.svg").write_text(plot.svg(rows))


def progress(rows):
    """A few lines for somebody who waits."""
    lines = []
    for row in rows:
        values = {"min": row.get("min_s"), "ratio": row.get("ratio_min"), "share": row.get("share")}
        told = " ".join(f"{key} {value:.3g}" for key, value in values.items() if value is not None)
        lines.append(f"{named(row)} {row['threads']}t {row['engine']}: {row.get('missing') or told}")
    return "\n".join(lines)


def markdown(rows):
    """All tables for docs/performance.md."""
    parts = []
    for threads in dict.fromkeys(row["threads"] for row in rows):
        some = [row for row in rows if row["threads"] == threads]
        title = "1 thread" if threads == 1 else f"{threads} threads"
        parts += [f"### {title}", speed(some, rows), resources(some)]
    if "precision" in rows[0]:
        parts += [f"### {rows[0]['precision']}: how far outputs are off", differences(rows)]
    versions = {row["engine"]: row["version"] for row in rows if "version" in row and row["engine"] != engines.OURS_F32}
    parts.append("Versions: " + ", ".join(f"{name} {version}" for name, version in versions.items()) + ".")
    if "scaling" in rows[0]:
        parts.append(f"All cores at once gave {rows[0]['scaling']:.2f} times the peak of one (median of all rounds).")
    return "\n\n".join(part for part in parts + [missing(rows)] if part)


def speed(rows, all_rows):
    """How many times faster nnc is than each peer, by network."""
    peers = engines.peers(rows)
    by_network = {}
    for row in rows:
        by_network.setdefault(row["network"], {})[row["engine"]] = row
    single = {r["network"]: r for r in all_rows if r["threads"] == 1 and r["engine"] == engines.OURS and "min_s" in r}
    more = rows[0]["threads"] > 1
    head = ["network", *peers, "best peer", "best, minimum", "best, median", "nnc, share of the limit"]
    if more:
        head.append("nnc, by 1 thread")
    by_f32 = any(row["engine"] == engines.OURS_F32 for row in rows)
    if by_f32:
        head.append("nnc, by own f32")
    groups = ["the seeds", "all"] if set(by_network) - set(SEEDS) else ["the seeds"]
    lines, summary = [], {}
    for network, found in by_network.items():
        mins = {name: found[name]["ratio_min"] for name in peers if "ratio_min" in found[name]}
        medians = {name: found[name]["ratio_median"] for name in mins}
        cells = [network, *("wrong" if "wrong" in found.get(name, {}) else number(mins.get(name)) for name in peers)]
        best = min(mins.values(), default=None), min(medians.values(), default=None)
        cells += [min(mins, key=mins.get, default=""), *map(number, best)]
        ours = found.get(engines.OURS, {})
        cells.append(f"{ours['share']:.0%}" if "share" in ours else "")
        if more:
            both = network in single and "min_s" in ours
            cells.append(number(single[network]["min_s"] / ours["min_s"]) if both else "")
        own = found.get(engines.OURS_F32, {}).get("ratio_min")
        if by_f32:
            cells.append(number(own))
        lines.append(cells)
        values = {**mins, "minimum": best[0], "median": best[1], engines.OURS_F32: own}
        for group in groups:
            if group == "all" or network in SEEDS:
                for name, value in values.items():
                    if value is not None:
                        summary.setdefault(group, {}).setdefault(name, []).append(value)
    for group, values in summary.items():
        means = {name: number(statistics.geometric_mean(v)) for name, v in values.items()}
        cells = [f"*geometric mean, {group}*", *(means.get(name, "") for name in peers), ""]
        cells += [means.get("minimum", ""), means.get("median", ""), *[""] * (2 if more else 1)]
        lines.append([*cells, means.get(engines.OURS_F32, "")] if by_f32 else cells)
    return table(head, lines)


def resources(rows):
    """Geometric means over the networks of what loading takes, each peer by nnc."""
    peers = [name for name in dict.fromkeys(row["engine"] for row in rows) if name != engines.OURS]  # the f32 form, too
    found = {(row["network"], row["engine"]): row for row in rows}
    lines = []
    for title, (theirs, ours) in RESOURCES.items():
        cells = [title]
        for name in peers:
            ratios = []
            for (network, engine), row in found.items():
                our = found.get((network, engines.OURS), {})
                if engine == name and all(key in row for key in theirs) and all(key in our for key in ours):
                    ratios.append(sum(row[key] for key in theirs) / sum(our[key] for key in ours))
            cells.append(number(statistics.geometric_mean(ratios)) if ratios and min(ratios) > 0 else "")
        lines.append(cells)
    return table(["geometric mean of peer / nnc", *peers], lines) if any(any(line[1:]) for line in lines) else ""


def differences(rows):
    """What each engine's outputs are off by at the fewest threads: the most, and the root of the mean square, of the largest output."""
    few = min(row["threads"] for row in rows)
    found = {}
    for row in rows:
        if row["threads"] == few:
            found.setdefault(row["network"], {})[row["engine"]] = row
    names = [engines.OURS, *engines.peers(rows)]
    lines, head = [], ["network", *names]
    if any("change" in row for row in rows):
        head.append("the f32 model")
    for network, some in found.items():
        cells = [difference(some.get(name, {}), "error", "rms") for name in names]
        changed = [difference(next(iter(some.values())), "change", "change_rms")]
        lines.append([network, *cells, *changed][: len(head)])
    return table(head, lines)


def difference(row, most, mean):
    told = f"{row[most]:.0e}, {row[mean]:.0e}" if most in row else ""
    return f"wrong ({told})" if "wrong" in row and most == "error" else told


def missing(rows):
    """What could not be measured, and why."""
    reasons = {}
    for row in rows:
        if "missing" in row:
            reason = textwrap.shorten(row["missing"], 200, placeholder=" …")
            reasons.setdefault((row["engine"], reason), []).append(f"{named(row)} ({row['threads']})")
    lines = [f"- {engine}: {reason}: {', '.join(where)}" for (engine, reason), where in reasons.items()]
    return "\n".join(["Missing, with the number of threads:", "", *lines]) if lines else ""


def named(row):
    """The network, with its kind if there are kinds."""
    return f"{row['kind']}: {row['network']}" if "kind" in row else row["network"]


def table(head, lines, texts=1):
    """So many columns are text."""
    rows = [head, ["---"] * texts + ["---:"] * (len(head) - texts), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def number(value):
    if value is None:
        return ""
    return f"{value:.0f}" if value >= 10 else f"{value:.2f}" if value >= 0.095 else f"{value:.2g}"
