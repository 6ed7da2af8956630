from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from dtvit_edge.errors import ConfigError
from evaluation.labels import read_labels
from tests.support.data import real
from training.phe_sich import convert

HEADER = "file,patient,slice,ich,mask_agrees,mask_pixels,box_xyxy\n"


def test_disputed_slices_are_left_out_and_no_location_is_claimed(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    (folder / "images").mkdir(parents=True)
    for name in ("a", "b", "c", "d"):
        cv2.imwrite(str(folder / "images" / f"{name}.jpg"), np.zeros((64, 64), np.uint8))
    (folder / "labels.csv").write_text(
        HEADER + "images/a.jpg,0001,0,0,1,0,\nimages/b.jpg,0001,1,1,1,9,1 2 3 4\nimages/c.jpg,0002,0,1,0,9,1 2 3 4\n"
        "images/d.jpg,0002,1,0,,,\n"
    )
    counts = convert(folder, tmp_path / "out" / "labels.csv")
    assert counts == {"no_ich": 2, "ich": 1, "disputed": 1}
    slices = read_labels(tmp_path / "out" / "labels.csv")
    assert [(s.patient, s.ich, s.location) for s in slices] == [
        ("0001", False, None),
        ("0001", True, None),
        ("0002", False, None),
    ]


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not PHE-SICH-CT-IDS"):
        convert(tmp_path, tmp_path / "out.csv")
    (tmp_path / "labels.csv").write_text("file,patient\nx,1\n")
    with pytest.raises(ConfigError, match="not PHE-SICH-CT-IDS"):
        convert(tmp_path, tmp_path / "out.csv")


def test_the_real_set_is_as_its_description_says(tmp_path: Path) -> None:
    counts = convert(real("phe-sich"), tmp_path / "labels.csv")
    assert counts["disputed"] == 44
    assert sum(counts.values()) == 3479
    slices = read_labels(tmp_path / "labels.csv")
    assert len({s.patient for s in slices}) == 119
    assert all(s.location is None for s in slices)
