"""Datasets and bytes give the rows of a folder with the same files, and lie where nobody else can open them."""

from __future__ import annotations

import gc
import os
import stat
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import ImplicitVRLittleEndian, JPEG2000Lossless, RLELossless

from dtvit_edge.bundle import Bundle
from dtvit_edge.errors import ConfigError, DiskFault
from dtvit_edge.scoring.handed_in import PrivateFolder
from tests.support import multi_frame_files
from tests.support.dicom_files import dataset, enhanced, save, series
from tests.support.open_models import opened, slices_of, without_paths


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def made_here() -> Dataset:
    """A dataset that was never a file: no file meta information, no encoding."""
    ds = Dataset()
    for element in dataset(SOPInstanceUID="2.25.99"):
        ds.add(element)
    return ds


def touched() -> FileDataset:
    ds = dataset()
    _ = ds.pixel_array, str(ds)
    return ds


def compressed(syntax: str) -> FileDataset:
    ds = dataset()
    ds.compress(syntax, generate_instance_uid=False)
    return ds


def implicit() -> FileDataset:
    ds = dataset()
    ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    return ds


def with_meta_among_its_elements() -> FileDataset:
    ds = dataset()
    ds._dict[0x00020010] = ds.file_meta["TransferSyntaxUID"]
    return ds


FORMS: dict[str, Any] = {
    "plain": dataset,
    "implicit": implicit,
    "touched": touched,
    "RLE": partial(compressed, RLELossless),
    "JPEG 2000": partial(compressed, JPEG2000Lossless),
    "frames": lambda: enhanced(np.stack([dataset().pixel_array.astype(np.uint16)] * 3), shared_rescale=True,
                               intercepts=[-1024.0] * 3),
    "RLE frames": multi_frame_files.rle,
    "umlauts": lambda: dataset(SpecificCharacterSet="ISO_IR 100", SeriesDescription="Schädel"),
    "not CT": lambda: dataset(Modality="MR"),
    "no pixels": lambda: dataset(PixelData=None),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_a_dataset_and_its_bytes_give_the_rows_of_its_file(tiny_bundle: Bundle, tmp_path: Path, form: str) -> None:
    file = save(tmp_path / "in" / "000001", FORMS[form]())
    with opened(tiny_bundle) as model:
        expected = list(model.score(tmp_path / "in"))
        read = pydicom.dcmread(file)
        found = [model.score_dataset(FORMS[form]()), model.score_dataset(read), model.score_bytes(file.read_bytes())]
        assert read == pydicom.dcmread(file), "the caller's dataset has changed"
    assert [without_paths([result]) for result in found] == [without_paths(expected)] * 3
    assert {row.path for row in found[0].slices} == {"000001"}


def test_a_big_endian_dataset_gives_the_rows_of_its_file(tiny_bundle: Bundle, tmp_path: Path) -> None:
    file = multi_frame_files.big_endian(tmp_path / "000001")
    with opened(tiny_bundle) as model:
        (expected,) = model.score(file)
        assert model.score_dataset(pydicom.dcmread(file)) == model.score_bytes(file.read_bytes()) == expected


def test_a_dataset_without_file_meta_is_scored(tiny_bundle: Bundle) -> None:
    stripped = dataset()
    del stripped.file_meta
    with opened(tiny_bundle) as model:
        for ds in (made_here(), stripped, with_meta_among_its_elements()):
            result = model.score_dataset(ds)
            assert [row.status for row in result.slices] == ["scored"], result
        assert not hasattr(stripped, "file_meta")


def test_datasets_and_bytes_of_a_study_give_its_result(tiny_bundle: Bundle, phantom_folder: Path) -> None:
    files = slices_of(phantom_folder)

    def mixed() -> Iterator[Any]:
        for i, file in enumerate(files):
            yield pydicom.dcmread(file) if i % 2 else file.read_bytes()

    with opened(tiny_bundle) as model:
        expected = [result for result in model.score(phantom_folder) if result.study.study_uid]
        assert without_paths(list(model.score_datasets(mixed()))) == without_paths(expected)


def test_a_copy_and_a_broken_one_among_them_are_judged_as_in_a_folder(tiny_bundle: Bundle, tmp_path: Path) -> None:
    files = series(tmp_path / "in", [0, 5, 10])
    data = [file.read_bytes() for file in sorted(files)]
    (tmp_path / "in" / "zz").write_bytes(data[0])
    (tmp_path / "in" / "zzz").write_bytes(b"no DICOM")
    with opened(tiny_bundle) as model:
        expected = list(model.score(tmp_path / "in"))
        assert without_paths(list(model.score_datasets([*data, data[0], b"no DICOM"]))) == without_paths(expected)
    assert "unread" in expected[0].study.reason


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"", "empty_file"), (b"no DICOM at all", "not_dicom"), (bytes(4096), "zero_file"),
     (b"PK\3\4" + b"x" * 500, "archive")],
    ids=["empty", "text", "zeros", "zip"],
)  # fmt: skip
def test_bytes_that_are_no_dicom_are_a_result_with_the_reason(tiny_bundle: Bundle, data: bytes, reason: str) -> None:
    with opened(tiny_bundle) as model:
        for given in (data, bytearray(data), memoryview(data)):
            result = model.score_bytes(given)
            assert [row.reason for row in result.slices] == [reason]
            assert (result.study.study_uid, result.study.status, result.study.flagged) == ("", "not_scored", None)


def test_a_dataset_that_cannot_be_written_is_a_row(tiny_bundle: Bundle) -> None:
    ds = dataset()
    ds["Rows"]._value = "many"
    with opened(tiny_bundle) as model:
        assert [row.reason for row in model.score_dataset(ds).slices] == ["bad_header"]
        both = list(model.score_datasets([ds, dataset()]))
    assert [row.reason for result in both for row in result.slices] == ["", "bad_header"]


def test_a_truncated_file_is_a_row(tiny_bundle: Bundle, phantom_folder: Path) -> None:
    data = slices_of(phantom_folder)[12].read_bytes()
    with opened(tiny_bundle) as model:
        for cut in (140, 600, len(data) // 2, len(data) - 1):
            (row,) = model.score_bytes(data[:cut]).slices
            assert row.status in ("error", "refused", "skipped") and row.reason, cut


@pytest.mark.parametrize(
    ("items", "words"),
    [
        ([], "no dataset was given"),
        ([dataset(), "IM0001"], "item 2 is str"),
        ([None], "item 1 is NoneType"),
        (b"bytes", "`score_dataset` takes one"),
        (dataset(), "`score_dataset` takes one"),
        (3, "not int"),
    ],
    ids=["none", "path", "None", "bytes", "dataset", "number"],
)
def test_what_is_neither_raises_at_the_call(tiny_bundle: Bundle, temporary: Path, items: Any, words: str) -> None:
    with opened(tiny_bundle) as model:
        with pytest.raises(ConfigError, match=words):
            model.score_datasets(items)
        assert not below(temporary)


def test_files_are_the_users_own_and_go_with_the_results(tiny_bundle: Bundle, temporary: Path) -> None:
    data = [b"", b"x", b"y"]
    with opened(tiny_bundle) as model:
        for leave in ("exhaust", "close", "drop", "never begin"):
            results = model.score_datasets(data)
            assert len(below(temporary)) == 3
            for path in (temporary, *temporary.iterdir()):
                assert path == temporary or stat.S_IMODE(path.stat().st_mode) == 0o700
            assert {stat.S_IMODE(path.stat().st_mode) for path in below(temporary)} == {0o600}
            if leave == "exhaust":
                list(results)
            elif leave == "close":
                next(results)
                results.close()
            elif leave == "drop":
                next(results)
            del results
            gc.collect()
            assert not below(temporary), leave
    assert not list(temporary.iterdir())


def test_a_folder_that_was_cleared_away_is_made_anew(temporary: Path) -> None:
    folder = PrivateFolder()
    folder.path.rmdir()
    assert folder.write(b"x").file.read_bytes() == b"x"


@pytest.mark.skipif(os.geteuid() == 0 and not Path("/dev/full").exists(), reason="no disk to fill")
def test_a_disk_that_takes_nothing_is_no_fault_of_the_file(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int, data: Any) -> int:
        raise OSError(28, "No space left on device")

    with opened(tiny_bundle) as model:
        with monkeypatch.context() as patch:
            patch.setattr("dtvit_edge.scoring.handed_in.write_all", full)
            with pytest.raises(DiskFault, match="No space left"):
                model.score_bytes(b"x")
        assert model.score_bytes(b"x").slices
