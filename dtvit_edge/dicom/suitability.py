"""Which series a result may come from: axial, head, HU, no contrast agent, 100 to 140 kV, soft kernel before bone.

A tag that says otherwise is a refusal; a tag that is missing, unknown or contradicted is a warning. A series is what
most of its slices say. The words are those of `vocabulary`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache

from dtvit_edge import reasons
from dtvit_edge.dicom import vocabulary
from dtvit_edge.dicom.contrast import described_contrast, is_contrast
from dtvit_edge.dicom.geometry import has_geometry, is_axial
from dtvit_edge.dicom.slice import SliceHeader
from dtvit_edge.dicom.wording import Expression, pattern
from dtvit_edge.reasons import Reason

KVP_RANGE = (100.0, 140.0)
# A child's skull is scanned at 80 kV until about this age; no such head was among the data.
PAEDIATRIC_YEARS = 3.0

# Kernel names that only bone reconstructions carry. GE and Philips by name; Toshiba/Canon FC30-39 and FC80-89;
# Siemens by the sharpness in the name (H60s, Hr64, J70h): 60 and above.
_BONE_NAMES = frozenset({"BONE", "BONEPLUS", "BONE+", "EDGE", "D", "E", "YC", "YD"})
_CANON_BONE = re.compile(r"FC[38]\d")
_SIEMENS = re.compile(r"[BHJUQDST][A-Z]?(\d{2})")
_SIEMENS_BONE = 60

_HEAD, _WEAK_HEAD, _OTHER = (pattern(p) for p in (vocabulary.HEAD, vocabulary.WEAK_HEAD, vocabulary.OTHER))
_NOT_OF_A_HEAD = pattern(("FEMORAL HEAD*", "HUMERAL HEAD", "RADIAL HEAD", "PANCREATIC HEAD", "HEAD OF", "HEAD FIRST"))
_MAP = pattern(vocabulary.NOT_HU)
_VIRTUAL = pattern(vocabulary.VIRTUAL_NON_CONTRAST)
_MONOENERGETIC = pattern(vocabulary.MONOENERGETIC, r"(?<![A-Z])MONO[ _+-]*\d", r"\d ?KEV(?![A-Z])")
# Siemens writes the share of the low energy into the description: M_0.5, F_0.4; the images of one tube alone are
# A_80KV and B_SN140KV.
_MIXED = pattern(vocabulary.MIXED_ENERGY, r"(?<![A-Z])[MF][ _]?-?[01]\.\d")
_ONE_TUBE = Expression(r"(?<![A-Z])[AB][ _]?(?:SN)?\d{2,3} ?KV")


def series_refusal(headers: Sequence[SliceHeader]) -> Reason | None:
    """Why a series is set aside, or None: what at least half of its slices say."""
    kinds = _kinds_of(headers)
    return next((reason for reason, is_so in _RULES if _share(kinds, is_so) >= 0.5), None)


def series_warnings(headers: Sequence[SliceHeader]) -> tuple[str, ...]:
    """What could not be asked, since tags are missing or name both, and what only a minority of the slices says."""
    kinds = _kinds_of(headers)
    asked = {
        "anatomy_unknown": any(is_head(h) is None for h, _ in kinds),
        "contrast_unknown": any(_names_both(h) for h, _ in kinds),
        "kvp_unknown": any(h.kvp is None for h in headers),
        "kernel_unknown": any(h.kernel is None for h in headers),
        "geometry_unknown": not has_geometry(headers),
        "tags_contradict": any(_anatomy_contradicts(h) for h, _ in kinds),
        "mixed_tags": any(0 < _share(kinds, is_so) < 0.5 for _, is_so in _RULES),
    }
    return tuple(code for code, is_so in asked.items() if is_so)


def series_doubts(headers: Sequence[SliceHeader]) -> tuple[str, ...]:
    """Codes of `reasons.STUDY_REASONS` that empty a 0 of this series, although a positive counts."""
    return ("derived_hu",) if _share(_kinds_of(headers), _is_derived) >= 0.5 else ()


def is_head(header: SliceHeader) -> bool | None:
    """Whether the tags name the head; None where they name nothing.

    The series' own description decides; else one tag that names the head is enough, which `tags_contradict` tells.
    """
    own = named_head(header.series_description)
    if own is not None:
        return own
    answers = {named_head(text) for text in (header.protocol, header.study_description, header.body_part)}
    return True if True in answers else False if False in answers else None


@lru_cache(maxsize=4096)
def named_head(text: str) -> bool | None:
    """Whether a folded text names the head (HEAD AND NECK does) or only another part; None where it names none."""
    if _HEAD.search(_NOT_OF_A_HEAD.sub(" ", text)):
        return True
    if _OTHER.search(text):
        return False
    return True if _WEAK_HEAD.search(text) else None


def is_bone_kernel(kernel: str | None) -> bool:
    """Whether a ConvolutionKernel is a bone kernel, by the vendors' naming."""
    if not kernel:
        return False
    name = kernel.upper().split()[0]
    if name in _BONE_NAMES or _CANON_BONE.match(name):
        return True
    siemens = _SIEMENS.match(name)
    return siemens is not None and int(siemens.group(1)) >= _SIEMENS_BONE


def _kinds_of(headers: Sequence[SliceHeader]) -> list[tuple[SliceHeader, int]]:
    """One header of each kind that the rules can tell apart, and how many there are: nearly always one kind."""
    kinds: dict[object, tuple[SliceHeader, int]] = {}
    for h in headers:
        texts = (h.series_description, h.protocol, h.study_description, h.body_part, h.image_type)
        key = (texts, h.contrast, h.kvp, h.age_years, h.orientation)
        kinds[key] = (h, kinds[key][1] + 1 if key in kinds else 1)
    return list(kinds.values())


def _share(kinds: Sequence[tuple[SliceHeader, int]], is_so: Callable[[SliceHeader], bool]) -> float:
    return sum(count for header, count in kinds if is_so(header)) / sum(count for _, count in kinds)


def _is_map(header: SliceHeader) -> bool:
    return _kinds(header.image_type, header.series_description)[0]


def _has_contrast(header: SliceHeader) -> bool:
    """Contrast agent in the image; a virtual non-contrast one has it taken out, though its tags name it."""
    virtual = _kinds(header.image_type, header.series_description)[1]
    return not virtual and _contrast(header) is True


def _is_derived(header: SliceHeader) -> bool:
    _, virtual, monoenergetic, _ = _kinds(header.image_type, header.series_description)
    return virtual or monoenergetic


def _kv_is_out(header: SliceHeader) -> bool:
    """A tube voltage out of range; that of one tube says nothing of an image made from two."""
    if header.kvp is None or _is_derived(header) or _kinds(header.image_type, header.series_description)[3]:
        return False
    return not KVP_RANGE[0] <= header.kvp <= KVP_RANGE[1]


def _is_paediatric(header: SliceHeader) -> bool:
    young = header.age_years is not None and header.age_years < PAEDIATRIC_YEARS
    return young and header.kvp is not None and header.kvp < KVP_RANGE[0]


@lru_cache(maxsize=4096)
def _kinds(image_type: str, description: str) -> tuple[bool, bool, bool, bool]:
    """Whether an image is a map or projection, virtual non-contrast, monoenergetic, of both energies."""
    virtual = any(_VIRTUAL.search(text) for text in (image_type, description))
    monoenergetic = any(_MONOENERGETIC.search(text) for text in (image_type, description))
    both = any(_MIXED.search(text) for text in (image_type, description))
    return (
        _MAP.search(description) is not None,
        virtual,
        monoenergetic,
        both and not _ONE_TUBE.search(description),
    )


def _contrast(header: SliceHeader) -> bool | None:
    return is_contrast(header.contrast, header.series_description, header.protocol, header.study_description)


def _names_both(header: SliceHeader) -> bool:
    """Descriptions of scans with and without an agent, and nothing that says which this is."""
    texts = (header.series_description, header.protocol, header.study_description)
    return _contrast(header) is None and any(len(described_contrast(text)) == 2 for text in texts)


def _anatomy_contradicts(header: SliceHeader) -> bool:
    answer = is_head(header)
    texts = (header.series_description, header.protocol, header.study_description, header.body_part)
    return answer is True and any(named_head(text) is False for text in texts)


# In the order in which they are given: what the values are, then what they show, then how they were taken.
_RULES: tuple[tuple[Reason, Callable[[SliceHeader], bool]], ...] = (
    (reasons.NOT_HU, _is_map),
    (reasons.CONTRAST, _has_contrast),
    (reasons.NOT_HEAD, lambda h: is_head(h) is False),
    (reasons.NOT_AXIAL, lambda h: is_axial(h) is False),
    (reasons.PAEDIATRIC, _is_paediatric),
    (reasons.KVP, _kv_is_out),
)
