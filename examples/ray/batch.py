#!/usr/bin/env python3
"""Scores a folder of pictures on all cores of a cluster: Ray Data moves the pictures, a compiled program in each actor looks at them.

    python batch.py PICTURES PROGRAM SCORES          PROGRAM by `nnc compile MODEL --shape x=8x3x48x192` or `nnc.compile`

    PICTURES/*.png ──▶ read and resize ──▶ blocks ──▶ actors, one session each ──▶ SCORES/*.parquet
                       (tasks, any core)   (bounded)  (PROGRAM, from a folder that all machines see)

Each actor loads the program, which takes milliseconds, and has one thread: where there are as many actors as cores, more threads
would take turns. What an actor that dies had in hand is done again by another one, and Ray starts an actor in its place; so every
picture is in the result, once. Readers wait when the actors are slower than they: about `IN_STORE` bytes of pictures lie between, no more.
"""

import argparse
import os
from typing import Any

import numpy as np

# Ray asks its makers' server on start-up what is new, unless it is told not to.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray
from ray.data import ActorPoolStrategy, DataContext, Dataset

import nnc

#: Bytes of pictures that may lie between readers and actors.
IN_STORE = 512 << 20
#: Batches that an actor is given before it has finished the first: one to work on, one to fetch meanwhile.
IN_HAND = 2


class Scorer:
    """What an actor keeps: a session, and how many pictures its program takes."""

    def __init__(self, program: str, batch: int) -> None:
        self.session = self.open(program)
        self.batch = batch
        self.input = self.session.get_inputs()[0].name
        self.output = self.session.get_outputs()[0].name

    def open(self, program: str) -> Any:
        options = nnc.SessionOptions()
        options.intra_op_num_threads = 1
        return nnc.load(program, options)

    def __call__(self, rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Scores of some pictures [n, height, width, 3] of bytes, n at most `batch`."""
        count, height, width, _ = rows["image"].shape
        # The last batch may have fewer pictures than the program takes.
        pictures = np.zeros((self.batch, 3, height, width), np.float32)
        pictures[:count] = rows["image"].transpose(0, 3, 1, 2)
        pictures[:count] /= 127.5
        pictures[:count] -= 1
        (scores,) = self.session.run([self.output], {self.input: pictures})
        return {"path": rows["path"], "scores": scores[:count].reshape(count, -1)}


def score(pictures: Dataset, program: str, actors: int, scorer: type = Scorer, in_store: int = IN_STORE, **settings: Any) -> Dataset:
    """Rows of pictures (`image` and `path`) become rows of scores, lazily: nothing runs before the result is written or read."""
    options = DataContext.get_current().execution_options
    options.resource_limits = options.resource_limits.copy(object_store_memory=in_store)
    batch = nnc.load(program).get_inputs()[0].shape[0]
    return pictures.map_batches(
        scorer,
        fn_constructor_kwargs={"program": program, "batch": batch, **settings},
        batch_size=batch,
        compute=ActorPoolStrategy(size=actors, max_tasks_in_flight_per_actor=IN_HAND),
        num_cpus=1,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", help="a folder, or anything that Ray reads: s3://…")
    parser.add_argument("program", help="a file that each machine sees under this name")
    parser.add_argument("scores", help="the folder for the results")
    parser.add_argument("--actors", type=int, help="else one for each core, but one for the readers")
    arguments = parser.parse_args()
    ray.init(ignore_reinit_error=True, include_dashboard=False)
    actors = arguments.actors or max(1, int(ray.cluster_resources()["CPU"]) - 1)
    program = os.path.abspath(arguments.program)
    height, width = nnc.load(program).get_inputs()[0].shape[2:]
    pictures = ray.data.read_images(arguments.pictures, size=(height, width), mode="RGB", include_paths=True)
    score(pictures, program, actors).write_parquet(arguments.scores)


if __name__ == "__main__":
    main()
