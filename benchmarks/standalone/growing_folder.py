"""A folder of small studies that changes at random, as folders at a scanner do: what `histories` lets runs meet."""

from __future__ import annotations

import copy
import os
import random
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pydicom

from dtvit_edge.phantom import render_study, write_study

_STEP = 4  # of 512 pixels every fourth is kept: files of 35 KB
_LEAST_FILES = 4  # fewer are not made still fewer, so that a history does not end in an empty folder


class GrowingFolder:
    """Studies below `root`; each call of `change` does one thing to them.

    Args:
        draw: what happens, and to which file.
    """

    def __init__(self, root: Path, draw: random.Random) -> None:
        self.root = root
        self._draw = draw
        self._number = 0
        self._slices = _slices()
        self.done: list[str] = []
        root.mkdir(parents=True)
        self._study()
        self._study()

    def change(self) -> None:
        """One of the things that happen to folders."""
        happens: list[Callable[[], None]] = [
            self._study, self._study, self._series, self._thin_series, self._slice_more, self._remove, self._remove,
            self._touch, self._set_clock_back, self._replace, self._rename, self._rename_folder, self._copy,
            self._same_uids, self._stray, self._break, self._empty, self._remove_study,
        ]  # fmt: skip
        event = self._draw.choice(happens)
        event()
        self.done.append(event.__name__.strip("_"))

    @property
    def files(self) -> list[Path]:
        """All files, sorted."""
        return sorted(path for path in self.root.rglob("*") if path.is_file())

    def _one(self) -> Path:
        return self._draw.choice(self.files)

    def _next(self) -> int:
        self._number += 1
        return self._number

    def _study(self) -> None:
        number = self._next()
        self._write(self.root / f"study{number}", f"2.25.9{number}", 0.0, 5.0)

    def _series(self) -> None:
        slices = [path for path in self.files if path.name.startswith("IM")]
        if slices:
            study = pydicom.dcmread(self._draw.choice(slices), stop_before_pixels=True, force=True)
            if uid := study.get("StudyInstanceUID"):
                self._write(self.root / f"more{self._next()}", str(uid), self._draw.choice([0.0, 2.5, 30.0]), 5.0)

    def _thin_series(self) -> None:
        number = self._next()
        self._write(self.root / f"thin{number}", f"2.25.9{number}", 0.0, 1.25)

    def _write(self, folder: Path, study: str, start: float, spacing: float) -> None:
        folder.mkdir()
        number = self._next()
        for i in range(self._draw.randint(3, 6)):
            slice_ = copy.deepcopy(self._slices[(i + number) % len(self._slices)])
            slice_.PixelData = (slice_.pixel_array + number).astype(slice_.pixel_array.dtype).tobytes()
            slice_.StudyInstanceUID, slice_.SeriesInstanceUID = study, f"2.25.8{number}"
            slice_.SOPInstanceUID = slice_.file_meta.MediaStorageSOPInstanceUID = f"2.25.8{number}.{i + 1}"
            slice_.InstanceNumber, slice_.SliceThickness = i + 1, spacing
            slice_.ImagePositionPatient = [-120, -120, start + i * spacing]
            slice_.save_as(folder / f"IM{number:03d}{i:02d}")

    def _slice_more(self) -> None:
        path = self._one()
        target = path.with_name(f"IM{self._next():05d}")
        try:
            slice_ = pydicom.dcmread(path)
            slice_.SOPInstanceUID = f"2.25.7{self._number}"
            slice_.ImagePositionPatient = [-120, -120, 100 + self._number]
            slice_.save_as(target)
        except Exception:  # a file that was broken before
            shutil.copyfile(path, target)

    def _remove(self) -> None:
        if len(self.files) > _LEAST_FILES:
            self._one().unlink()

    def _remove_study(self) -> None:
        folders = [path for path in sorted(self.root.iterdir()) if path.is_dir()]
        if len(folders) > 2:
            shutil.rmtree(self._draw.choice(folders))

    def _touch(self) -> None:
        self._one().touch()

    def _set_clock_back(self) -> None:
        os.utime(self._one(), ns=(0, self._draw.randrange(10**18)))

    def _replace(self) -> None:
        """Other pixels in as many bytes, with the times of before."""
        path = self._one()
        status, data = path.stat(), bytearray(path.read_bytes())
        if len(data) > 2000:
            data[-1000:] = self._draw.randbytes(1000)
            path.write_bytes(bytes(data))
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    def _rename(self) -> None:
        path = self._one()
        path.rename(path.with_name(f"IM{self._draw.randrange(10**5):05d}r{self._next()}"))

    def _rename_folder(self) -> None:
        folder = self._one().parent
        if folder != self.root:
            folder.rename(folder.with_name(f"renamed{self._next()}"))

    def _copy(self) -> None:
        path = self._one()
        shutil.copy2(path, path.with_name(f"{self._draw.choice('AZ')}{self._next()}"))

    def _same_uids(self) -> None:
        path = self._one()
        data = bytearray(path.read_bytes())
        data[-200:] = self._draw.randbytes(len(data[-200:]))
        path.with_name(f"{self._draw.choice('AZ')}{self._next()}").write_bytes(bytes(data))

    def _stray(self) -> None:
        (self._one().parent / f"notes{self._next()}.txt").write_text("no slice")

    def _break(self) -> None:
        path = self._one()
        path.write_bytes(path.read_bytes()[: self._draw.choice([200, 900, 20_000])])

    def _empty(self) -> None:
        (self._one().parent / f"IM{self._next():05d}").write_bytes(b"")


@cache
def _slices() -> list[pydicom.FileDataset]:
    with tempfile.TemporaryDirectory() as folder:
        return [_shrunk(path) for path in write_study(render_study(1, "deep", indices=(6, 10, 14, 18)), Path(folder))]


def _shrunk(path: Path) -> pydicom.FileDataset:
    slice_ = pydicom.dcmread(path)
    pixels = slice_.pixel_array[::_STEP, ::_STEP]
    slice_.Rows, slice_.Columns = pixels.shape
    slice_.PixelSpacing = [_STEP * float(value) for value in slice_.PixelSpacing]
    slice_.PixelData = pixels.tobytes()
    return slice_
