"""The whole service against a PACS of our own: one result for what came, however it came."""

from __future__ import annotations

import http.client
import json
import shutil
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import pydicom
import pytest

from dtvit_edge.bundle import Bundle
from dtvit_edge.cli.commands import main
from dtvit_edge.errors import ConfigError, DiskFault
from dtvit_edge.pacs import service as service_module
from dtvit_edge.pacs.incoming import Relevance
from dtvit_edge.pacs.metrics import Metrics, StatusPages
from dtvit_edge.pacs.reading import statement_of_object
from dtvit_edge.pacs.service import Service
from dtvit_edge.pacs.store import STORED
from dtvit_edge.pacs.structured_report import object_bytes
from dtvit_edge.scoring.options import Options
from tests.support.open_models import slices_of
from tests.support.pacs_objects import evidence_of
from tests.support.pacs_peers import OwnPacs, running, send, send_datasets, settings_of, wait_for

pytest.importorskip("pynetdicom", reason="the extra `pacs` is not installed")
pytest.importorskip("highdicom", reason="the extra `pacs` is not installed")
pytest.importorskip("prometheus_client", reason="the extra `pacs` is not installed")

Kinds = dict[str, tuple[Path, Path]]
CURRENT = "CurrentRequestedProcedureEvidenceSequence"


def idle(service: Service) -> bool:
    """Nothing waits to be scored or sent."""
    return not len(service._clock) and not service._store.count("waiting") and not service._busy


def asked(service: Service, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{service.status_port}{path}") as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.mark.real  # seconds
def test_a_study_in_two_associations_ends_as_one_report_and_what_comes_late_and_changes_nothing_as_none(
    kinds: Kinds, tiny_bundle: Bundle, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    files = slices_of(kinds["flagged"][0])
    with OwnPacs() as pacs, running(
        tiny_bundle, settings_of(tmp_path / "s", pacs.port, with_key_image=True, quiet_seconds=2.0), threshold=0.01
    ) as service:  # fmt: skip
        assert send(files[:10], service.port) == [0] * 10
        assert send(files[8:], service.port) == [0] * (len(files) - 8)
        wait_for(lambda: len(pacs.kept) == 2 and idle(service))
        (report,) = pacs.reports()
        said = statement_of_object(report)
        assert (said.flagged, said.status, report.CompletionFlag) == (True, "scored", "COMPLETE")
        assert len(evidence_of(report, CURRENT)) == len(files) and report.PatientName == "PHANTOM^0001"
        # A bone series that is late, everything once more, and what we sent ourselves.
        late = [pydicom.dcmread(file) for file in files[::3]]
        for number, slice_ in enumerate(late):
            slice_.SeriesInstanceUID, slice_.SOPInstanceUID = "2.25.500", f"2.25.500.{number}"
            slice_.file_meta.MediaStorageSOPInstanceUID = slice_.SOPInstanceUID
            slice_.ConvolutionKernel = "BONE"
        assert set(send_datasets([*late, *pacs.kept.values()], service.port)) == {0}
        assert set(send(files, service.port)) == {0}
        wait_for(lambda: idle(service) and service._metrics._studies._value.get() >= 2)
        assert len(pacs.reports()) == 1 and len(pacs.sent) == 2
        status, text = asked(service, "/health")
        assert status == 200 and json.loads(text)["status"] == "ok"
        status, text = asked(service, "/metrics")
        assert status == 200 and 'dtvit_results_total{flagged="1"} 1.0' in text and "dtvit_objects_parked 0.0" in text
        assert asked(service, "/other")[0] == 404
    everything = caplog.text + text
    assert "PHANTOM" not in everything
    # The next service on the folder has nothing to do.
    with pacs, running(tiny_bundle, settings_of(tmp_path / "s", pacs.port), threshold=0.01) as service:
        assert idle(service) and len(pacs.sent) == 2


@pytest.mark.real  # seconds
def test_a_result_that_changes_is_a_new_instance_that_names_the_one_before(
    kinds: Kinds, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    files = sorted(slices_of(kinds["not_flagged"][0]), key=lambda p: float(pydicom.dcmread(p).SliceLocation))
    with OwnPacs() as pacs, running(tiny_bundle, settings_of(tmp_path / "s", pacs.port), threshold=0.99) as service:
        send([*files[:10], *files[13:]], service.port)
        wait_for(lambda: len(pacs.reports()) == 1)
        send(files[10:13], service.port)
        wait_for(lambda: len(pacs.reports()) == 2 and idle(service))
        first, second = pacs.reports()
        assert [statement_of_object(r).flagged for r in (first, second)] == [None, False]
        assert (first.CompletionFlag, second.CompletionFlag) == ("PARTIAL", "COMPLETE")
        assert first.SeriesInstanceUID == second.SeriesInstanceUID and second.InstanceNumber == 2
        assert evidence_of(second, "PredecessorDocumentsSequence") == [first.SOPInstanceUID]
        # Old files go; a late slice alone then says less than what the PACS has, and is no new result.
        service._store.grow_older(25 * 3600)
        service._tend(0)
        study = str(first.StudyInstanceUID)
        assert not service._inbox.files_of(study).exists() and not service._inbox.results_of(study).exists()
        send(files[5:6], service.port)
        wait_for(lambda: service._metrics._studies._value.get() == 3 and idle(service))
        send(files[6:7], service.port)  # nor is the next one
        wait_for(lambda: service._metrics._studies._value.get() == 4 and idle(service))
        assert len(pacs.reports()) == 2


@pytest.mark.real  # seconds
def test_two_patients_under_one_study_get_no_report(kinds: Kinds, tiny_bundle: Bundle, tmp_path: Path) -> None:
    slices = [pydicom.dcmread(file) for file in slices_of(kinds["flagged"][0])]
    for slice_ in slices[:5]:
        slice_.PatientID = "ANOTHER"
    with OwnPacs() as pacs, running(tiny_bundle, settings_of(tmp_path / "s", pacs.port), threshold=0.01) as service:
        assert set(send_datasets(slices, service.port)) == {0}
        wait_for(lambda: service._metrics._studies._value.get() == 1 and idle(service))
        assert not pacs.sent and service.health()["status"] == "ok"


@pytest.mark.real  # seconds
def test_what_a_service_before_received_is_scored_by_the_next_one(
    kinds: Kinds, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    settings = settings_of(tmp_path / "s", 1)
    inbox = Service(tiny_bundle, Options(backend="onnxruntime"), settings)._inbox
    inbox.open()
    for file in slices_of(kinds["flagged"][0]):
        ds = pydicom.dcmread(file)
        inbox.keep(str(ds.StudyInstanceUID), str(ds.SOPInstanceUID), file.read_bytes())
    with OwnPacs() as pacs, running(tiny_bundle, settings_of(tmp_path / "s", pacs.port), threshold=0.01) as service:
        wait_for(lambda: len(pacs.reports()) == 1 and idle(service))
    # With another threshold the old output folder is another run's: this one counts.
    report = pacs.reports()[0]
    (tmp_path / "s" / "service.sqlite").unlink()
    with OwnPacs() as pacs, running(tiny_bundle, settings_of(tmp_path / "s", pacs.port), threshold=0.99) as service:
        wait_for(lambda: len(pacs.reports()) == 1 and idle(service))
    assert statement_of_object(report).flagged and not statement_of_object(pacs.reports()[0]).flagged
    assert pacs.reports()[0].SOPInstanceUID != report.SOPInstanceUID


@pytest.mark.real  # seconds
def test_a_second_service_on_the_folder_is_refused(tiny_bundle: Bundle, tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "s", 1)
    with running(tiny_bundle, settings), pytest.raises(ConfigError, match="another process is writing"):
        Service(tiny_bundle, Options(backend="onnxruntime"), settings).run()


@pytest.mark.real  # seconds
def test_what_cannot_be_scored_is_red_is_tried_again_and_ends_nothing(
    kinds: Kinds, tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real, raised = service_module.run, [DiskFault("the disk failed at x"), ValueError("PHANTOM^0001"), None]

    def failing(*args: object, **options: object) -> object:
        error = raised.pop(0)
        if error is not None:
            raise error
        return real(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(service_module, "run", failing)
    monkeypatch.setattr(service_module, "RETRY_SECONDS", 0.2)
    with OwnPacs() as pacs, running(tiny_bundle, settings_of(tmp_path / "s", pacs.port), threshold=0.01) as service:
        send(slices_of(kinds["flagged"][0]), service.port)
        wait_for(lambda: bool(service._troubled))
        status, text = asked(service, "/health")
        assert status == 503 and "could not be scored" in text
        wait_for(lambda: len(pacs.reports()) == 1 and idle(service))
        assert asked(service, "/health")[0] == 200
    assert "PHANTOM" not in caplog.text and "ValueError" in caplog.text


@pytest.mark.real  # seconds
def test_a_report_that_the_pacs_refuses_is_parked_and_red_until_it_is_sent_again_on_demand(
    kinds: Kinds, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    with OwnPacs() as pacs:
        pacs.answer = lambda uid, times: 0xC000
        with running(tiny_bundle, settings_of(tmp_path / "s", pacs.port), threshold=0.01) as service:
            send(slices_of(kinds["flagged"][0]), service.port)
            wait_for(lambda: service.health()["objects_parked"] == 1)
            assert service.health()["status"] == "red" and idle(service)
        pacs.answer = lambda uid, times: 0
        for resend, kept in ((False, 0), (True, 1)):
            with running(tiny_bundle, settings_of(tmp_path / "s", pacs.port, resend=resend), threshold=0.01) as service:
                wait_for(lambda: idle(service))
                assert len(pacs.kept) == kept and len(pacs.sent) == 1 + kept
                assert service._store.count(STORED) == kept


def test_an_asker_that_goes_before_its_answer_leaves_nothing_in_the_log(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    raised: list[BaseException] = [ConnectionResetError(), BrokenPipeError(), ValueError("PHANTOM^0001")]

    def health() -> dict[str, Any]:
        raise raised.pop(0)

    with StatusPages(0, Metrics(), health) as pages:
        for _ in range(3):
            with pytest.raises((OSError, http.client.HTTPException)):
                urllib.request.urlopen(f"http://127.0.0.1:{pages.port}/health")
        wait_for(lambda: bool(caplog.messages))
    assert caplog.messages == ["a status page could not be made: ValueError"]
    said = capsys.readouterr().err
    assert "Traceback" not in said and "PHANTOM" not in said


@pytest.mark.real  # seconds
def test_a_name_where_a_peer_should_send_a_uid_is_refused_and_no_warning_quotes_it(
    kinds: Kinds, tiny_bundle: Bundle, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    slice_ = pydicom.dcmread(slices_of(kinds["flagged"][0])[0])
    with running(tiny_bundle, settings_of(tmp_path / "s", 1)) as service:
        slice_.SOPInstanceUID = slice_.file_meta.MediaStorageSOPInstanceUID = "Secret^Name"
        assert send_datasets([slice_], service.port) == [0xC000]
    assert not [warning for warning in recwarn if "Secret" in str(warning.message)]


@pytest.mark.real  # seconds
def test_a_file_of_which_score_reads_nothing_or_another_study_leaves_the_service_well_and_takes_no_result_from_a_study(
    kinds: Kinds, tiny_bundle: Bundle, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = slices_of(kinds["flagged"][0])
    study = str(pydicom.dcmread(files[0]).StudyInstanceUID)
    stray = pydicom.dcmread(files[0])
    stray.StudyInstanceUID = "2.25.77"
    unreadable = b"\xff" * 500
    settings = settings_of(tmp_path / "s", 1, quiet_seconds=1.0)
    with OwnPacs() as pacs, running(
        tiny_bundle, replace(settings, pacs=replace(settings.pacs, port=pacs.port)), threshold=0.01
    ) as service:  # fmt: skip
        service._inbox.keep("2.25.78", "2.25.78.1", unreadable)
        service._inbox.keep(study, "2.25.77.1", object_bytes(stray))
        service._clock.arrived("2.25.78", Relevance(True))
        assert set(send(files, service.port)) == {0}
        wait_for(lambda: len(pacs.reports()) == 1 and idle(service) and service._metrics._studies._value.get() >= 2)
        assert service.health()["status"] == "ok" and pacs.reports()[0].StudyInstanceUID == study
        service._store.grow_older(25 * 3600)
        service._tend(0)
        assert not service._inbox.studies()
    assert "study 2.25.78 has no object: none of its files can be read" in caplog.text


@pytest.mark.real  # seconds
def test_a_study_that_was_never_scored_is_deleted_with_the_others_and_then_no_reason_for_red(
    kinds: Kinds, tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*args: object, **options: object) -> object:
        raise ValueError

    monkeypatch.setattr(service_module, "run", failing)
    monkeypatch.setattr(service_module, "RETRY_SECONDS", 0.1)
    with running(tiny_bundle, settings_of(tmp_path / "s", 1), threshold=0.01) as service:
        send(slices_of(kinds["flagged"][0]), service.port)
        wait_for(lambda: 3 in service._troubled.values() and idle(service))
        assert service.health()["status"] == "red"
        service._store.grow_older(25 * 3600)
        service._tend(0)
        assert not service._inbox.studies() and service.health()["status"] == "ok"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--pacs", "PACS@127.0.0.1"], "AET@HOST:PORT"),
        (["--pacs", "PACS@127.0.0.1:104", "--title", "x" * 17], "no AE title"),
        (["--pacs", "PACS@127.0.0.1:104", "--allow", "CT@127.0.0.1:104"], "AET@HOST"),
        (["--pacs", "PACS@no-such-host.invalid:104"], "no address of this host"),
    ],
)
def test_wrong_peers_are_refused_before_anything_begins(
    options: list[str], words: str, tiny_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", str(tiny_bundle.path), "-o", str(tmp_path / "s"), *options]) == 2
    assert words in capsys.readouterr().err and not (tmp_path / "s").exists()
    shutil.rmtree(tmp_path / "s", ignore_errors=True)
