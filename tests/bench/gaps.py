"""The tables of `operators.py` and `trained.py`: rows by kind, and those where nnc is furthest behind.

A ratio is nnc's time by the peer's, of the shortest runs: more than 1 means that nnc takes longer. That is the other way round than in
`report.py`, since these tables are read for what is to be done.
"""

import argparse
import json
import re
import statistics

import engines
from report import missing, number, table

OVERHEAD = "Call"
"""The kind of the row that does next to nothing. No mean has it."""


def options(parser, thing):
    """Which rows, and how to print them."""
    told = f'{thing}s whose "kind: name" this finds something in (default: all)'
    parser.add_argument("--only", type=pattern, default=re.compile(""), metavar="REGEX", help=told)
    parser.add_argument("--json", action="store_true", help="print everything that was measured as JSON")


def pattern(text):
    try:
        return re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no regular expression: {error}") from error


def write(folder, name, rows):
    """Writes NAME.json, with everything that was measured, and NAME.md into `folder`."""
    (folder / f"{name}.json").write_text(json.dumps(rows, indent=1) + "\n")
    (folder / f"{name}.md").write_text(markdown(rows) + "\n")


def add(rows, rates=None):
    """Adds to the rows of a case what the tables show: the `gap` to each peer, that of loading (`ready_gap`), and nnc's limit.

    `rates` are a core's bytes a second, by the size of what it reads. The limit of a layer is its arithmetic at the peak of the
    cores or its data at that rate, whichever takes longer.
    """
    for row in rows:
        if "ratio_min" in row:
            row["gap"] = 1 / row["ratio_min"]
        ours = next((our for our in rows if our["engine"] == engines.OURS and our["threads"] == row["threads"]), {})
        if "load_s" in row and "compile_s" in ours:
            row["ready_gap"] = ours["compile_s"] / row["load_s"]
    for row in rows:
        if rates and "min_s" in row and "bytes" in row:
            size = min((size for size in rates if size >= row["bytes"]), default=max(rates))
            row["memory_share"] = row["bytes"] / (row["threads"] * rates[size]) / row["min_s"]


def markdown(rows):
    versions = {row["engine"]: row["version"] for row in rows if "version" in row}
    told = ", ".join(f"{name} {version}" for name, version in versions.items())
    parts = [
        f"nnc's time by the peer's; 1 or 2: the number of threads. Versions: {told}.",
        by_kind(rows),
        "### Furthest behind",
        worst(rows),
    ]
    return "\n\n".join(part for part in [*parts, missing(rows)] if part)


def by_kind(rows):
    """All rows, with the geometric mean of each kind."""
    columns = columns_of(rows)
    kinds = {}
    for cells in grouped(rows):
        kinds.setdefault(cells["kind"], []).append(cells)
    lines = []
    for kind, some in kinds.items():
        lines += [line(kind, cells["network"], cells, columns) for cells in some]
        if len(some) > 1:
            lines.append(line(kind, f"*geometric mean of {len(some)}*", means(some, columns), columns))
    counted = [cells for kind, some in kinds.items() if kind != OVERHEAD for cells in some]
    lines.append(line("*all*", f"*geometric mean of {len(counted)}*", means(counted, columns), columns))
    return table(["kind", "row", *columns.values()], lines, texts=2)


def worst(rows, count=40):
    """The rows with the largest gaps to their best peer, at the fewest threads."""
    few = min(row["threads"] for row in rows)
    columns = {key: title for key, title in columns_of(rows).items() if key[0] == few and key[1] != "ready"}
    behind = []
    for cells in grouped(rows):
        gaps = [cells[key] for key in columns if key[1] == "gap" and key in cells]
        if gaps and max(gaps) > 1 and cells["kind"] != OVERHEAD:
            behind.append((max(gaps), cells))
    behind.sort(key=lambda pair: -pair[0])
    return table(
        ["kind", "row", *columns.values()], [line(c["kind"], c["network"], c, columns) for _, c in behind[:count]], texts=2
    )


def columns_of(rows):
    """What stands in each column, as (threads, `gap` or `ready`, peer) or (threads, `limit`, ""), and its title."""
    peers = engines.peers(rows)
    found = {}
    for threads in sorted({row["threads"] for row in rows}):
        found |= {(threads, "gap", peer): f"{peer}, {threads}" for peer in peers}
        found[threads, "limit", ""] = f"of the limit, {threads}"
        if any("ready_gap" in row for row in rows):
            found |= {(threads, "ready", peer): f"{peer}, file to ready, {threads}" for peer in peers}
    return found


def grouped(rows):
    """The cells of each case, by column; its kind and name are there, too."""
    found = {}
    for row in rows:
        cells = found.setdefault((row["kind"], row["network"]), {"kind": row["kind"], "network": row["network"]})
        threads, engine = row["threads"], row["engine"]
        if engine == engines.OURS:
            share = limit(row)
            if share:
                cells[threads, "limit", ""] = share
            continue
        for key, name in (("gap", "gap"), ("ready_gap", "ready")):
            if key in row:
                cells[threads, name, engine] = row[key]
    return list(found.values())


def limit(row):
    """How near nnc is to what the machine could do, and by what that is limited."""
    shares = [(row.get("share", 0), "arithmetic"), (row.get("memory_share", 0), "memory")]
    share, what = max(shares)
    return f"{share:.0%} {what}" if share else None


def means(some, columns):
    found = {}
    for key in columns:
        values = [cells[key] for cells in some if key in cells]
        if values and key[1] != "limit":
            found[key] = statistics.geometric_mean(values)
    return found


def line(kind, name, cells, columns):
    shown = [cells.get(key) for key in columns]
    return [kind, name, *(value if isinstance(value, str) else number(value) for value in shown)]
