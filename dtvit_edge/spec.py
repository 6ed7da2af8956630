"""What every part agrees on: tensor names, labels, pixel encodings and the one frozen description of preprocessing.

Training, the reference, the CPU and CUDA paths and calibration all take a `PreprocessSpec`; nobody re-declares a
field of it. Its digest goes into the bundle, so that bytes made by another spec are refused.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dtvit_edge.errors import ConfigError

INPUT_NAME = "pixels"
ICH_OUTPUT = "ich_logits"
LOCATION_OUTPUT = "location_logits"
OUTPUT_NAMES = (ICH_OUTPUT, LOCATION_OUTPUT)

ICH_LABELS = ("no_ich", "ich")
LOCATION_LABELS = ("deep", "lobar", "subtentorial")
ICH_HEAD = "ich"
LOCATION_HEAD = "location"
HEAD_LABELS = {ICH_HEAD: ICH_LABELS, LOCATION_HEAD: LOCATION_LABELS}
OUTPUT_SIZES = {ICH_OUTPUT: len(ICH_LABELS), LOCATION_OUTPUT: len(LOCATION_LABELS)}
TRAINING_STATES = ("untrained", "synthetic", "clinical-unvalidated")

NOTICE = "research use only, not a medical device"
NOT_FLAGGED_NOTE = "A study that is not flagged is not a normal study."
UNTRAINED_LOCATION = "The bundle's location head is untrained: every location is left empty."

MIN_MATRIX, MAX_MATRIX = 32, 1024
MIN_CROP, MAX_CROP = 32, 1024
MOST_CHANNELS = 3
# A head has fewer places than MOST_TOP_PLACES; slices of CT are 0.25 to 10 mm thick.
MIN_THICKNESS_MM, MAX_THICKNESS_MM = 0.25, 20.0
MOST_TOP_PLACES = 100
FITS = ("shorter", "squash")
FILTERS = ("bilinear", "bicubic")
# Of the algorithm that a spec describes: bytes made by another version are other bytes.
ALGORITHM = 2
AIR_HU = -1000.0


class WindowKind(str, Enum):
    """The VOI LUT function (PS3.3 C.11.2.1.2.1 and C.11.2.1.3.2), or bytes that are windowed already.

    LINEAR and LINEAR_EXACT differ at 67 HU values of the default window, so the kind is always named.
    """

    LINEAR = "LINEAR"
    LINEAR_EXACT = "LINEAR_EXACT"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Window:
    """One window: centre and width in Hounsfield units, and the formula."""

    center_hu: float = 40.0
    width_hu: float = 80.0
    kind: WindowKind = WindowKind.LINEAR_EXACT

    def __post_init__(self) -> None:
        # PS3.3 C.11.2.1.2.1: LINEAR needs a width of at least 1 (it divides by w - 1), LINEAR_EXACT more than 0.
        least = 1.0 if self.kind is WindowKind.LINEAR else 0.0
        if not self.width_hu > least:
            raise ConfigError(f"window width is {self.width_hu}; {self.kind} needs more than {least}")


@dataclass(frozen=True)
class PreprocessSpec:
    """Stored pixels to model bytes (docs/architecture.md, preprocessing). Lengths in pixels of the stored matrix.

    The paper gives no window, threshold, disk, edge width, resize or pooling: these are this project's choices.

    Attributes:
        windows: one window gives one channel (default); else as many as the encoder has channels.
        mask_threshold: a byte of the first channel above it counts as object.
        disk_half_widths: the structuring element, half-width by row from top to bottom; the default is the
            49-pixel disk `dx^2 + dy^2 <= 16`, which is no library's ellipse (OpenCV's has 57).
        edge_columns: columns at each side of the eroded image that are zeroed.
        resize: length of the shorter side after the resize; None is the paper's literal crop.
        fit: `shorter` keeps the proportions, `squash` makes both sides `resize` long.
        filter: of the resize, `bilinear` or `bicubic`, antialiased as Pillow's.
        crop: side of the centre crop, the model's input.
        device_mask: what lies outside the head becomes 0; else the head is looked for all the same, but every pixel
            stays.
        brain_range_hu: what counts as brain tissue when asking whether brain is in view, inclusive.
        min_brain_share: a slice with a smaller share of brain-range pixels inside the head is skipped.
        mean, std: normalisation of the encoder's channels, one to three, after scaling bytes to [0, 1] (ImageNet's,
            paper 2.2.3); folded into the graph on export.
        thickness_mm: of the slices that the model learned from; those thinner than half of it are averaged to it.
        top_places: so many of the highest places make a series' probability, by their mean.
        algorithm: version of what these fields mean.
    """

    windows: tuple[Window, ...] = (Window(),)
    mask_threshold: int = 10
    disk_half_widths: tuple[int, ...] = (0, 2, 3, 3, 4, 3, 3, 2, 0)
    edge_columns: int = 8
    resize: int | None = 256
    crop: int = 224
    brain_range_hu: tuple[float, float] = (10.0, 60.0)
    min_brain_share: float = 0.1
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    fit: str = FITS[0]
    filter: str = FILTERS[0]
    device_mask: bool = True
    thickness_mm: float = 5.0
    top_places: int = 3
    algorithm: int = ALGORITHM

    def __post_init__(self) -> None:
        if self.algorithm != ALGORITHM:
            raise ConfigError(f"the spec is of version {self.algorithm}, this code prepares by version {ALGORITHM}")
        if not 1 <= len(self.mean) <= MOST_CHANNELS or len(self.std) != len(self.mean) or not all(self.std):
            raise ConfigError(
                f"mean {self.mean} and std {self.std} have to be of one to {MOST_CHANNELS} channels each, std not 0"
            )
        if len(self.windows) not in (1, len(self.mean)):
            raise ConfigError(
                f"a spec has one window or one a channel ({len(self.mean)} here), found {len(self.windows)}"
            )
        if not MIN_CROP <= self.crop <= MAX_CROP:
            raise ConfigError(f"the crop is {self.crop}, expected {MIN_CROP} to {MAX_CROP}")
        if self.resize is not None and not self.crop <= self.resize <= MAX_CROP:
            raise ConfigError(f"resize to {self.resize}, expected from the crop of {self.crop} to {MAX_CROP}")
        if self.fit not in FITS or self.filter not in FILTERS:
            raise ConfigError(f"fit is {self.fit!r} of {FITS}, filter is {self.filter!r} of {FILTERS}")
        if self.resize is None and self.fit != FITS[0]:
            raise ConfigError(f"fit is {self.fit!r}, but resize is off")
        if not 0 <= self.mask_threshold <= 254:
            raise ConfigError(f"mask threshold is {self.mask_threshold}, expected 0 to 254")
        if max(self.disk_half_widths, default=0) > len(self.disk_half_widths) // 2:
            raise ConfigError(f"the disk {self.disk_half_widths} is wider than high")  # paths would cut it differently
        if type(self.edge_columns) is not int or not 0 <= self.edge_columns <= MAX_MATRIX:
            raise ConfigError(f"edge columns are {self.edge_columns!r}, expected 0 to {MAX_MATRIX}")
        if not MIN_THICKNESS_MM <= self.thickness_mm <= MAX_THICKNESS_MM:
            raise ConfigError(f"thickness is {self.thickness_mm} mm, expected {MIN_THICKNESS_MM} to {MAX_THICKNESS_MM}")
        if type(self.top_places) is not int or not 1 <= self.top_places <= MOST_TOP_PLACES:
            raise ConfigError(f"top places are {self.top_places!r}, expected 1 to {MOST_TOP_PLACES}")

    @property
    def channels(self) -> int:
        """Number of channels of the model's input, one per window."""
        return len(self.windows)

    @property
    def encoder_channels(self) -> int:
        """Number of channels that the encoder takes; one window's channel is repeated to it inside the graph."""
        return len(self.mean)

    @property
    def least_side(self) -> int:
        """The shortest side, in pixels, that a stored matrix may have."""
        return MIN_MATRIX if self.resize is not None else max(MIN_MATRIX, self.crop)

    @property
    def digest(self) -> str:
        """The sha256 of the spec's canonical JSON, in hexadecimal."""
        return digest_json(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """The spec as plain JSON types."""
        return json.loads(json.dumps(asdict(self), default=str))

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> PreprocessSpec:
        """Read a spec back; an unknown or missing field is a ConfigError, since its meaning would be guessed.

        A spec of version 1, which had no field `algorithm`, means what version 2 means by its defaults; so does one
        that was written before thin slices were averaged.
        """
        expected = {field.name for field in fields(cls)}
        if isinstance(data, dict) and "algorithm" not in data:
            data = {"fit": FITS[0], "filter": FILTERS[0], "device_mask": True, "algorithm": ALGORITHM, **data}
        if isinstance(data, dict) and not _AGGREGATION & data.keys():
            data = {**{name: getattr(cls, name) for name in _AGGREGATION}, **data}
        if set(data) != expected:
            odd = ", ".join(sorted(set(data) ^ expected))
            raise ConfigError(f"preprocessing spec: unknown or missing fields: {odd}")
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
        try:
            values["windows"] = tuple(
                Window(w["center_hu"], w["width_hu"], WindowKind(w["kind"])) for w in data["windows"]
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"preprocessing spec: windows are not readable: {error}") from error
        try:
            return cls(**values)
        except TypeError as error:  # a text where a number is expected
            raise ConfigError(f"preprocessing spec: a field is of another type: {error}") from error


_AGGREGATION = {"thickness_mm", "top_places"}


@dataclass(frozen=True)
class PixelEncoding:
    """How stored patterns become Hounsfield units (PS3.3 C.7.6.3.1 and C.11.1).

    MONOCHROME1 is no part of it: it says how a screen shows the values, not what they are (PS3.3 C.7.6.3.1.2).

    Attributes:
        bits_stored, high_bit: which bits of the pattern hold the value; what lies above or below is junk.
        signed: two's complement in `bits_stored` bits.
        slope, intercept: HU = stored * slope + intercept.
        padding: lowest and highest stored value of the padding range (0028,0120/0121), inclusive; they become air.
        windowed: 8-bit images that are windowed already (PNG, JPEG); the byte passes as it is.
    """

    bits_stored: int = 16
    high_bit: int = 15
    signed: bool = True
    slope: float = 1.0
    intercept: float = 0.0
    padding: tuple[int, int] | None = None
    windowed: bool = False

    def __post_init__(self) -> None:
        if not (1 <= self.bits_stored <= self.high_bit + 1 <= 16):
            raise ConfigError(f"bits stored {self.bits_stored} with high bit {self.high_bit} do not fit 16 bits")

    def values(self, stored: NDArray[np.uint16]) -> NDArray[np.int16] | NDArray[np.uint16]:
        """The stored values of raw patterns of any shape, junk bits dropped and the sign extended.

        Returns:
            int16 where they are signed, else uint16; a view where all 16 bits hold the value.
        """
        raw = stored.view(np.int16) if self.signed else stored
        if self.bits_stored == 16:
            return raw
        values: NDArray[np.int16] | NDArray[np.uint16] = (raw << (15 - self.high_bit)) >> (16 - self.bits_stored)
        return values

    def is_padding(self, stored: NDArray[np.uint16]) -> NDArray[np.bool_]:
        """Which raw patterns, of any shape, are padding: by their value, or whole where that needs more bits.

        Padding may lie outside of what the stored bits hold (-2000 beside 12 bits): with its junk bits dropped it would
        be some value of the image.
        """
        if self.padding is None:
            return np.zeros(stored.shape, bool)
        low, high = sorted(self.padding)
        values = self.values(stored).astype(np.int64)
        whole = (stored.view(np.int16) if self.signed else stored).astype(np.int64)
        return ((values >= low) & (values <= high)) | ((whole >= low) & (whole <= high))


WINDOWED_8_BIT = PixelEncoding(bits_stored=8, high_bit=7, signed=False, windowed=True)


def digest_json(data: Any) -> str:
    """The sha256 of `data` as canonical JSON (sorted keys, no blanks), in hexadecimal."""
    return digest_bytes(json.dumps(data, sort_keys=True, separators=(",", ":")).encode())


def digest_bytes(data: bytes | memoryview) -> str:
    """The sha256 of `data`, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def digest_file(path: Path) -> str:
    """The sha256 of a file's bytes, read in blocks, in hexadecimal."""
    state = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            state.update(block)
    return state.hexdigest()
