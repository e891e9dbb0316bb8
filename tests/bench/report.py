"""Writes what was measured: a CSV file with everything, a Markdown table with ratios alone."""

import csv

COLUMNS = {
    "network": ("network", "{}"),
    "ratio_min": ("ort / nnc, minimum", "{:.2f}"),
    "ratio_median": ("ort / nnc, median", "{:.2f}"),
    "nnc_share": ("nnc, share of the limit", "{:.0%}"),
    "ort_share": ("ort, share of the limit", "{:.0%}"),
    "error": ("difference", "{:.0e}"),
    "load_ratio": ("loading, ort / nnc", "{:.2f}"),
}


def markdown(rows):
    """The table for docs/performance.md. Columns that nothing was measured for are left out."""
    columns = {key: column for key, column in COLUMNS.items() if any(key in row for row in rows)}
    lines = ["| " + " | ".join(title for title, _ in columns.values()) + " |"]
    lines.append("|---" + "|---:" * (len(columns) - 1) + "|")
    for row in rows:
        cells = (form.format(row[key]) if key in row else "" for key, (_, form) in columns.items())
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def write(folder, rows):
    """Writes compare.csv and compare.md into `folder`."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    with open(folder / "compare.csv", "w", newline="") as file:
        table = csv.DictWriter(file, keys)
        table.writeheader()
        table.writerows(rows)
    (folder / "compare.md").write_text(markdown(rows) + "\n")
