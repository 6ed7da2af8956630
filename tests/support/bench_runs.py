"""One small run of everything that other tests look at, and a bundle of which one precision is wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.run import bench
from benchmarks.settings import FULL, Effort, Settings
from dtvit_edge.bundle import MODEL_FILES, Bundle, FileRecord, write_bundle
from evaluation.records import Record
from tests.support.tiny_bundle import tiny_model, write_tiny_bundle

TINY = Effort(
    phantoms="phantoms:2@8000000",
    slices=12,
    studies=1,
    selftest=(1,),
    least=11,
    most=12,
    seconds=0.01,
    batches=(1, 2),
    seconds_a_batch=0.02,
    cold_starts=1,
    rounds=2,
    workers=(1,),
)
FULL_FLOORS = (FULL.least, FULL.most)


def with_int8(path: Path, *, tolerance: float, middle: float) -> Bundle:
    """The tiny bundle with an int8 file whose 0.5 lies at another mean brightness (fp32's is 45)."""
    made = write_tiny_bundle(path)
    files = {record.file: made.model_bytes(name) for name, record in made.manifest.models.items()}
    files |= {record.file: (path / record.file).read_bytes() for record in made.manifest.golden.values()}
    files[MODEL_FILES["int8"]] = tiny_model(middle=middle)
    manifest = replace(
        made.manifest,
        models=made.manifest.models | {"int8": FileRecord(MODEL_FILES["int8"], "", 0, {"opset": 17})},
        tolerances=made.manifest.tolerances | {"int8": tolerance},
    )
    return write_bundle(path, manifest, files, overwrite=True)


@pytest.fixture(scope="session")
def wrong_int8(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Its int8 passes the self-test, whose tolerance is wide, and decides otherwise than fp32; read-only."""
    return with_int8(tmp_path_factory.mktemp("bundle") / "wrong.dtvit", tolerance=100.0, middle=57.0)


@pytest.fixture(scope="session")
def settings(phantom_folder: Path) -> Settings:
    """As little as can be measured, on ONNX Runtime, from two phantom studies as folders."""
    folders = tuple(sorted(path for path in phantom_folder.iterdir() if path.is_dir()))
    return Settings(effort=TINY, studies=folders, backends=("onnxruntime",), threads=1, layers=True, command="the line")


@pytest.fixture(scope="session")
def ran(
    wrong_int8: Bundle, settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Record]]:
    """A run on the bundle with the wrong int8: its folder and its records by what they measure; read-only."""
    out = tmp_path_factory.mktemp("ran") / "out"
    return out, {record.what: record for record in bench([wrong_int8], settings, out)}
