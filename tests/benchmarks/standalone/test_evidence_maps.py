"""The benchmark of evidence maps judges what it says, and records it; figures of models stand in its records."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import numpy_helper

from benchmarks.report.evidence_table import evidence_table
from benchmarks.standalone import evidence_maps
from dtvit_edge.bundle import Bundle
from dtvit_edge.errors import ConfigError
from dtvit_edge.report.evidence import CELLS, Evidence, EvidenceMap, box
from dtvit_edge.spec import PreprocessSpec
from evaluation.records import read
from tests.support.tiny_bundle import tiny_model, write_tiny_bundle


def test_a_map_hits_where_its_hottest_cell_touches_the_truth() -> None:
    loss = np.full((CELLS, CELLS), np.nan)
    loss[4:6, 4:8] = [[1, 2, 3, 0], [1, 2, 9, 0]]
    found = Evidence(EvidenceMap(5.0, loss, (4, 5), 1.0), None, 0, 9)
    assert found.ich.hottest == (5, 6)
    truth = np.zeros((224, 224), bool)
    top, bottom, left, right = box((5, 6), 224, 1)
    truth[bottom - 1, left] = True
    hits = evidence_maps.judge(found, truth)
    assert (hits.cell, hits.patch, hits.point, hits.chance) == (True, True, False, 1 / 8)
    truth[(top + bottom) // 2, (left + right) // 2] = True
    assert evidence_maps.judge(found, truth).point
    assert not evidence_maps.judge(found, np.zeros((224, 224), bool)).cell


def test_a_wrong_model_has_the_same_graph_and_weights_in_another_order() -> None:
    model = tiny_model()
    wrong = onnx.load_from_string(evidence_maps.shuffled(model, 1))
    right = onnx.load_from_string(model)
    assert wrong.graph.node == right.graph.node
    for a, b in zip(wrong.graph.initializer, right.graph.initializer, strict=True):
        assert sorted(numpy_helper.to_array(a).ravel()) == sorted(numpy_helper.to_array(b).ravel())
    assert evidence_maps.shuffled(model, 1) == evidence_maps.shuffled(model, 1) != model


def test_a_box_lies_where_the_slice_is_after_resize_and_crop() -> None:
    mask = evidence_maps._box_mask("256 128 300 200", PreprocessSpec())
    rows, columns = np.nonzero(mask)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (48, 84, 112, 134)


def test_an_interval_is_over_patients() -> None:
    assert evidence_maps.interval([1.0, 1.0, 0.0, 0.0], ["a", "a", "b", "b"])[1:] == (0.0, 1.0)


def test_the_benchmark_records_what_it_judged(tmp_path: Path) -> None:
    bundle: Bundle = write_tiny_bundle(tmp_path / "tiny.dtvit", middle=1.0)
    asked = [str(bundle.path), "phantoms:1@9500000", "--shuffles", "1", "--slices", "1", "--backend", "onnxruntime"]
    done = CliRunner().invoke(evidence_maps.main, [*asked, "--out", str(tmp_path / "r")], catch_exceptions=False)
    assert done.exit_code == 0
    (record,) = read(tmp_path / "r")
    assert record.summary["slices"] == 1 and record.summary["passes"] <= 80
    assert {"fp32: hottest cell", "shuffled 0: hottest cell"} < set(record.samples)
    assert "| 1 slices of 1 phantoms | the model in fp32 |" in evidence_table(tmp_path / "r")


def test_a_table_without_boxes_is_refused_by_its_columns(tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text("path,patient,ich,location\na.png,1,1,\n")
    with pytest.raises(ConfigError, match="no column box_xyxy, file, mask_agrees"):
        evidence_maps.cases(str(labels), labels, PreprocessSpec())
