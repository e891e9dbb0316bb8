"""Writes signatures.txt: operands, results and element types of operators, version by version, of ONNX and of ONNX Runtime.

    pip install onnx==1.23.2 onnxruntime==1.32.0
    python signatures.py > signatures.txt

Run it again when table.rs learns of a newer operator set. Versions that differ in nothing that is said here share a
line, and so do types of elements that nnc does not have. An operator of ONNX Runtime has its domain before its name, but for
those that stand in ONNX's own.
"""

from onnx import defs
from onnxruntime.capi._pybind_state import get_all_operator_schema

OURS = {
    "tensor(bool)": "bool",
    "tensor(uint8)": "u8",
    "tensor(uint16)": "u16",
    "tensor(uint32)": "u32",
    "tensor(uint64)": "u64",
    "tensor(int8)": "i8",
    "tensor(int16)": "i16",
    "tensor(int32)": "i32",
    "tensor(int64)": "i64",
    "tensor(float16)": "f16",
    "tensor(bfloat16)": "bf16",
    "tensor(float)": "f32",
    "tensor(double)": "f64",
}


def elements(types):
    """Those of some types that nnc has, in one order."""
    return [ours for theirs, ours in OURS.items() if theirs in types]


def port(port, variables):
    """`name:T`, with ? where it may be left out, * for any number of one type, ~ for any number of any types."""
    option = defs.OpSchema.FormalParameterOption
    mark = {option.Single: "", option.Optional: "?", option.Variadic: "*" if port.is_homogeneous else "~"}
    variable = port.type_str
    if variable not in variables:
        variable = OURS.get(variable, "other")
    return f"{port.name}:{variable}{mark[port.option]}"


def attributes(parameter):
    """onnxruntime has other names for what onnx has."""

    class Port:
        name, type_str = parameter.name, parameter.typeStr
        option = getattr(defs.OpSchema.FormalParameterOption, parameter.option.name)
        is_homogeneous = parameter.isHomogeneous

    return Port


def contributed(ours):
    """Schemas of ONNX Runtime, with names as they are written: those of its domain, and those in ONNX's that ONNX lacks."""
    oldest = {}
    for schema in ours:
        oldest[schema.name] = min(schema.since_version, oldest.get(schema.name, schema.since_version))
    for schema in get_all_operator_schema():
        inputs, outputs = map(attributes, schema.inputs), map(attributes, schema.outputs)
        if schema.domain == "com.microsoft":
            yield f"com.microsoft:{schema.name}", schema, list(inputs), list(outputs)
        elif schema.name in STANDARD and schema.domain == "" and schema.since_version < oldest.get(schema.name, 99):
            yield schema.name, schema, list(inputs), list(outputs)


# Operators of ONNX Runtime that are of ONNX's domain there.
STANDARD = ["LayerNormalization", "SimplifiedLayerNormalization"]


def signature(schema, inputs, outputs):
    variables = {t.type_param_str: elements(t.allowed_type_strs) for t in schema.type_constraints}
    operands = " ".join(port(p, variables) for p in inputs)
    results = " ".join(port(p, variables) for p in outputs)
    types = "; ".join(f"{name} = {' '.join(list)}" for name, list in sorted(variables.items()) if list)
    return " | ".join([operands, results, types])


def main():
    print("# Written by signatures.py from the schemas of the packages onnx and onnxruntime.")
    print("# operator since | operands | results | element types")
    last = {}
    ours = [s for s in defs.get_all_schemas_with_history() if s.domain == ""]
    schemas = [(s.name, s, s.inputs, s.outputs) for s in ours] + list(contributed(ours))
    for name, schema, inputs, outputs in sorted(schemas, key=lambda s: (":" in s[0], s[0], s[1].since_version)):
        text = signature(schema, inputs, outputs)
        if last.get(name) != text:
            last[name] = text
            print(f"{name} {schema.since_version} | {text}".rstrip())


main()
