"""A network in fewer bits: what is measured in place of the f32 model, and how far its outputs may be off.

    f32     the model as it is written
    int8    the model quantised by onnxruntime, as `quantise.py` does it; all engines load the same file
    bf16    the f32 model, for engines that are told to compute in bf16

Engines round in different places here, so there is no small difference that all of them keep to. The judge is onnxruntime without
optimisations, which computes what stands in the model, operator by operator. nnc's f32 form is measured beside, which shows what the
fewer bits are worth.
"""

import dataclasses
import shutil

import quantise

NAMES = ["f32", "int8", "bf16"]

WRONG = 0.2
"""Of the largest output: who is off by more has computed something else."""


def lower(f32, precision, scheme):
    """The case that is measured for this one."""
    if precision == "f32":
        return f32
    suffix, options = (f".{scheme}.onnx", []) if precision == "int8" else (f".{precision}.onnx", ["--precision", precision])
    model = f32.onnx.with_name(f32.name + suffix)
    if precision == "int8":
        quantise.quantise(f32.onnx, model, scheme)
    else:
        shutil.copyfile(f32.onnx, model)  # so that it has files of its own beside it
    return dataclasses.replace(
        f32,
        onnx=model,
        precision=precision,
        tolerance=WRONG,
        binding=[*f32.binding, *options],
        f32=f32,
    )


def tolerance(change):
    """How far outputs may be off, of the largest, if quantising alone changes them by so much.

    Weights of these networks are random, and some of them make much of little: a rounding at the beginning moves all that follows.
    There, who is not much further away than the model in f32 is may have rounded in other places.
    """
    return max(WRONG, 1.2 * change)
