"""Results as small frozen dataclasses of plain types. Writers read nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dtvit_edge.reasons import Status
from dtvit_edge.spec import LOCATION_LABELS


@dataclass(frozen=True)
class Identity:
    """Which instance: the three UIDs (empty where they could not be read)."""

    study_uid: str = ""
    series_uid: str = ""
    sop_uid: str = ""


@dataclass(frozen=True)
class PixelMeasures:
    """What a slice's stored pixels say of themselves; pixels of the declared padding range are not counted.

    Attributes:
        air_share: share below -300 HU; high_share: share above 2500 HU; both 0 where there is padding alone.
        constant: all pixels are alike, padding included.
        digest: a checksum of size and stored values, junk bits dropped, so that copies in other transfer syntaxes are
            alike; in hexadecimal. It tells the same image again from another one.
        air_hu: the median of what lies below -300 HU and has noise, over every eighth pixel of every eighth row; None
            where hardly anything does.
        bone_share: share above 150 HU.
        edge_share: of lines just inside the image's sides the largest share from -200 to 2500 HU that has noise.
    """

    air_share: float
    high_share: float
    constant: bool
    digest: str = ""
    air_hu: float | None = None
    edge_share: float = 0.0
    bone_share: float = 0.0


@dataclass(frozen=True)
class SliceScore:
    """What became of one file, or of one frame of a multi-frame file.

    Attributes:
        path: relative to the folder that was given, with forward slashes.
        frame: counts from 1.
        reason: a code of `dtvit_edge.reasons`; empty where the slice was scored.
        ich_probability: softmax of the haemorrhage head, in [0, 1]; None unless scored.
        location_probabilities: (deep, lobar, subtentorial), given haemorrhage; None unless scored, and where the
            bundle's location head is untrained.
        ich: True where the probability is at or above the bundle's threshold; None unless scored.
        place: of the image that it went into (`dicom.slice.SliceImage`); None where it belongs to none.
        measures: None where the pixels were not read.
        head_pixels, brain_share: pixels of the head's mask in the image that it went into, and the share of them that
            has the values of brain; None where the pixels were not read.
    """

    study_uid: str
    series_uid: str
    sop_uid: str
    frame: int
    path: str
    status: Status
    reason: str = ""
    ich_probability: float | None = None
    location_probabilities: tuple[float, float, float] | None = None
    ich: bool | None = None
    place: int | None = None
    measures: PixelMeasures | None = None
    head_pixels: int | None = None
    brain_share: float | None = None

    @property
    def location(self) -> str:
        """The likeliest location; empty where the slice is not positive or no probabilities are known."""
        if not self.ich or self.location_probabilities is None:
            return ""
        return likeliest_location(self.location_probabilities)


@dataclass(frozen=True)
class StackScore:
    """The result of suitable series that together show a head once: the mean over the highest places.

    Attributes:
        series_uids: the largest part's first.
        slices: image slices, copies left out; scored: those with a score; places: where these lie, each once.
        ich_probability: mean of the highest places' probabilities; None where none was scored.
        location_probabilities: mean over the same slices; None where they have none.
        top: the slice with the highest probability.
        reasons: why a 0 of it alone is not earned, as codes of `reasons.STUDY_REASONS`.
    """

    study_uid: str
    series_uids: tuple[str, ...]
    slices: int
    scored: int
    places: int
    ich_probability: float | None
    location_probabilities: tuple[float, float, float] | None
    top: SliceScore | None
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class StudyScore:
    """A study's result, from its highest stack of suitable series.

    Attributes:
        status: scored, partial or not_scored.
        reason: codes of `dtvit_edge.reasons` joined by ';', empty where there is nothing to say.
        flagged: True or False; None (an empty cell) whenever the study is not `scored`, except that a partial
            study with a positive result is True. An absence of slices is never a False.
        location: the likeliest one; empty where the study is not positive or its series has no location probabilities.
        slices: rows of the study; scored: those with a score.
        span_mm: from the lowest to the highest slice of the suitable series, along z; covered_share: of it, what no gap
            takes. None where no slice says where it lies.
    """

    study_uid: str
    status: Status
    reason: str
    flagged: bool | None
    ich_probability: float | None
    location: str
    slices: int
    scored: int
    top_sop_uid: str
    span_mm: float | None = None
    covered_share: float | None = None


def likeliest_location(probabilities: tuple[float, float, float]) -> str:
    """The label of the highest of (deep, lobar, subtentorial); the first of equals."""
    return LOCATION_LABELS[max(range(len(LOCATION_LABELS)), key=lambda i: probabilities[i])]


def slice_row(identity: Identity, frame: int, path: str, status: Status, reason: str = "", **scores: Any) -> SliceScore:
    """A row of `slices.csv`; `scores` are further fields, by name."""
    return SliceScore(identity.study_uid, identity.series_uid, identity.sop_uid, frame, path, status, reason, **scores)
