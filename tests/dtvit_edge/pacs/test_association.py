"""Associations that are asked for: answers come to who asked, and what hangs can be broken off."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import Any

import pytest

from dtvit_edge.pacs import association as association_module
from dtvit_edge.pacs.association import Requestor
from dtvit_edge.pacs.peers import Peer
from dtvit_edge.pacs.receiver import VERIFICATION
from tests.support.pacs_peers import HOST, OwnPacs, wait_for

pytest.importorskip("pynetdicom", reason="the extra `pacs` is not installed")


class HeldBehindTheCheck(threading.Event):
    """Stops the reactor, as a busy machine does, behind its look whether it shall wait: until an answer is there."""

    def __init__(self, answers: Any) -> None:
        super().__init__()
        self._answers = answers
        self.set()

    def wait(self, timeout: float | None = None) -> bool:
        passed = super().wait(timeout)
        with suppress(AssertionError):
            wait_for(lambda: not self._answers.empty(), 1.0)
        return passed


def test_an_answer_reaches_who_asked_where_a_busy_machine_stops_threads_in_the_wrong_places(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(association_module, "TIMEOUT_SECONDS", 2.0)
    with OwnPacs(classes=[VERIFICATION]) as pacs:
        association: Any = Requestor(Peer("PACS", HOST, pacs.port), "DTVIT").associate([VERIFICATION])
        provider = association.dimse
        association._reactor_checkpoint = HeldBehindTheCheck(provider.msg_queue)
        time.sleep(0.05)  # the reactor is there
        send = provider.send_msg

        def stopped_behind_sending(*arguments: Any) -> None:
            send(*arguments)
            time.sleep(0.3)

        provider.send_msg = stopped_behind_sending
        assert association.send_c_echo().get("Status") == 0
        association.release()


def test_nothing_is_asked_for_behind_the_end() -> None:
    with OwnPacs(classes=[VERIFICATION]) as pacs:
        requestor = Requestor(Peer("PACS", HOST, pacs.port), "DTVIT")
        association = requestor.associate([VERIFICATION])
        requestor.end()
        association.join(5)
        assert not association.is_alive() and not association.is_established
        assert requestor.associate([VERIFICATION]) is None
