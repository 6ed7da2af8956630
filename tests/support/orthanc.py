"""Debian's Orthanc as the PACS of tests: a real one, in a folder of its own, that sends stable studies on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support.pacs_peers import HOST, free_port, wait_for

# Where `make bedside-tools` unpacks Debian's packages, where they are not installed.
UNPACKED = Path(__file__).resolve().parents[2] / "build" / "bedside-tools"
_ROUTE = """
function OnStableStudy(studyId, tags, metadata)
  local job = '{"Resources": ["' .. studyId .. '"], "Permissive": true, "Synchronous": false}'
  RestApiPost('/modalities/edge/store', job)
end
"""


def tool(name: str) -> str:
    """The path of a program of Orthanc, dcmtk or dicom3tools; the test is skipped where it is absent."""
    places = [UNPACKED / "usr" / "sbin", UNPACKED / "usr" / "bin", "/usr/sbin", "/usr/bin", "/usr/local/bin"]
    found = shutil.which(name, path=os.pathsep.join(map(str, places)))  # pynetdicom has programs of the same names
    if found is None:
        pytest.skip(f"{name} is not installed; `make bedside-tools` unpacks it on Debian")
    return found


def environment() -> dict[str, str]:
    """For programs that are unpacked and not installed."""
    libraries = sorted({str(path.parent) for path in UNPACKED.rglob("*.so*")}) if UNPACKED.is_dir() else []
    found = {"LD_LIBRARY_PATH": os.pathsep.join(libraries)} if libraries else {}
    dictionaries = sorted(UNPACKED.rglob("dicom.dic")) if UNPACKED.is_dir() else []
    return os.environ | found | ({"DCMDICTPATH": str(dictionaries[0])} if dictionaries else {})


class Orthanc:
    """A PACS; a context manager. Its title is PACS, and it sends each stable study to DTVIT at `edge_port`."""

    def __init__(self, folder: Path, edge_port: int, *, routes: bool = True) -> None:
        self._program = tool("Orthanc")
        self.port, self._http = free_port(), free_port()
        self._folder = folder
        folder.mkdir()
        (folder / "route.lua").write_text(_ROUTE)
        places = [*UNPACKED.rglob("libOrthancDicomWeb.so*"), *Path("/usr/lib/orthanc").glob("libOrthancDicomWeb.so*")]
        self._settings = folder / "orthanc.json"
        self._settings.write_text(json.dumps({
            "StorageDirectory": str(folder / "db"), "IndexDirectory": str(folder / "db"), "HttpPort": self._http,
            "DicomPort": self.port, "DicomAet": "PACS", "RemoteAccessAllowed": False, "AuthenticationEnabled": False,
            "DicomAlwaysAllowStore": True, "DicomAlwaysAllowEcho": True, "DicomAlwaysAllowFind": True, "StableAge": 1,
            "DicomModalities": {"edge": ["DTVIT", HOST, edge_port]}, "OverwriteInstances": False,
            "LuaScripts": [str(folder / "route.lua")] if routes else [],
            "Plugins": [str(place) for place in places if place.is_file()][:1],
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        }))  # fmt: skip

    def __enter__(self) -> Orthanc:
        self.begin()
        return self

    def __exit__(self, *details: object) -> None:
        self.end()

    def begin(self) -> None:
        """Start it, and wait until it answers."""
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._program, str(self._settings)], stdout=log, stderr=log, env=environment()
            )
        wait_for(lambda: self._answers(), 30)

    def end(self) -> None:
        """Stop it; what it stored stays."""
        self._process.terminate()
        self._process.wait(30)

    def ask(self, path: str, data: object = None) -> Any:
        """Its REST interface."""
        body = None if data is None else json.dumps(data).encode()
        with urllib.request.urlopen(f"http://{HOST}:{self._http}{path}", body, timeout=10) as answer:
            return json.load(answer)

    def instances(self, modality: str) -> list[dict[str, Any]]:
        """Tags of all instances of a modality."""
        found = []
        for series in self.ask("/series?expand"):
            if series["MainDicomTags"]["Modality"] == modality:
                found += [self.ask(f"/instances/{one}/simplified-tags") | {"ID": one} for one in series["Instances"]]
        return found

    def file(self, instance: str) -> bytes:
        """An instance's bytes."""
        with urllib.request.urlopen(f"http://{HOST}:{self._http}/instances/{instance}/file", timeout=10) as answer:
            return bytes(answer.read())

    def _answers(self) -> bool:
        with suppress(OSError, ValueError):
            self.ask("/system")
            return True
        return False


@contextmanager
def stopped(pacs: Orthanc) -> Iterator[None]:
    """A PACS that is down for a while."""
    pacs.end()
    try:
        yield
    finally:
        pacs.begin()
