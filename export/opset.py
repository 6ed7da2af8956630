"""Opsets down: 18, where the exporter stops, to 17, and 17 to 16 for TensorRT 8.5.

ONNX's own converter gives up on ReduceMean (every ResNet) without saying so. Only the operators that these
graphs hold are taken down; one that is not known here keeps its newer form and `check_model(full_check=True)`
refuses it.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from dtvit_edge.errors import VerdictError

_INT64_MAX = 2**63 - 1


def to_opset17(model: ModelProto) -> None:
    """Take an opset-18 model to 17 in place, in forms that the parsers of TensorRT 8 read."""
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        attributes = _attributes(node)
        if node.op_type.startswith("Reduce") and node.op_type != "ReduceSum":  # ReduceSum's axes moved at 13
            axes = node.input[1] if len(node.input) > 1 else ""
            if axes:
                if axes not in constants:
                    raise VerdictError(f"{node.name}: {node.op_type} over axes that are not constant")
                attributes["axes"] = [int(axis) for axis in constants[axes]]
            attributes.pop("noop_with_empty_axes", None)
            nodes.append(_replaced(node, [node.input[0]], attributes))
        elif node.op_type == "Split" and len(node.input) == 1:
            attributes.pop("num_outputs", None)  # opset 17 splits evenly without it
            nodes.append(_replaced(node, list(node.input), attributes))
        elif node.op_type == "Reshape" and _without_zero(constants.get(node.input[1])):
            # No zero in the shape, so that `allowzero` changes nothing; old parsers trip over it.
            attributes.pop("allowzero", None)
            nodes.append(_replaced(node, list(node.input), attributes))
        elif node.op_type == "Mish":  # one operator since 18; a user's own module may hold it
            nodes += _mish(node)
        elif node.op_type == "Shape" and attributes:
            nodes += _shape_and_slice(node, attributes, model)
        else:
            nodes.append(node)
    _install(model, nodes, 17)


def give_each_reader_its_weights(model: ModelProto) -> None:
    """Undo the exporter's merging of equal weights, in place.

    It makes all zero biases of an untrained model one tensor, under the first one's name; smoothing or
    quantising one layer would then change the others. Scalars and integers (constants, shapes) stay shared.
    """
    shared = {t.name: t for t in model.graph.initializer if t.data_type == TensorProto.FLOAT and t.dims}
    readers: dict[str, int] = {}
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            if name not in shared:
                continue
            readers[name] = count = readers.get(name, 0) + 1
            if count > 1:
                duplicate = TensorProto()
                duplicate.CopyFrom(shared[name])
                duplicate.name = node.input[place] = f"{name}.{count}"
                model.graph.initializer.append(duplicate)


def to_opset16(model: ModelProto) -> None:
    """Decompose every LayerNormalization of an opset-17 model and mark it opset 16, in place.

    Opset 16 lacks no other operator used here.

    Raises:
        VerdictError: a normalisation over axes that are not counted from the last.
    """
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        nodes += _layer_norm(node, model) if node.op_type == "LayerNormalization" else [node]
    _install(model, nodes, 16)


def _layer_norm(node: NodeProto, model: ModelProto) -> list[NodeProto]:
    """(x - mean) / sqrt(mean((x - mean)^2) + epsilon) * scale + bias; the square is a product, never Pow."""
    attributes = _attributes(node)
    first = attributes.get("axis", -1)
    if first >= 0 or len(node.output) != 1:
        raise VerdictError(f"{node.name}: LayerNormalization over axis {first} is not decomposed here")
    over = {"axes": list(range(first, 0)), "keepdims": 1}
    x, out = node.input[0], node.output[0]
    epsilon = f"{out}_epsilon"
    model.graph.initializer.append(
        helper.make_tensor(epsilon, TensorProto.FLOAT, [], [attributes.get("epsilon", 1e-5)])
    )
    steps: list[tuple[str, list[str], str, dict[str, Any]]] = [
        ("ReduceMean", [x], "mean", over),
        ("Sub", [x, f"{out}_mean"], "centred", {}),
        ("Mul", [f"{out}_centred", f"{out}_centred"], "square", {}),
        ("ReduceMean", [f"{out}_square"], "variance", over),
        ("Add", [f"{out}_variance", epsilon], "shifted", {}),
        ("Sqrt", [f"{out}_shifted"], "deviation", {}),
        ("Div", [f"{out}_centred", f"{out}_deviation"], "normalised", {}),
        ("Mul", [f"{out}_normalised", node.input[1]], "scaled", {}),
    ]
    if len(node.input) > 2 and node.input[2]:
        steps.append(("Add", [f"{out}_scaled", node.input[2]], "biased", {}))
    nodes = [
        helper.make_node(op, inputs, [f"{out}_{part}"], name=f"{node.name}_{part}", **extra)
        for op, inputs, part, extra in steps
    ]
    nodes[-1].output[0] = out
    return nodes


def _mish(node: NodeProto) -> list[NodeProto]:
    """x * tanh(softplus(x))."""
    x, out = node.input[0], node.output[0]
    return [
        helper.make_node("Softplus", [x], [f"{out}_softplus"], name=f"{node.name}_softplus"),
        helper.make_node("Tanh", [f"{out}_softplus"], [f"{out}_tanh"], name=f"{node.name}_tanh"),
        helper.make_node("Mul", [x, f"{out}_tanh"], [out], name=node.name),
    ]


def _shape_and_slice(node: NodeProto, attributes: dict[str, Any], model: ModelProto) -> list[NodeProto]:
    """Shape's `start` and `end` as a Slice of it all; parsers of TensorRT exist that pass over them."""
    output = node.output[0]
    values = {"starts": attributes.get("start", 0), "ends": attributes.get("end", _INT64_MAX), "axes": 0}
    model.graph.initializer.extend(
        helper.make_tensor(f"{output}_{part}", TensorProto.INT64, [1], [value]) for part, value in values.items()
    )
    sliced = [f"{output}_all", *(f"{output}_{part}" for part in values)]
    return [
        helper.make_node("Shape", node.input, [f"{output}_all"], name=node.name),
        helper.make_node("Slice", sliced, [output], name=f"{node.name}_slice"),
    ]


def _without_zero(shape: NDArray[Any] | None) -> bool:
    return shape is not None and bool((shape != 0).all())


def _attributes(node: NodeProto) -> dict[str, Any]:
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def _replaced(node: NodeProto, inputs: list[str], attributes: dict[str, Any]) -> NodeProto:
    return helper.make_node(node.op_type, inputs, list(node.output), name=node.name, **attributes)


def _install(model: ModelProto, nodes: list[NodeProto], opset: int) -> None:
    """Put the nodes in place, drop constants that nobody reads any more, and set the opset."""
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    del model.opset_import[:]
    model.opset_import.append(helper.make_opsetid("", opset))
