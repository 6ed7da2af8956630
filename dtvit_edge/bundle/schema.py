"""The schema of `manifest.json` and `thresholds.json`: every field, its type and what it means.

`docs/bundle-format.md` is written from the descriptions here, and what is read is validated against it (JSON Schema
draft 7), so that a field that nobody described cannot exist. What a schema cannot say (a digest that must match, labels
that this code knows) is checked by `manifest`.
"""

from __future__ import annotations

from dtvit_edge.bundle.json_schema import (
    Json,
    array,
    choice,
    count,
    fields,
    free,
    mapping,
    number,
    or_null,
    switch,
    text,
)
from dtvit_edge.bundle.spec_schema import SPEC_SCHEMA
from dtvit_edge.bundle.verdicts import VERDICTS
from dtvit_edge.spec import HEAD_LABELS, LOCATION_HEAD, MAX_MATRIX, MIN_MATRIX, OUTPUT_NAMES, TRAINING_STATES

FORMAT_VERSION = 2
THRESHOLDS_VERSION = 1
THRESHOLDS = "thresholds.json"

# A protobuf, which every ONNX file is, ends at 2 GiB. Golden arrays have 12 slices of at most 1024 x 1024 as `export`
# writes them; of others there may be more.
MOST_FILE_BYTES = (1 << 31) - 1
MOST_GOLDEN_SLICES = 64
# A tolerance in logits; a larger one would allow any answer.
MOST_TOLERANCE = 1000.0

_SHA256 = {"pattern": "^[0-9a-f]{64}$"}
_FILE = fields(
    "One file of the bundle.",
    {
        "file": text("The path inside the bundle."),
        "sha256": text("The digest of its bytes.", **_SHA256),
        "bytes": count("Its size.", maximum=MOST_FILE_BYTES),
        "facts": free("Of a model: opset, inputs, operators, Q/DQ and rewrites of its graph (`compat` reads them)."),
    },
)
_ENCODING = fields(
    "How stored patterns become Hounsfield units.",
    {
        "bits_stored": count("BitsStored (0028,0101).", maximum=16),
        "high_bit": count("HighBit (0028,0102).", maximum=15),
        "signed": switch("PixelRepresentation (0028,0103) is 1."),
        "slope": number("RescaleSlope (0028,1053).", minimum=-1e6, maximum=1e6),
        "intercept": number("RescaleIntercept (0028,1052).", minimum=-1e6, maximum=1e6),
        "padding": {
            "type": ["array", "null"],
            "description": "The lowest and the highest stored value that is padding, or null.",
            "items": {"type": "integer", "minimum": -65536, "maximum": 65536},
            "minItems": 2,
            "maxItems": 2,
        },
        "windowed": switch("Bytes that are windowed already."),
    },
)
_GOLDEN_SLICE = fields(
    "One golden slice; its stored pixels follow those of the slice before in `golden/stored.npy`.",
    {
        "rows": count("Rows of the stored matrix.", minimum=MIN_MATRIX, maximum=MAX_MATRIX),
        "columns": count("Columns of the stored matrix.", minimum=MIN_MATRIX, maximum=MAX_MATRIX),
        "encoding": _ENCODING,
    },
)

_PARITY: Json = {
    "type": "object",
    "description": "`tolerance`, `max_abs_difference` by batch size, number of `slices`; or `refused`, in words.",
    "properties": {
        "tolerance": number("In logits.", minimum=0, maximum=MOST_TOLERANCE),
        "max_abs_difference": mapping("By batch size.", number("In logits.", minimum=0), minProperties=1),
        "slices": count("Of the golden slices."),
        "refused": {"type": "string", "description": "Why export left the file out."},
    },
    "anyOf": [{"required": ["refused"]}, {"required": ["tolerance", "max_abs_difference", "slices"]}],
}
_PROOF: Json = {
    "type": "object",
    "description": "The proof against the user's own outputs, where they were given to export.",
    "properties": {
        "says": text("What was proved, in words."),
        "images": count("How many images."),
        "max_abs_difference": number("The largest difference that was left.", minimum=0),
        "tolerance": number("The difference that was allowed.", minimum=0),
        "preprocessing_proved": switch("The images went through preprocessing."),
    },
    "required": ["says", "images", "max_abs_difference", "tolerance"],
}
_IMPORTED: Json = {
    "type": "object",
    "description": "How the checkpoint was read: what it said, what was given and what was assumed.",
    "properties": {name: or_null(free(f"What was {name}, by name.")) for name in ("read", "given", "assumed")},
}

_VERDICT: Json = {
    "type": "object",
    "description": "What the gate said, with its figures at home, under shifts of the scanner and elsewhere.",
    "properties": {
        "precision": text("The precision, or the configuration."),
        "verdict": choice("`passed`, `failed`, `inconclusive`, or `not gated` where a limit was off.", *VERDICTS),
        "ran_on": text("The library that computed it, its version and its hint; absent in older bundles."),
    },
    "required": ["precision", "verdict"],
}
_CALIBRATION: Json = {
    "type": "object",
    "description": "What `calibrate` did and what the gate said; null before. More fields are that command's own.",
    "properties": {
        "verdicts": array("The gate's verdicts on the files.", _VERDICT),
        "configurations": mapping(
            "The gate's verdicts on files with a backend's hint, by name: `int8+bf16` is int8 with the rest in bf16. "
            "Absent in older bundles.",
            _VERDICT,
        ),
        "config": {
            "type": "object",
            "description": "The options; with what the gate was asked for.",
            "properties": {"limits": mapping("What the gate was asked for, by limit.", number("The limit."))},
        },
    },
}

_LEVELS = mapping("By level, in per cent: 5, 25, 50, 75 and 95.", number("The value there.", minimum=0, maximum=1))
_DISTRIBUTION: Json = {
    "type": "object",
    "description": "Of one set of slices.",
    "properties": {
        "slices": count("How many slices."),
        "ich_probability": _LEVELS | {"description": "The reference's probabilities, by level in per cent."},
        "brain_share": _LEVELS | {"description": "Shares of the head with the values of brain, by level in per cent."},
    },
    "required": ["slices", "ich_probability"],
}
_PROFILE: Json = {
    "type": "object",
    "description": "How scores and brain shares are distributed; `view` shows what drifts from it.",
    "properties": {
        "golden": _DISTRIBUTION | {"description": "On the golden slices."},
        "calibration": _DISTRIBUTION | {"description": "On the calibration slices; absent before `calibrate`."},
    },
}

MANIFEST_SCHEMA: Json = fields(
    "What `manifest.json` holds. It is frozen once calibration is done.",
    {
        "format": {"enum": [FORMAT_VERSION], "type": "integer", "description": "The version of this format."},
        "checksum": text("The sha256 of all other fields as canonical JSON: it finds damage.", **_SHA256),
        "name": text("The bundle's name."),
        "encoder": text("The image encoder, by the name that its library has for it."),
        "heads": mapping(
            "The layers of each head as they were read, in order, by the head's name; empty where nobody said.",
            array("Layers.", text("A layer.")),
        ),
        "training": choice("How the weights were trained.", *TRAINING_STATES),
        "untrained_heads": array("Heads that were never trained; what they say is left empty.", text("A head.")),
        "labels": mapping(
            "The labels of each head, in the order of its outputs.",
            array("Labels.", text("A label.")),
        ),
        "spec": SPEC_SCHEMA,
        "spec_digest": text("The sha256 of the spec.", **_SHA256),
        "weights_sha256": text("The digest of the checkpoint file that was exported.", **_SHA256),
        "imported": or_null(_IMPORTED),
        "models": mapping("The ONNX files, by precision.", _FILE, minProperties=1),
        "golden": fields(
            "Phantom slices with the answers that every device must give; never a patient's pixels.",
            {
                "files": mapping("The arrays, by path.", _FILE),
                "slices": array("The slices, in order.", _GOLDEN_SLICE, minItems=1, maxItems=MOST_GOLDEN_SLICES),
            },
        ),
        "reference": fields(
            "The golden logits' origin: the PyTorch model in float64.",
            {
                "rounding": number("The largest |logit difference| of its own float32 to float64.", minimum=0),
                "spread": fields(
                    "The largest standard deviation of a logit between golden slices, by output.",
                    {name: number(f"Of {name}.", minimum=0) for name in OUTPUT_NAMES},
                ),
            },
        ),
        "parity": mapping(
            "What export measured of each file against the reference; of a file that was left out, `refused`.",
            _PARITY,
        ),
        "tolerances": mapping(
            "The largest |logit difference| to the golden logits that a backend may show, by precision.",
            number("In logits.", minimum=0, maximum=MOST_TOLERANCE),
        ),
        "proof": or_null(_PROOF),
        "calibration": or_null(_CALIBRATION),
        "profile": or_null(_PROFILE),
        "versions": mapping("Versions of Python and of the packages that made the bundle.", text("A version.")),
    },
)

_LEVEL = fields(
    "The threshold at one level.",
    {
        "value": number("The probability at or above which it is positive.", exclusiveMinimum=0, exclusiveMaximum=1),
        "source": text("Where the value comes from; `not tuned` for the default of 0.5."),
    },
)
THRESHOLDS_SCHEMA: Json = fields(
    "What `thresholds.json` holds. It lies beside the manifest and changes neither its digest nor an engine.",
    {
        "format": {
            "enum": [THRESHOLDS_VERSION],
            "type": "integer",
            "description": "The version of this file's format.",
        },
        "manifest": text("The digest of the manifest that it was made for.", **_SHA256),
        "slice": _LEVEL | {"description": "The threshold for one slice's haemorrhage probability."},
        "study": _LEVEL | {"description": "The threshold for a study's haemorrhage probability."},
        "temperature": or_null(number("A temperature fitted to the logits; recorded, not applied.")),
        "evidence": or_null(free("What the values were tuned on: studies, sensitivity, intervals, reliability.")),
    },
)


def expected_labels() -> dict[str, list[str]]:
    """The labels that this code knows, as JSON has them."""
    return {head: list(labels) for head, labels in HEAD_LABELS.items()}


# Only the location head may be left untrained: a bundle that detects nothing is none.
UNTRAINED = ((), (LOCATION_HEAD,))
