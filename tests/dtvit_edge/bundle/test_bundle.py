from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from dtvit_edge.bundle import (
    ENGINES,
    MANIFEST,
    MODEL_FILES,
    Bundle,
    FileRecord,
    Manifest,
    Threshold,
    Thresholds,
    write_bundle,
    write_thresholds,
)
from dtvit_edge.errors import BundleError, ConfigError, DigestMismatch, UnknownFormat
from dtvit_edge.spec import digest_json
from tests.support.tiny_bundle import edit_manifest, tiny_model, write_tiny_bundle
from tests.support.typed_graphs import OPSETS


@pytest.fixture
def copy(tiny_bundle: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle.path, tmp_path / "copy.dtvit"))


def test_what_is_written_is_read_back(tiny_bundle: Bundle) -> None:
    again = Bundle.open(tiny_bundle.path, expect_digest=tiny_bundle.digest)
    assert again == tiny_bundle
    assert again.model_bytes("fp32") == tiny_model()
    golden = again.golden()
    assert golden.pixels.shape == (9, 1, 224, 224)
    assert {k: v.shape for k, v in golden.logits.items()} == {"ich_logits": (9, 2), "location_logits": (9, 3)}


def test_every_file_is_covered_by_its_digest(tiny_bundle: Bundle, tmp_path: Path) -> None:
    files = [p.relative_to(tiny_bundle.path) for p in tiny_bundle.path.rglob("*") if p.is_file()]
    assert len(files) == 6
    for name in files:
        path = Path(shutil.copytree(tiny_bundle.path, tmp_path / name.name))
        data = bytearray((path / name).read_bytes())
        data[len(data) // 2] ^= 1
        (path / name).write_bytes(data)
        with pytest.raises(BundleError):
            Bundle.open(path, expect_digest=tiny_bundle.digest).check_files()


def test_a_changed_byte_names_the_file(copy: Path) -> None:
    data = (copy / "model.fp32.onnx").read_bytes()
    (copy / "model.fp32.onnx").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    opened = Bundle.open(copy)  # nothing is hashed before it is used
    for use in (opened.check_files, lambda: opened.model_bytes("fp32")):
        with pytest.raises(DigestMismatch, match=r"model\.fp32\.onnx: sha256 is .* the manifest names"):
            use()


def test_bytes_that_change_after_opening_are_refused(copy: Path) -> None:
    bundle = Bundle.open(copy)
    (copy / "model.fp32.onnx").write_bytes(b"swapped")
    with pytest.raises(DigestMismatch):
        bundle.model_bytes("fp32")


@pytest.mark.parametrize("name", ["stored", "pixels", "ich_logits", "location_logits"])
def test_a_missing_golden_file_is_named(copy: Path, name: str) -> None:
    (copy / "golden" / f"{name}.npy").unlink()
    with pytest.raises(BundleError, match=rf"{name}\.npy: named in the manifest, but missing"):
        Bundle.open(copy)


def thin(bundle: Bundle, path: Path, *gone: str) -> Path:
    """A copy of a bundle without these models' files."""
    shutil.copytree(bundle.path, path)
    for precision in gone:
        (path / MODEL_FILES[precision]).unlink()
    return path


def test_a_thin_copy_is_the_same_bundle_and_says_what_it_lacks(typed_bundle: Bundle, tmp_path: Path) -> None:
    path = thin(typed_bundle, tmp_path / "t.dtvit", "int8", "fp32")
    bundle = Bundle.open(path, expect_digest=typed_bundle.digest)
    assert (bundle.manifest, bundle.digest) == (typed_bundle.manifest, typed_bundle.digest)
    assert bundle.absent == ("fp32", "int8")
    assert bundle.absent_files == ("model.fp32.onnx", "model.int8.onnx")
    assert bundle.present == ("fp16", "fp32-op16", "fp8", "int8-fp16")
    assert bundle.model_bytes("fp16") == typed_bundle.model_bytes("fp16")
    assert bundle.golden().pixels.shape == typed_bundle.golden().pixels.shape


def test_a_whole_copy_lacks_nothing(typed_bundle: Bundle) -> None:
    assert (typed_bundle.absent, typed_bundle.absence) == ((), "")
    assert typed_bundle.present == tuple(sorted(OPSETS))
    typed_bundle.require_whole()


def test_a_model_that_a_copy_lacks_is_named_with_where_it_comes_from(typed_bundle: Bundle, tmp_path: Path) -> None:
    bundle = Bundle.open(thin(typed_bundle, tmp_path / "t.dtvit", "fp32", "int8", "fp32-op16"))
    for ask in (bundle.model_bytes, bundle.model_path):
        with pytest.raises(BundleError) as error:
            ask("fp32")
        assert str(error.value) == (
            f"{bundle.path / 'model.fp32.onnx'}: not in this copy of the bundle; to be copied from the "
            "workstation's (this copy has fp16, fp8, int8-fp16)"
        )
    with pytest.raises(BundleError, match=r"whole bundle is needed; model\.fp32\.onnx, .*\.onnx: not in this"):
        bundle.require_whole()


def test_a_model_that_comes_later_is_taken_and_one_that_goes_is_named(typed_bundle: Bundle, tmp_path: Path) -> None:
    bundle = Bundle.open(thin(typed_bundle, tmp_path / "t.dtvit", "int8"))
    shutil.copy(typed_bundle.model_path("int8"), bundle.path)
    assert bundle.model_bytes("int8") == typed_bundle.model_bytes("int8")
    (bundle.path / MODEL_FILES["int8"]).write_bytes(b"half of it")
    with pytest.raises(DigestMismatch):
        bundle.model_bytes("int8")
    bundle.model_path("fp16").unlink()
    with pytest.raises(BundleError, match="not in this copy"):
        bundle.model_bytes("fp16")


@pytest.mark.parametrize("kept", [0, -1], ids=["empty", "truncated"])
def test_a_damaged_model_is_not_taken_for_an_absent_one(typed_bundle: Bundle, tmp_path: Path, kept: int) -> None:
    path = thin(typed_bundle, tmp_path / "t.dtvit", "int8")
    model = path / MODEL_FILES["fp16"]
    model.write_bytes(model.read_bytes()[:kept])
    with pytest.raises(DigestMismatch, match=r"model\.fp16\.onnx"):
        Bundle.open(path).model_bytes("fp16")
    assert "fp16" in Bundle.open(path).present


def test_a_dangling_link_and_a_folder_are_not_taken_for_absent_models(typed_bundle: Bundle, tmp_path: Path) -> None:
    for name, put in (("link", lambda at: at.symlink_to("nowhere")), ("folder", Path.mkdir)):
        path = thin(typed_bundle, tmp_path / f"{name}.dtvit", "fp16")
        put(path / MODEL_FILES["fp16"])
        with pytest.raises(BundleError, match=r"model\.fp16\.onnx: named in the manifest, but missing"):
            Bundle.open(path)


def test_a_copy_with_no_model_needs_an_engine(typed_bundle: Bundle, tmp_path: Path) -> None:
    path = thin(typed_bundle, tmp_path / "t.dtvit", *OPSETS)
    with pytest.raises(BundleError, match=r"neither a model nor an engine .*--device-files TARGET"):
        Bundle.open(path)
    (path / ENGINES).mkdir()
    with pytest.raises(BundleError, match="neither a model nor an engine"):
        Bundle.open(path)
    (path / ENGINES / "some.plan").write_bytes(b"x")
    with pytest.raises(BundleError, match="this copy has engines alone"):
        Bundle.open(path).model_bytes("fp32")


@pytest.mark.parametrize("version", [0, 1, 3, "2", True])
def test_another_format_version_is_refused_with_what_makes_the_bundle_anew(copy: Path, version: object) -> None:
    edit_manifest(copy, format=version)
    with pytest.raises(UnknownFormat, match=r"this code reads 2; .*dtvit-edge export WEIGHTS -o NAME\.dtvit"):
        Bundle.open(copy)


def test_a_manifest_without_a_format_is_none(copy: Path) -> None:
    edit_manifest(copy, format=None)
    with pytest.raises(BundleError, match="it names no format"):
        Bundle.open(copy)


def test_a_damaged_manifest_is_found_by_its_own_checksum(copy: Path) -> None:
    text = (copy / MANIFEST).read_text()
    (copy / MANIFEST).write_text(text.replace('"encoder": "mean"', '"encoder": "meal"'))
    with pytest.raises(DigestMismatch, match="its checksum is not that of its content"):
        Bundle.open(copy)


def test_a_spec_that_does_not_match_its_digest_is_refused(copy: Path) -> None:
    spec = json.loads((copy / MANIFEST).read_text())["spec"]
    edit_manifest(copy, spec=spec | {"mask_threshold": 20})
    with pytest.raises(DigestMismatch, match="spec digest"):
        Bundle.open(copy)


def test_a_bundle_from_before_thin_slices_were_averaged_is_read_with_the_defaults(copy: Path) -> None:
    spec = json.loads((copy / MANIFEST).read_text())["spec"]
    older = {key: value for key, value in spec.items() if key not in ("thickness_mm", "top_places")}
    edit_manifest(copy, spec=older, spec_digest=digest_json(older))
    assert Bundle.open(copy).manifest.spec.to_dict() == spec


@pytest.mark.parametrize(
    "change",
    [
        {"labels": {"ich": ["normal", "ich"], "location": []}},
        {"training": "clinical"},
        {"tolerances": {"fp32": -1}},
        {"reference": {"rounding": 1e-6, "spread": {}}},
        {"golden": {"files": {}, "slices": [{"rows": 0, "columns": 1, "encoding": {}}]}},
        {"weights_sha256": "abc"},
        {"golden": {"files": {}, "slices": []}},
        {"models": {"fp4": {"file": "model.fp32.onnx", "sha256": "0" * 64, "bytes": 1, "facts": {}}}},
        {"models": {"fp32": {"file": "model.fp32.onnx"}}},
        {"unknown": 1},
    ],
    ids=[
        "labels",
        "training",
        "tolerance-below-0",
        "no-spread",
        "slice-without-rows",
        "no-sha256",
        "no-golden-files",
        "unknown-precision",
        "no-digest",
        "unknown-key",
    ],
)
def test_manifests_that_contradict_this_code_are_refused(copy: Path, change: dict[str, object]) -> None:
    edit_manifest(copy, **change)
    with pytest.raises(BundleError):
        Bundle.open(copy)


def test_an_untrained_location_head_is_read_back(tiny_bundle_without_location: Bundle) -> None:
    again = Bundle.open(tiny_bundle_without_location.path)
    assert again == tiny_bundle_without_location
    assert again.manifest.untrained_heads == ("location",)


@pytest.mark.parametrize(
    "heads",
    [["ich"], ["ich", "location"], ["colour"], ["location", "location"], [["location"]], "location", None, 1],
    ids=["ich", "both", "unknown", "twice", "nested", "text", "null", "number"],
)
def test_no_other_head_than_the_location_head_may_be_untrained(copy: Path, heads: object) -> None:
    edit_manifest(copy, untrained_heads=heads)
    with pytest.raises(BundleError, match=r"untrained heads are .*; only 'location' can be one|untrained_heads"):
        Bundle.open(copy)


@pytest.mark.parametrize("name", ["../outside.onnx", "/etc/hostname", "golden/../../outside"])
def test_files_outside_the_bundle_are_refused(copy: Path, name: str) -> None:
    models = json.loads((copy / MANIFEST).read_text())["models"]
    models["fp32"]["file"] = name
    edit_manifest(copy, models=models)
    with pytest.raises(BundleError, match="outside the bundle"):
        Bundle.open(copy)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"null"])
def test_rubbish_is_no_manifest(copy: Path, content: bytes) -> None:
    (copy / MANIFEST).write_bytes(content)
    with pytest.raises(BundleError):
        Bundle.open(copy)


def test_no_bundle_there(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no bundle here"):
        Bundle.open(tmp_path / "absent")


def test_another_digest_than_expected_is_refused(tiny_bundle: Bundle) -> None:
    with pytest.raises(DigestMismatch, match="expected ab"):
        Bundle.open(tiny_bundle.path, expect_digest="ab")


def test_a_precision_that_is_not_there_names_those_that_are(tiny_bundle: Bundle) -> None:
    with pytest.raises(BundleError, match=r"no int8 model in this bundle \(it has fp32\)"):
        tiny_bundle.model_bytes("int8")


def test_writing_refuses_what_is_there_and_replaces_only_bundles(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "a.dtvit")
    with pytest.raises(ConfigError, match="exists already"):
        write_tiny_bundle(tmp_path / "a.dtvit")
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "letter.txt").write_text("dear")
    with pytest.raises(ConfigError, match="not a bundle"):
        write_bundle(tmp_path / "precious", bundle.manifest, {}, overwrite=True)
    assert (tmp_path / "precious" / "letter.txt").exists()


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "a.dtvit")
    more = replace(bundle.manifest, models={"fp32": FileRecord("absent.onnx", "", 0)})
    with pytest.raises(KeyError):
        write_bundle(tmp_path / "b.dtvit", more, {})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.dtvit"]


def test_the_same_content_gives_the_same_digest(tmp_path: Path) -> None:
    one, two = (write_tiny_bundle(tmp_path / folder / "t.dtvit") for folder in ("a", "b"))
    assert one.digest == two.digest


def test_overwriting_with_the_same_model_keeps_engines_and_thresholds(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "a.dtvit")
    (bundle.path / ENGINES).mkdir()
    (bundle.path / ENGINES / "some.plan").write_bytes(b"x")
    write_thresholds(bundle.path, bundle.digest, Thresholds(Threshold(0.3, "tuned")))
    files = {r.file: bundle.file_bytes(r) for r in (*bundle.manifest.models.values(), *bundle.manifest.golden.values())}
    new = write_bundle(bundle.path, replace(bundle.manifest, calibration={"method": "x"}), files, overwrite=True)
    assert new.digest != bundle.digest and new.thresholds.slice == Threshold(0.3, "tuned")
    assert (new.path / ENGINES / "some.plan").read_bytes() == b"x"
    other = files | {MODEL_FILES["fp32"]: tiny_model(middle=60.0)}
    assert write_bundle(bundle.path, new.manifest, other, overwrite=True).thresholds == Thresholds()
    assert not (bundle.path / ENGINES).exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.dtvit"]


def test_a_manifest_says_the_same_read_back(tiny_bundle: Bundle) -> None:
    manifest = tiny_bundle.manifest
    assert Manifest.from_json(manifest.to_json()) == manifest
    with pytest.raises(BundleError, match="NaN"):
        Manifest.from_json(manifest.to_json().replace('"rounding": 0.0', '"rounding": NaN'))


def test_a_manifest_larger_than_any_is_not_read(copy: Path) -> None:
    with (copy / MANIFEST).open("r+b") as file:
        file.truncate((1 << 23) + 1)
    with pytest.raises(BundleError, match=r"manifest\.json: it has 8388609 bytes, at most 8388608 are expected"):
        Bundle.open(copy)
