"""Images with the outputs that the user's own code gave for them: `--expect FILE.npz` or a folder.

An `.npz` holds one of `tensors` (N, C, S, S float, normalised: what the model takes), `hu` (N, h, w), `pixels` (N, h, w
stored values, with `slope` and `intercept`) and `images` (N, h, w uint8, windowed already); and one or more of
`ich_logits`, `location_logits`, `logits`, each also as `..._probabilities`. Columns are those of this project's labels,
unless `labels` names them. A folder holds DICOM, PNG or `.npy` (HU) files and `expected.csv` with `file` and columns
like `logit_ich` or `p_deep`, or `expected.npz` with `files` and the same arrays.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dtvit_edge.dicom.decoder_pool import ParallelReader
from dtvit_edge.dicom.header import read_headers
from dtvit_edge.errors import ConfigError, SliceRejected
from dtvit_edge.spec import WINDOWED_8_BIT, PixelEncoding, digest_file
from export.heads.outputs import FOUR, USUAL_LABELS, check_labels
from export.npz import read_npz

IMAGES = ("tensors", "hu", "pixels", "images")
OUTPUTS = ("ich_logits", "location_logits", "logits", "ich_probabilities", "location_probabilities", "probabilities")
CSV, NPZ = "expected.csv", "expected.npz"
HU = PixelEncoding()


@dataclass(frozen=True)
class Target:
    """One set of outputs.

    Attributes:
        labels: of the columns; `("ich",)` alone is one logit, or the probability of a haemorrhage.
        values: (N, K) float64.
        probabilities: they are probabilities rather than logits.
    """

    name: str
    labels: tuple[str, ...]
    values: NDArray[np.float64]
    probabilities: bool


@dataclass(frozen=True)
class Expectations:
    """N images and what the user's code says of them.

    Attributes:
        kind: one of `IMAGES`, or `dicom`, `png`, `npy` for files.
        tensors: (N, C, S, S) float32 for prepared ones, else None.
        slices: stored pixels and their encoding, else empty.
        sha256: of the file with the outputs.
    """

    kind: str
    tensors: NDArray[np.float32] | None
    slices: tuple[tuple[NDArray[np.uint16], PixelEncoding], ...]
    targets: tuple[Target, ...]
    sha256: str

    def __len__(self) -> int:
        return len(self.targets[0].values)


def read_expectations(path: Path) -> Expectations:
    """Read a file or a folder.

    Raises:
        ConfigError: what is missing, in words, or arrays that do not fit each other.
    """
    if path.is_dir():
        return _folder(path)
    if path.suffix != ".npz" or not path.is_file():
        raise ConfigError(f"--expect {path}: expected an .npz file, or a folder with {CSV} or {NPZ}")
    arrays = read_npz(path)
    kinds = [kind for kind in IMAGES if kind in arrays]
    if len(kinds) != 1:
        raise ConfigError(f"{path}: holds {', '.join(arrays)}; expected exactly one of {', '.join(IMAGES)}")
    kind = kinds[0]
    targets = _targets(path, arrays)
    tensors: NDArray[np.float32] | None = None
    slices: tuple[tuple[NDArray[np.uint16], PixelEncoding], ...] = ()
    if kind == "tensors":
        tensors = np.ascontiguousarray(arrays[kind], np.float32)
        if tensors.ndim != 4 or not np.isfinite(tensors).all():
            raise ConfigError(f"{path}: tensors are {tensors.shape}, expected finite (N, C, S, S)")
    else:
        slices = tuple(_slice(path, kind, image, arrays) for image in arrays[kind])
    return _checked(path, Expectations(kind, tensors, slices, targets, digest_file(path)), len(arrays[kind]))


def _targets(path: Path, arrays: Mapping[str, NDArray[Any]]) -> tuple[Target, ...]:
    targets = []
    for name in OUTPUTS:
        if name not in arrays:
            continue
        values = np.asarray(arrays[name], np.float64)
        values = values[:, None] if values.ndim == 1 else values
        if values.ndim != 2 or values.shape[1] not in USUAL_LABELS or not np.isfinite(values).all():
            raise ConfigError(f"{path}: {name} is {values.shape}, expected finite (N, 1 to 5)")
        columns = values.shape[1]
        labels = tuple(map(str, arrays["labels"])) if "labels" in arrays and "_" not in name else USUAL_LABELS[columns]
        check_labels(labels, columns)
        targets.append(Target(name, labels, values, name.endswith("probabilities")))
    if not targets:
        raise ConfigError(f"{path}: holds {', '.join(arrays)}; expected one or more of {', '.join(OUTPUTS)}")
    return tuple(targets)


def _slice(
    path: Path, kind: str, image: NDArray[Any], arrays: Mapping[str, NDArray[Any]]
) -> tuple[NDArray[np.uint16], PixelEncoding]:
    """One image of an array as stored pixels."""
    if image.ndim != 2:
        raise ConfigError(f"{path}: {kind} of {image.ndim} dimensions each, expected (N, rows, columns)")
    if kind == "images":
        if image.dtype != np.uint8:
            raise ConfigError(f"{path}: images are {image.dtype}, expected uint8 that is windowed already")
        return image.astype(np.uint16), WINDOWED_8_BIT
    values = np.rint(image) if np.issubdtype(image.dtype, np.floating) else image
    signed = bool(values.min() < 0) or kind == "hu"
    least, most = (-32768, 32767) if signed else (0, 65535)
    if not np.isfinite(values).all() or values.min() < least or values.max() > most:
        raise ConfigError(f"{path}: {kind} has values outside {least} to {most}")
    slope, intercept = (float(arrays.get(name, default)) for name, default in (("slope", 1.0), ("intercept", 0.0)))
    encoding = HU if kind == "hu" else PixelEncoding(signed=signed, slope=slope, intercept=intercept)
    return values.astype(np.int64).astype(np.uint16), encoding


def _folder(folder: Path) -> Expectations:
    names: Sequence[str]
    if (folder / CSV).is_file():
        table = folder / CSV
        names, targets = _csv(table)
    elif (folder / NPZ).is_file():
        table = folder / NPZ
        arrays = read_npz(table)
        if "files" not in arrays:
            raise ConfigError(f"{table}: no `files` that names the image of each row")
        names, targets = [str(name) for name in arrays["files"]], _targets(table, arrays)
    else:
        raise ConfigError(f"--expect {folder}: neither {CSV} nor {NPZ} in it")
    slices = tuple(_file(folder / name) for name in names)
    kinds = sorted({Path(name).suffix.lower().lstrip(".") or "dicom" for name in names})
    kind = "+".join("dicom" if name in ("dcm", "ima") else name for name in kinds)
    return _checked(table, Expectations(kind, None, slices, targets, digest_file(table)), len(slices))


def _csv(table: Path) -> tuple[list[str], tuple[Target, ...]]:
    with table.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    if not rows or "file" not in rows[0]:
        raise ConfigError(f"{table}: expected a column `file` and columns like logit_ich or p_ich")
    targets = []
    for prefix in ("logit_", "p_"):
        labels = [name.removeprefix(prefix) for name in rows[0] if name.startswith(prefix)]
        ich, location = [name for name in labels if "ich" in name], [name for name in labels if "ich" not in name]
        # Four classes are one head; haemorrhage and the three places are two.
        for part in [labels] if set(labels) == set(FOUR) else [ich, location]:
            if not part:
                continue
            check_labels(part, None)
            try:
                values = np.array([[float(row[f"{prefix}{label}"]) for label in part] for row in rows])
            except (TypeError, ValueError) as error:
                raise ConfigError(f"{table}: a value is no number: {error}") from error
            targets.append(Target(f"{prefix}{'|'.join(part)}", tuple(part), values, prefix == "p_"))
    if not targets:
        raise ConfigError(f"{table}: no column like logit_ich or p_ich")
    return [row["file"] for row in rows], tuple(targets)


def _file(path: Path) -> tuple[NDArray[np.uint16], PixelEncoding]:
    if not path.is_file():
        raise ConfigError(f"{path}: no such file")
    if path.suffix.lower() == ".png":
        image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if image is None or image.dtype != np.uint8 or image.ndim != 2:
            raise ConfigError(f"{path}: expected an 8-bit grey PNG")
        return image.astype(np.uint16), WINDOWED_8_BIT
    if path.suffix.lower() == ".npy":
        try:
            return _slice(path, "hu", np.load(path, allow_pickle=False), {})
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path}: not readable: {error}") from error
    try:
        headers = read_headers(path, path.name)
        if len(headers) != 1:
            raise ConfigError(f"{path}: {len(headers)} frames, expected one image a file")
        stored = ParallelReader().read(headers[0])
    except SliceRejected as error:
        raise ConfigError(f"{path}: {error}") from error
    return stored.stored, stored.header.encoding


def _checked(path: Path, expectations: Expectations, images: int) -> Expectations:
    """Refuse outputs of another number of images."""
    for target in expectations.targets:
        if len(target.values) != images:
            raise ConfigError(f"{path}: {target.name} is for {len(target.values)} images, there are {images}")
    if images == 0:
        raise ConfigError(f"{path}: no images")
    return expectations
