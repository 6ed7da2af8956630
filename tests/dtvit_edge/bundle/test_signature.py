"""Who answers for a bundle: what a trusted signature covers, and what does not pass for one."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from dtvit_edge.bundle import (
    MANIFEST,
    SIGNATURE,
    THRESHOLDS,
    Bundle,
    Threshold,
    Thresholds,
    remove_thresholds,
    write_bundle,
    write_signature,
    write_thresholds,
)
from dtvit_edge.bundle.signature import require_signature, trusted_keys
from dtvit_edge.errors import ConfigError, DigestMismatch, MissingDependency, SignatureError
from tests.support.ssh_keys import Ed25519PrivateKey, Keys, armored, sshsig, unarmored, write_keys
from tests.support.tiny_bundle import edit_manifest

ELSEWHERE = Ed25519PrivateKey.generate()


@dataclass(frozen=True)
class Scene:
    """A signed bundle with tuned thresholds, and the signer's keys."""

    path: Path
    keys: Keys

    def open(self) -> Bundle:
        return Bundle.open(self.path, trust=self.keys.public)

    @property
    def message(self) -> bytes:
        return Bundle.open(self.path).signed.message


def sign(path: Path, keys: Keys) -> None:
    write_signature(path, Bundle.open(path).signed, keys.private, lambda: None)


@pytest.fixture
def scene(tiny_bundle: Bundle, tmp_path: Path) -> Scene:
    path = Path(shutil.copytree(tiny_bundle.path, tmp_path / "b.dtvit"))
    keys = write_keys(tmp_path)
    write_thresholds(path, tiny_bundle.digest, Thresholds(Threshold(0.3, "tuned"), Threshold(0.4, "tuned")))
    sign(path, keys)
    return Scene(path, keys)


def test_a_bundle_signed_by_a_trusted_key_opens_and_says_whose_it_is(scene: Scene) -> None:
    other = write_keys(scene.path.parent, "other")
    for trust in (scene.keys.public, str(scene.keys.public), [other.public, scene.keys.public]):
        opened = Bundle.open(scene.path, trust=trust)
        state = opened.signature_state()
        assert opened.signer and opened.signer.startswith("SHA256:") and state.key == opened.signer
        assert state.trusted and state.valid and opened.thresholds.study.value == 0.4


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="sha256sum is not installed")
def test_what_is_signed_is_what_sha256sum_prints(scene: Scene) -> None:
    for names in ([MANIFEST, THRESHOLDS], [MANIFEST]):
        printed = subprocess.run(["sha256sum", *names], cwd=scene.path, capture_output=True, check=True).stdout
        assert Bundle.open(scene.path).signed.message == printed
        (scene.path / THRESHOLDS).unlink(missing_ok=True)


def test_without_a_trusted_key_a_signature_is_described_and_nothing_is_refused(scene: Scene) -> None:
    valid = Bundle.open(scene.path).signature_state()
    assert valid.valid and not valid.trusted and "--trust" in valid.words
    edit_manifest(scene.path, name="other")
    (scene.path / THRESHOLDS).unlink()
    stale = Bundle.open(scene.path).signature_state()
    assert stale.valid is False and not stale.trusted and "NOT VALID" in stale.words
    (scene.path / SIGNATURE).unlink()
    assert Bundle.open(scene.path).signature_state().words == "none"


def test_no_key_at_all_is_refused_where_trust_was_asked_for(scene: Scene) -> None:
    with pytest.raises(ConfigError, match="no key is given"):
        Bundle.open(scene.path, trust=[])


def tuned(value: float) -> Callable[[Scene], object]:
    def attack(scene: Scene) -> None:
        data = json.loads((scene.path / THRESHOLDS).read_text())
        data["slice"]["value"] = data["study"]["value"] = value
        (scene.path / THRESHOLDS).write_text(json.dumps(data))

    return attack


def put(text: Callable[[Scene], str]) -> Callable[[Scene], object]:
    return lambda scene: (scene.path / SIGNATURE).write_text(text(scene))


def old(scene: Scene) -> str:
    return (scene.path / SIGNATURE).read_text()


def in_place(make: Callable[[Path], object]) -> Callable[[Scene], object]:
    """Something else lies where the signature was."""

    def attack(scene: Scene) -> None:
        (scene.path / SIGNATURE).unlink()
        make(scene.path / SIGNATURE)

    return attack


def huge(path: Path) -> None:
    path.touch()
    os.truncate(path, 8 << 30)


def linked(scene: Scene) -> None:
    (scene.path / SIGNATURE).rename(scene.path.parent / "outside.sig")
    (scene.path / SIGNATURE).symlink_to(scene.path.parent / "outside.sig")


def of_another_bundle(scene: Scene) -> None:
    edit_manifest(other := Path(shutil.copytree(scene.path, scene.path.parent / "other.dtvit")), name="other")
    (other / THRESHOLDS).unlink()
    sign(other, scene.keys)
    shutil.copy(other / SIGNATURE, scene.path)


def downgraded(scene: Scene) -> None:
    (scene.path / MANIFEST).write_text('{"format": 1, "threshold": 0.999}')


def forged(**more: object) -> Callable[[Scene], object]:
    """Made by another key, or for something else, about the right content."""
    return put(lambda scene: sshsig(scene.message, ELSEWHERE, **more))  # type: ignore[arg-type]


ATTACKS: dict[str, tuple[Callable[[Scene], object], str]] = {
    "the manifest edited, its checksum with it": (lambda s: edit_manifest(s.path, name="x"), "not a signature of this"),
    "a manifest of format 1": (downgraded, "not a signature of this"),
    "a threshold of 0.999": (tuned(0.999), "not a signature of this"),
    "the thresholds taken away": (lambda s: (s.path / THRESHOLDS).unlink(), "with no thresholds.json"),
    "no signature": (in_place(lambda path: None), "it is not signed"),
    "an empty signature": (put(lambda s: ""), "not one SSH signature"),
    "half a signature": (put(lambda s: old(s)[:150]), "not one SSH signature"),
    "a signature of half its bytes": (put(lambda s: armored(unarmored(old(s))[:90])), "it is cut off"),
    "a signature of 8 GiB": (in_place(huge), "it has 8589934592 bytes"),
    "two signatures": (put(lambda s: old(s) * 2), "not one SSH signature"),
    "a signature with more behind it": (put(lambda s: armored(unarmored(old(s)) + b"\0")), "bytes follow"),
    "text before the signature": (put(lambda s: "x" + old(s)), "not one SSH signature"),
    "a pipe": (in_place(os.mkfifo), "no regular file"),
    "a folder": (in_place(Path.mkdir), "not readable"),
    "a link out of the bundle": (linked, "leads out of"),
    "a link that leads nowhere": (in_place(lambda path: path.symlink_to("nowhere")), "it is not signed"),
    "the signature of another bundle": (of_another_bundle, "not a signature of this"),
    "another key": (forged(), "which is not trusted here"),
    "another key that names the trusted one": (
        lambda s: forged(public=s.keys.blob[-32:])(s),
        "not a signature of this",
    ),
    "a key of RSA": (forged(key_kind=b"ssh-rsa"), "the key is of type ssh-rsa"),
    "a key of another type with an escape": (forged(key_kind=b"\x1b[2J\xff"), r"type \\x1b|type \x1b"),
    "a signature of RSA": (forged(kind=b"rsa-sha2-512"), "it is not by ssh-ed25519"),
    "a signature for files": (forged(namespace=b"file"), "for something else"),
    "a signature for nothing": (forged(namespace=b""), "for something else"),
    "another version": (forged(version=2), "no SSH signature of version 1"),
    "a field of the future": (forged(reserved=b"x"), "a hash or a field"),
    "a hash of MD5": (forged(hash_name=b"md5"), "a hash or a field"),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_what_no_trusted_key_signed_is_refused(name: str, scene: Scene) -> None:
    attack, words = ATTACKS[name]
    attack(scene)
    with pytest.raises(SignatureError, match=words) as caught:
        scene.open()
    assert caught.value.exit_status == 2


def test_every_byte_of_a_signature_counts(scene: Scene) -> None:
    good, signed, trusted = unarmored(old(scene)), Bundle.open(scene.path).signed, trusted_keys(scene.keys.public)
    for place in range(len(good)):
        put(lambda s, p=place: armored(good[:p] + bytes([good[p] ^ 1]) + good[p + 1 :]))(scene)  # type: ignore[misc]
        with pytest.raises(SignatureError):
            require_signature(scene.path, signed, trusted)
    put(lambda s: armored(good))(scene)
    assert require_signature(scene.path, signed, trusted)


def test_a_signature_has_one_form_alone(scene: Scene) -> None:
    good = unarmored(old(scene))
    order = 2**252 + 27742317777372353535851937790883648493
    raised = int.from_bytes(good[-32:], "little") + order
    put(lambda s: armored(good[:-32] + raised.to_bytes(32, "little")))(scene)
    with pytest.raises(SignatureError, match="not a signature of this"):
        scene.open()


def test_thresholds_that_were_added_are_not_what_was_signed(scene: Scene) -> None:
    kept = (scene.path / THRESHOLDS).read_bytes()
    (scene.path / THRESHOLDS).unlink()
    sign(scene.path, scene.keys)
    assert scene.open().thresholds == Thresholds()
    (scene.path / THRESHOLDS).write_bytes(kept)
    with pytest.raises(SignatureError, match="with this thresholds"):
        scene.open()


def test_a_model_that_was_swapped_is_refused_when_it_is_used(scene: Scene) -> None:
    model = scene.path / "model.fp32.onnx"
    model.write_bytes(model.read_bytes()[:-1] + b"\1")
    opened = scene.open()
    with pytest.raises(DigestMismatch):
        opened.model_bytes("fp32")


def test_thresholds_of_another_manifest_are_refused_though_somebody_signed_them(scene: Scene) -> None:
    edit_manifest(scene.path, name="other")
    both = Bundle.open(scene.path, ignore_thresholds=True, trust=None)
    with pytest.raises(SignatureError):
        Bundle.open(scene.path, ignore_thresholds=True, trust=scene.keys.public)
    assert both.thresholds_digest is None


def test_what_lies_in_a_signatures_place_is_replaced_and_never_written_through(scene: Scene, tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("mine")
    in_place(lambda path: path.symlink_to(tmp_path / "victim"))(scene)
    sign(scene.path, scene.keys)
    assert scene.open().signer and (tmp_path / "victim").read_text() == "mine"
    in_place(Path.mkdir)(scene)
    for attempt in (lambda: sign(scene.path, scene.keys), lambda: remove_thresholds(scene.path)):
        with pytest.raises(ConfigError, match=r"is a folder|cannot be removed"):
            attempt()
    assert (scene.path / THRESHOLDS).exists()


@pytest.mark.parametrize("change", ["thresholds", "no thresholds", "calibration"])
def test_a_change_takes_the_signature_away_and_says_so(
    change: str, scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    bundle = scene.open()
    with caplog.at_level(logging.WARNING):
        if change == "thresholds":
            write_thresholds(scene.path, bundle.digest, Thresholds(Threshold(0.9)))
        elif change == "no thresholds":
            remove_thresholds(scene.path)
        else:
            records = (*bundle.manifest.models.values(), *bundle.manifest.golden.values())
            contents = {record.file: (scene.path / record.file).read_bytes() for record in records}
            write_bundle(scene.path, bundle.manifest, contents, overwrite=True)
    assert not os.path.lexists(scene.path / SIGNATURE) and "`dtvit-edge sign` signs anew" in caplog.text
    sign(scene.path, scene.keys)
    assert scene.open().signer


def test_engines_are_no_part_of_a_signature(scene: Scene) -> None:
    (scene.path / "engines").mkdir()
    (scene.path / "engines" / "any.json").write_text("{}")
    assert scene.open().signer


def test_without_cryptography_trust_is_refused_with_the_line_that_installs_it(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "cryptography.exceptions", None)
    with pytest.raises(MissingDependency, match="pip install 'cryptography"):
        scene.open()
    state = Bundle.open(scene.path).signature_state()
    assert state.valid is None and state.key and "not checked" in state.words
