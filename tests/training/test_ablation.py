from __future__ import annotations

from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from dtvit_edge.preprocess.mask import structuring_element
from dtvit_edge.spec import PreprocessSpec
from evaluation.labels import LabelledSlice
from evaluation.records import Record
from training import ablation
from training.ablation import OURS, Masks, Row, masks, out_of_fold, row, variants
from training.paper_tables import choices
from training.phe_sich import AnnotatedSlice

OURS_SPEC = PreprocessSpec()


@pytest.fixture
def head(tmp_path: Path) -> AnnotatedSlice:
    """A disk of tissue with a dim rim of bytes 5, and a box in the middle."""
    image = np.zeros((256, 256), np.uint8)
    cv2.circle(image, (128, 128), 90, 5, cv2.FILLED)
    cv2.circle(image, (128, 128), 80, 120, cv2.FILLED)
    cv2.imwrite(str(tmp_path / "head.png"), image)
    return AnnotatedSlice(
        LabelledSlice(tmp_path / "head.png", "head.png", "1", True, None), (118, 118, 138, 138), False
    )


def test_the_authors_choices_are_rows_of_their_own() -> None:
    specs = variants()
    assert specs[OURS] == OURS_SPEC
    assert int(structuring_element(specs["disk of radius 3"].disk_half_widths).sum()) == 29
    together = specs["these three together"]
    assert (together.mask_threshold, together.edge_columns, len(together.disk_half_widths)) == (3, 1, 7)
    assert len({spec.digest for spec in specs.values()}) == len(specs)


def test_a_mask_is_compared_with_ours_and_with_the_annotated_box(head: AnnotatedSlice) -> None:
    same = masks([head], OURS_SPEC, OURS_SPEC)
    assert same.overlap.tolist() == [1.0] and same.lost.tolist() == [0.0]
    wider = masks([head], replace(OURS_SPEC, mask_threshold=3), OURS_SPEC)
    assert wider.overlap[0] == pytest.approx(80**2 / 90**2, abs=0.01) and wider.lost[0] == 0
    none = masks([head], replace(OURS_SPEC, mask_threshold=200), OURS_SPEC)
    assert none.overlap[0] == 0 and none.lost[0] == 1


def test_a_patients_slices_are_judged_by_a_classifier_that_never_saw_them() -> None:
    # A patient's number is all that the features say, and it says the label: nothing carries over to another patient.
    patients = [str(p) for p in range(20) for _ in range(6)]
    truth = np.array([p % 2 for p in range(20) for _ in range(6)], np.int64)
    values = np.eye(20, dtype=np.float32)[[int(p) for p in patients]]
    said = out_of_fold(values, truth, patients)
    assert abs(said[truth == 1].mean() - said[truth == 0].mean()) < 0.2


def test_a_difference_is_taken_on_the_same_draws_of_patients() -> None:
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 2, 200)
    patients = [str(i // 10) for i in range(200)]
    good = truth + rng.normal(0, 0.5, 200)
    said = {OURS: good, "other": good[::-1].copy()}
    both = Masks(np.array([1.0, 0.9]), np.array([0.0, 0.5]))
    made = row("other", truth, patients, said, {"other": both}, 100)
    assert made.high < 0 and made.difference < 0
    assert (made.overlap, made.differ, made.cut) == (0.95, 0.5, 1)


def test_the_table_shows_each_choice_beside_ours_and_leaves_empty_what_it_does_not_touch() -> None:
    rows = [Row(OURS, 0.98, 0.0, 0.0, 0.0, 1.0, 0.0, 0), Row("no head mask", 0.97, -0.01, -0.02, 0.001)]
    options = {"rows": [asdict(r) for r in rows], "encoder": "vit", "folds": 5, "command": "python -m x"}
    table = choices(Record("what", "CPU minutes", {"a": [1.5]}, {"slices": 10.0, "patients": 3.0}, {}, options))
    assert table.rows[0] == (OURS, "0.9800", "", "1.0000", "0.0 %", "0")
    assert table.rows[1] == ("no head mask", "0.9700", "-0.0100 (-0.0200 to +0.0010)", "", "", "")
    assert "10 slices of 3 patients" in table.markdown()


def test_a_run_that_was_interrupted_goes_on_with_the_row_that_it_had_begun(
    head: AnnotatedSlice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slices = [replace(head, labelled=replace(head.labelled, patient=str(n), ich=n % 2 == 0)) for n in range(20)]
    computed: list[str] = []

    def features(slices: list[AnnotatedSlice], spec: PreprocessSpec, encoder: object, **more: object) -> np.ndarray:
        computed.append(spec.digest)
        if len(computed) == 3:
            raise KeyboardInterrupt
        return np.random.default_rng(int(spec.digest[:8], 16)).normal(size=(len(slices), 4)).astype(np.float32)

    for name, value in {"features": features, "annotated_slices": lambda folder: slices}.items():
        monkeypatch.setattr(ablation, name, value)
    few = dict(list(variants().items())[:3])
    monkeypatch.setattr(ablation, "variants", lambda: few)
    monkeypatch.setattr(ablation, "row", partial(row, resamples=20))
    monkeypatch.setattr(ablation, "read_tensors", lambda weights: [{}])
    monkeypatch.setattr(ablation, "create_encoder", lambda name, tensors: torch.nn.Identity())
    (tmp_path / "weights").write_bytes(b"weights")
    specs = [spec.digest for spec in few.values()]

    def run(*more: str) -> list[str]:
        asked = [str(tmp_path), str(tmp_path / "weights"), "--every", "1", "--record", str(tmp_path / "record"), *more]
        return CliRunner().invoke(ablation.main, asked).stdout.splitlines()

    assert run("--work", str(tmp_path / "work")) == []
    rows = run("--work", str(tmp_path / "work"))
    assert computed == specs[:3] + specs[2:]
    assert len(rows) == len(specs) + 1 and rows == run()
