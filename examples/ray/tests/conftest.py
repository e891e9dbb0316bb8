"""Ray on this machine, and a network with pictures for it: the one of PP-OCR that tells which lines of text are upside down."""

import os
import pathlib
import secrets
import sys

import numpy as np
import pytest
from PIL import Image

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent)]
# Workers of Ray find the examples there, too.
os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE.parent), str(HERE)])
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
# Else Ray writes one to the home folder.
os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)

import nnc

PAGES = HERE.parent.parent.parent / "tests" / "trained" / "pictures"
HEIGHT, WIDTH, BATCH = 48, 192, 8


@pytest.fixture(scope="session")
def model():
    return pathlib.Path(os.environ["NNC_TRAINED"]) / "ch_ppocr_mobile_v2.0_cls_infer.onnx"


@pytest.fixture(scope="session")
def program(model, tmp_path_factory):
    """The network, compiled for batches."""
    file = tmp_path_factory.mktemp("shared") / "direction.nnc.so"
    nnc.compile(model, file, shapes={"x": (BATCH, 3, HEIGHT, WIDTH)})
    return str(file)


@pytest.fixture(scope="session")
def lines(tmp_path_factory):
    """A folder of 203 pictures, parts of a page; the last batch is not full."""
    folder = tmp_path_factory.mktemp("lines")
    page = Image.open(PAGES / "receipt.png").convert("RGB")
    places = np.random.default_rng(1).random((203, 2))
    for index, (x, y) in enumerate(places):
        left, top = int(x * (page.width - WIDTH)), int(y * (page.height - HEIGHT))
        page.crop((left, top, left + WIDTH, top + HEIGHT)).save(folder / f"{index:03}.png")
    return folder
