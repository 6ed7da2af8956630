"""Associations that are asked for here (PS3.8 section 7.1), by pynetdicom."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dtvit_edge.dicom.uids import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from dtvit_edge.pacs.peers import Peer

# For connecting, and for each answer of the peer.
TIMEOUT_SECONDS = 30.0


def associate(peer: Peer, title: str, classes: Iterable[str]) -> Any:
    """An association with a peer, or None where it gives none.

    Args:
        title: our own AE title; classes: abstract syntaxes, each with both little-endian transfer syntaxes.
    """
    from pynetdicom import AE

    entity = AE(ae_title=title)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = TIMEOUT_SECONDS
    entity.connection_timeout = TIMEOUT_SECONDS
    for sop_class in classes:
        entity.add_requested_context(sop_class, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
    association = entity.associate(peer.host, peer.port, ae_title=peer.title)
    return association if association.is_established else None
