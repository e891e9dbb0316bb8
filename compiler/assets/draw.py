#!/usr/bin/env python3
"""Draws harbour.png, the picture that `nnc run` shows to its built-in network.

    python3 compiler/assets/draw.py

A boat in a harbour at sunset, from formulas alone, so that the picture belongs to the project. Needs nothing but Python.
"""

import math
import pathlib
import struct
import zlib

WIDTH, HEIGHT = 320, 240
HORIZON = 148


def mix(a, b, t):
    t = min(max(t, 0.0), 1.0)
    return tuple(x + (y - x) * t for x, y in zip(a, b))


def sky(x, y):
    colour = mix((38, 52, 104), (250, 170, 96), (y / HORIZON) ** 1.6)
    distance = math.hypot(x - 226, y - 104)
    if distance < 24:
        return (255, 236, 170)
    return mix(colour, (255, 222, 150), math.exp(-(distance - 24) / 26) * 0.8)


def hills(x):
    return HORIZON - 26 - 14 * math.sin(x / 41 + 1.0) - 7 * math.sin(x / 17) - 2 * math.sin(x / 5)


def sea(x, y):
    depth = (y - HORIZON) / (HEIGHT - HORIZON)
    colour = mix((196, 130, 104), (18, 38, 74), depth**0.6)
    wave = math.sin(y * (1.6 - depth) + 3 * math.sin(x / (9 + 30 * depth) + y / 7))
    path = math.exp(-(((x - 226) / (12 + 60 * depth)) ** 2))
    return mix(colour, (255, 226, 160), path * (0.35 + 0.35 * wave) + 0.06 * wave)


def inside(x, y, corners):
    """Whether a point lies in a polygon: an odd number of edges to its right."""
    odd = False
    for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1]):
        if (y0 > y) != (y1 > y) and x < (x1 - x0) * (y - y0) / (y1 - y0) + x0:
            odd = not odd
    return odd


SHAPES = [
    ([(58, 176), (160, 176), (146, 198), (74, 198)], (116, 40, 36)),  # hull
    ([(58, 176), (160, 176), (159, 180), (60, 180)], (232, 224, 206)),  # gunwale
    ([(108, 64), (111, 64), (111, 176), (108, 176)], (84, 58, 40)),  # mast
    ([(114, 70), (154, 168), (114, 168)], (240, 232, 214)),  # mainsail
    ([(105, 78), (105, 168), (70, 168)], (226, 210, 186)),  # jib
    ([(108, 58), (124, 62), (108, 67)], (200, 48, 44)),  # pennant
    ([(262, 128), (276, 128), (280, 188), (258, 188)], (236, 230, 222)),  # lighthouse
    ([(261, 140), (277, 140), (278, 154), (260, 154)], (188, 44, 40)),
    ([(259, 168), (279, 168), (280, 182), (258, 182)], (188, 44, 40)),
    ([(264, 116), (274, 116), (274, 128), (264, 128)], (255, 240, 170)),
    ([(262, 116), (276, 116), (269, 108)], (90, 40, 36)),
    ([(232, 188), (320, 180), (320, 206), (240, 202)], (62, 58, 60)),  # rocks
]


def colour_at(x, y):
    for corners, colour in reversed(SHAPES):
        if inside(x, y, corners):
            shade = 0.86 + 0.14 * math.sin(x / 3 + y / 11)
            return tuple(c * shade for c in colour)
    if y >= HORIZON:
        return sea(x, y)
    if y >= hills(x):
        return mix((64, 62, 92), (120, 88, 96), (y - hills(x)) / 40)
    return sky(x, y)


def smooth(x, y):
    """Four samples a pixel."""
    samples = [colour_at(x + dx, y + dy) for dx in (0.25, 0.75) for dy in (0.25, 0.75)]
    # Steps of four keep the file small and are not seen.
    return bytes(min(255, int(sum(s[c] for s in samples) / 4 + 2) // 4 * 4) for c in range(3))


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(rows):
    """An RGB picture; each row is stored as differences from the pixel to the left (filter 1)."""
    raw = bytearray()
    for row in rows:
        raw.append(1)
        raw += bytes((row[i] - (row[i - 3] if i >= 3 else 0)) & 255 for i in range(len(row)))
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 2, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(bytes(raw), 9)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


if __name__ == "__main__":
    picture = png(b"".join(smooth(x, y) for x in range(WIDTH)) for y in range(HEIGHT))
    pathlib.Path(__file__).with_name("harbour.png").write_bytes(picture)
