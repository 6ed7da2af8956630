"""A part of the fuzzing that `python -m benchmarks.standalone.fuzz_decoding` does whole, and what is a finding."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.standalone import fuzz_decoding
from benchmarks.standalone.damaged_images import damaged
from benchmarks.standalone.fuzz_decoding import Fuzzer
from benchmarks.standalone.fuzzing import Tally, in_chunks
from dtvit_edge.dicom import decoder_pool
from dtvit_edge.dicom.decoder_pool import ParallelReader
from dtvit_edge.dicom.slice import Slice, SliceHeader
from dtvit_edge.errors import ConfigError
from tests.support.dicom_files import dataset, save
from tests.support.multi_frame_files import rle


@pytest.fixture(autouse=True)
def own_processes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Decoders that end with the test."""
    pool = decoder_pool._Pool()
    monkeypatch.setattr(decoder_pool, "_pool", pool)
    yield
    pool.close()


@pytest.fixture
def images(tmp_path: Path) -> list[bytes]:
    """A plain slice, and RLE of several frames."""
    small = dataset(Rows=64, Columns=64, PixelData=struct.pack("<H", 1024) * 64 * 64)
    return [save(tmp_path / "plain", small).read_bytes(), save(tmp_path / "rle", rle()).read_bytes()]


def test_damaged_images_are_slices_or_rejections_the_same_for_both_readers(tmp_path: Path, images: list[bytes]) -> None:
    tally = Fuzzer(1, images, tmp_path)(range(25))
    assert tally.findings == []
    assert tally.counts["inputs"] == 25 and tally.counts["frames decoded by both"] > 5


def test_a_reader_with_other_pixels_is_a_finding(
    tmp_path: Path, images: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = ParallelReader.read

    def wrong(self: ParallelReader, header: SliceHeader) -> Slice:
        slice_ = read(self, header)
        return Slice(header, slice_.stored + 1) if self._here._fast else slice_

    monkeypatch.setattr(ParallelReader, "read", wrong)
    findings = Fuzzer(1, images, tmp_path)(range(3)).findings
    assert findings and all(finding.endswith("other pixels") for finding in findings)


def test_an_error_that_is_no_rejection_is_a_finding(
    tmp_path: Path, images: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*arguments: object, **more: object) -> None:
        raise KeyError("x")

    monkeypatch.setattr(fuzz_decoding, "read_headers_apart", fails)
    assert Fuzzer(1, images, tmp_path)(range(1)).findings == ["input 0 of seed 1: KeyError: 'x'"]


def test_the_same_images_seed_and_number_give_the_same_file(images: list[bytes]) -> None:
    made = [damaged(images, 5, number) for number in range(60)]
    assert made == [damaged(images, 5, number) for number in range(60)]
    assert len(set(made)) > 50 and damaged(images, 6, 0) != made[0]


def test_chunks_that_were_run_are_not_run_again_and_count_all_the_same(tmp_path: Path) -> None:
    ran: list[range] = []

    def run(numbers: range) -> Tally:
        ran.append(numbers)
        return Tally(Counter(inputs=len(numbers)), {"seconds": float(numbers.stop)}, [f"one in {numbers.start}"])

    work = tmp_path / "work"
    for stop in (5, 12):
        total = in_chunks(range(stop), 5, work, {"seed": 1}, run)
    assert ran == [range(5), range(5, 10), range(10, 12)]
    assert total.counts == {"inputs": 12} and total.largest == {"seconds": 12.0}
    assert total.findings == ["one in 0", "one in 5", "one in 10"]
    with pytest.raises(ConfigError, match="other inputs"):
        in_chunks(range(5), 5, work, {"seed": 2}, run)


def test_a_folder_without_an_image_to_damage_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz_decoding, "phantoms", lambda folder: [])
    (tmp_path / "also").mkdir()
    arguments = ["--inputs", "1", "--also", str(tmp_path / "also"), "--out", str(tmp_path / "r")]
    done = CliRunner().invoke(fuzz_decoding.main, arguments)
    assert isinstance(done.exception, ConfigError) and "nothing to damage" in str(done.exception)
    assert not (tmp_path / "r").exists()
