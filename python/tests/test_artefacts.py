"""Programs that were compiled beforehand."""

import copy
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest

import nnc


def test_a_loaded_program_gives_the_bits_of_the_session(fixed, picture, tmp_path):
    x, path = picture(), tmp_path / "detector.nnc.so"
    artefact = nnc.compile(fixed, path, name="detector")
    assert path.read_bytes() == artefact and [entry.name for entry in tmp_path.iterdir()] == ["detector.nnc.so"]
    wanted = nnc.InferenceSession(fixed).run(None, {"x": x})
    for program in (nnc.load(path), nnc.load(str(path)), nnc.load(artefact)):
        for found, other in zip(program.run(None, {"x": x}), wanted, strict=True):
            np.testing.assert_array_equal(found, other)
    assert program.get_inputs() == [nnc.NodeArg("x", "tensor(float)", [1, 3, 16, 16])]
    assert program.get_modelmeta() == nnc.ModelMetadata()


def test_the_same_model_gives_the_same_bytes(fixed):
    assert nnc.compile(fixed, target="x86-64-v3") == nnc.compile(fixed, target="x86-64-v3", compile_threads=1)
    assert "x86-64-v3" in nnc.targets()


def test_programs_for_other_machines_and_damaged_ones_are_refused(fixed, tmp_path):
    with pytest.raises(nnc.ArtefactError, match="compiled for aarch64, but this is x86_64"):
        nnc.load(nnc.compile(fixed, target="aarch64"))
    artefact = bytearray(nnc.compile(fixed))
    artefact[5000] ^= 1
    with pytest.raises(nnc.ArtefactError, match="damaged"):
        nnc.load(bytes(artefact))
    with pytest.raises(nnc.ArtefactError, match="should have [0-9]+ bytes but has 5000"):
        nnc.load(bytes(artefact[:5000]))
    with pytest.raises(nnc.ArtefactError, match="not a program compiled by nnc"):
        nnc.load(b"text")
    with pytest.raises(nnc.ArtefactError, match="cannot read .*absent"):
        nnc.load(tmp_path / "absent")


def test_data_decide_how_large_an_output_of_a_program_is(nonzero):
    program = nnc.load(nnc.compile(nonzero))
    assert program.get_outputs()[0].shape == [2, None]
    assert program.run(None, {"x": np.array([[0, 1, 0], [0, 0, 0]], "f4")})[0].tolist() == [[0], [1]]


def test_a_file_that_cannot_be_written_leaves_nothing(fixed, tmp_path):
    with pytest.raises(FileNotFoundError):
        nnc.compile(fixed, tmp_path / "absent" / "model.nnc.so")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError):
        nnc.compile(fixed, tmp_path / "folder")
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]


def sessions(opened, tmp_path):
    (tmp_path / "model.onnx").write_bytes(opened)
    options = nnc.SessionOptions()
    options.intra_op_num_threads = 1
    artefact = nnc.compile(opened, tmp_path / "model.nnc.so", shapes={"x": (1, 3, 16, 16)})
    return [
        nnc.InferenceSession(opened, options, dims={"batch": 1}),
        nnc.InferenceSession(tmp_path / "model.onnx", options),
        nnc.load(tmp_path / "model.nnc.so", options),
        nnc.load(artefact),
    ]


def test_sessions_are_pickled_with_their_options(opened, picture, tmp_path):
    x = picture()
    for session in sessions(opened, tmp_path):
        for other in (pickle.loads(pickle.dumps(session)), copy.deepcopy(session)):
            assert repr(other) == repr(session) and other.get_inputs() == session.get_inputs()
            np.testing.assert_array_equal(other.run(["y"], {"x": x})[0], session.run(["y"], {"x": x})[0])


def work(session, x):
    return session.run(["y"], {"x": x})[0]


@pytest.mark.parametrize("start", ["spawn", "forkserver", "fork"])
def test_worker_processes_get_sessions(opened, picture, tmp_path, start):
    x = picture()
    for session in sessions(opened, tmp_path):
        wanted = work(session, x)
        with ProcessPoolExecutor(1, multiprocessing.get_context(start)) as workers:
            np.testing.assert_array_equal(workers.submit(work, session, x).result(120), wanted)


def child(session, x, queue):
    queue.put(session.run(["y"], {"x": x})[0])


def test_a_forked_process_runs_the_sessions_of_its_parent(fixed, picture):
    context, x = multiprocessing.get_context("fork"), picture()
    options = nnc.SessionOptions()
    options.intra_op_num_threads = 2
    session = nnc.InferenceSession(fixed, options)
    wanted, queue = work(session, x), context.Queue()
    process = context.Process(target=child, args=(session, x, queue))
    process.start()
    np.testing.assert_array_equal(queue.get(timeout=60), wanted)
    process.join(60)
