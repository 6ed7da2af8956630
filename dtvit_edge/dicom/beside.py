"""What a file without UIDs has to do with the slices around it: judged by its name, and by where it lies.

A file that could not be read as DICOM says of no study that it belongs to it. Its name says whether it should have been
a slice, and its folder which studies may be incomplete without it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path, PurePosixPath

from dtvit_edge import reasons
from dtvit_edge.dicom.slice import Rejection
from dtvit_edge.reasons import Reason, Status

Links = Mapping[Path, tuple[Path, ...]]
# Files of slices with their study UIDs; where nothing is linked, one file of each study in each folder will do.
Lies = Iterable[tuple[Path, str]]

# A name that only a DICOM file should have, wherever it lies.
# What a transfer, a backup or an encryption puts behind the suffix changes nothing.
_DICOM_SUFFIX = re.compile(r".*\.(dcm|dicom|ima)([.~_-].*)?", re.DOTALL)
# Beside slices: no suffix (IM0001), a number as one (CT.1.2.840.113619), or one that other programs use as well.
_LIKE_A_SLICE = re.compile(r"[^.]+|.*\.(\d+|img)", re.IGNORECASE)
_OTHER_NAMES = frozenset(
    """authors changelog changes checksum checksums contents copying dicomdir dirfile dockerfile help icon index
    install leeme licence license lieben liesmich lisezmoi lockfile makefile manifest md5 md5sum md5sums notice notes
    readme sha1sums sha256sums todo version""".split()
)
_OTHER_SUFFIXES = tuple(
    """.avi .bat .bmp .bval .bvec .cfg .class .conf .config .css .csv .db .dll .doc .docx .dylib .epub .exe .gif
    .h5 .hdf5 .hdr .htm .html .ico .inf .ini .jar .jpeg .jpg .js .json .lnk .lock .log .mat .md .md5 .mha .mhd .mov .mp4
    .mpg .nii .npy .npz .nrrd .odp .ods .odt .pdf .pkl .plist .png .ppt .pptx .ps1 .pt .pth .py .pyc .rtf .sh .sha1
    .sha256 .so .sqlite .svg .tif .tiff .toml .tsv .txt .url .webp .xls .xlsx .xml .xsl .yaml .yml""".split()
)
# One of these, compressed alone, is no archive that slices could be in.
_OTHER_SUFFIXES += tuple(f"{suffix}.{packed}" for suffix in _OTHER_SUFFIXES for packed in ("gz", "bz2", "xz", "zst"))
# What systems and programs leave in any folder, and often let nobody list.
_CLUTTER_FOLDERS = frozenset(
    """__macosx @eadir @tmp #recycle #snapshot $recycle.bin recycler lost+found .appledouble .documentrevisions-v100
    .fseventsd .git .hg .snapshot .snapshots .spotlight-v100 .svn .temporaryitems .trash .trashes .zfs""".split()
) | {"system volume information"}
_TRASH = ".trash-"  # and the number of a user
# Of such a file the name can say that nothing was lost with it.
_HARMLESS = (reasons.NOT_DICOM, reasons.EMPTY_FILE, reasons.ZERO_FILE, reasons.ARCHIVE)


def judged_by_name(rejected: Iterable[Rejection], slices: Lies, links: Links | None = None) -> list[Rejection]:
    """The same rows, with the reason that a file's name and the slices beside it give.

    What is no DICOM becomes `broken_file` under a name that only a slice has, or may have among slices. What systems
    and programs leave everywhere becomes `not_dicom`, whatever was wrong with it.

    Args:
        links: of the walk.
    """
    if not (rejected := list(rejected)):
        return []
    folders = _Folders(slices, links or {})
    judged = []
    for item in rejected:
        if item.identity.sop_uid or item.file is None or (reason := _reason(item, folders)) == item.reason:
            judged.append(item)
        else:
            judged.append(replace(item, reason=reason))
    return judged


def touched_studies(
    rejected: Iterable[Rejection], slices: Lies, links: Links | None = None
) -> dict[str, frozenset[Reason]]:
    """By study UID, the errors and refusals without a study of their own that may have taken slices from it.

    A file or folder touches the study with a slice in the folder that it lies in, or below, if there is only one: where
    several share the folder, what is missing of one is a gap in it or leaves its head uncovered, and that alone makes
    it partial. An archive above the folders that hold slices touches none, since an export often lies beside what was
    unpacked from it.

    Args:
        rejected: judged by name.
        slices: all that were read, also those of series that are refused.
        links: of the walk; a linked file lies in both folders.
    """
    without_study = [
        item
        for item in rejected
        if item.reason.status in (Status.ERROR, Status.REFUSED) and not item.identity.study_uid and item.file
    ]
    if not without_study:
        return {}
    folders = _Folders(slices, links or {})
    by_folder: dict[Path, set[Reason]] = defaultdict(set)
    for item in without_study:
        assert item.file is not None
        for folder in folders.around(item.file):
            by_folder[folder].add(item.reason)
    touched: dict[str, set[Reason]] = defaultdict(set)
    for folder, found in by_folder.items():
        studies = folders.studies(folder)
        own = found if folders.have_slices(folder) else found - {reasons.ARCHIVE}
        if len(studies) == 1 and own:
            touched[next(iter(studies))] |= own
    return {study: frozenset(found) for study, found in touched.items()}


class _Folders:
    """Which folders hold slices, of which studies."""

    def __init__(self, slices: Lies, links: Links) -> None:
        self._links = links
        self._below: dict[Path, set[str]] = defaultdict(set)
        self._with_slices: set[Path] = set()
        seen: set[tuple[Path, str]] = set()
        for file, study in slices:
            for folder in self.around(file):
                if (folder, study) not in seen:
                    seen.add((folder, study))
                    self._with_slices.add(folder)
                    for ancestor in (folder, *folder.parents):
                        self._below[ancestor].add(study)

    def around(self, file: Path) -> Iterator[Path]:
        """The folder that a file lies in, and those that it is linked into."""
        yield file.parent
        if self._links:
            yield from (name.parent for name in self._other_names(file))

    def holds_slices(self, file: Path) -> bool:
        """Are there slices beside this file?"""
        return any(folder in self._with_slices for folder in self.around(file))

    def have_slices(self, folder: Path) -> bool:
        """Does this folder hold slices itself?"""
        return folder in self._with_slices

    def studies(self, folder: Path) -> set[str]:
        """The studies with a slice in a folder or below it."""
        return self._below.get(folder, set())

    def _other_names(self, file: Path) -> list[Path]:
        """Names by links, to links too; each link is taken once, else one to its own folder would not end."""
        names = [file]
        taken: set[Path] = set()
        for name in names:  # which grows
            for ancestor in (name, *name.parents):
                for link in self._links.get(ancestor, ()):
                    if link not in taken:
                        taken.add(link)
                        names.append(link / name.relative_to(ancestor))
        return names[1:]


def _reason(item: Rejection, folders: _Folders) -> Reason:
    assert item.file is not None
    parts = tuple(part.lower() for part in PurePosixPath(item.path).parts)
    name = parts[-1] if parts else ""
    if any(part in _CLUTTER_FOLDERS or part.startswith(_TRASH) for part in parts):
        return reasons.NOT_DICOM
    if item.reason not in _HARMLESS:
        # A lock of Emacs is a link to nowhere.
        return reasons.NOT_DICOM if name.startswith(".#") else item.reason
    is_hidden = any(part.startswith(".") for part in parts)
    like_dicom = _DICOM_SUFFIX.fullmatch(name) is not None
    if is_hidden or (_is_others(name) and not like_dicom):
        return reasons.NOT_DICOM
    if item.reason != reasons.NOT_DICOM:
        return item.reason
    if like_dicom:
        return reasons.BROKEN_FILE
    likely = _LIKE_A_SLICE.fullmatch(name) is not None and folders.holds_slices(item.file)
    return reasons.BROKEN_FILE if likely else reasons.NOT_DICOM


@lru_cache(maxsize=1024)
def _is_others(name: str) -> bool:
    """A name, in lower case, that files of other programs have; Finder's `Icon` ends with a carriage return."""
    return name.strip() in _OTHER_NAMES or name.endswith(_OTHER_SUFFIXES)
