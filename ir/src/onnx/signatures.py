"""Writes signatures.txt: operands, results and element types of ONNX's own operators, version by version.

    pip install onnx==1.23.2
    python signatures.py > signatures.txt

Run it again when table.rs learns of a newer operator set. Versions that differ in nothing that is said here share a
line, and so do types of elements that nnc does not have.
"""

from onnx import defs

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


def signature(schema):
    variables = {t.type_param_str: elements(t.allowed_type_strs) for t in schema.type_constraints}
    operands = " ".join(port(p, variables) for p in schema.inputs)
    results = " ".join(port(p, variables) for p in schema.outputs)
    types = "; ".join(f"{name} = {' '.join(list)}" for name, list in sorted(variables.items()) if list)
    return " | ".join([operands, results, types])


def main():
    print("# Written by signatures.py from the schemas of the onnx package.")
    print("# operator since | operands | results | element types")
    last = {}
    schemas = [s for s in defs.get_all_schemas_with_history() if s.domain == ""]
    for schema in sorted(schemas, key=lambda s: (s.name, s.since_version)):
        text = signature(schema)
        if last.get(schema.name) != text:
            last[schema.name] = text
            print(f"{schema.name} {schema.since_version} | {text}".rstrip())


main()
