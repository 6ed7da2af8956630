"""The same SOP instance comes again with other bytes, when its study has a result already."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset

from dtvit_edge.bundle import Bundle
from dtvit_edge.pacs.reading import statement_of_object
from dtvit_edge.pacs.service import Service
from tests.support.dicom_files import enhanced
from tests.support.open_models import slices_of
from tests.support.pacs_objects import evidence_of, items
from tests.support.pacs_peers import OwnPacs, running, send_datasets, settings_of, wait_for

pytest.importorskip("pynetdicom", reason="the extra `pacs` is not installed")
pytest.importorskip("highdicom", reason="the extra `pacs` is not installed")
pytestmark = pytest.mark.real  # seconds

Kinds = dict[str, tuple[Path, Path]]


def ordered(folder: Path) -> list[FileDataset]:
    return sorted(map(pydicom.dcmread, slices_of(folder)), key=lambda ds: float(ds.SliceLocation))


def scored_again(service: Service, pacs: OwnPacs, changed: FileDataset) -> list[Any]:
    """The SRs that the PACS has, once the study was scored anew."""
    scored = service._metrics._studies._value
    before = scored.get()
    assert send_datasets([changed], service.port) == [0]
    wait_for(lambda: scored.get() == before + 1 and not service._busy and not service._store.count("waiting"))
    return pacs.reports()


def brighter(slice_: FileDataset) -> None:
    pixels = slice_.pixel_array.copy()
    pixels[200:300, 200:300] += 30
    slice_.PixelData = pixels.tobytes()


def cut_off(slice_: FileDataset) -> None:
    slice_.PixelData = slice_.PixelData[:1000]


def of_zeros(slice_: FileDataset) -> None:
    slice_.PixelData = bytes(len(slice_.PixelData))


def of_another_name(slice_: FileDataset) -> None:
    slice_.PatientName = "PHANTOM^RENAMED"


@pytest.mark.parametrize("change", [brighter, cut_off, of_zeros, of_another_name])
def test_a_slice_that_comes_again_changed_takes_nothing_from_a_result_whose_flag_and_top_slice_stay(
    change: Callable[[FileDataset], None], kinds: Kinds, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    slices = ordered(kinds["flagged"][0])
    with OwnPacs() as pacs, running(tiny_bundle, settings_of(tmp_path / "s", pacs.port), threshold=0.01) as service:
        send_datasets(slices, service.port)
        wait_for(lambda: len(pacs.reports()) == 1)
        said = statement_of_object(pacs.reports()[0])
        top = next(ds for ds in slices if ds.SOPInstanceUID == said.top_sop_uid)
        change(top)
        assert len(scored_again(service, pacs, top)) == 1
        assert said.flagged and said.status == "scored" and service.health()["status"] == "ok"
        assert len(list(service._inbox.files_of(said.study_uid).iterdir())) == len(slices) + 1


def test_a_slice_that_comes_again_with_a_bleeding_flags_a_study_that_was_not(
    kinds: Kinds, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    slices = ordered(kinds["flagged"][0])
    with OwnPacs() as pacs, running(tiny_bundle, settings_of(tmp_path / "s", pacs.port), threshold=0.952) as service:
        send_datasets(slices, service.port)
        wait_for(lambda: len(pacs.reports()) == 1)
        said = statement_of_object(pacs.reports()[0])
        assert said.flagged is False and said.probability is not None and said.probability < 0.952
        top = next(ds for ds in slices if ds.SOPInstanceUID == said.top_sop_uid)
        brighter(top)  # which this model takes for more of one
        first, second = scored_again(service, pacs, top)
        assert statement_of_object(second).flagged is True
        assert evidence_of(second, "PredecessorDocumentsSequence") == [first.SOPInstanceUID]
        assert len(evidence_of(second, "CurrentRequestedProcedureEvidenceSequence")) == len(slices)  # each once


def test_an_object_of_many_frames_that_comes_again_with_another_top_frame_is_a_new_result_that_names_it(
    kinds: Kinds, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    slices = ordered(kinds["flagged"][0])
    frames = np.stack([ds.pixel_array for ds in slices]).astype(np.uint16)
    made = enhanced(frames, shared_rescale=True, intercepts=[float(ds.RescaleIntercept) for ds in slices])
    with OwnPacs() as pacs, running(
        tiny_bundle, settings_of(tmp_path / "s", pacs.port, with_key_image=True), threshold=0.01
    ) as service:  # fmt: skip
        send_datasets([made], service.port)
        wait_for(lambda: len(pacs.reports()) == 1)
        said = statement_of_object(pacs.reports()[0])
        assert said.flagged and said.top_sop_uid == made.SOPInstanceUID
        there = said.top_frame % len(frames)  # the next place gets the same picture, and more
        frames[there] = frames[said.top_frame - 1]
        frames[there][200:300, 200:300] += 30
        made.PixelData = frames.tobytes()
        first, second = scored_again(service, pacs, made)
        assert statement_of_object(second).top_frame == there + 1 != said.top_frame
        assert evidence_of(second, "PredecessorDocumentsSequence") == [first.SOPInstanceUID]
        assert ("IMAGE", "Source of Measurement", made.SOPInstanceUID) in list(items(second))
        keys = [ds for ds in pacs.kept.values() if ds.Modality == "OT"]
        assert len(keys) == 2 and keys[0].PixelData != keys[1].PixelData
