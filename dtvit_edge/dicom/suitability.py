"""Which series a result may come from: axial, head, no contrast agent, 100 to 140 kV, soft kernel before bone.

A tag that says otherwise is a refusal; a tag that is missing is a warning.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from dtvit_edge import reasons
from dtvit_edge.dicom.geometry import has_geometry, is_axial
from dtvit_edge.dicom.slice import SliceHeader
from dtvit_edge.reasons import Reason

KVP_RANGE = (100.0, 140.0)

HEAD_WORDS = frozenset("HEAD BRAIN SKULL CRANIUM CRANIAL CEREBRAL CEREBRUM NEURO NEUROCRANIUM HEADBRAIN".split())
OTHER_WORDS = frozenset(
    (
        "CHEST THORAX LUNG LUNGS ABDOMEN ABDOMINAL PELVIS PELVIC SPINE CSPINE TSPINE LSPINE CERVICAL LUMBAR "
        "THORACIC NECK HEART CARDIAC CORONARY AORTA LIVER KIDNEY KIDNEYS COLON PANCREAS BLADDER SHOULDER "
        "ELBOW WRIST HAND HIP KNEE ANKLE FOOT FEMUR TIBIA ARM LEG EXTREMITY "
    ).split()
)

# Kernel names that only bone reconstructions carry. GE and Philips by name; Toshiba/Canon FC30-39 and FC80-89;
# Siemens by the sharpness in the name (H60s, Hr64, J70h): 60 and above.
_BONE_NAMES = frozenset({"BONE", "BONEPLUS", "BONE+", "EDGE", "D", "E", "YC", "YD"})
_CANON_BONE = re.compile(r"FC[38]\d")
_SIEMENS = re.compile(r"[BHJUQDST][A-Z]?(\d{2})")
_SIEMENS_BONE = 60


def series_refusal(headers: Sequence[SliceHeader]) -> Reason | None:
    """Why a series is set aside, or None. Every slice is asked: one of them with contrast is enough."""
    if any(h.contrast for h in headers):
        return reasons.CONTRAST
    if any(is_head(h) is False for h in headers):
        return reasons.NOT_HEAD
    if any(is_axial(h) is False for h in headers):
        return reasons.NOT_AXIAL
    if any(h.kvp is not None and not KVP_RANGE[0] <= h.kvp <= KVP_RANGE[1] for h in headers):
        return reasons.KVP
    return None


def series_warnings(headers: Sequence[SliceHeader]) -> tuple[str, ...]:
    """What could not be asked, since tags are missing."""
    missing = {
        "anatomy_unknown": any(is_head(h) is None for h in headers),
        "kvp_unknown": any(h.kvp is None for h in headers),
        "kernel_unknown": any(h.kernel is None for h in headers),
        "geometry_unknown": not has_geometry(headers),
    }
    return tuple(code for code, is_missing in missing.items() if is_missing)


def series_doubts(headers: Sequence[SliceHeader]) -> tuple[str, ...]:
    """Why a 0 of a series alone is not earned."""
    return ()


def is_head(header: SliceHeader) -> bool | None:
    """Whether the tags name the head; the body part counts before descriptions. None where they name nothing."""
    for text in (header.body_part, header.descriptions):
        words = set(re.findall(r"[A-Z]+", text.upper()))
        if words & HEAD_WORDS:
            return True
        if words & OTHER_WORDS:
            return False
    return None


def is_bone_kernel(kernel: str | None) -> bool:
    """Whether a ConvolutionKernel is a bone kernel, by the vendors' naming."""
    if not kernel:
        return False
    name = kernel.upper().split()[0]
    if name in _BONE_NAMES or _CANON_BONE.match(name):
        return True
    siemens = _SIEMENS.match(name)
    return siemens is not None and int(siemens.group(1)) >= _SIEMENS_BONE
