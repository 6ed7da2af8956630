from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from dtvit_edge.bundle import (
    Bundle,
    write_bundle,
)
from dtvit_edge.errors import BundleError
from dtvit_edge.preprocess.cpu import CpuPreprocessor
from tests.support.tiny_bundle import write_tiny_bundle


def test_golden_slices_are_prepared_from_their_stored_pixels(tiny_bundle: Bundle) -> None:
    golden, prepare = tiny_bundle.golden(), CpuPreprocessor(tiny_bundle.manifest.spec)
    assert len(set(golden.encodings)) > 1
    for stored, encoding, pixels in zip(golden.stored, golden.encodings, golden.pixels, strict=True):
        np.testing.assert_array_equal(prepare(stored, encoding).pixels, pixels)


@pytest.mark.parametrize("change", ["short", "type", "shape", "rubbish", "nan"])
def test_golden_arrays_that_are_not_what_the_manifest_says_are_refused(tmp_path: Path, change: str) -> None:
    made = write_tiny_bundle(tmp_path / "a.dtvit")
    files = {
        record.file: made.file_bytes(record)
        for record in (*made.manifest.models.values(), *made.manifest.golden.values())
    }
    logits = made.golden().logits["ich_logits"]
    wrong: dict[str, bytes] = {
        "short": files["golden/ich_logits.npy"][:-8], "type": npy(logits.astype(np.float32)), "shape": npy(logits[:-1]),
        "rubbish": b"\x93NUMPY nothing", "nan": npy(np.where(logits == logits, np.nan, 0)),
    }  # fmt: skip
    bundle = write_bundle(tmp_path / "b.dtvit", made.manifest, files | {"golden/ich_logits.npy": wrong[change]})
    with pytest.raises(BundleError, match=r"golden/ich_logits\.npy: "):
        bundle.golden()


def npy(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()
