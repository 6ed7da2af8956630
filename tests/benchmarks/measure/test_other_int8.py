"""Other tools' int8: ranges from the bundle's slices, errors by the bundle's reference, and whoever cannot is named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.measure import other_int8
from benchmarks.measure.accuracy import make_reference
from benchmarks.measure.yardstick import Yardstick
from benchmarks.peers import Peer
from benchmarks.report.other_int8 import other_int8 as table_of
from benchmarks.report.run_view import RunView
from benchmarks.results import names
from benchmarks.settings import Settings
from dtvit_edge.bundle import Bundle
from evaluation.records import Record
from evaluation.sampling import candidates, load_set
from tests.support.bench_runs import TINY, with_int8

STATIC, BROKEN, ABSENT = "ONNX Runtime static", "breaks", "is not here"
TOOLS = (
    Peer(STATIC, "workstation", ("onnxruntime",), "benchmarks.peers.quantisers", "onnx_runtime"),
    Peer(BROKEN, "none", (), __name__, "breaks"),
    Peer(ABSENT, "none", ("no_such_module",), __name__, "breaks"),
)


def breaks(fp32: bytes, pixels: object) -> bytes:
    raise ValueError("no such node\nand more")


@pytest.fixture
def calibrated(tmp_path: Path, phantom_folder: Path) -> Bundle:
    """A bundle whose int8 has its ranges from five slices of the phantoms."""
    bundle = with_int8(tmp_path / "calibrated.dtvit", tolerance=100.0, middle=45.0)
    spec = bundle.manifest.spec
    chosen = load_set(candidates([phantom_folder / "truth.csv"]), 5, spec, seed=0, name="calibration")
    manifest = replace(bundle.manifest, calibration={"slices": {"calibration": list(chosen.labels.digests)}})
    return replace(bundle, manifest=manifest)


def test_the_ranges_come_from_the_very_slices_that_gave_the_bundles_own(
    calibrated: Bundle, phantom_folder: Path
) -> None:
    assert len(other_int8.calibration_pixels(calibrated, [str(phantom_folder / "truth.csv")])) == 5


def test_a_tool_stands_beside_the_bundle_and_one_that_cannot_is_named(
    calibrated: Bundle, phantom_folder: Path, ran: tuple[Path, dict[str, Record]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(other_int8, "QUANTISERS", TOOLS)
    monkeypatch.setattr(other_int8, "BACKENDS", ("onnxruntime",))
    truth = str(phantom_folder / "truth.csv")
    settings = Settings(effort=TINY, peers=tuple(tool.name for tool in TOOLS), threads=1, calibration_slices=(truth,))
    made = other_int8.quantise(calibrated, settings)
    assert set(made.files) == {other_int8.OURS, STATIC} and made.ranges == 5
    assert made.left_out[BROKEN] == "ValueError: no such node" and "no_such_module" in made.left_out[ABSENT]

    slices = load_set(candidates([Path(truth)]), 6, calibrated.manifest.spec, seed=0, name="test")
    reference = make_reference(calibrated, slices, settings, None, None)
    samples, summary, refused = other_int8.measure(calibrated, made, reference, slices, settings, Yardstick())
    assert summary["dtvit-edge: home, rms"] == 0.0 < summary[f"{STATIC}: home, rms"]  # its int8 is its fp32 here
    assert summary[f"{STATIC}: shifts, slices"] > summary[f"{STATIC}: home, slices"] == 6
    assert set(samples) == {"dtvit-edge on onnxruntime", f"{STATIC} on onnxruntime"} and not refused

    options = {"ops": made.ops(), "ranges": 5, "refused": {}, "inside": "a call"}
    before = ran[1][names.LATENCY]
    record = replace(
        before, what=names.OTHER_INT8, samples=samples, summary=summary, options={**before.options, **options}
    )
    table = table_of(RunView({names.ACCURACY: ran[1][names.ACCURACY], names.OTHER_INT8: record}))
    assert table is not None and [row[0] for row in table.rows] == [other_int8.OURS, STATIC]
    assert table.rows[0][2] == "0 flips, 0.0000, rms 0.000"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"calibration_slices": ()}, "--calibration-slices"),
        ({"effort": replace(TINY, quick=True)}, "--quick"),
    ],
)
def test_without_slices_or_time_no_tool_quantises(calibrated: Bundle, change: dict[str, object], why: str) -> None:
    settings = replace(Settings(peers=("NNCF",), calibration_slices=("truth.csv",)), **change)  # type: ignore[arg-type]
    made = other_int8.quantise(calibrated, settings)
    assert not made.files and why in made.left_out["NNCF"]
