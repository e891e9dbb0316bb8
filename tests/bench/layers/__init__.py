"""The models of `operators.py`: one or a few layers each. A file holds related kinds, as `rows()`; a new file is a name in `FILES`."""

import importlib

FILES = [
    "products",
    "convolutions",
    "transposed",
    "recurrent",
    "attention",
    "elements",
    "norms",
    "reductions",
    "pools",
    "pictures",
    "moves",
    "indices",
    "boxes",
    "low_precision",
    "quantised",
]


def rows():
    """All rows, sorted by kind; within a kind in the order of its file."""
    found = [row for name in FILES for row in importlib.import_module(f"layers.{name}").rows()]
    return sorted(found, key=lambda row: row.kind.lower())
