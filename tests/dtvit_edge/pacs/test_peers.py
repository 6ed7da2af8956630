"""Application entities as they are spelled."""

from __future__ import annotations

import pytest

from dtvit_edge.errors import ConfigError
from dtvit_edge.pacs.peers import Peer, peer, plain_address
from dtvit_edge.pacs.uids import derived_uid, is_uid


def test_a_peer_is_read() -> None:
    assert peer("PACS@127.0.0.1:104", with_port=True) == Peer("PACS", "127.0.0.1", 104)
    assert peer("CT 1@[::1]:104", with_port=True) == Peer("CT 1", "::1", 104)
    assert peer("CT@host.example", with_port=False) == Peer("CT", "host.example")
    assert "127.0.0.1" in peer("A@127.0.0.1", with_port=False).addresses()
    assert plain_address("::ffff:10.0.0.1") == "10.0.0.1" and plain_address("::1") == "::1"


@pytest.mark.parametrize(
    "text",
    ["", "PACS", "@h:1", "PACS@", "PACS@h", "PACS@h:0", "PACS@h:65536", "PACS@h:x", "A" * 17 + "@h:1", " A@h:1",
     "A\\B@h:1", "A\n@h:1", "Ä@h:1", "A@h:1\n"],
)  # fmt: skip
def test_what_is_no_peer_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        peer(text, with_port=True)


def test_uids() -> None:
    assert is_uid("1.2.840.10008.1.2") and is_uid("0") and is_uid("1.02")
    for text in ("", ".", "..", "1.", "1..2", "1.2/..", "a", "1.2\n", "1" * 65, "1.2.\u0661"):
        assert not is_uid(text)
    assert is_uid(derived_uid("a", "b")) and derived_uid("a", "b") != derived_uid("b", "a")
