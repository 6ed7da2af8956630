"""The service as users start it, with Debian's Orthanc, dcmtk and dicom3tools: round trips, crashes, outages."""

from __future__ import annotations

import io
import socket
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pydicom
import pytest

from benchmarks.measure.bedside import study_of
from benchmarks.standalone.bedside import killed
from dtvit_edge.bundle import Bundle
from dtvit_edge.pacs.reading import evidence_uids, statement_of_object
from tests.support.open_models import slices_of
from tests.support.orthanc import Orthanc, environment, stopped, tool
from tests.support.pacs_peers import HOST, OwnPacs, ServedProcess, free_port, send_datasets, wait_for

pytest.importorskip("pynetdicom", reason="the extra `pacs` is not installed")
pytest.importorskip("highdicom", reason="the extra `pacs` is not installed")
pytestmark = pytest.mark.real

Kinds = dict[str, tuple[Path, Path]]


@pytest.fixture
def ports() -> tuple[int, int]:
    return free_port(), free_port()


@pytest.fixture
def pacs(tmp_path: Path, ports: tuple[int, int]) -> Iterator[Orthanc]:
    with Orthanc(tmp_path / "orthanc", ports[0]) as started:
        yield started


def served(bundle: Bundle, folder: Path, port: int, ports: tuple[int, int], *options: str) -> ServedProcess:
    settings = ("--after", "1", "--backend", "onnxruntime", "--threads", "1", "--threshold", "0.01", *options)
    return ServedProcess(bundle.path, folder, f"PACS@{HOST}:{port}", *ports, *settings)


def test_a_study_goes_through_orthanc_to_the_device_and_its_report_back_once(
    kinds: Kinds, tiny_bundle: Bundle, pacs: Orthanc, ports: tuple[int, int], tmp_path: Path
) -> None:
    files = slices_of(kinds["flagged"][0])
    with served(tiny_bundle, tmp_path / "service", pacs.port, ports, "--key-image") as service:
        command = [tool("storescu"), "-aec", "PACS", HOST, str(pacs.port), *map(str, files)]
        subprocess.run(command, check=True, capture_output=True, env=environment())
        wait_for(lambda: len(pacs.instances("SR")) == 1 and len(pacs.instances("OT")) == 1, 60)
        time.sleep(6)  # in which Orthanc sends all of it again, our own objects among it
        (report,) = pacs.instances("SR")
        (key,) = pacs.instances("OT")
        data = pacs.file(report["ID"])
        dataset = pydicom.dcmread(io.BytesIO(data))
        assert evidence_uids(dataset) == {str(pydicom.dcmread(f).SOPInstanceUID) for f in files}
        assert statement_of_object(dataset).flagged and dataset.PatientName == "PHANTOM^0001"
        for one in (data, pacs.file(key["ID"])):
            (tmp_path / "object.dcm").write_bytes(one)
            checked = subprocess.run([tool("dciodvfy"), str(tmp_path / "object.dcm")], capture_output=True, text=True)
            assert "Error" not in checked.stdout + checked.stderr, checked.stderr
        # QIDO-RS lists it in the study, where Orthanc's plugin is.
        try:
            listed = pacs.ask(f"/dicom-web/studies/{dataset.StudyInstanceUID}/series?Modality=SR")
        except OSError:
            listed = None
        assert listed is None or len(listed) == 1
        assert service.health()["status"] == "ok"  # type: ignore[index]
    assert service.status == 0, service.log
    assert "PHANTOM" not in service.log and "Traceback" not in service.log


def test_a_pacs_that_was_down_for_a_minute_has_exactly_one_instance_of_each_study_once_it_is_back(
    kinds: Kinds, tiny_bundle: Bundle, pacs: Orthanc, ports: tuple[int, int], tmp_path: Path
) -> None:
    slices = [pydicom.dcmread(file) for file in slices_of(kinds["flagged"][0])]
    studies = [study_of(slices) for _ in range(3)]
    with served(tiny_bundle, tmp_path / "service", pacs.port, ports) as service:
        with stopped(pacs):
            until = time.monotonic() + 60
            for number, study in enumerate(studies, start=1):
                assert set(send_datasets(study, ports[0])) == {0}
                wait_for(lambda number=number: service.health()["objects_waiting"] == number)  # type: ignore[misc]
                time.sleep((until - time.monotonic()) / (len(studies) - number + 1))
            with sqlite3.connect(f"file:{tmp_path}/service/service.sqlite?mode=ro", uri=True) as outbox:
                frozen = [uid for (uid,) in outbox.execute("SELECT uid FROM objects")]
        wait_for(lambda: service.health()["objects_waiting"] == 0, 30)  # type: ignore[index]
        time.sleep(2)
        reports = pacs.instances("SR")
        assert sorted(report["SOPInstanceUID"] for report in reports) == sorted(frozen) and len(frozen) == 3
        assert {report["StudyInstanceUID"] for report in reports} == {str(one[0].StudyInstanceUID) for one in studies}
        assert service.health()["status"] == "ok"  # type: ignore[index]
    assert service.status == 0


@pytest.mark.parametrize("inward", [False, True], ids=["the PACS hangs", "and so do senders"])
def test_sigterm_ends_the_service_within_seconds_while_peers_hang(
    inward: bool, kinds: Kinds, tiny_bundle: Bundle, ports: tuple[int, int], tmp_path: Path
) -> None:
    slices = [pydicom.dcmread(file) for file in slices_of(kinds["flagged"][0])]
    with socket.create_server((HOST, 0)) as mute, ExitStack() as held:
        options = ("--heartbeat", "1")  # which asks the PACS as well
        with served(tiny_bundle, tmp_path / "service", mute.getsockname()[1], ports, *options) as service:
            assert set(send_datasets(slices, ports[0])) == {0}
            wait_for(lambda: service.health()["objects_waiting"] == 1)  # type: ignore[index]
            held.enter_context(mute.accept()[0])
            for _ in range(8 if inward else 0):
                held.enter_context(socket.create_connection((HOST, ports[0])))
            begun = time.monotonic()
        assert time.monotonic() - begun < 6 and service.status == 0, service.log
    with OwnPacs() as pacs, served(tiny_bundle, tmp_path / "service", pacs.port, ports) as service:
        wait_for(lambda: len(pacs.reports()) == 1)  # it was in the outbox


@pytest.mark.parametrize("moment", [0.1, 1.1, 1.6])
def test_a_service_that_is_killed_loses_nothing_and_says_nothing_twice(
    moment: float, kinds: Kinds, tiny_bundle: Bundle, ports: tuple[int, int], tmp_path: Path
) -> None:
    slices = [pydicom.dcmread(file) for file in slices_of(kinds["flagged"][0])]
    with OwnPacs() as pacs, served(tiny_bundle, tmp_path / "service", pacs.port, ports) as service:
        assert killed(service, pacs, slices, moment) == ""
    assert service.status == 0


@pytest.mark.parametrize("says_duplicate", [False, True], ids=["stores it again", "says that it has it"])
def test_a_service_that_is_killed_before_it_hears_the_answer_sends_the_same_instance_again(
    says_duplicate: bool, kinds: Kinds, tiny_bundle: Bundle, ports: tuple[int, int], tmp_path: Path
) -> None:
    slices = [pydicom.dcmread(file) for file in slices_of(kinds["flagged"][0])]
    with OwnPacs() as pacs, served(tiny_bundle, tmp_path / "service", pacs.port, ports) as service:

        def answer(uid: str, times: int) -> int:
            if times == 1:
                service.kill()  # the PACS has it, and the service never hears of it
                return 0
            return 0x0111 if says_duplicate else 0

        pacs.answer = answer
        assert set(send_datasets(slices, ports[0])) == {0}
        wait_for(lambda: len(pacs.sent) == 1, 60)
        service.begin()
        wait_for(lambda: len(pacs.sent) == 2 and service.health()["objects_waiting"] == 0, 60)  # type: ignore[index]
        time.sleep(2)
        assert len(pacs.sent) == 2 and len(pacs.kept) == 1 and not pacs.changed
        assert service.health()["objects_parked"] == 0  # type: ignore[index]
    assert service.status == 0


def test_a_heartbeat_goes_round_and_is_red_where_it_does_not(
    tiny_bundle: Bundle, pacs: Orthanc, ports: tuple[int, int], tmp_path: Path
) -> None:
    with served(tiny_bundle, tmp_path / "service", pacs.port, ports, "--heartbeat", "1") as service:
        wait_for(lambda: service.health()["heartbeat"]["beats"] == 1, 90)  # type: ignore[index]
        said = service.health()
        assert said is not None and said["heartbeat"]["state"] == "ok" and said["heartbeat"]["seconds"] > 0
        (report,) = pacs.instances("SR")
        assert report["PatientID"] == "PHANTOM-HEARTBEAT"
    nobody = free_port()
    with served(tiny_bundle, tmp_path / "other", nobody, ports, "--heartbeat", "1") as service:
        wait_for(lambda: service.health()["status"] == "red", 60)  # type: ignore[index]
        assert "the PACS cannot be reached" in str(service.health())


def test_a_full_disk_refuses_what_comes_and_the_service_lives(
    kinds: Kinds, tiny_bundle: Bundle, ports: tuple[int, int], tmp_path: Path
) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("a small file system can be mounted by root alone")
    try:
        slices = [pydicom.dcmread(file) for file in slices_of(kinds["flagged"][0])]
        with OwnPacs() as pacs, served(tiny_bundle, folder / "service", pacs.port, ports) as service:
            statuses = send_datasets(slices, ports[0])
            assert 0 in statuses and 0xA700 in statuses and set(statuses) == {0, 0xA700}
            assert service.health()["status"] == "red"  # type: ignore[index]
            time.sleep(4)
            # What was acknowledged is there, and with room again the rest is taken and one result made of all.
            subprocess.run(["mount", "-o", "remount,size=200m", str(folder)], check=True)
            assert service.health()["status"] == "ok"  # type: ignore[index]
            assert set(send_datasets(slices, ports[0])) == {0}
            wanted = {str(ds.SOPInstanceUID) for ds in slices}
            wait_for(lambda: bool(pacs.reports()) and evidence_uids(pacs.reports()[-1]) == wanted, 90)
        assert service.status == 0
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


def test_two_services_on_one_folder_are_one(tiny_bundle: Bundle, ports: tuple[int, int], tmp_path: Path) -> None:
    with OwnPacs() as pacs, served(tiny_bundle, tmp_path / "service", pacs.port, ports):
        second = served(tiny_bundle, tmp_path / "service", pacs.port, (free_port(), free_port()))
        second.begin(wait=False)
        assert second._process.wait(60) == 2 and "another process is writing" in second.log


def test_studies_beside_each_other_end_as_one_report_each(
    kinds: Kinds, tiny_bundle: Bundle, ports: tuple[int, int], tmp_path: Path
) -> None:
    slices = [pydicom.dcmread(file) for file in slices_of(kinds["flagged"][0])]
    studies = [study_of(slices) for _ in range(4)]
    with OwnPacs() as pacs, served(tiny_bundle, tmp_path / "service", pacs.port, ports) as service:
        mixed = [slice_ for together in zip(*studies, strict=True) for slice_ in together]
        assert set(send_datasets(mixed, ports[0])) == {0}
        wait_for(lambda: len(pacs.reports()) == 4, 60)
        time.sleep(2)
        assert sorted(r.StudyInstanceUID for r in pacs.reports()) == sorted(s[0].StudyInstanceUID for s in studies)
    assert service.status == 0
