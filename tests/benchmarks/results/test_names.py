"""What writers name, readers find by contender, batch size and stage."""

from __future__ import annotations

from benchmarks.results import names
from benchmarks.results.names import by_contender

FP32, SCRIPT = "onnxruntime fp32", "pydicom, scikit-image, PyTorch eager"


def test_samples_come_back_by_contender_and_batch() -> None:
    values = {names.batch_key(FP32, n): n for n in (1, 16)} | {names.key_of(FP32, names.DEVICE_BYTES): 7}
    figures = by_contender(values | {names.key_of(names.batch_key(FP32, 16), "rail joules a slice"): 3})[FP32]
    assert names.by_batch({name: value for name, value in figures.items() if ": " not in name}) == {1: 1, 16: 16}
    assert by_contender(figures)["batch 16"] == {"": 16, "rail joules a slice": 3}


def test_samples_come_back_by_contender_and_stage_and_a_contender_alone_has_no_name() -> None:
    nested = by_contender({FP32: 1, names.stage_key(FP32, "read"): 2, names.key_of(SCRIPT, names.PER_SLICE): 3})
    assert nested == {FP32: {"": 1, "stage read": 2}, SCRIPT: {names.PER_SLICE: 3}}
    assert names.by_stage(nested[FP32]) == {"read": 2}


def test_a_layers_own_colon_stays_in_its_name() -> None:
    assert by_contender({names.key_of(FP32, "block 1: qkv"): 1}) == {FP32: {"block 1: qkv": 1}}
