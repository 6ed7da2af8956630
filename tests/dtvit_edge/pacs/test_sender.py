"""What goes out: once, under one UID, whatever the PACS answers."""

from __future__ import annotations

import socket
import threading
import time
from datetime import datetime
from pathlib import Path

import pytest

from dtvit_edge.pacs import sender as sender_module
from dtvit_edge.pacs.association import Requestor
from dtvit_edge.pacs.key_image import SECONDARY_CAPTURE
from dtvit_edge.pacs.peers import Peer
from dtvit_edge.pacs.sender import Sender
from dtvit_edge.pacs.store import PARKED, STORED, WAITING, Store
from dtvit_edge.pacs.structured_report import (
    COMPREHENSIVE,
    COMPREHENSIVE_3D,
    Naming,
    object_bytes,
    structured_report,
)
from tests.support.pacs_objects import statement_in
from tests.support.pacs_peers import HOST, OwnPacs, wait_for

pytest.importorskip("pynetdicom", reason="the extra `pacs` is not installed")
pytest.importorskip("highdicom", reason="the extra `pacs` is not installed")


@pytest.fixture
def store(kinds: dict[str, tuple[Path, Path]], tmp_path: Path) -> Store:
    """Two results wait."""
    made = Store(tmp_path / "db")
    study = statement_in(*kinds["flagged"])
    for number in (1, 2):
        naming = Naming("2.25.1", f"2.25.10{number}", "2.25.3", datetime(2026, 1, 2), number)
        data = object_bytes(structured_report(study.statement, study.found, naming))
        made.put(f"1.{number}", "files", "print", 1, [(naming.sop_uid, COMPREHENSIVE_3D, data)])
    return made


def sender_to(store: Store, pacs: OwnPacs, failed: list[str] | None = None) -> Sender:
    say = (lambda why: None) if failed is None else failed.append
    return Sender(store, Requestor(Peer("PACS", HOST, pacs.port), "DTVIT"), lambda one: None, say)


def states(store: Store) -> list[str]:
    return [one.state for number in (1, 2) for one in store.objects_of(f"1.{number}")]


def test_what_waits_is_sent_in_its_order_and_once(store: Store) -> None:
    with OwnPacs() as pacs:
        assert sender_to(store, pacs).send_waiting() and sender_to(store, pacs).send_waiting()
    assert pacs.sent == ["2.25.101", "2.25.102"] and states(store) == [STORED, STORED]
    assert pacs.kept["2.25.101"].PatientName == "PHANTOM^0001"


@pytest.mark.parametrize("status", [0xA900, 0xC123, 0x0122])
def test_what_is_refused_for_good_is_parked_and_holds_nothing_up(store: Store, status: int) -> None:
    with OwnPacs() as pacs:
        pacs.answer = lambda uid, times: status if uid == "2.25.101" else 0
        sender = sender_to(store, pacs)
        assert sender.send_waiting() and sender.send_waiting()
        assert pacs.sent == ["2.25.101", "2.25.102"] and states(store) == [PARKED, STORED]
        assert store.objects(PARKED)[0].answer == f"0x{status:04X}"
        pacs.answer = lambda uid, times: 0
        store.unpark()
        assert sender.send_waiting() and states(store) == [STORED, STORED]


def test_an_object_that_cannot_be_encoded_holds_up_no_other_and_is_parked_after_many_tries(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender_module, "MOST_TRIES", 2)
    store._connection.execute("UPDATE objects SET data = ? WHERE uid = '2.25.101'", (b"no DICOM",))
    failed: list[str] = []
    with OwnPacs() as pacs:
        sender = sender_to(store, pacs, failed)
        assert not sender.send_waiting() and states(store) == [WAITING, STORED]
        assert sender.send_waiting() and states(store) == [PARKED, STORED]
    assert failed == ["error", "parked"]


@pytest.mark.parametrize("status", [0xA710, 0x0110])
def test_what_cannot_be_taken_now_is_sent_again_under_the_same_uid(
    store: Store, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with OwnPacs() as pacs:
        pacs.answer = lambda uid, times: status if times < 3 else 0
        sender = sender_to(store, pacs)
        assert [sender.send_waiting() for _ in range(3)] == [False, False, True]
        assert pacs.sent == ["2.25.101", "2.25.102"] * 3 and states(store) == [STORED, STORED]


def test_a_peer_that_never_can_is_not_asked_for_ever(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender_module, "MOST_TRIES", 3)
    with OwnPacs() as pacs:
        pacs.answer = lambda uid, times: 0xA700
        assert [sender_to(store, pacs).send_waiting() for _ in range(4)] == [False, False, True, True]
        assert len(pacs.sent) == 6 and states(store) == [PARKED, PARKED]


@pytest.mark.parametrize("status", [0xB007, 0x0116])
def test_a_warning_is_stored(store: Store, status: int) -> None:
    with OwnPacs() as pacs:
        pacs.answer = lambda uid, times: status
        assert sender_to(store, pacs).send_waiting() and states(store) == [STORED, STORED]


def test_a_duplicate_counts_as_stored_where_the_pacs_finds_it_and_is_sent_again_where_it_does_not(store: Store) -> None:
    with OwnPacs() as pacs:
        assert sender_to(store, pacs).send_waiting()
        store.became("2.25.101", WAITING)  # the answer was lost in a crash
        pacs.answer = lambda uid, times: 0x0111
        assert sender_to(store, pacs).send_waiting() and states(store) == [STORED, STORED]
        store.became("2.25.101", WAITING)
        del pacs.kept["2.25.101"]  # it says so, and does not have it
        assert not sender_to(store, pacs).send_waiting() and states(store) == [WAITING, STORED]
        pacs.answer = lambda uid, times: 0
        assert sender_to(store, pacs).send_waiting() and "2.25.101" in pacs.kept


def test_a_peer_without_comprehensive_3d_gets_comprehensive_under_the_same_uid(store: Store) -> None:
    with OwnPacs(classes=[COMPREHENSIVE, SECONDARY_CAPTURE]) as pacs:
        assert sender_to(store, pacs).send_waiting() and states(store) == [STORED, STORED]
    assert {ds.SOPClassUID for ds in pacs.kept.values()} == {COMPREHENSIVE} and sorted(pacs.kept) == sorted(pacs.sent)
    known = store.study("1.1")
    assert known is not None and known.report_class == COMPREHENSIVE  # so a successor names it rightly


def test_a_peer_that_takes_no_sr_at_all_leaves_it_parked(store: Store) -> None:
    failed: list[str] = []
    with OwnPacs(classes=[SECONDARY_CAPTURE]) as pacs:
        assert sender_to(store, pacs, failed).send_waiting() and states(store) == [PARKED, PARKED]
    assert failed == ["parked", "parked"]


def test_a_pacs_that_is_down_gets_exactly_one_instance_once_it_is_back(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender_module, "FIRST_WAIT_SECONDS", 0.05)
    with OwnPacs() as once:
        pacs = once
    stored: list[str] = []
    requestor = Requestor(Peer("PACS", HOST, pacs.port), "DTVIT")
    sender = Sender(store, requestor, lambda one: stored.append(one.uid), lambda why: None)
    sender.start()
    wait_for(lambda: sender.failing_since is not None)
    assert states(store) == [WAITING, WAITING] and threading.active_count() < 20
    with pacs:
        wait_for(lambda: states(store) == [STORED, STORED])
        wait_for(lambda: sender.failing_since is None)
        sender.end(10)
    assert sorted(pacs.kept) == sorted(pacs.sent) == ["2.25.101", "2.25.102"] == stored


@pytest.mark.parametrize("stage", ["connection", "object"])
def test_a_peer_that_never_answers_does_not_hold_the_end_up_and_leaves_what_waits(store: Store, stage: str) -> None:
    heard, late = threading.Event(), threading.Event()

    def unanswered(uid: str, times: int) -> int:
        heard.set()
        late.wait(30)
        return 0

    with OwnPacs() as pacs, socket.create_server((HOST, 0)) as mute:
        pacs.answer = unanswered
        port = mute.getsockname()[1] if stage == "connection" else pacs.port
        sender = Sender(store, Requestor(Peer("PACS", HOST, port), "DTVIT"), lambda one: None, lambda why: None)
        sender.start()
        accepted = mute.accept()[0] if stage == "connection" else None
        assert accepted is not None or heard.wait(10)
        (asking,) = sender._requestor._under_way
        begun = time.monotonic()
        sender.end(0.1)
        assert time.monotonic() - begun < 5 and not sender._thread.is_alive()
        wait_for(lambda: not asking.dul.is_alive(), 5)  # for which the process would wait
        assert states(store) == [WAITING, WAITING]
        late.set()
        if accepted is not None:
            accepted.close()
