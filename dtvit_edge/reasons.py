"""The one table of reason codes: what a row's `reason` says, the status it brings and the sentence for the log."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Status(str, Enum):
    """What became of a slice. `partial` and `not_scored` are a study's alone."""

    SCORED = "scored"
    SKIPPED = "skipped"
    REFUSED = "refused"
    ERROR = "error"
    PARTIAL = "partial"
    NOT_SCORED = "not_scored"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Reason:
    """A reason code.

    Attributes:
        code: what stands in the CSV, lower case with underscores.
        status: the slice status that it brings.
        sentence: the same in words, for logs and reports.
        whole_series: True where the reason sets a whole series aside by design (an angiogram beside the plain
            scan), so that the rest of the study is still complete; False where an image of the studied series
            itself is missing from the result, which makes the study `partial`.
    """

    code: str
    status: Status
    sentence: str
    whole_series: bool = False

    def __str__(self) -> str:
        return self.code


def _skipped(code: str, sentence: str) -> Reason:
    return Reason(code, Status.SKIPPED, sentence)


def _refused(code: str, sentence: str, *, whole_series: bool = False) -> Reason:
    return Reason(code, Status.REFUSED, sentence, whole_series)


def _error(code: str, sentence: str) -> Reason:
    return Reason(code, Status.ERROR, sentence)


NOT_DICOM = _skipped("not_dicom", "The file is not DICOM.")
DICOMDIR = _skipped("dicomdir", "A DICOMDIR lists other files; the folder itself was walked instead.")
NOT_AN_IMAGE = _skipped("not_an_image", "The DICOM object holds no image (report, dose, presentation state).")
OWN_OBJECT = _skipped("own_object", "A result that this program wrote, come back from a PACS.")
SCOUT = _skipped("scout", "A scout (localizer) image.")
SECONDARY_CAPTURE = _skipped("secondary_capture", "A secondary capture: a screen or a summary, not a slice.")
NO_HEAD = _skipped("no_head", "Nothing is left after removing the fixation device: no head in view.")
NO_BRAIN = _skipped("no_brain", "Too small a share of the head is in the range of brain tissue.")
BLANK = _skipped("blank", "A constant image at the end of a series, above or below the head.")
DUPLICATE = _skipped("duplicate", "The same SOP instance was already read from another file.")

NOT_CT = _refused("not_ct", "The modality is not CT.", whole_series=True)
CONTRAST = _refused("contrast", "A contrast agent was given.", whole_series=True)
NOT_HEAD = _refused("not_head", "The tags name another part of the body.", whole_series=True)
KVP = _refused("kvp", "The tube voltage lies outside 100 to 140 kV.", whole_series=True)
BONE_KERNEL = _refused("bone_kernel", "A bone kernel, and a softer one of the same study exists.", whole_series=True)
NOT_AXIAL = _refused("not_axial", "The slice plane is not axial.", whole_series=True)
NOT_HU = _refused("not_hu", "The values are not Hounsfield units (a derived map).", whole_series=True)
COLOR = _refused("color", "A colour image (RGB, YBR or palette).", whole_series=True)
IMPLAUSIBLE_HU = _refused("implausible_hu", "The values cannot be Hounsfield units of a head.", whole_series=True)
DYNAMIC = _refused(
    "dynamic", "Four or more images at most places: a perfusion or other dynamic series.", whole_series=True
)
PAEDIATRIC = _refused("paediatric", "Below three years of age, and under 100 kV.", whole_series=True)
ARCHIVE = _refused("archive", "An archive: its files are not looked at. Unpack it.")
LINKED_OUTSIDE = _refused("linked_outside", "A link that leads out of the folders given.")
MATRIX_SIZE = _refused(
    "matrix_size",
    "The matrix lies outside 32 to 1024 pixels a side, or is another one than that of the slices to average it with.",
)
TOO_LARGE = _refused("too_large", "Decoding would take more memory than the budget allows.")
PIXEL_FORMAT = _refused(
    "pixel_format",
    "The pixel format is not 8- or 16-bit integers of one sample, or HighBit and BitsStored contradict the pixels.",
)
CODEC_MISSING = _refused("codec_missing", "No installed decoder reads this transfer syntax.")

EMPTY_FILE = _error("empty_file", "The file is empty.")
UNREADABLE = _error("unreadable", "The file cannot be opened or read.")
BAD_HEADER = _error("bad_header", "The header cannot be parsed, or an attribute that is needed is missing.")
CONSTANT = _error("constant", "All pixels are alike, though a head should be in view.")
REPEATED = _error("repeated", "The same pixels lie at several places of one scan.")
LOST_PIXELS = _error("lost_pixels", "Zeros stand where pixel data were lost, as in an interrupted copy.")
ZERO_FILE = _error("zero_file", "The file holds zeros alone.")
NOT_THE_PLANNED = _error("not_the_planned", "The file is no longer the one whose header was read.")
BROKEN_FILE = _error("broken_file", "No DICOM, though its name and the files beside it say that it should be.")
MODEL_FAULT = _error("model_fault", "The model's answer is not a finite number.")
TRUNCATED = _error("truncated", "The file ends before its pixel data do.")
DECODE_FAILED = _error("decode_failed", "The pixel data cannot be decoded.")
DECODER_LOST = _error(
    "decoder_lost", "The process that reads this file was killed, stood still or could not begin; a rerun tries again."
)

# What may pass: such a row does not stand in the journal, and the same command tries the slice again.
PASSING = frozenset({UNREADABLE.code, NOT_THE_PLANNED.code, MODEL_FAULT.code, DECODER_LOST.code})

# A study's own reasons (the `reason` column of studies.csv).
STUDY_REASONS: dict[str, str] = {
    "no_suitable_series": "No series of the study is suitable.",
    "nothing_scored": "No slice of a suitable series could be scored.",
    "gap": "A slice is missing: neighbours lie further apart than the scan's spacing explains, or its numbers say so.",
    "slice_refused": "A single image of the study was refused, not a whole series.",
    "slice_error": "An image slice of the study could not be read.",
    "unread": "A file or folder beside the study's slices could not be read.",
    "two_patients": "Images of more than one patient carry the study's UID.",
    "coverage": "The slices do not span a whole head up to the vertex.",
    "not_contiguous": "No head or no brain between slices that show one.",
    "small_fov": "Under 180 mm in view and hardly any air, or a head that the border cuts: a part of a head.",
    "geometry_unknown": "No image says where it lies, so that a missing one would not be seen.",
    "bone_kernel_only": "All there is was reconstructed with a bone kernel.",
    "derived_hu": "All there is was derived: monoenergetic or virtual non-contrast images.",
    "few_slices": "Fewer than three places were scored; the mean is over those there are.",
}

REASONS: dict[str, Reason] = {r.code: r for r in list(globals().values()) if isinstance(r, Reason)}
