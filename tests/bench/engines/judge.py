"""The judge of networks in fewer bits: onnxruntime without optimisations, operator by operator. Nobody times it."""

from engines.base import Engine
from engines.onnxruntime import Session

ENGINE = Engine("judge", package="onnxruntime")


def load(model, inputs, threads, precision):
    return Session(model, inputs, threads, "ORT_DISABLE_ALL")
