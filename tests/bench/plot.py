"""The plot: for each network one line, on it each peer as a dot where its time by nnc's is; nnc itself is the line at 1.

The scale is logarithmic, so that twice as fast and half as fast are equally far from 1.
"""

import html
import math

import engines

COLOURS = {"onnxruntime": "#0072b2", "openvino": "#e69f00", "ncnn": "#009e73", "tract": "#cc79a7", "rten": "#d55e00"}
"""Told apart by colour-blind readers as well (Okabe and Ito)."""

LABELS, WIDTH, ROW, TOP, GAP = 170, 620, 20, 64, 16


def svg(rows):
    """One panel for each number of threads, one above the other."""
    dots = [row for row in rows if row["engine"] in engines.peers(rows) and "ratio_min" in row]
    if not dots:
        return '<svg xmlns="http://www.w3.org/2000/svg"/>\n'
    low = min(0.8, *(row["ratio_min"] for row in dots)) / 1.05
    high = max(2, *(row["ratio_min"] for row in dots)) * 1.05

    def x(ratio):
        return LABELS + WIDTH * math.log(ratio / low) / math.log(high / low)

    parts, y = [], 0
    for threads in dict.fromkeys(row["threads"] for row in rows):
        networks = list(dict.fromkeys(row["network"] for row in dots if row["threads"] == threads))
        if not networks:
            continue
        title = f"Time of each peer by nnc's, {threads} thread{'s' if threads > 1 else ''} (right of the line: nnc is faster)"
        parts.append(text(GAP, y + 24, title, size=14, weight="bold"))
        at = LABELS
        for name in dict.fromkeys(row["engine"] for row in dots):
            parts += [dot(at, y + 44, name, ""), text(at + 10, y + 48, name)]
            at += 110
        bottom = y + TOP + ROW * len(networks)
        for tick in (0.5, 0.7, 1, 1.4, 2, 2.8, 4, 5.7, 8, 11, 16):
            if low <= tick <= high:
                colour, thick = ("#222", 1.5) if tick == 1 else ("#ddd", 1)
                parts.append(
                    f'<line x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{y + TOP}" y2="{bottom}" '
                    f'stroke="{colour}" stroke-width="{thick}"/>'
                )
                parts.append(text(x(tick), bottom + 15, f"{tick:g}×", anchor="middle"))
        for index, network in enumerate(networks):
            middle = y + TOP + ROW * (index + 0.5)
            parts.append(text(LABELS - 10, middle + 4, network, anchor="end"))
            for row in dots:
                if (row["network"], row["threads"]) == (network, threads):
                    tip = f"{row['engine']}, {network}: {row['ratio_min']:.2f}"
                    parts.append(dot(x(row["ratio_min"]), middle, row["engine"], tip))
        y = bottom + 32
    width = LABELS + WIDTH + GAP
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{y}" font-family="sans-serif" font-size="12">'
    return "\n".join([head, f'<rect width="{width}" height="{y}" fill="#fff"/>', *parts, "</svg>", ""])


def dot(x, y, name, tip):
    inside = f"<title>{html.escape(tip)}</title>" if tip else ""
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{COLOURS[name]}" fill-opacity="0.85">{inside}</circle>'


def text(x, y, words, anchor="start", size=12, weight="normal"):
    style = f'text-anchor="{anchor}" font-size="{size}" font-weight="{weight}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style} fill="#222">{html.escape(words)}</text>'
