"""The schema of `manifest.json` and `thresholds.json`: every field, its type and what it means.

`docs/bundle-format.md` is written from the descriptions here, and what is read is validated against it (JSON Schema
draft 7), so that a field that nobody described cannot exist. What a schema cannot say (a digest that must match, labels
that this code knows) is checked by `manifest`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from dtvit_edge.errors import BundleError
from dtvit_edge.spec import HEAD_LABELS, LOCATION_HEAD, OUTPUT_NAMES, TRAINING_STATES

FORMAT_VERSION = 2
THRESHOLDS_VERSION = 1

Json = dict[str, Any]


def strict_json(text: str) -> Any:
    """What a JSON text says, without Python's NaN and Infinity.

    Raises:
        ValueError, RecursionError: the text is not JSON, or nested too deeply.
    """

    def refuse(constant: str) -> Any:
        raise ValueError(f"{constant} is no number of JSON")

    return json.loads(text, parse_constant=refuse)


def _object(description: str, properties: Json, *, optional: tuple[str, ...] = ()) -> Json:
    return {
        "type": "object",
        "description": description,
        "properties": properties,
        "required": [name for name in properties if name not in optional],
        "additionalProperties": False,
    }


def _map(description: str, values: Json) -> Json:
    return {"type": "object", "description": description, "additionalProperties": values}


def _text(description: str, **more: Any) -> Json:
    return {"type": "string", "description": description, **more}


def _number(description: str, **more: Any) -> Json:
    return {"type": "number", "description": description, **more}


def _count(description: str, **more: Any) -> Json:
    return {"type": "integer", "description": description, "minimum": 0, **more}


def _free(description: str) -> Json:
    """What another module writes and reads, described there."""
    return {"type": "object", "description": description}


def _or_null(schema: Json) -> Json:
    return schema | {"type": [schema["type"], "null"]}


_SHA256 = {"pattern": "^[0-9a-f]{64}$"}
_FILE = _object(
    "One file of the bundle.",
    {
        "file": _text("The path inside the bundle."),
        "sha256": _text("The digest of its bytes.", **_SHA256),
        "bytes": _count("Its size."),
        "facts": _free("Of a model: opset, inputs, operators, Q/DQ and rewrites of its graph (`compat` reads them)."),
    },
)
_ENCODING = _object(
    "How stored patterns become Hounsfield units.",
    {
        "bits_stored": _count("BitsStored (0028,0101).", maximum=16),
        "high_bit": _count("HighBit (0028,0102).", maximum=15),
        "signed": {"type": "boolean", "description": "PixelRepresentation (0028,0103) is 1."},
        "slope": _number("RescaleSlope (0028,1053)."),
        "intercept": _number("RescaleIntercept (0028,1052)."),
        "padding": {
            "type": ["array", "null"],
            "description": "The lowest and the highest stored value that is padding, or null.",
            "items": {"type": "integer"},
            "minItems": 2,
            "maxItems": 2,
        },
        "windowed": {"type": "boolean", "description": "Bytes that are windowed already."},
    },
)
_GOLDEN_SLICE = _object(
    "One golden slice; its stored pixels follow those of the slice before in `golden/stored.npy`.",
    {
        "rows": _count("Rows of the stored matrix.", minimum=1),
        "columns": _count("Columns of the stored matrix.", minimum=1),
        "encoding": _ENCODING,
    },
)

MANIFEST_SCHEMA: Json = _object(
    "What `manifest.json` holds. It is frozen once calibration is done.",
    {
        "format": {"const": FORMAT_VERSION, "type": "integer", "description": "The version of this format."},
        "checksum": _text("The sha256 of all other fields as canonical JSON: it finds damage.", **_SHA256),
        "name": _text("The bundle's name."),
        "encoder": _text("The image encoder, by the name that its library has for it."),
        "heads": _map(
            "The layers of each head as they were read, in order, by the head's name; empty where nobody said.",
            {"type": "array", "items": {"type": "string"}},
        ),
        "training": _text("How the weights were trained.", enum=list(TRAINING_STATES)),
        "untrained_heads": {
            "type": "array",
            "description": "Heads that were never trained; what they say is left empty.",
            "items": {"type": "string"},
        },
        "labels": _map(
            "The labels of each head, in the order of its outputs.",
            {"type": "array", "items": {"type": "string"}},
        ),
        "spec": _free("The preprocessing: every field of `dtvit_edge.spec.PreprocessSpec`."),
        "spec_digest": _text("The sha256 of the spec.", **_SHA256),
        "weights_sha256": _text("The digest of the checkpoint file that was exported.", **_SHA256),
        "imported": _or_null(_free("How the checkpoint was read: what it said, what was given and what was assumed.")),
        "models": _map("The ONNX files, by precision.", _FILE),
        "golden": _object(
            "Phantom slices with the answers that every device must give; never a patient's pixels.",
            {
                "files": _map("The arrays, by path.", _FILE),
                "slices": {"type": "array", "description": "The slices, in order.", "items": _GOLDEN_SLICE},
            },
        ),
        "reference": _object(
            "The golden logits' origin: the PyTorch model in float64.",
            {
                "rounding": _number("The largest |logit difference| of its own float32 to float64.", minimum=0),
                "spread": _object(
                    "The largest standard deviation of a logit between golden slices, by output.",
                    {name: _number(f"Of {name}.", minimum=0) for name in OUTPUT_NAMES},
                ),
            },
        ),
        "parity": _map(
            "What export measured of each file against the reference; of a file that was left out, `refused`.",
            _free(
                "`tolerance`, `max_abs_difference` by batch size, and the number of `slices`; or `refused`, in words."
            ),
        ),
        "tolerances": _map(
            "The largest |logit difference| to the golden logits that a backend may show, by precision.",
            _number("In logits.", minimum=0),
        ),
        "proof": _or_null(_free("The proof against the user's own outputs, where they were given to export.")),
        "calibration": _or_null(_free("What `calibrate` did and what the gate said; null before.")),
        "profile": _or_null(
            _free("How scores and brain shares are distributed on the golden and the calibration slices.")
        ),
        "versions": _map("Versions of Python and of the packages that made the bundle.", _text("A version.")),
    },
)

_LEVEL = _object(
    "The threshold at one level.",
    {
        "value": _number("The probability at or above which it is positive.", exclusiveMinimum=0, exclusiveMaximum=1),
        "source": _text("Where the value comes from; `not tuned` for the default of 0.5."),
    },
)
THRESHOLDS_SCHEMA: Json = _object(
    "What `thresholds.json` holds. It lies beside the manifest and changes neither its digest nor an engine.",
    {
        "format": {"const": THRESHOLDS_VERSION, "type": "integer", "description": "The version of this file's format."},
        "manifest": _text("The digest of the manifest that it was made for.", **_SHA256),
        "slice": _LEVEL | {"description": "The threshold for one slice's haemorrhage probability."},
        "study": _LEVEL | {"description": "The threshold for a study's haemorrhage probability."},
        "temperature": _or_null(_number("A temperature fitted to the logits; recorded, not applied.")),
        "evidence": _or_null(_free("What the values were tuned on: studies, sensitivity, intervals, reliability.")),
    },
)


def check(data: Any, schema: Json, what: str) -> None:
    """Validate what was read.

    Raises:
        BundleError: with the field and what is wrong with it.
    """
    from fastjsonschema import JsonSchemaValueException

    try:
        _validator(id(schema))(data)
    except JsonSchemaValueException as error:
        raise BundleError(f"not {what}: {error.message.replace('data.', '', 1)}") from error


def described(schema: Json, prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """Every field below a schema: its path, its type and its description, in order; for the documentation."""
    for name, field in schema.get("properties", {}).items():
        path = f"{prefix}{name}"
        kind = field["type"] if isinstance(field["type"], str) else " or ".join(field["type"])
        yield path, kind, field["description"]
        inner = field.get("additionalProperties") or field.get("items") or {}
        if isinstance(inner, dict) and inner.get("properties"):
            yield from described(inner, f"{path}[].")
        yield from described(field, f"{path}.")


@cache
def _validator(of: int) -> Callable[[Any], Any]:
    import fastjsonschema

    schema = next(schema for schema in (MANIFEST_SCHEMA, THRESHOLDS_SCHEMA) if id(schema) == of)
    validate: Callable[[Any], Any] = fastjsonschema.compile(schema)
    return validate


def expected_labels() -> dict[str, list[str]]:
    """The labels that this code knows, as JSON has them."""
    return {head: list(labels) for head, labels in HEAD_LABELS.items()}


# Only the location head may be left untrained: a bundle that detects nothing is none.
UNTRAINED = ((), (LOCATION_HEAD,))
