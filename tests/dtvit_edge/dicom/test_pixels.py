from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.pixels import pixel_array
from pydicom.uid import HTJ2K, UID, HTJ2KLossless, HTJ2KLosslessRPCL

from dtvit_edge.dicom import pixels
from dtvit_edge.dicom.header import FileRejected, read_headers
from dtvit_edge.dicom.opening import open_dataset
from dtvit_edge.dicom.pixels import SliceReader, decode_frame, patterns
from dtvit_edge.dicom.slice import SliceHeader
from dtvit_edge.errors import SliceRejected
from dtvit_edge.results import Identity
from dtvit_edge.spec import PixelEncoding
from tests.support.data import real
from tests.support.dicom_files import dataset, enhanced, save


def read(path: Path, frame: int = 1) -> np.ndarray:
    header = read_headers(path, path.name)[frame - 1]
    return SliceReader().read(header).stored


def rejection(header: SliceHeader) -> str:
    with pytest.raises(SliceRejected) as caught:
        SliceReader().read(header)
    return caught.value.reason.code


@pytest.mark.parametrize("fast", [False, True])
def test_patterns_are_as_stored_wherever_the_bits_lie(tmp_path: Path, fast: bool) -> None:
    stored = np.arange(512 * 512, dtype=np.uint32).astype(np.uint16).reshape(512, 512)
    file = save(tmp_path / "a", BitsStored=12, HighBit=15, PixelRepresentation=0, PixelData=stored.tobytes())
    (header,) = read_headers(file, "a")
    np.testing.assert_array_equal(SliceReader(fast=fast).read(header).stored, stored)


@pytest.mark.parametrize(
    ("whole", "damaged", "code"),
    [
        (b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.9.9.9\0", "codec_missing"),
        (b"\xe0\x7f\x10\x00OW", b"\xe0\x7f\x10\x00O\1", "decode_failed"),
    ],
)
def test_a_damaged_syntax_or_pixel_element_is_one_rejected_slice(
    tmp_path: Path, whole: bytes, damaged: bytes, code: str
) -> None:
    file = save(tmp_path / "a")
    data = file.read_bytes()
    assert data.count(whole) == 1
    file.write_bytes(data.replace(whole, damaged))
    (header,) = read_headers(file, "a")
    assert rejection(header) == code


# Lossy encodings and how far their HU may lie from the original's, at most; None where no free decoder exists.
CTIMAGE_LOSSY = {"JPEG2000_": 8, "JPEGLSLossy": 2}
CTIMAGE_EIGHT_BITS = "JPEGProcess1_"  # with a slope of 32, which is refused
CTIMAGE_NO_DECODER = ("JPEGProcess10_12", "JPEGProcess2_4", "JPEGProcess6_8")
NEMA_LOSSY = {"J2KI": (600, 30), "JLSN": (5, 3)}  # largest and mean difference


@pytest.mark.parametrize("folder", ["nema-ct1", "nema-ct2"])
def test_nema_encodings_decode_to_the_uncompressed_pixels(folder: str) -> None:
    files = sorted(real("transfer-syntaxes", folder).glob("*.dcm"))
    assert len(files) == 7
    (reference,) = (f for f in files if f.stem.endswith("UNC"))
    expected = pydicom.dcmread(reference).pixel_array
    for file in files:
        decoded = read(file).view(np.int16)
        largest, mean = next((b for name, b in NEMA_LOSSY.items() if name in file.name), (0, 0))
        difference = np.abs(decoded.astype(int) - expected)
        assert difference.max() <= largest, file.name
        assert difference.mean() <= mean, file.name


def test_byte_orders_fragments_and_offset_tables_change_nothing() -> None:
    files = sorted(real("transfer-syntaxes", "ct1-encodings").glob("*.dcm"))
    assert len(files) == 7
    expected = pydicom.dcmread(real("transfer-syntaxes", "nema-ct1", "CT1_UNC.dcm")).pixel_array
    for file in files:
        np.testing.assert_array_equal(read(file).view(np.int16), expected, err_msg=file.name)


def test_fifteen_transfer_syntaxes_of_one_slice() -> None:
    folder = real("transfer-syntaxes", "ctimage")
    original = pydicom.dcmread(folder / "CTImage.dcm")
    expected = original.pixel_array.astype(float) + float(original.RescaleIntercept)
    exact = 0
    for file in sorted(folder.glob("*.dcm")):
        if file.name.startswith(CTIMAGE_EIGHT_BITS):
            with pytest.raises(FileRejected, match="implausible_hu"):
                read_headers(file, file.name)
            continue
        (header,) = read_headers(file, file.name)
        if file.name.startswith(CTIMAGE_NO_DECODER):
            assert rejection(header) == "codec_missing", file.name
            continue
        stored = SliceReader().read(header).stored
        values = stored.view(np.int16) if header.encoding.signed else stored
        hu = values * header.encoding.slope + header.encoding.intercept
        bound = next((b for name, b in CTIMAGE_LOSSY.items() if file.name.startswith(name)), 0)
        assert np.abs(hu - expected).max() <= bound, file.name
        exact += bound == 0
    assert exact == 10


# 32 x 32 signed pixels, each row -16 to 15, lossless, by OpenJPH 0.26.3: no codec here writes it.
HTJ2K_CODESTREAM = base64.b64decode(
    "/0//UQApQAAAAAAgAAAAIAAAAAAAAAAAAAAAIAAAACAAAAAAAAAAAAABjwEB/1AACAACAAAACv9SAAwAAgABAAMEBEAB/1wADSCIkJCQkJCQiI"
    "iI/2QAFwABT3BlbkpQSCBWZXIgMC4yNi4zLv+QAAoAAAAAAEUAAf+TwAArQP9/Q/j/B+ENkPSNlgDAABOAAPCgp0J1AMAAFQAA59T09PJ3AMAA"
    "KsAAAPn/ApSlKUvpAP/Z"
)


@pytest.mark.parametrize("syntax", [HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K], ids=lambda uid: uid.keyword)
def test_high_throughput_jpeg_2000_is_read(tmp_path: Path, syntax: UID) -> None:
    ds = dataset(Rows=32, Columns=32, PixelRepresentation=1, PixelData=encapsulate([HTJ2K_CODESTREAM]))
    ds["PixelData"].is_undefined_length = True
    ds.file_meta.TransferSyntaxUID = syntax
    stored = read(save(tmp_path / "a", ds)).view(np.int16)
    np.testing.assert_array_equal(stored, np.repeat([range(-16, 16)], 32, axis=0))


@pytest.mark.parametrize("plugin", ["gdcm", "pylibjpeg"])
def test_decoders_agree_with_each_other(plugin: str) -> None:
    """A decoder once gave silent zeros for 12-bit data: two must agree."""
    for name in ("JPEG2000LosslessOnly_1.2.840.10008.1.2.4.90.dcm", "RLELossless_1.2.840.10008.1.2.5.dcm"):
        if plugin == "gdcm" and name.startswith("RLE"):
            plugin = "pydicom"
        path = real("transfer-syntaxes", "ctimage", name)
        np.testing.assert_array_equal(
            read(path).view(np.int16), pixel_array(path, raw=True, decoding_plugin=plugin), err_msg=name
        )


def test_multi_frame_pixels_are_the_frames_own(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    frames = rng.integers(0, 4096, (3, 64, 80), dtype=np.uint16)
    path = save(tmp_path / "multi", enhanced(frames, shared_rescale=True, intercepts=[-1024.0] * 3))
    reader = SliceReader()
    for header in read_headers(path, "multi"):
        np.testing.assert_array_equal(reader.read(header).stored, frames[header.frame - 1])


def test_real_multi_frame_files_decode_alike_in_every_encoding() -> None:
    folder = real("odd", "enhanced-multiframe")
    expected = pydicom.dcmread(folder / "CT0012.explicit_little_endian.dcm").pixel_array
    frames_read = 0
    for file in sorted(folder.glob("CT0012*")):
        ds = open_dataset(file)
        for frame in (1, 2):
            header = SliceHeader(file, file.name, Identity(), frame, 2, 512, 512, PixelEncoding(signed=False))
            if "baseline.51" in file.name:
                with pytest.raises(SliceRejected, match="codec_missing"):
                    decode_frame(ds, header)
                continue
            decoded = decode_frame(ds, header)
            bound = 3 if "ls.81" in file.name else 0
            assert np.abs(decoded.astype(int) - expected[frame - 1]).max() <= bound, file.name
            frames_read += 1
    assert frames_read == 18


def test_a_file_that_lies_about_its_transfer_syntax() -> None:
    (header,) = read_headers(real("odd", "wrong-transfer-syntax.dcm"), "w")
    assert rejection(header) == "decode_failed"


@pytest.mark.parametrize("fast", [False, True], ids=["pydicom", "fast"])
def test_a_transfer_syntax_of_another_vr_is_that_files_row(fast: bool) -> None:
    (header,) = read_headers(real("hostile", "transfer-syntax-of-vr-lo.dcm"), "x", fast=fast)
    with pytest.raises(SliceRejected) as caught:
        SliceReader(fast=fast).read(header)
    assert (caught.value.reason.code, caught.value.detail) == ("decode_failed", "AttributeError")


class PanicException(BaseException):
    """What decoders in Rust raise."""


@pytest.mark.parametrize("error", [AttributeError("x"), MemoryError(), RecursionError(), PanicException("x")])
@pytest.mark.parametrize("place", ["read_pixels", "open_dataset", "get_decoder"])
def test_whatever_reading_raises_is_that_slices_row_with_the_errors_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, place: str
) -> None:
    (header,) = read_headers(save(tmp_path / "a", PatientName="DOE^JANE"), "a")

    def raising(*arguments: object, **more: object) -> None:
        raise error

    monkeypatch.setattr(pydicom.pixels if place == "get_decoder" else pixels, place, raising)
    reader = SliceReader(fast=place == "read_pixels")
    with pytest.raises(SliceRejected) as caught:
        reader.read(header)
    assert caught.value.reason.code == "decode_failed"
    assert caught.value.detail.endswith(type(error).__name__)


@pytest.mark.parametrize("place", ["read_pixels", "open_dataset", "get_decoder"])
def test_an_interrupt_is_no_rejection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    (header,) = read_headers(save(tmp_path / "a"), "a")

    def interrupted(*arguments: object, **more: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pydicom.pixels if place == "get_decoder" else pixels, place, interrupted)
    with pytest.raises(KeyboardInterrupt):
        SliceReader(fast=place == "read_pixels").read(header)


def test_a_truncated_file(tmp_path: Path) -> None:
    path = save(tmp_path / "a")
    path.write_bytes(path.read_bytes()[:-1000])
    (header,) = read_headers(path, "a")
    assert rejection(header) in ("truncated", "bad_header")


def test_a_file_without_its_pixels(tmp_path: Path) -> None:
    (header,) = read_headers(save(tmp_path / "a", PixelData=None), "a")
    assert rejection(header) == "truncated"


def test_a_file_that_vanished_between_the_passes(tmp_path: Path) -> None:
    path = save(tmp_path / "a")
    (header,) = read_headers(path, "a")
    path.unlink()
    assert rejection(header) == "unreadable"


def test_bytes_become_patterns() -> None:
    np.testing.assert_array_equal(patterns(np.array([0, 255], dtype=np.uint8)), [0, 255])
    np.testing.assert_array_equal(patterns(np.array([-1, 5], dtype=np.int8)), [0xFFFF, 5])
    np.testing.assert_array_equal(patterns(np.array([-1, 5], dtype=">i2")), [0xFFFF, 5])


def test_uncompressed_pixels_are_the_stored_ones(tmp_path: Path) -> None:
    ds = dataset()
    np.testing.assert_array_equal(read(save(tmp_path / "a")).view(np.int16), ds.pixel_array)
