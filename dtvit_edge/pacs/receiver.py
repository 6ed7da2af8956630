"""C-STORE SCP (PS3.4 annex B) by pynetdicom: takes CT images of peers that may send, and nothing of anybody else.

An object is acknowledged when it is on the disk. There is no storage commitment: a scanner may delete its only copy
after one.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dtvit_edge.dicom import uids
from dtvit_edge.errors import ConfigError, DiskFault
from dtvit_edge.pacs.association import break_off
from dtvit_edge.pacs.inbox import Inbox
from dtvit_edge.pacs.incoming import DEFLATED, Relevance, identity, relevance
from dtvit_edge.pacs.key_image import SECONDARY_CAPTURE
from dtvit_edge.pacs.packages import no_log_of_peers
from dtvit_edge.pacs.peers import Peer, plain_address
from dtvit_edge.pacs.structured_report import COMPREHENSIVE, COMPREHENSIVE_3D
from dtvit_edge.pacs.uids import is_uid

if TYPE_CHECKING:
    from pynetdicom.events import Event

IMAGES = (uids.CTImageStorage, uids.EnhancedCTImageStorage, uids.LegacyConvertedEnhancedCTImageStorage)
# A PACS that sends whole studies sends our own results back; to refuse those would stop its queue.
OURS = (COMPREHENSIVE_3D, COMPREHENSIVE, SECONDARY_CAPTURE)
VERIFICATION = "1.2.840.10008.1.1"
SYNTAXES = (
    uids.ExplicitVRLittleEndian, uids.ImplicitVRLittleEndian, uids.ExplicitVRBigEndian, DEFLATED,
    *uids.JPEGTransferSyntaxes, *uids.JPEGLSTransferSyntaxes, *uids.JPEG2000TransferSyntaxes, *uids.RLETransferSyntaxes,
)  # fmt: skip
# PS3.4 table B.2-1.
SUCCESS, OUT_OF_RESOURCES, DOES_NOT_MATCH, NOT_UNDERSTOOD, CLASS_NOT_SUPPORTED = 0x0000, 0xA700, 0xA900, 0xC000, 0x0122
# What is negotiated; a peer that sends longer PDUs is cut off: all of one is in memory before it is looked at.
MOST_PDU_BYTES = 1 << 18
MOST_ASSOCIATIONS = 16
IDLE_SECONDS = 60.0
# A connection that asks for nothing holds one of those associations so long.
REQUEST_SECONDS = 5.0

_END_SECONDS = 1.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReceiverSettings:
    """Where the service listens, and to whom.

    Attributes:
        title: its own AE title, which a peer has to call; host, port: where it listens, port 0 for any.
        allowed: who may send; most_bytes: of one object.
    """

    title: str
    host: str
    port: int
    allowed: tuple[Peer, ...]
    most_bytes: int


class Receiver:
    """Listens while it is entered.

    Args:
        arrived: told of objects that were not there before, by study; from any thread.
        count: told of each object that was received or refused, and of associations.

    """

    def __init__(
        self,
        settings: ReceiverSettings,
        inbox: Inbox,
        arrived: Callable[[str, Relevance], None],
        count: Callable[[str], None],
    ) -> None:
        self._refused_bytes = 0  # of the last object, where it could not be written
        self._settings = settings
        self._inbox = inbox
        self._arrived = arrived
        self._count = count
        self._allowed = {peer: peer.addresses() for peer in settings.allowed}
        self._server: Any = None

    @property
    def listens(self) -> bool:
        """Whether it was entered."""
        return self._server is not None

    @property
    def disk_failed(self) -> bool:
        """Whether the last object could not be written, nor could be now."""
        if self._refused_bytes and self._inbox.takes(self._refused_bytes):
            self._refused_bytes = 0
        return bool(self._refused_bytes)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

    def __enter__(self) -> Receiver:
        """Listen.

        Raises:
            ConfigError: the address cannot be listened at.
        """
        from pynetdicom import AE, evt
        from pynetdicom.transport import ThreadedAssociationServer

        no_log_of_peers()
        settings, addresses = self._settings, frozenset().union(*self._allowed.values())

        class Server(ThreadedAssociationServer):
            # Beyond this the kernel drops a peer's first packet, which the peer repeats after 1, 3, 7 and more seconds.
            request_queue_size = 8 * MOST_ASSOCIATIONS

            def verify_request(self, request: Any, client_address: tuple[str, int]) -> bool:
                return plain_address(client_address[0]) in addresses

        entity = AE(ae_title=settings.title)
        entity.require_called_aet = True
        entity.maximum_pdu_size = MOST_PDU_BYTES
        entity.maximum_associations = MOST_ASSOCIATIONS
        entity.network_timeout = entity.dimse_timeout = IDLE_SECONDS
        entity.acse_timeout = REQUEST_SECONDS
        entity.add_supported_context(VERIFICATION)
        for sop_class in (*IMAGES, *OURS):
            entity.add_supported_context(sop_class, list(SYNTAXES))
        handlers = [
            (evt.EVT_CONN_OPEN, self._connected),
            (evt.EVT_REQUESTED, self._requested),
            (evt.EVT_REJECTED, self._rejected),
            (evt.EVT_PDU_RECV, self._measure),
            (evt.EVT_C_STORE, self._store),
        ]
        try:
            self._server = entity.make_server(
                (settings.host, settings.port), evt_handlers=handlers, server_class=Server
            )
        except OSError as error:
            raise ConfigError(
                f"{settings.host} port {settings.port} cannot be listened at: {error.strerror}"
            ) from error
        entity._servers.append(self._server)  # which `shutdown` takes out again
        threading.Thread(target=self._server.serve_forever, name="receiver", daemon=True).start()
        return self

    def __exit__(self, *details: object) -> None:
        """Take no new association, and end those that are under way: what was acknowledged is on the disk."""
        self._server.shutdown()
        under_way = self._server.active_associations
        for association in under_way:
            if association.is_established:
                association.abort(block=False)
            else:
                association.dul.to_user_queue.put(None)  # it waits for a request that does not come
        end = time.monotonic() + _END_SECONDS
        for association in under_way:
            association.join(timeout=max(end - time.monotonic(), 0))
            if association.is_alive():
                break_off(association)

    def _connected(self, event: Event) -> None:
        """Bound what is read at once from a peer."""
        socket: Any = event.assoc.dul.socket
        receive = socket.recv

        def bounded(count: int) -> bytearray:
            if count > MOST_PDU_BYTES + 1024:
                raise OSError("a PDU is longer than was agreed")
            return bytearray(receive(count))

        socket.recv = bounded

    def _requested(self, event: Event) -> None:
        """Refuse a title that is not of the address that it calls from (PS3.8 section 9.3.4)."""
        association = event.assoc
        calling = str(association.requestor.primitive.calling_ae_title).strip()
        address = plain_address(str(association.requestor.address))
        if not any(calling == peer.title and address in known for peer, known in self._allowed.items()):
            self._count("association_refused")
            association.acse.send_reject(0x01, 0x01, 0x03)

    def _rejected(self, event: Event) -> None:
        self._count("association_refused")

    def _measure(self, event: Event) -> None:
        """Cut an object off that is larger than it may be, while it comes."""
        message = event.assoc.dimse.message
        if message is not None and message.data_set.tell() > self._settings.most_bytes:
            self._count("refused_too_large")
            log.warning("an object of more than %d MiB was refused", self._settings.most_bytes >> 20)
            event.assoc.abort()

    def _store(self, event: Event) -> int:
        status, what = self._kept(event)
        self._count(what)
        return status

    def _kept(self, event: Event) -> tuple[int, str]:
        request, syntax = event.request, str(event.context.transfer_syntax)
        stream: Any = request.DataSet
        if stream.getbuffer().nbytes > self._settings.most_bytes:
            return OUT_OF_RESOURCES, "refused_too_large"
        found = identity(stream.getvalue(), syntax)
        if found is None or not is_uid(found.study_uid) or not is_uid(found.sop_uid):
            return NOT_UNDERSTOOD, "refused_not_understood"
        if found.sop_uid != str(request.AffectedSOPInstanceUID) or found.sop_class != str(request.AffectedSOPClassUID):
            return DOES_NOT_MATCH, "refused_does_not_match"
        if found.own:
            return SUCCESS, "own_object"
        if found.sop_class not in IMAGES:
            return CLASS_NOT_SUPPORTED, "refused_no_ct"
        try:
            path = self._inbox.keep(found.study_uid, found.sop_uid, event.encoded_dataset())
        except DiskFault as error:
            self._refused_bytes = stream.getbuffer().nbytes
            log.error("%s", error)
            return OUT_OF_RESOURCES, "refused_disk"
        self._refused_bytes = 0
        if path is None:
            return SUCCESS, "received_again"
        self._arrived(found.study_uid, relevance(path))
        return SUCCESS, "received"
