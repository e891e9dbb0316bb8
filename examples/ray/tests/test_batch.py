"""Batch work: what comes out is what a session alone computes, whatever happens to the actors; and readers wait for them."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import batch
import numpy as np
import pyarrow.parquet
import pytest
import ray
from conftest import BATCH, HEIGHT, WIDTH
from PIL import Image

import nnc


@pytest.fixture(scope="module", autouse=True)
def cluster():
    ray.init(num_cpus=4, include_dashboard=False, object_store_memory=256 << 20, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def expected(program, lines):
    """Scores by the name of a picture, of one session without Ray."""
    session = nnc.load(program)
    scores = {}
    for file in sorted(lines.iterdir()):
        picture = np.asarray(Image.open(file), np.float32) / 127.5 - 1
        pictures = np.repeat(picture.transpose(2, 0, 1)[None], BATCH, axis=0)
        scores[file.name] = session.run(None, {"x": pictures})[0][0]
    return scores


def read(lines):
    return ray.data.read_images(str(lines), size=(HEIGHT, WIDTH), mode="RGB", include_paths=True, override_num_blocks=12)


def assert_complete(rows, expected):
    """Each picture once, with its scores. Where in a batch a picture lies decides how its sums are rounded."""
    names = [pathlib.Path(row["path"]).name for row in rows]
    assert sorted(names) == sorted(expected)
    for name, row in zip(names, rows):
        np.testing.assert_allclose(row["scores"], expected[name], rtol=1e-5, err_msg=name)


def test_the_program_scores_a_folder(program, lines, expected, tmp_path):
    command = [sys.executable, "-B", batch.__file__, lines, program, tmp_path / "scores", "--actors", "2"]
    environment = {**os.environ, "RAY_ADDRESS": ray.get_runtime_context().gcs_address}
    subprocess.run(command, env=environment, check=True)
    assert_complete(pyarrow.parquet.read_table(tmp_path / "scores").to_pylist(), expected)


class Mortal(batch.Scorer):
    """Its process is killed once, in the midst of its third batch."""

    def __init__(self, program, batch, killed):
        super().__init__(program, batch)
        self.killed = killed
        self.batches = 0

    def __call__(self, rows):
        scored = super().__call__(rows)
        self.batches += 1
        if self.batches == 3:
            try:
                with open(self.killed, "x") as file:
                    file.write(str(os.getpid()))
                os.kill(os.getpid(), signal.SIGKILL)
            except FileExistsError:
                pass
        return {**scored, "process": np.full(len(scored["path"]), os.getpid())}


def test_nothing_is_lost_when_an_actor_is_killed(program, lines, expected, tmp_path):
    killed = tmp_path / "killed"
    batch.score(read(lines), program, 2, Mortal, killed=str(killed)).write_parquet(str(tmp_path / "scores"))
    rows = pyarrow.parquet.read_table(tmp_path / "scores").to_pylist()
    assert_complete(rows, expected)
    processes = {row["process"] for row in rows}
    assert killed.is_file(), "no actor was killed"
    with pytest.raises(ProcessLookupError):
        os.kill(int(killed.read_text()), 0)
    assert processes - {int(killed.read_text())}, "nobody took over"


class Slow(batch.Scorer):
    """Takes its time, and says when it was done."""

    def __call__(self, rows):
        time.sleep(0.1)
        return {"made": rows["made"], "used": np.full(len(rows["made"]), time.monotonic())}


def make(rows):
    """Pictures of 300 kB out of nothing, with the time at which they were made."""
    count = len(rows["id"])
    return {"image": np.zeros((count, 320, 320, 3), np.uint8), "made": np.full(count, time.monotonic())}


def test_readers_wait_for_slow_actors(program):
    blocks, in_store = 60, 24 << 20
    # Another share of a core than the actors': what asks for the same as they do would run in them.
    pictures = ray.data.range(blocks * BATCH, override_num_blocks=blocks).map_batches(make, batch_size=BATCH, num_cpus=0.5)
    rows = batch.score(pictures, program, 1, Slow, in_store=in_store).take_all()
    assert len(rows) == blocks * BATCH
    made, used = (np.sort([row[when] for row in rows]) for when in ("made", "used"))
    # How many pictures were made and not yet used, whenever one was made.
    waiting = np.arange(1, len(made) + 1) - np.searchsorted(used, made)
    print(f"{waiting.max()} of {len(rows)} pictures waited at once")
    # The bound is for blocks that are in the store: those that are being made come on top.
    assert waiting.max() * 320 * 320 * 3 <= 2 * in_store
