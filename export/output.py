"""Where a bundle is written: what is wrong with the place is said before minutes are spent, and nobody's files go."""

from __future__ import annotations

import re
from pathlib import Path

from dtvit_edge.bundle import SUFFIX
from dtvit_edge.bundle.manifest import MANIFEST
from dtvit_edge.errors import ConfigError
from dtvit_edge.files import make_folder

# What bundles hold, and what file systems put into any folder. An overwritten bundle is removed as a whole.
_OURS = re.compile(
    r"manifest\.json|thresholds\.json|device-profile\.json|bundle\.sig|golden|engines|model\.[\w-]+\.onnx"
)
_OF_FILE_SYSTEMS = re.compile(r"\.DS_Store|Thumbs\.db|\.(nfs|fuse_hidden)\w+")
_SHOWN = 5


def check_place(output: Path) -> None:
    """A name that a bundle may have, in a folder that is there or can be made.

    Raises:
        ConfigError: another ending, a link, or a folder that cannot be made.
    """
    if output.suffix != SUFFIX:
        raise ConfigError(f"{output}: a bundle's name ends with {SUFFIX}")
    if output.is_symlink():
        raise ConfigError(f"{output} is a link to {output.resolve()}; name the bundle itself")
    make_folder(output.parent)


def check_output(output: Path, *, overwrite: bool) -> None:
    """Can a bundle be written here?

    Raises:
        ConfigError: as `check_place`, or something is there already; with `overwrite`, if that is no bundle, or holds
            what belongs to no bundle.
    """
    check_place(output)
    if not output.exists():
        return
    if not overwrite:
        raise ConfigError(f"{output} exists already; give another name or --overwrite")
    if not (output / MANIFEST).is_file():
        raise ConfigError(f"{output} is not a bundle; it is not overwritten")
    check_contents(output)


def check_contents(bundle: Path) -> None:
    """Does a bundle that is about to be replaced hold anything that would be lost?

    Raises:
        ConfigError: it holds what belongs to no bundle.
    """
    foreign = sorted(
        path.name
        for path in bundle.iterdir()
        if not (_OURS.fullmatch(path.name) or _OF_FILE_SYSTEMS.fullmatch(path.name))
    )
    if foreign:
        more = f" and {len(foreign) - _SHOWN} more" if len(foreign) > _SHOWN else ""
        raise ConfigError(
            f"{bundle} holds what no bundle has ({', '.join(foreign[:_SHOWN])}{more}), which overwriting would remove; "
            "move it elsewhere"
        )
