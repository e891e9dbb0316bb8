#!/usr/bin/env python3
"""Tests of the comparison itself: that its models are sound, and that a wrong output or a ratio the wrong way round would show.

    target/bench-venv/bin/python tests/bench/test_bench.py

Needs the packages onnx, onnxruntime and numpy; measures nothing.
"""

import json
import os
import pathlib
import re
import sys
import tempfile
import types
import unittest

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import agree
import engines
import gaps
import layers
import peak
import plot
import precisions
import quantise
import report
import rounds
from case import Case
from layers.model import Model, build, size_of
from workers import Worker, WorkerError


def small_network(folder):
    """Convolution, ReLU, a dense layer."""
    import onnx

    g = Model()
    y = g.node("Relu", g.node("Conv", g.input(1, 4, 8, 8), g.weights(8, 4, 3, 3), pads=[1] * 4))
    y = g.node("Gemm", g.node("Flatten", g.node("GlobalAveragePool", y)), g.weights(5, 8), transB=1)
    file = pathlib.Path(folder) / "x.onnx"
    onnx.save(g.proto(y, 17), file)
    return Case("x", file, g.arrays)


class Models(unittest.TestCase):
    """The rows of operators.py."""

    def test_every_model_is_what_onnx_allows(self):
        import onnx

        for row in layers.rows():
            with self.subTest(f"{row.kind}: {row.name}"):
                proto, arrays = build(row)
                onnx.checker.check_model(proto, full_check=True)
                self.assertEqual([port.name for port in proto.graph.input], list(arrays))

    def test_rows_have_names_and_files_of_their_own(self):
        names = [f"{row.kind} {row.name}" for row in layers.rows()]
        files = [re.sub(r"[^\w.-]+", "-", name) for name in names]
        self.assertEqual(len(set(files)), len(names))

    def test_a_row_is_the_same_each_time(self):
        for row in [row for row in layers.rows() if row.kind in ("LSTM", "ScatterND", "NonMaxSuppression")]:
            (one, inputs), (other, again) = build(row), build(row)
            self.assertEqual(one.SerializeToString(), other.SerializeToString())
            for name in inputs:
                np.testing.assert_array_equal(inputs[name], again[name])

    def test_bytes_are_those_of_inputs_weights_and_outputs(self):
        row = next(row for row in layers.rows() if row.name == "128x128 · 128x128")
        self.assertEqual(size_of(*build(row)), 3 * 128 * 128 * 4)

    def test_a_table_that_is_gathered_from_does_not_count(self):
        row = next(row for row in layers.rows() if row.name == "128 rows of 10000x512")
        self.assertEqual(size_of(*build(row)), 128 * 512 * 4 + 128 * 8)


class Agreement(unittest.TestCase):
    def wrong(self, found, right, least=0.0, steps=0, by_rms=False):
        case = types.SimpleNamespace(tolerance=1e-3, by_rms=by_rms, least=least, steps=steps)
        return agree.disagreement(found, right, case, {})

    def test_near_floats_agree_and_far_ones_do_not(self):
        right = np.float32([1, -100, 3])
        self.assertIsNone(self.wrong([right + np.float32(0.05)], [right]))
        self.assertIn("differs by 5e-03", self.wrong([right + np.float32(0.5)], [right]))

    def test_probabilities_next_to_zero_count_against_one(self):
        found, right = [np.float32([1e-5])], [np.float32([2e-5])]
        self.assertIsNotNone(self.wrong(found, right))
        self.assertIsNone(self.wrong(found, right, least=1.0))

    def test_few_elements_of_a_quantised_network_may_be_far_off(self):
        right = np.full(10**6, 2, np.float32)
        found = right.copy()
        found[3] = 1.5
        self.assertIsNotNone(self.wrong([found], [right]))
        self.assertIsNone(self.wrong([found], [right], by_rms=True))
        self.assertIn("differs by 2e-03", self.wrong([right + np.float32(0.004)], [right], by_rms=True))
        self.assertIsNotNone(self.wrong([right * np.nan], [right], by_rms=True))

    def test_a_nan_is_wrong(self):
        self.assertIsNotNone(self.wrong([np.float32([1, np.nan])], [np.float32([1, 2])]))

    def test_integers_are_equal_or_wrong(self):
        right = np.int64([1, 2, 3])
        self.assertIsNone(self.wrong([right.astype(np.int32)], [right]))
        self.assertIn("1 of 3 elements", self.wrong([np.int64([1, 2, 4])], [right]))

    def test_bytes_may_be_steps_off_if_the_case_says_so(self):
        right = np.uint8([0, 100, 255])
        near, far = np.uint8([1, 99, 255]), np.uint8([255, 100, 255])
        self.assertIn("2 of 3 elements", self.wrong([near], [right]))
        self.assertIsNone(self.wrong([near], [right], steps=1))
        self.assertIn("1 of 3 elements", self.wrong([far], [right], steps=1))

    def test_the_row_has_the_worst_of_all_outputs(self):
        row, case = {}, types.SimpleNamespace(tolerance=1.0, by_rms=False, least=0.0)
        right = [np.float32([1, 0, 0, 0]), np.float32([2, 0, 0, 0])]
        self.assertIsNone(agree.disagreement([right[0] + np.float32([0, 0.5, 0, 0]), right[1]], right, case, row))
        self.assertEqual(row, {"error": 0.5, "rms": 0.25})
        self.assertIsNotNone(agree.disagreement([right[0] * np.nan, right[1]], right, case, row))
        self.assertTrue(np.isnan(row["error"]) and np.isnan(row["rms"]))

    def test_what_f32_changes_is_of_the_outputs_in_f32(self):
        right = [np.int64([5]), np.float32([4, 0])]
        self.assertEqual(agree.change([np.int64([9]), np.float32([4, 1])], right, 0.0)[0], 0.25)
        self.assertEqual(agree.change(right[:1], right[:1], 0.0), (0.0, 0.0))

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


    def test_each_engine_says_which_precisions_it_lacks(self):
        lacks = {name: set(engines.module(name).ENGINE.lacks) for name in engines.NAMES}
        self.assertEqual([name for name in engines.NAMES if "int8" in lacks[name]], ["ncnn"])
        self.assertEqual([name for name in engines.NAMES if "bf16" not in lacks[name]], ["nnc", "openvino", "ncnn"])
        self.assertFalse([name for name in engines.NAMES if "f32" in lacks[name]])

    def test_an_engine_that_lacks_the_precision_is_left_out_with_the_reason(self):
        with tempfile.TemporaryDirectory() as folder:
            case = precisions.lower(self.f32(folder), "bf16", None)
            rows = {(name, 1): {} for name in ("rten", "openvino")}
            self.assertEqual(rounds.prepare(case, ["rten", "openvino"], None, rows), {"openvino": [case.onnx]})
            self.assertEqual(rows, {("rten", 1): {"missing": "no bf16: it has no arithmetic in bf16"}, ("openvino", 1): {}})

    def test_an_nnc_without_precisions_is_not_there_and_its_f32_form_is(self):
        with tempfile.TemporaryDirectory() as folder:
            nnc = pathlib.Path(folder) / "nnc"
            nnc.write_text("""#!/bin/sh
                case "$*" in *--precision*) echo "error: unexpected argument '--precision' found" >&2; exit 2;; esac
            """)
            nnc.chmod(0o700)
            case = precisions.lower(self.f32(folder), "bf16", None)
            rows = {(name, 1): {} for name in (engines.OURS, engines.OURS_F32)}
            tools = types.SimpleNamespace(nnc=nnc)
            files = rounds.prepare(case, [engines.OURS, engines.OURS_F32], tools, rows)
            self.assertEqual(files, {engines.OURS_F32: [pathlib.Path(folder) / "x.nnc.so"]})
            self.assertIn("not there: this nnc has no --precision bf16", rows[engines.OURS, 1]["missing"])

    def test_a_process_that_crashes_is_an_error_of_its_engine(self):
        for script in ("kill -SEGV $$", "echo ready 1 1; kill -SEGV $$"):
            with self.subTest(script), self.assertRaises(WorkerError):
                worker = Worker(["sh", "-c", script], {}, sorted(os.sched_getaffinity(0))[:1])
                self.addCleanup(worker.end)
                worker.run(1)

    def f32(self, folder):
        case = self.case(folder, np.ones(4, np.float32))
        case.onnx.write_bytes(b"a model")
        return case


class Quantiser(unittest.TestCase):
    def test_each_scheme_writes_what_it_is_named_after(self):
        import onnx

        wanted = {
            "qdq-u8": ("DequantizeLinear", onnx.TensorProto.UINT8),
            "qdq-s8": ("DequantizeLinear", onnx.TensorProto.INT8),
            "qoperator-u8": ("QLinearConv", onnx.TensorProto.UINT8),
            "qoperator-s8": ("QLinearConv", onnx.TensorProto.INT8),
            "dynamic": ("DynamicQuantizeLinear", None),
        }
        self.assertEqual(set(wanted), set(quantise.SCHEMES))
        with tempfile.TemporaryDirectory() as folder:
            source, target = small_network(folder).onnx, pathlib.Path(folder) / "y.onnx"
            for scheme, (operator, kind) in wanted.items():
                with self.subTest(scheme):
                    self.assertTrue(quantise.quantise(source, target, scheme))
                    graph = onnx.load(target).graph
                    self.assertIn(operator, {node.op_type for node in graph.node})
                    constants = {tensor.name: tensor for tensor in graph.initializer}
                    pairs = [node for node in graph.node if node.op_type == "QuantizeLinear"]
                    zeros = [onnx.numpy_helper.to_array(constants[node.input[2]]) for node in pairs]
                    self.assertEqual({constants[node.input[2]].data_type for node in pairs}, {kind} - {None})
                    if scheme.endswith("s8"):
                        self.assertFalse(any(map(np.any, zeros)))
                    scales = [list(tensor.dims) for name, tensor in constants.items() if name.endswith("_scale")]
                    # One for each output of the dense layer, and of the convolution.
                    self.assertIn([5], scales)
                    self.assertEqual([8] in scales, scheme != "dynamic")

    def test_the_same_model_gives_the_same_file_and_is_quantised_once(self):
        with tempfile.TemporaryDirectory() as folder:
            source, target = small_network(folder).onnx, pathlib.Path(folder) / "y.onnx"
            self.assertTrue(quantise.quantise(source, target))
            first = target.read_bytes()
            self.assertFalse(quantise.quantise(source, target))
            target.unlink()
            self.assertTrue(quantise.quantise(source, target))
            self.assertEqual(target.read_bytes(), first)
            self.assertTrue(quantise.quantise(source, target, samples=1))
            self.assertEqual(sorted(file.suffix for file in pathlib.Path(folder).iterdir()), [".npz", ".onnx", ".onnx"])

    def test_a_model_of_unknown_shape_is_refused(self):
        import onnx

        with tempfile.TemporaryDirectory() as folder:
            source = small_network(folder).onnx
            model = onnx.load(source)
            model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "N"
            onnx.save(model, source)
            with self.assertRaisesRegex(ValueError, "its shape is not known"):
                quantise.quantise(source, pathlib.Path(folder) / "y.onnx")


class Precisions(unittest.TestCase):
    def test_fewer_bits_have_files_and_a_judge_of_their_own(self):
        with tempfile.TemporaryDirectory() as folder:
            f32 = small_network(folder)
            self.assertIs(precisions.lower(f32, "f32", "qdq-u8"), f32)
            self.assertEqual(f32.reference, engines.REFERENCE)
            for precision, name, binding in [
                ("int8", "x.qdq-u8.onnx", []),
                ("bf16", "x.bf16.onnx", ["--precision", "bf16"]),
            ]:
                case = precisions.lower(f32, precision, "qdq-u8")
                self.assertEqual((case.onnx.name, case.binding, case.reference), (name, binding, engines.JUDGE))
                self.assertIs(engines.module(engines.OURS_F32).ENGINE.case(case), f32)

    def test_who_is_much_further_off_than_the_f32_model_is_wrong(self):
        self.assertEqual(precisions.tolerance(0.05), precisions.WRONG)
        self.assertAlmostEqual(precisions.tolerance(0.5), 0.6)

    def test_the_peak_is_that_of_instructions_for_the_precision(self):
        wanted = {"f32": "62d20d48b8c7", "int8": "62d20d4850c7", "bf16": "62d20e4852c7"}  # acc0 += zmm14 * zmm15
        for precision, code in wanted.items():
            self.assertIn(bytes.fromhex(code), peak._code(peak.INSTRUCTIONS[precision], wide=True))
        self.assertIn(bytes.fromhex("c4c20d50c7"), peak._code(peak.INSTRUCTIONS["int8"], wide=False))


class Turns(unittest.TestCase):
    def test_short_runs_fill_a_turn_and_very_long_ones_come_once(self):
        self.assertEqual(rounds.timed_runs(0.0, 0.1), 3)
        self.assertEqual([rounds.timed_runs(0.004, seconds) for seconds in (1e-6, 1e-3, 0.1, 1.0)], [300, 4, 3, 1])


class Tables(unittest.TestCase):
    def rows(self, kind, name, ours, theirs):
        """The rows of a case, as rounds.py leaves them."""
        known = {"kind": kind, "network": name, "threads": 1}
        return [
            known | {"engine": "nnc", "min_s": ours, "ratio_min": 1.0, "share": 0.25, "bytes": 1000},
            known | {"engine": "onnxruntime", "min_s": theirs, "ratio_min": theirs / ours, "load_s": 0.2},
        ]

    def test_a_gap_above_one_means_that_nnc_takes_longer(self):
        slow, fast = self.rows("A", "slow", 6e-6, 2e-6), self.rows("A", "fast", 1e-6, 3e-6)
        gaps.add(slow)
        gaps.add(fast)
        text = gaps.markdown(slow + fast)
        self.assertIn("| A | slow | 3.00 |", text)
        self.assertIn("| A | fast | 0.33 |", text)
        self.assertIn("| A | *geometric mean of 2* | 1.00 |", text)
        behind = text.split("Furthest behind")[1]
        self.assertIn("slow", behind)
        self.assertNotIn("fast", behind)

    def test_the_limit_is_what_takes_longer(self):
        rows = self.rows("A", "row", 1e-6, 1e-6)
        gaps.add(rows, {4096: 2e9, 1 << 20: 1e9})
        self.assertEqual(gaps.limit(rows[0]), "50% memory")
        rows[0]["share"] = 0.75
        self.assertEqual(gaps.limit(rows[0]), "75% arithmetic")

    def test_loading_is_from_the_file_for_both(self):
        rows = self.rows("A", "row", 1e-6, 1e-6)
        rows[0] |= {"load_s": 0.001, "compile_s": 0.1}
        gaps.add(rows)
        self.assertEqual(rows[1]["ready_gap"], 0.5)

    def test_what_is_missing_has_no_ratio_and_a_reason(self):
        rows = self.rows("A", "row", 1e-6, 1e-6)
        rows[1] = {key: rows[1][key] for key in ("kind", "network", "threads", "engine")} | {"missing": "refused"}
        gaps.add(rows)
        text = gaps.markdown(rows)
        self.assertIn("| A | row |  |", text)
        self.assertIn("- onnxruntime: refused: A: row (1)", text)

    def test_the_row_that_does_nothing_is_in_no_mean(self):
        rows = self.rows("A", "row", 4e-6, 1e-6) + self.rows(gaps.OVERHEAD, "call", 9e-6, 1e-6)
        gaps.add(rows)
        self.assertIn("| *all* | *geometric mean of 1* | 4.00 |", gaps.markdown(rows))


class ComparisonTables(unittest.TestCase):
    def rows(self):
        """The rows of two networks in int8; OpenVINO is wrong in one of them."""
        rows = []
        for network, theirs in (("squeezenet-1.1", 0.5), ("vit-tiny-16", 2.0)):
            known = {"network": network, "precision": "int8", "threads": 1, "macc": 1, "change": 0.05, "change_rms": 0.01}
            found = {"min_s": 1.0, "ratio_median": 1.0, "error": 0.02, "rms": 0.004}
            rows += [
                known | found | {"engine": "nnc", "ratio_min": 1.0, "model_bytes": 100},
                known | found | {"engine": "onnxruntime", "ratio_min": theirs, "model_bytes": 50},
                known | {"engine": "openvino", "wrong": True, "missing": "off", "error": 0.7, "rms": 0.1},
                known | found | {"engine": "nnc-f32", "ratio_min": 4.0, "model_bytes": 300, "error": 1e-6},
            ]
        return rows

    def test_the_f32_form_is_no_peer_and_has_a_column_of_its_own(self):
        self.assertEqual(engines.peers(self.rows()), ["onnxruntime", "openvino"])
        text = report.markdown(self.rows())
        self.assertIn("| nnc, by own f32 |", text)
        self.assertIn("| squeezenet-1.1 | 0.50 | wrong | onnxruntime | 0.50 | 1.00 |  | 4.00 |", text)
        self.assertIn("| *geometric mean, all* | 1.00 |  |  | 1.00 | 1.00 |  | 4.00 |", text)
        self.assertIn("| model on disk | 0.50 |  | 3.00 |", text)
        self.assertNotIn("nnc-f32", plot.svg(self.rows()))

    def test_differences_are_shown_and_who_is_wrong(self):
        text = report.markdown(self.rows()).split("how far outputs are off")[1]
        self.assertIn("| network | nnc | onnxruntime | openvino | the f32 model |", text)
        self.assertIn("| vit-tiny-16 | 2e-02, 4e-03 | 2e-02, 4e-03 | wrong (7e-01, 1e-01) | 5e-02, 1e-02 |", text)

    def test_in_f32_there_are_neither(self):
        rows = [{k: v for k, v in row.items() if k != "precision"} for row in self.rows() if row["engine"] != "nnc-f32"]
        text = report.markdown(rows)
        self.assertNotIn("own f32", text)
        self.assertNotIn("how far", text)

    def test_numbers_keep_two_digits(self):
        self.assertEqual([report.number(n) for n in (None, 0.00321, 0.1, 9.876, 123.4)], ["", "0.0032", "0.10", "9.88", "123"])


class Trained(unittest.TestCase):
    def test_nnc_is_told_shapes_and_constants(self):
        import trained

        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder) / "x.onnx"
            inputs = {"x": np.zeros((2, 3), np.float32), "rate": np.array(16000)}
            told = trained.binding(inputs, {"rate"}, file)
            self.assertEqual(told[:2], ["--shape", "x=2x3"])
            name, array = told[3].split("=")
            self.assertEqual((told[2], name), ("--const", "rate"))
            self.assertEqual(np.load(array), 16000)

    def test_cases_name_networks_that_are_fetched(self):
        import trained

        told = json.loads((trained.CASES / "cases.json").read_text())
        networks = told["networks"] | trained.MORE["networks"]
        self.assertEqual({case["model"] for case in told["cases"] + trained.MORE["cases"]}, set(networks))


if __name__ == "__main__":
    unittest.main()
