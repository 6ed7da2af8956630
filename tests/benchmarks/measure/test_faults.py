"""The mutation run: its faults change something, repeat by seed, and its judge follows the contract."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.measure.faults import field, tables
from benchmarks.measure.faults.__main__ import main
from benchmarks.measure.faults.cases import HARMFUL, SHRUGS, Case, make_delivery, plan
from benchmarks.measure.faults.judging import (
    END_DROPPED,
    END_SET_ASIDE,
    FLAGGED,
    IMPOSSIBLE,
    NOT_SCORED,
    PARTIAL,
    SCORED,
    SILENT,
    STOPPED,
    Verdict,
    judge,
)
from benchmarks.measure.faults.running import Outcome
from benchmarks.measure.faults.studies import Delivery, Scan, deliver, encode, put_values, retag_instance, scan_of
from dtvit_edge.bundle import Bundle
from export.bundle_export import export_bundle
from tests.support.data import ROOT, real
from tests.support.dicom_files import dataset

SLICES = 24
SHOWN = frozenset(range(SLICES))
# Without effect where nothing else happens, or in the folder alone; shown by their words.
WITHOUT_BYTES = {"other_names", "nan_model", "replaced_meanwhile", "removed_meanwhile", "locked_folder", "locked_files"}


@pytest.fixture(scope="module")
def scan() -> Scan:
    """Twenty-four slices of a ball 5 mm apart, blood in the fifth and sixth; the vertex is in view."""
    y, x = np.ogrid[:64, :64]
    datasets = []
    for i in range(SLICES):
        radius = 26 * min(1.0, (SLICES - i) / 12)
        ds = dataset(ImagePositionPatient=[-112, -112, 5 * i], ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
        put_values(ds, np.where((x - 32) ** 2 + (y - 32) ** 2 < radius**2, 25 + i, -1000), signed=True)
        ds.PixelSpacing, ds.SliceLocation, ds.InstanceNumber = [3.5, 3.5], 5 * i, i + 1
        ds.SliceThickness, ds.RescaleIntercept, ds.AcquisitionNumber = 5, 0, 1
        retag_instance(ds, f"2.25.{i + 1}")
        datasets.append(ds)
    return replace(scan_of(datasets, (4, 5)), scored=SHOWN)


def outcome(delivery: Delivery, scored: set[int], *, reason: str = "", **study: str) -> Outcome:
    """A table as a run would write it: these slices scored, the delivered others with the reason."""
    row = {"study_uid": "s", "status": "scored", "reason": "", "flagged": "0", "ich_probability": "0.1", "scored": ""}
    rows = [
        {"study_uid": "s", "path": f.name, **({"status": "scored", "reason": ""} if f.index in scored else
         {"status": "skipped", "reason": reason})}
        for f in delivery.files
    ]  # fmt: skip
    return Outcome((row | {"slices": ""} | study,), tuple(rows), 0)


@pytest.mark.parametrize("kind", HARMFUL)
def test_every_fault_changes_what_is_delivered(kind: str, scan: Scan, tmp_path: Path) -> None:
    delivery, words = make_delivery(scan, np.random.default_rng(2), [kind], harmful=True)
    assert words.startswith(kind) and "nothing" not in words
    delivery.write(tmp_path / "given", tmp_path / "outside")
    written = {p.read_bytes() for p in (tmp_path / "given").rglob("*") if p.is_file() and not p.is_symlink()}
    twice = len(delivery.files) > SLICES
    assert tuple(map(encode, scan.datasets)) == scan.encoded, "the fault changed the scan itself"
    assert written != set(scan.encoded) or twice or delivery.links or kind in WITHOUT_BYTES


@pytest.mark.parametrize("kind", SHRUGS)
def test_every_oddity_leaves_the_scan_there(kind: str, scan: Scan, tmp_path: Path) -> None:
    delivery, _ = make_delivery(scan, np.random.default_rng(2), [kind], harmful=False)
    delivery.write(tmp_path / "given", tmp_path / "outside")
    least = SLICES // 2 if kind == "two_slabs" else SLICES
    assert len({f.index for f in delivery.files} - {None}) >= least
    assert not delivery.gone and not delivery.locked
    assert tuple(map(encode, scan.datasets)) == scan.encoded, "the oddity changed the scan itself"


def test_the_same_seed_gives_the_same_cases_and_bytes(scan: Scan) -> None:
    assert plan(7, 150, harmful=True) == plan(7, 150, harmful=True) != plan(8, 150, harmful=True)
    assert plan(7, 20, harmful=True) == plan(7, 150, harmful=True)[:20]
    first, second = (
        make_delivery(scan, np.random.default_rng(4), ["position_jitter", "half_file"], harmful=True)[0]
        for _ in range(2)
    )
    assert [(f.name, first.encode(f)) for f in first.files] == [(f.name, second.encode(f)) for f in second.files]


def test_every_kind_is_tried_and_some_cases_have_two(scan: Scan) -> None:
    cases = plan(0, 300, harmful=True)
    assert {kind for _, kinds in cases for kind in kinds} == set(HARMFUL)
    assert 90 < sum(len(kinds) == 2 for _, kinds in cases) < 150
    assert not any("locked_folder" in kinds for _, kinds in plan(0, 300, harmful=True, without=("locked_folder",)))


def drop(scan: Scan, gone: set[int]) -> Delivery:
    delivery = deliver(scan)
    delivery.files[:] = [f for f in delivery.files if f.index not in gone]
    delivery.gone |= gone
    return delivery


@pytest.mark.parametrize(
    ("gone", "expected"),
    [
        pytest.param(set(range(6)), END_DROPPED, id="the lower end with the blood"),
        pytest.param(set(range(5)), END_DROPPED, id="the lower end with some of the blood"),
        pytest.param(set(range(9)), SILENT, id="so much that under 80 mm are left"),
        pytest.param({4, 5}, SILENT, id="the blood from the middle"),
        pytest.param({0, 1}, SILENT, id="an end without blood, which explains nothing"),
        pytest.param(set(range(12, SLICES)), SILENT, id="the vertex"),
        pytest.param(set(), SILENT, id="nothing"),
    ],
)
def test_a_0_is_excepted_where_an_end_with_blood_is_gone_and_a_head_is_left(
    scan: Scan, gone: set[int], expected: str
) -> None:
    delivery = drop(scan, gone)
    assert judge(delivery, outcome(delivery, set(SHOWN - gone)), positive=True).outcome == expected


def test_slices_that_lie_there_without_a_word_excuse_nothing(scan: Scan) -> None:
    delivery = deliver(scan)
    rows = outcome(delivery, set(SHOWN) - set(range(6)), reason="scout")
    assert judge(delivery, rows, positive=True).outcome == END_SET_ASIDE
    by_path = {f.name: f.index for f in delivery.files}
    silent = replace(rows, slices=tuple(r for r in rows.slices if (by_path[r["path"]] or 0) >= 6))
    assert judge(delivery, silent, positive=True).outcome == SILENT
    failed = outcome(delivery, set(SHOWN) - set(range(6)), reason="unreadable")
    assert judge(delivery, failed, positive=True).outcome == SILENT


def test_slices_that_were_altered_are_never_excused(scan: Scan) -> None:
    delivery = drop(scan, set(range(5)))
    next(f for f in delivery.files if f.index == 5).altered = True
    assert judge(delivery, outcome(delivery, set(range(5, SLICES))), positive=True).outcome == SILENT


@pytest.mark.parametrize(
    ("study", "expected"),
    [
        pytest.param({"flagged": "1"}, FLAGGED, id="flagged"),
        pytest.param({"flagged": "1", "status": "partial"}, FLAGGED, id="partial and flagged"),
        pytest.param({"flagged": "", "status": "partial"}, PARTIAL, id="partial"),
        pytest.param({"flagged": "", "status": "not_scored"}, NOT_SCORED, id="not scored"),
        pytest.param({"ich_probability": "nan"}, IMPOSSIBLE, id="NaN"),
        pytest.param({}, SILENT, id="0"),
    ],
)
def test_outcomes_of_a_positive_study(scan: Scan, study: dict[str, str], expected: str) -> None:
    delivery = deliver(scan)
    assert judge(delivery, outcome(delivery, set(SHOWN), **study), positive=True).outcome == expected


def test_a_negative_studys_0_needs_no_explanation_and_an_error_is_one(scan: Scan) -> None:
    delivery = deliver(scan)
    assert judge(delivery, outcome(delivery, set(SHOWN)), positive=False).outcome == SCORED
    assert judge(delivery, Outcome(error="DeviceFault: x"), positive=True).outcome == STOPPED
    assert judge(delivery, Outcome(error="KeyError: x", ours=False), positive=True).failed


def test_requirements_are_missed_by_one_silent_negative_and_by_more_than_5_percent_unscored() -> None:
    def case(name: str, verdict: str) -> Case:
        return Case(name, 0, ("half_file",), "", 0, Verdict(verdict, ""))

    good = [case("h1", PARTIAL), *(case(f"s{i}", SCORED) for i in range(19)), case("s19", PARTIAL)]
    assert tables.missed(good) == []
    assert len(tables.missed([*good, case("h2", SILENT)])) == 1
    assert len(tables.missed([*good, case("s20", NOT_SCORED)])) == 1
    assert "| half_file | 2 |" in "\n".join(tables.table([case("h1", PARTIAL), case("h2", SILENT)], harmful=True))


def test_the_command_refuses_a_kind_that_it_does_not_know(tiny_bundle: Bundle, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, [str(tiny_bundle.path), "-o", str(tmp_path / "out"), "--only", "meteor"])
    assert result.exit_code == 2
    assert "no kind of fault meteor" in result.output


def test_the_command_writes_tables_and_cases(
    tiny_bundle: Bundle, scan: Scan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.measure.faults.__main__.find_scans", lambda *_, **__: [scan])
    out, record = tmp_path / "out", tmp_path / "record.jsonl"
    arguments = [
        str(tiny_bundle.path),
        "-o",
        str(out),
        "--only",
        "other_names",
        "--count",
        "80",
        "--record",
        str(record),
    ]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code in (0, 1), result.output
    cases = json.loads((out / "faults.json").read_text())["cases"]
    assert len(cases) >= 3 and {case["name"][0] for case in cases} == {"h", "s"}
    assert "| other_names |" in (out / "faults.md").read_text()
    assert json.loads(record.read_text())["summary"]["cases"] == len(cases)


def test_a_run_that_asks_for_no_case_does_not_say_that_all_holds(tiny_bundle: Bundle, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, [str(tiny_bundle.path), "-o", str(tmp_path / "o"), "--only", "h999"])
    assert result.exit_code == 2 and "no case is left to try" in result.output
    assert not (tmp_path / "o").exists()


@pytest.fixture(scope="module")
def demo_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The committed demo checkpoint as a bundle: eight seconds."""
    return export_bundle(ROOT / "export/demo/demo.safetensors", tmp_path_factory.mktemp("demo") / "demo.dtvit")


@pytest.mark.real
def test_the_field_cases_are_as_expected(demo_bundle: Bundle) -> None:
    results = field.run_field(demo_bundle, real("field"))
    assert [f"{r.case.name}: expected {r.case.expected}, found {r.found}" for r in results if not r.holds] == []
