"""What comes in over the network: who may send, and what is taken of it."""

from __future__ import annotations

import logging
import socket
import struct
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pydicom
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian, MRImageStorage, RLELossless

from dtvit_edge.errors import ConfigError
from dtvit_edge.pacs.inbox import Inbox
from dtvit_edge.pacs.incoming import Relevance, identity
from dtvit_edge.pacs.peers import Peer
from dtvit_edge.pacs.receiver import OUT_OF_RESOURCES, Receiver, ReceiverSettings
from tests.support.dicom_files import dataset
from tests.support.pacs_objects import report_of
from tests.support.pacs_peers import HOST, send_datasets, wait_for

pytest.importorskip("pynetdicom", reason="the extra `pacs` is not installed")

MOST_BYTES = 1 << 20


class Listening:
    """A receiver with what it told."""

    def __init__(self, folder: Path, *allowed: Peer) -> None:
        self.inbox = Inbox(folder)
        self.inbox.open()
        self.arrived: list[tuple[str, Relevance]] = []
        self.counts: Counter[str] = Counter()
        settings = ReceiverSettings("DTVIT", HOST, 0, allowed or (Peer("PACS", HOST),), MOST_BYTES)
        self.receiver = Receiver(
            settings, self.inbox, lambda uid, found: self.arrived.append((uid, found)), self._count
        )

    def _count(self, what: str) -> None:
        self.counts[what] += 1

    @property
    def kept(self) -> list[Path]:
        return [path for path in self.inbox.folder.rglob("*") if path.is_file()]


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[Listening]:
    made = Listening(tmp_path / "service")
    with made.receiver:
        yield made


def test_an_image_is_kept_as_it_came_and_the_same_again_is_acknowledged_and_not_kept(listening: Listening) -> None:
    original = dataset(PatientName="Somebody^Else")
    assert send_datasets([original, original], listening.receiver.port) == [0, 0]
    (path,) = listening.kept
    assert pydicom.dcmread(path) == original and original.StudyInstanceUID == path.parent.name
    assert listening.arrived == [(original.StudyInstanceUID, Relevance(True))]
    assert listening.counts == {"received": 1, "received_again": 1}
    # The same instance with other content is no copy: scoring judges them by their pixels.
    assert send_datasets([dataset(PixelData=bytes(512 * 512 * 2))], listening.receiver.port) == [0]
    assert len(listening.kept) == 2


@pytest.mark.parametrize("calling, called", [("OTHER", "DTVIT"), ("PACS", "OTHER"), ("pacs", "DTVIT")])
def test_another_title_is_refused(listening: Listening, calling: str, called: str) -> None:
    assert send_datasets([dataset()], listening.receiver.port, calling=calling, called=called) == []
    assert not listening.kept and listening.counts["association_refused"] >= 1
    assert send_datasets([dataset()], listening.receiver.port) == [0]


def test_a_title_from_another_address_than_its_own_is_refused(tmp_path: Path) -> None:
    made = Listening(tmp_path, Peer("PACS", "192.0.2.1"), Peer("CT", HOST))
    with made.receiver:
        assert send_datasets([dataset()], made.receiver.port) == []  # PACS may not call from here
        assert send_datasets([dataset()], made.receiver.port, calling="CT") == [0]
    strangers = Listening(tmp_path / "2", Peer("PACS", "192.0.2.1"))
    with strangers.receiver:
        assert send_datasets([dataset()], strangers.receiver.port) == []
        assert not strangers.kept


def test_what_is_no_ct_image_is_refused_and_the_rest_of_the_association_taken(listening: Listening) -> None:
    mr = dataset(SOPClassUID=MRImageStorage, Modality="MR")
    mr.file_meta.MediaStorageSOPClassUID = MRImageStorage
    capture = dataset(SOPClassUID="1.2.840.10008.5.1.4.1.1.7", SOPInstanceUID="2.25.8")
    assert send_datasets([mr, capture, dataset()], listening.receiver.port) == [None, 0x0122, 0]
    assert len(listening.kept) == 1


def test_an_object_that_is_too_large_is_cut_off_while_it_comes(
    listening: Listening, caplog: pytest.LogCaptureFixture
) -> None:
    large = dataset(Rows=1024, Columns=1024, PixelData=bytes(1 << 21), PatientName="Secret^Name")
    with caplog.at_level(logging.INFO):
        (status,) = send_datasets([large], listening.receiver.port)
    assert status in (None, OUT_OF_RESOURCES) and not listening.kept
    assert listening.counts["refused_too_large"] >= 1 and "Secret" not in caplog.text
    assert send_datasets([dataset()], listening.receiver.port) == [0]


@pytest.mark.parametrize("uid", ["../../escaped", "1.2/../../../escaped", "..", "x"])
def test_a_uid_that_is_a_path_is_refused(listening: Listening, uid: str) -> None:
    with pydicom.config.disable_value_validation():
        strange = dataset(StudyInstanceUID=uid)
        assert send_datasets([strange], listening.receiver.port) == [0xC000]
    assert not listening.kept and not list(listening.inbox.folder.parent.rglob("*escaped*"))


def test_another_instance_than_was_announced_is_refused(listening: Listening, monkeypatch: pytest.MonkeyPatch) -> None:
    from pynetdicom.dimse_primitives import C_STORE

    monkeypatch.setattr(C_STORE, "AffectedSOPInstanceUID", property(lambda self: self._AffectedSOPInstanceUID,
        lambda self, value: setattr(self, "_AffectedSOPInstanceUID", pydicom.uid.UID("2.25.99"))))  # fmt: skip
    assert send_datasets([dataset()], listening.receiver.port) == [0xA900]
    assert not listening.kept


def test_what_breaks_off_leaves_nothing_and_the_next_is_taken(listening: Listening) -> None:
    address = HOST, listening.receiver.port
    for data in (
        b"", b"GET / HTTP/1.1\r\n\r\n", bytes([1, 0]) + struct.pack(">I", 1 << 31),
        bytes([4, 0]) + struct.pack(">I", 99), bytes([1, 0]) + struct.pack(">I", 200) + bytes(50), b"\xff" * 4096,
    ):  # fmt: skip
        with socket.create_connection(address, timeout=5) as stream:
            stream.sendall(data)
    wait_for(lambda: len(listening.receiver._server.active_associations) == 0)
    assert not listening.kept and send_datasets([dataset()], listening.receiver.port) == [0]


def test_our_own_objects_are_acknowledged_and_not_kept(
    kinds: dict[str, tuple[Path, Path]], listening: Listening, tmp_path: Path
) -> None:
    report = report_of(*kinds["flagged"], tmp_path / "to", with_key_image=True)
    (key,) = (tmp_path / "to").glob("*-key.dcm")
    assert send_datasets([report, pydicom.dcmread(key)], listening.receiver.port) == [0, 0]
    assert not listening.kept and listening.counts == {"own_object": 2} and not listening.arrived


def test_a_full_disk_is_said_to_the_sender_and_the_service_lives(
    listening: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("dtvit_edge.pacs.inbox.write_all", full)
        assert send_datasets([dataset()], listening.receiver.port) == [OUT_OF_RESOURCES]
        assert listening.receiver.disk_failed and not listening.kept
        patched.undo()
        patched.setattr("dtvit_edge.pacs.inbox.shutil.disk_usage", lambda _: SimpleNamespace(free=100_000))
        assert listening.receiver.disk_failed  # a little can be written, and no such object
    # With room again it is well by itself, before anything comes.
    assert not listening.receiver.disk_failed and not listening.kept
    assert send_datasets([dataset()], listening.receiver.port) == [0] and not listening.receiver.disk_failed


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, RLELossless])
def test_other_transfer_syntaxes_are_taken(listening: Listening, syntax: pydicom.uid.UID, tmp_path: Path) -> None:
    ds = dataset()
    if syntax == RLELossless:
        ds.compress(RLELossless)
    ds.file_meta.TransferSyntaxUID = syntax
    implicit = syntax == ImplicitVRLittleEndian
    pydicom.dcmwrite(tmp_path / "x.dcm", ds, implicit_vr=implicit, little_endian=True, enforce_file_format=True)
    ds = pydicom.dcmread(tmp_path / "x.dcm")
    assert send_datasets([ds], listening.receiver.port) == [0]
    (path,) = listening.kept
    assert pydicom.dcmread(path).file_meta.TransferSyntaxUID == syntax


@pytest.mark.parametrize("data", [b"", b"\0" * 64, b"\xff" * 5000, b"\x08\x00\x05\x00SQ\0\0\xff\xff\xff\xff" * 3000],
                         ids=["nothing", "zeros", "ones", "nested"])  # fmt: skip
@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.1.99"])
def test_bytes_that_are_no_dataset_are_nobody(data: bytes, syntax: str) -> None:
    found = identity(data, syntax)
    assert found is None or not found.study_uid


def test_an_address_that_cannot_be_listened_at_is_said(listening: Listening, tmp_path: Path) -> None:
    settings = ReceiverSettings("DTVIT", HOST, listening.receiver.port, (Peer("PACS", HOST),), MOST_BYTES)
    again = Receiver(settings, listening.inbox, lambda uid, found: None, lambda what: None)
    with pytest.raises(ConfigError, match="cannot be listened at"):
        again.__enter__()
