"""The heartbeat's verdict: green, late, or wrong. Its way through a real PACS is tested in `test_bedside`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pydicom
import pytest

from dtvit_edge.bundle import Bundle
from dtvit_edge.pacs.association import Requestor
from dtvit_edge.pacs.heartbeat import Heartbeat
from dtvit_edge.pacs.peers import Peer
from dtvit_edge.pacs.store import STORED, Store
from dtvit_edge.pacs.structured_report import COMPREHENSIVE_3D, Naming, object_bytes, structured_report
from dtvit_edge.scoring.configuration import resolve
from dtvit_edge.scoring.opened import opened_model
from dtvit_edge.scoring.options import Options
from tests.support.pacs_objects import statement_in
from tests.support.pacs_peers import HOST, OwnPacs, wait_for

pytest.importorskip("pynetdicom", reason="the extra `pacs` is not installed")
pytest.importorskip("highdicom", reason="the extra `pacs` is not installed")
pytestmark = pytest.mark.real  # a phantom is drawn and scored


class Hands:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def beating(tiny_bundle: Bundle, tmp_path: Path) -> Iterator[tuple[Heartbeat, Hands, OwnPacs, Store]]:
    hands, store = Hands(), Store(tmp_path / "db")
    with (
        OwnPacs() as pacs,
        opened_model(tiny_bundle, resolve(tiny_bundle, Options(backend="onnxruntime"))) as model,
    ):
        requestor = Requestor(Peer("PACS", HOST, pacs.port), "DTVIT")
        yield Heartbeat(1, requestor, store, tiny_bundle, model, 10, clock=hands), hands, pacs, store


def test_a_beat_is_late_where_nothing_comes_back_and_the_next_one_begins_in_its_time(
    beating: tuple[Heartbeat, Hands, OwnPacs, Store],
) -> None:
    heartbeat, hands, pacs, _ = beating
    heartbeat.tick()
    wait_for(lambda: len(pacs.sent) == len(heartbeat._slices))
    (study,) = {str(ds.StudyInstanceUID) for ds in pacs.kept.values()}
    assert len(pacs.kept) == len(heartbeat._slices) and heartbeat.trouble == ""
    hands.now = 609
    heartbeat.tick()
    assert heartbeat.trouble == ""
    hands.now = 611
    heartbeat.tick()
    assert heartbeat.trouble.startswith("late") and heartbeat.seconds == -1
    hands.now = 3601
    heartbeat.tick()
    wait_for(lambda: len(pacs.sent) == 2 * len(heartbeat._slices))
    assert len({str(ds.StudyInstanceUID) for ds in pacs.kept.values()} - {study}) == 1


def test_a_beat_whose_report_says_something_else_is_wrong(
    beating: tuple[Heartbeat, Hands, OwnPacs, Store], kinds: dict[str, tuple[Path, Path]]
) -> None:
    heartbeat, hands, pacs, store = beating
    heartbeat.tick()
    wait_for(lambda: len(pacs.sent) == len(heartbeat._slices))
    study = statement_in(*kinds["partial"])
    report = structured_report(study.statement, study.found, Naming("2.25.1", "2.25.2", "2.25.3", datetime(2026, 1, 2)))
    assert isinstance(report, pydicom.Dataset)
    store.put(heartbeat._study, "", "", 1, [("2.25.2", COMPREHENSIVE_3D, object_bytes(report))])
    store.became("2.25.2", STORED)
    hands.now = 611
    heartbeat.tick()
    assert heartbeat.trouble.startswith("wrong: ") and "another top slice" in heartbeat.trouble
    assert heartbeat.state["beats"] == 1
