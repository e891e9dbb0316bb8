#!/usr/bin/env python3
"""Tests of the comparison itself: that a wrong output would show, and what processes are told of inputs.

    target/bench-venv/bin/python tests/bench/test_bench.py

Needs numpy; measures nothing.
"""

import pathlib
import sys
import tempfile
import types
import unittest

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import agree
import engines
from case import Case


class Agreement(unittest.TestCase):
    def wrong(self, found, right, least=0.0):
        return agree.disagreement(found, right, types.SimpleNamespace(tolerance=1e-3, least=least), {})

    def test_near_floats_agree_and_far_ones_do_not(self):
        right = np.float32([1, -100, 3])
        self.assertIsNone(self.wrong([right + np.float32(0.05)], [right]))
        self.assertIn("differs by 5e-03", self.wrong([right + np.float32(0.5)], [right]))

    def test_probabilities_next_to_zero_count_against_one(self):
        found, right = [np.float32([1e-5])], [np.float32([2e-5])]
        self.assertIsNotNone(self.wrong(found, right))
        self.assertIsNone(self.wrong(found, right, least=1.0))

    def test_a_nan_is_wrong(self):
        self.assertIsNotNone(self.wrong([np.float32([1, np.nan])], [np.float32([1, 2])]))

    def test_integers_are_equal_or_wrong(self):
        right = np.int64([1, 2, 3])
        self.assertIsNone(self.wrong([right.astype(np.int32)], [right]))
        self.assertIn("1 of 3 elements", self.wrong([np.int64([1, 2, 4])], [right]))

    def test_all_outputs_count(self):
        right = [np.float32([1]), np.float32([2])]
        self.assertIn("output 1", self.wrong([right[0], right[0]], right))
        self.assertIn("1 outputs in place of 2", self.wrong(right[:1], right))

    def test_sizes_are_compared_axes_of_one_are_not(self):
        self.assertIsNone(self.wrong([np.ones(4, np.float32)], [np.ones((1, 4), np.float32)]))
        self.assertIsNotNone(self.wrong([np.ones(3, np.float32)], [np.ones(4, np.float32)]))


class Engines(unittest.TestCase):
    def case(self, folder, *values):
        return Case("x", pathlib.Path(folder) / "x.onnx", {f"{i}/x:0": value for i, value in enumerate(values)})

    def test_arrays_reach_a_process_in_order_and_type(self):
        inputs = [(np.arange(3 * n) % 5).astype(kind).reshape(3, n) for n, kind in enumerate(["float32", "int64", "bool"] * 5)]
        with tempfile.TemporaryDirectory() as folder:
            case = self.case(folder, *inputs)
            engine = engines.module("onnxruntime").ENGINE
            self.assertEqual(engine.inputs(case), [case.file])
            for found, right in zip(engine.outputs(case.file), inputs, strict=True):
                self.assertEqual(found.dtype, right.dtype)
                np.testing.assert_array_equal(found, right)

    def test_peers_in_rust_get_one_input_as_plain_numbers(self):
        value = np.arange(6, dtype=np.float32).reshape(1, 6)
        with tempfile.TemporaryDirectory() as folder:
            case = self.case(folder, value)
            engine = engines.module("rten").ENGINE
            engine.prepare(case, None)
            file, shape = engine.inputs(case)
            self.assertEqual(shape, "1x6")
            np.testing.assert_array_equal(engine.outputs(file)[0], value.ravel())
            with self.assertRaises(RuntimeError):
                engine.prepare(self.case(folder, value, value), None)


if __name__ == "__main__":
    unittest.main()
