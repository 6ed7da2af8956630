"""Associations that are asked for here (PS3.8 section 7.1), by pynetdicom."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from dtvit_edge.dicom.uids import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from dtvit_edge.pacs.peers import Peer

# For connecting, and for each answer of the peer.
TIMEOUT_SECONDS = 30.0


class Requestor:
    """Asks a peer for associations, from any thread; another one can break off all that are under way.

    Args:
        title: our own AE title.
    """

    def __init__(self, peer: Peer, title: str) -> None:
        self._peer = peer
        self._title = title
        self._lock = threading.Lock()
        self._under_way: list[Any] = []
        self._ended = False

    def associate(self, classes: Iterable[str]) -> Any:
        """An association with the peer, or None where it gives none, or all has ended.

        Args:
            classes: abstract syntaxes, each with both little-endian transfer syntaxes.
        """
        from pynetdicom import AE, evt

        entity = AE(ae_title=self._title)
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = TIMEOUT_SECONDS
        entity.connection_timeout = TIMEOUT_SECONDS
        for sop_class in classes:
            entity.add_requested_context(sop_class, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
        if self._ended:
            return None
        association = entity.associate(
            self._peer.host, self._peer.port, ae_title=self._peer.title, evt_handlers=[(evt.EVT_REQUESTED, self._begun)]
        )
        if not association.is_established:
            return None
        answers_wait_for_who_asked(association)
        return association

    def end(self) -> None:
        """Break off what is under way, whatever it waits for; nothing is asked for any more."""
        with self._lock:
            self._ended = True
            for association in self._under_way:
                break_off(association)

    def _begun(self, event: Any) -> None:
        """An association is asked for; it may not even be connected."""
        with self._lock:
            self._under_way = [one for one in self._under_way if one.dul.is_alive()]
            self._under_way.append(event.assoc)
            if self._ended:
                break_off(event.assoc)


def answers_wait_for_who_asked(association: Any) -> None:
    """Keep pynetdicom's reactor from taking answers to what is sent through an association that was asked for.

    The reactor takes messages without waiting, to serve a peer's requests, and is paused while an answer is awaited.
    A busy machine can stop it behind its look whether it is paused: it then takes the answer and drops it, and who
    asked waits until the time is out. Nothing is served here, so the reactor finds no message.
    """
    receive = association.dimse.get_msg

    def awaited(block: bool = False) -> Any:
        return receive(block=True) if block else (None, None)

    association.dimse.get_msg = awaited


def break_off(association: Any) -> None:
    """End an association's connection; whatever waits for it, in whatever thread, sees that it is closed."""
    stream = association.dul.socket and association.dul.socket.socket
    with suppress(OSError, AttributeError):  # not connected yet, or closed already
        stream.shutdown(socket.SHUT_RDWR)
