"""A folder of everything that a run meets: what shards and clusters have to see as one process does."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import numpy as np

from tests.support.dicom_files import enhanced, save, series

HEIGHTS = [0.0, 5, 10, 15]


def mixed_folder(folder: Path) -> Path:
    """Studies of few slices; refused files, archives, links, many frames, copies over folders, two patients."""
    for i in range(6):
        series(folder / f"plain-{i}", HEIGHTS, uid=f"2.25.10{i}", study=f"2.25.20{i}")
    series(folder / "thin", [1.25 * i for i in range(8)], uid="2.25.31", study="2.25.30", SliceThickness=1.25)
    series(folder / "angio", HEIGHTS[:2], uid="2.25.41", study="2.25.40", ContrastBolusAgent="OMNIPAQUE")
    frames = np.stack([np.full((64, 64), 1000 + i, np.uint16) for i in range(3)])
    save(folder / "frames" / "enhanced", enhanced(frames, shared_rescale=True, intercepts=[-1024.0] * 3))
    (folder / "elsewhere").mkdir()
    for file in sorted((folder / "plain-0").iterdir())[:2]:
        shutil.copy2(file, folder / "elsewhere" / f"copy-{file.name}")
    save(folder / "elsewhere" / "other-patient", StudyInstanceUID="2.25.201", SeriesInstanceUID="2.25.101",
         SOPInstanceUID="2.25.999", PatientID="SOMEBODY-ELSE")  # fmt: skip
    save(folder / "odd" / "formula", StudyInstanceUID="=2.25.7", SeriesInstanceUID="2.25.71", SOPInstanceUID="2.25.72")
    save(folder / "odd" / "spelled", StudyInstanceUID="\x1b2.25.7", SeriesInstanceUID="2.25.73", SOPInstanceUID="1.2")
    (folder / "plain-2" / "broken.dcm").write_bytes(b"no DICOM")
    (folder / "plain-3" / "IM0001").write_bytes(bytes(4096))
    (folder / "notes.txt").write_text("not an image")
    (folder / "empty.dcm").touch()
    with zipfile.ZipFile(folder / "plain-4" / "more.zip", "w") as archive:
        archive.writestr("slice", b"0" * 200)
    (folder / "linked").symlink_to("plain-5")
    (folder / "nowhere").symlink_to("/nowhere/at/all")
    return folder
