"""Damaged and hostile bundles: what is done to a tiny one, by name, with the words that refuse it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

from dtvit_edge.bundle import MANIFEST
from dtvit_edge.spec import digest_bytes, digest_json
from tests.support.tiny_bundle import edit_manifest, tiny_model

Attack = Callable[[Path], object]


def read_manifest(path: Path) -> Any:
    return json.loads((path / MANIFEST).read_text())


def changed(*keys: str | int, to: object) -> Attack:
    """One value of the manifest is another; all digests agree with it."""

    def attack(path: Path) -> None:
        manifest = read_manifest(path)
        inner = manifest
        for key in keys[:-1]:
            inner = inner[key]
        inner[keys[-1]] = to
        manifest["spec_digest"] = digest_json(manifest["spec"])
        edit_manifest(path, **manifest)

    return attack


def content(text: bytes) -> Attack:
    return lambda path: (path / MANIFEST).write_bytes(text)


def replaced(old: str, new: str) -> Attack:
    return lambda path: (path / MANIFEST).write_text((path / MANIFEST).read_text().replace(old, new, 1))


def model(change: Callable[[onnx.ModelProto], object]) -> Attack:
    """Another graph, which the manifest names as its own."""

    def attack(path: Path) -> None:
        graph = onnx.load_from_string(tiny_model())
        change(graph)
        put_file(path, "model.fp32.onnx", graph.SerializeToString())

    return attack


def put_file(path: Path, name: str, data: bytes) -> None:
    """A file with other bytes, which the manifest names as its own."""
    (path / name).write_bytes(data)
    manifest = read_manifest(path)
    records = manifest["golden"]["files"] if name.startswith("golden") else {name: manifest["models"]["fp32"]}
    records[name] |= {"sha256": digest_bytes(data), "bytes": len(data)}
    edit_manifest(path, **manifest)


def fifo(name: str) -> Attack:
    def attack(path: Path) -> None:
        (path / name).unlink(missing_ok=True)
        os.mkfifo(path / name)

    return attack


def link(name: str, to: str | None = None) -> Attack:
    """A link to a device, or to the file's own bytes outside of the bundle."""

    def attack(path: Path) -> None:
        if to is None:
            (path / name).rename(path.parent / "outside")
        else:
            (path / name).unlink(missing_ok=True)
        (path / name).symlink_to(to or path.parent / "outside")

    return attack


def sparse(name: str) -> Attack:
    def attack(path: Path) -> None:
        (path / name).touch()
        os.truncate(path / name, 8 << 30)

    return attack


def loop(graph: onnx.ModelProto) -> None:
    """A Loop that goes on for 2^62 rounds."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["c2"]), helper.make_node("Identity", ["x"], ["x2"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("c", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("c2", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x2", TensorProto.FLOAT, None),
        ],
    )
    graph.graph.initializer.append(helper.make_tensor("true", TensorProto.BOOL, [], [True]))
    graph.graph.initializer.append(helper.make_tensor("ever", TensorProto.INT64, [], [2**62]))
    graph.graph.node[1].input[0] = "looped"
    graph.graph.node.insert(1, helper.make_node("Loop", ["ever", "true", "floats"], ["looped"], body=body))


def subgraph(graph: onnx.ModelProto) -> None:
    """A graph as an attribute of an operator that is allowed."""
    graph.graph.node[0].attribute.append(helper.make_attribute("body", helper.make_graph([], "body", [], [])))


def external(graph: onnx.ModelProto) -> None:
    tensor = graph.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../../../etc/passwd"


def function(graph: onnx.ModelProto) -> None:
    made = graph.functions.add()
    made.name, made.domain = "F", "x"


def domain(graph: onnx.ModelProto) -> None:
    graph.graph.node[0].domain = "com.microsoft"


def imported_domain(graph: onnx.ModelProto) -> None:
    graph.opset_import.append(helper.make_opsetid("com.microsoft", 1))


def short_weights(graph: onnx.ModelProto) -> None:
    graph.graph.initializer[0].dims[0] = 2**40


def sparse_weights(graph: onnx.ModelProto) -> None:
    graph.graph.sparse_initializer.add()


def training(graph: onnx.ModelProto) -> None:
    graph.training_info.add()


def npy(header: bytes) -> bytes:
    return b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header


ENCODING = ("golden", "slices", 0, "encoding")
ATTACKS: dict[str, tuple[Attack, str]] = {
    "deep JSON": (content(b'{"format":2,"a":' + b"[" * 400_000), "recursion"),
    "JSON as deep as the parser takes": (
        changed("calibration", to=json.loads('{"a":' + "[" * 500 + "]" * 500 + "}")),
        "nested more than 32 levels",
    ),
    "huge JSON": (sparse("manifest.json"), "at most 8388608 are expected"),
    "many lists": (content(b'{"format":2,"a":[' + b"[]," * 2_500_000 + b"[]]}"), "more than 500000 values"),
    "a field twice": (replaced('"encoder"', '"encoder":"x","encoder"'), "'encoder' is there twice"),
    "half a surrogate pair": (changed("name", to="\ud800"), "not UTF-8"),
    "an escape sequence": (changed("name", to="\x1b[2J"), "name must match"),
    "no golden slices": (changed("golden", "slices", to=[]), "at least 1 items"),
    "a golden slice of many rows": (changed("golden", "slices", 0, "rows", to=10**9), "equal to 1024"),
    "a golden slice of 512.0 rows": (changed("golden", "slices", 0, "rows", to=512.0), "rows must be integer"),
    "a slope of 1e308": (changed(*ENCODING, "slope", to=1e308), "smaller than"),
    "tolerance 1e999": (replaced('"fp32": 1e-05', '"fp32": 1e999'), "1e999 is not finite"),
    "tolerance NaN": (replaced('"fp32": 1e-05', '"fp32": NaN'), "NaN is no number"),
    "tolerance 1e300": (changed("tolerances", "fp32", to=1e300), "smaller than or equal to 1000"),
    "tolerance of 400 digits": (changed("tolerances", "fp32", to=10**400), "more than 64 bits"),
    "no tolerance": (changed("tolerances", to={}), "names no tolerance for fp32"),
    "no models": (changed("models", to={}), "models must"),
    "crop 0": (changed("spec", "crop", to=0), "crop must be"),
    "crop 224.0": (changed("spec", "crop", to=224.0), "crop must be integer"),
    "crop of text": (changed("spec", "crop", to="224"), "crop must be integer"),
    "resize 10^7": (changed("spec", "resize", to=10**7), "resize must be"),
    "windows of text": (changed("spec", "windows", to="abc"), "windows must be array"),
    "a window of width 0": (changed("spec", "windows", 0, "width_hu", to=0), "bigger than 0"),
    "a wide disk": (changed("spec", "disk_half_widths", to=[10**6] * 10), "disk_half_widths"),
    "negative edge columns": (changed("spec", "edge_columns", to=-5), "edge_columns"),
    "brain range of text": (changed("spec", "brain_range_hu", to=["a", "b"]), "brain_range_hu"),
    "an unknown field of the spec": (changed("spec", "more", to=1), "spec must not contain"),
    "a spec that is a list": (changed("spec", to=[1]), "spec must be object"),
    "parity of text": (changed("parity", to={"fp32": {"max_abs_difference": "x"}}), "parity"),
    "an odd import": (changed("imported", to={"read": [1]}), "imported"),
    "an odd proof": (changed("proof", to={"says": 1}), "proof"),
    "a FIFO as manifest": (fifo("manifest.json"), "no regular file"),
    "a FIFO as thresholds": (fifo("thresholds.json"), "no regular file"),
    "a FIFO as model": (fifo("model.fp32.onnx"), "missing"),
    "a FIFO as golden file": (fifo("golden/pixels.npy"), "missing"),
    "a device as manifest": (link("manifest.json", "/dev/zero"), "leads out of"),
    "a device as model": (link("model.fp32.onnx", "/dev/zero"), "missing"),
    "a device as thresholds": (link("thresholds.json", "/dev/zero"), "leads out of"),
    "a manifest elsewhere": (link("manifest.json"), "leads out of"),
    "a model elsewhere": (link("model.fp32.onnx"), "leads out of"),
    "golden bytes elsewhere": (link("golden/pixels.npy"), "leads out of"),
    "a model of 8 GiB": (sparse("model.fp32.onnx"), "it has 8589934592 bytes"),
    "a golden file of 8 GiB": (sparse("golden/pixels.npy"), "it has 8589934592 bytes"),
    "thresholds of 8 GiB": (sparse("thresholds.json"), "it has 8589934592 bytes"),
    "a zip as golden file": (lambda path: put_file(path, "golden/pixels.npy", b"PK\3\4" + b"\0" * 99), "not the array"),
    "a deep array header": (
        lambda path: put_file(path, "golden/pixels.npy", npy(b"(" * 9999 + b")" * 9998 + b"\n")),
        "header is longer",
    ),
    "an odd array header": (
        lambda path: put_file(path, "golden/pixels.npy", npy(b"{[]:1}".ljust(53) + b"\n")),
        "not the array",
    ),
    "an array header without its end": (
        lambda path: put_file(path, "golden/pixels.npy", npy(b"{'descr': '|u1', 'shape': (9, 1L, ".ljust(53) + b"\n")),
        "not the array",
    ),
    "a Loop": (model(loop), "the operator 'Loop'"),
    "a graph inside an operator": (model(subgraph), "a graph inside an operator"),
    "weights in another file": (model(external), "weights in another file"),
    "a function": (model(function), "it holds functions"),
    "an operator of another domain": (model(domain), "domain 'com.microsoft'"),
    "another domain": (model(imported_domain), "domain 'com.microsoft'"),
    "weights of another size": (model(short_weights), "more or fewer bytes"),
    "sparse weights": (model(sparse_weights), "sparse weights"),
    "training information": (model(training), "training information"),
}
