"""Damaged and hostile bundles end as one sentence and exit status 2, soon and in little memory."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import time
import tracemalloc
from pathlib import Path

import pytest

from dtvit_edge.bundle import MANIFEST, Bundle
from dtvit_edge.cli.commands import main
from dtvit_edge.errors import BundleError, DigestMismatch
from tests.support.bundle_attacks import ATTACKS, put_file
from tests.support.tiny_bundle import tiny_model

MOST_SECONDS, MOST_BYTES = 2.0, 1 << 30
SEED, MUTATIONS = 17, 150


@pytest.fixture
def copy(tiny_bundle: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle.path, tmp_path / "copy.dtvit"))


@pytest.mark.parametrize("name", ATTACKS)
def test_a_hostile_bundle_is_refused_with_a_sentence(copy: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    attack, words = ATTACKS[name]
    attack(copy)
    before = time.process_time()
    assert main(["inspect", str(copy)]) == 2
    assert time.process_time() - before < MOST_SECONDS
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("error: ") and words in said.err, said.err
    assert "Traceback" not in said.err and len(said.err) < 1000


@pytest.mark.parametrize("name", ["many lists", "deep JSON", "a model of 8 GiB", "weights of another size"])
def test_refusing_takes_little_memory(copy: Path, name: str) -> None:
    ATTACKS[name][0](copy)
    tracemalloc.start()
    try:
        with pytest.raises(BundleError):
            Bundle.open(copy).check_files()
        assert tracemalloc.get_traced_memory()[1] < MOST_BYTES
    finally:
        tracemalloc.stop()


def test_every_changed_byte_of_a_manifest_is_refused(copy: Path) -> None:
    data = (copy / MANIFEST).read_bytes()
    places = random.Random(SEED).sample(range(len(data)), MUTATIONS)
    for place in places:
        (copy / MANIFEST).write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        with contextlib.suppress(BundleError):
            Bundle.open(copy)
            # A blank between fields may become another blank: what it says is the same, and its digest another.
            assert json.loads((copy / MANIFEST).read_bytes()) == json.loads(data), place


def test_golden_bytes_are_those_that_were_hashed(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = Bundle.open(copy)
    assert bundle.check_files() == 5
    pixels = copy / "golden" / "pixels.npy"
    data = bytearray(pixels.read_bytes())
    data[-1] ^= 1
    pixels.write_bytes(data)
    with pytest.raises(DigestMismatch, match=r"pixels\.npy: sha256 is"):
        bundle.golden()


def test_a_file_that_another_takes_the_place_of_after_opening_is_refused(copy: Path) -> None:
    bundle = Bundle.open(copy)
    (copy / "golden" / "pixels.npy").rename(copy.parent / "outside")
    (copy / "golden" / "pixels.npy").symlink_to(copy.parent / "outside")
    with pytest.raises(BundleError, match="leads out of"):
        bundle.golden()


def test_a_link_inside_the_bundle_is_followed(copy: Path) -> None:
    (copy / "golden" / "pixels.npy").rename(copy / "golden" / "moved.npy")
    (copy / "golden" / "pixels.npy").symlink_to("moved.npy")
    assert len(Bundle.open(copy).golden()) == 9


@pytest.mark.parametrize("name", ["model.fp32.onnx", "golden/pixels.npy", "golden/ich_logits.npy"])
def test_mutated_files_that_the_manifest_names_open_or_are_refused(copy: Path, name: str) -> None:
    """The digests are made anew, as whoever changes a bundle would."""
    draw = random.Random(SEED)
    original = (copy / name).read_bytes()
    for _ in range(MUTATIONS // 3):
        data = bytearray(original)
        place = draw.randrange(min(len(data), 600))
        kind = draw.randrange(3)
        if kind == 0:
            data[place] = draw.randrange(256)
        elif kind == 1:
            del data[place : place + draw.randrange(1, 9)]
        else:
            data[place:place] = draw.randbytes(draw.randrange(1, 9))
        put_file(copy, name, bytes(data))
        with contextlib.suppress(BundleError):
            Bundle.open(copy).check_files()


def test_a_graph_with_more_fields_than_any_is_refused_soon(copy: Path) -> None:
    put_file(copy, "model.fp32.onnx", tiny_model() + b"\x28\x01" * 2_000_000)
    before = time.process_time()
    with pytest.raises(BundleError, match="more than 500000 fields"):
        Bundle.open(copy).check_files()
    assert time.process_time() - before < MOST_SECONDS
