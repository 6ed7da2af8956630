"""What this machine has: versions, preprocessing, backends, decoders."""

from __future__ import annotations

from dataclasses import dataclass

from pydicom.pixels import get_decoder
from pydicom.uid import UID

from dtvit_edge import backends
from dtvit_edge.dicom import uids
from dtvit_edge.environment import DEVICE_PACKAGES, RUNTIME_PACKAGES, machine, package_versions
from dtvit_edge.preprocess import native

SYNTAXES = (
    uids.ImplicitVRLittleEndian,
    uids.ExplicitVRLittleEndian,
    uids.DeflatedExplicitVRLittleEndian,
    uids.ExplicitVRBigEndian,
    *uids.RLETransferSyntaxes,
    *uids.JPEGTransferSyntaxes,
    *uids.JPEGLSTransferSyntaxes,
    # Nothing decodes the two of several components.
    *(uid for uid in uids.JPEG2000TransferSyntaxes if uid not in {uids.JPEG2000MCLossless, uids.JPEG2000MC}),
)
ABSENT = "absent"
# What the extras for any machine hold: the versions that a report about pages, a PACS or Ray needs.
EXTRAS = {
    "report": ("jinja2",),
    "view": ("jinja2", "starlette", "uvicorn"),
    "pacs": ("highdicom", "prometheus-client", "pynetdicom"),
    "ray": ("ray",),
    "signed": ("cryptography",),
    "watch": ("watchfiles",),
}


@dataclass(frozen=True)
class Facts:
    """Plain strings by name; `absent` where a package is not installed.

    Attributes:
        extras: the packages of each extra with their versions.
        preprocessing: what prepares slices on the CPU.
        backends: `available`, or why not.
        decoders: by transfer syntax, the plugins that decode it here; for `native` ones nothing is needed.
    """

    machine: dict[str, str]
    packages: dict[str, str]
    extras: dict[str, str]
    preprocessing: dict[str, str]
    backends: dict[str, str]
    decoders: dict[str, str]


def examine() -> Facts:
    """Look, import nothing heavy, touch no device."""
    names = RUNTIME_PACKAGES + DEVICE_PACKAGES
    optional = {name for held in EXTRAS.values() for name in held}
    found = package_versions((*names, *sorted(optional)))
    return Facts(
        machine=machine(),
        packages={name: found.get(name, ABSENT) for name in names},
        extras={
            extra: ", ".join(f"{name} {found.get(name, ABSENT)}" for name in held) for extra, held in EXTRAS.items()
        },
        preprocessing={"cpu": native.description()},
        backends={name: why_not or "available" for name, why_not in backends.availability().items()},
        decoders={f"{uid.name} ({uid})": _plugins(uid) for uid in map(UID, SYNTAXES)},
    )


def _plugins(uid: UID) -> str:
    if not uid.is_encapsulated:
        return "native"
    return ", ".join(get_decoder(uid).available_plugins) or ABSENT
