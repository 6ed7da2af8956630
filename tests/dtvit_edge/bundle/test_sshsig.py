"""Key files of SSH, and what OpenSSH's own tool says to our signatures."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from dtvit_edge.bundle.sshsig import Signature, fingerprint, read_private_key, read_public_keys, sign
from dtvit_edge.errors import ConfigError
from tests.support.ssh_keys import Encoding, Keys, NoEncryption, PrivateFormat, string, write_keys

KEYGEN = shutil.which("ssh-keygen")
needs_ssh_keygen = pytest.mark.skipif(KEYGEN is None, reason="ssh-keygen is not installed")
NAMESPACE, MESSAGE = b"dtvit-edge-bundle", b"0" * 64 + b"  manifest.json\n"


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return write_keys(tmp_path)


def nobody() -> str | None:
    return None


def put(keys: Keys, data: bytes) -> Path:
    keys.public.write_bytes(data)
    return keys.public


READ: dict[str, Callable[[bytes], bytes]] = {
    "as ssh-keygen writes it": lambda line: line,
    "line ends of Windows": lambda line: line.replace(b"\n", b"\r\n"),
    "a byte order mark": lambda line: b"\xef\xbb\xbf" + line,
    "no line end, no comment": lambda line: b" ".join(line.split()[:2]),
    "a comment in another script": lambda line: line.strip() + " Jürgen 🔑\n".encode(),
    "comments and empty lines": lambda line: b"# who signs\n\n" + line,
    "allowed_signers": lambda line: b"radiology@example.org " + line,
    "the same key twice": lambda line: line * 2,
}


@pytest.mark.parametrize("name", READ)
def test_a_public_key_is_read(name: str, keys: Keys) -> None:
    assert list(read_public_keys(put(keys, READ[name](keys.public.read_bytes())))) == [keys.blob]


def ed25519(blob: bytes) -> bytes:
    return b"ssh-ed25519 " + base64.b64encode(blob)


REFUSED: dict[str, tuple[Callable[[Keys], object], str]] = {
    "nothing": (lambda k: put(k, b""), "it holds no key"),
    "comments alone": (lambda k: put(k, b"# none\n"), "it holds no key"),
    "a private key": (lambda k: put(k, k.private.read_bytes()), "give the file NAME.pub"),
    "a key of RSA": (lambda k: put(k, b"ssh-rsa AAAA x"), "expected `ssh-ed25519 KEY`"),
    "a security key": (lambda k: put(k, b"sk-ssh-ed25519@openssh.com AAAA x"), "expected `ssh-ed25519 KEY`"),
    "a certificate": (lambda k: put(k, b"ssh-ed25519-cert-v01@openssh.com AAAA"), "expected `ssh-ed25519 KEY`"),
    "RSA under another name": (lambda k: put(k, ed25519(string(b"ssh-rsa") + string(b"x"))), "of type ssh-rsa"),
    "a longer key": (lambda k: put(k, ed25519(k.blob + b"x")), "bytes follow"),
    "a shorter key": (lambda k: put(k, ed25519(k.blob[:-1])), "cut off"),
    "a key of 31 bytes": (lambda k: put(k, ed25519(string(b"ssh-ed25519") + string(b"x" * 31))), "has not 32 bytes"),
    "no base64": (lambda k: put(k, b"ssh-ed25519 AAAA!AAA"), "not base64"),
    "letters of another script": (lambda k: put(k, "\u0455sh-ed25519 AAAA".encode()), "expected `ssh-ed25519 KEY`"),
    "UTF-16": (lambda k: put(k, k.public.read_text().encode("utf-16")), "not UTF-8 text"),
    "options": (lambda k: put(k, b'x namespaces="git" ' + k.public.read_bytes()), "and no options"),
    "an authority": (lambda k: put(k, b"cert-authority " + k.public.read_bytes()), "and no options"),
    "a bad line after a good one": (lambda k: put(k, k.public.read_bytes() + b"x\n"), "line 2 is no public key"),
    "a file of 1 GiB": (lambda k: os.truncate(k.public, 1 << 30), "at most 65536"),
    "a pipe": (lambda k: (k.public.unlink(), os.mkfifo(k.public)), "no regular file"),
    "no file": (lambda k: k.public.unlink(), "No such file"),
    "a file that others may write": (lambda k: k.public.chmod(0o666), "chmod go-w"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_is_no_trusted_key_is_refused_in_words(name: str, keys: Keys) -> None:
    change, words = REFUSED[name]
    change(keys)
    with pytest.raises(ConfigError, match=words):
        read_public_keys(keys.public)


def test_a_comment_smuggles_no_second_key_in(keys: Keys, tmp_path: Path) -> None:
    own, other = keys.public.read_text().strip(), write_keys(tmp_path, "other").public.read_text()
    for mark in ("\r", "\u2028", "\x0b", "\x85", " "):
        assert list(read_public_keys(put(keys, f"{own}{mark}{other}".encode()))) == [keys.blob]


def test_a_key_with_a_passphrase_is_asked_for_it_once(tmp_path: Path) -> None:
    keys = write_keys(tmp_path, passphrase=b"pass word")
    assert sign(read_private_key(keys.private, lambda: "pass word"), NAMESPACE, MESSAGE).is_of(MESSAGE)
    for typed, words in (
        ("wrong", "wrong passphrase"),
        ("", "wrong passphrase"),
        (None, "only be typed on a terminal"),
    ):
        with pytest.raises(ConfigError, match=words):
            read_private_key(keys.private, lambda typed=typed: typed)  # type: ignore[misc]


def other_type(keys: Keys) -> object:
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

    return write_keys(keys.private.parent, key=generate_private_key(SECP256R1()))


def pem(keys: Keys) -> object:
    key = read_private_key(keys.private, nobody)
    return keys.private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


PRIVATE: dict[str, tuple[Callable[[Keys], object], str]] = {
    "others may read it": (lambda k: k.private.chmod(0o644), r"others may read it \(mode 0644\); chmod 600"),
    "others may write it": (lambda k: k.private.chmod(0o622), "chmod go-w"),
    "another type": (other_type, "of another type"),
    "another format": (pem, "in another format"),
    "the public key": (lambda k: k.private.write_bytes(k.public.read_bytes()), "a public key of SSH"),
    "half of it": (lambda k: k.private.write_bytes(k.private.read_bytes()[:200]), "it is damaged"),
    "its first line": (lambda k: k.private.write_bytes(b"-----BEGIN OPENSSH PRIVATE KEY-----\n"), "it is damaged"),
    "nothing": (lambda k: k.private.write_bytes(b""), "no key"),
    "no file": (lambda k: k.private.unlink(), "No such file"),
    "a pipe": (lambda k: (k.private.unlink(), os.mkfifo(k.private)), "no regular file"),
}


@pytest.mark.parametrize("name", PRIVATE)
def test_a_private_key_that_does_not_do_is_refused_in_words(name: str, keys: Keys) -> None:
    change, words = PRIVATE[name]
    change(keys)
    with pytest.raises(ConfigError, match=words):
        read_private_key(keys.private, nobody)


def keygen(*arguments: str, message: bytes = b"") -> str:
    done = subprocess.run([str(KEYGEN), *arguments], input=message, capture_output=True, check=True)
    return done.stdout.decode()


@needs_ssh_keygen
@pytest.mark.parametrize("passphrase", ["", "pass word"])
def test_ssh_keygens_keys_sign_and_it_accepts_our_signature(passphrase: str, tmp_path: Path) -> None:
    keys = Keys(tmp_path / "key", tmp_path / "key.pub")
    keygen("-q", "-t", "ed25519", "-N", passphrase, "-C", "who@here", "-f", str(keys.private))
    made = sign(read_private_key(keys.private, lambda: passphrase), NAMESPACE, MESSAGE)
    (tmp_path / "signed.sig").write_text(made.to_file())
    (tmp_path / "allowed").write_text(f"who@here {keys.public.read_text()}")
    verify = ("-Y", "verify", "-f", str(tmp_path / "allowed"), "-I", "who@here", "-s", str(tmp_path / "signed.sig"))
    assert "Good" in keygen(*verify, "-n", NAMESPACE.decode(), message=MESSAGE)
    with pytest.raises(subprocess.CalledProcessError):
        keygen(*verify, "-n", "file", message=MESSAGE)
    with pytest.raises(subprocess.CalledProcessError):
        keygen(*verify, "-n", NAMESPACE.decode(), message=MESSAGE + b"x")


@needs_ssh_keygen
@pytest.mark.parametrize("hashed", ["sha512", "sha256"])
def test_a_signature_that_ssh_keygen_made_is_valid_here(hashed: str, tmp_path: Path) -> None:
    keygen("-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key"))
    command = ("-Y", "sign", "-f", str(tmp_path / "key"), "-n", NAMESPACE.decode(), "-O", f"hashalg={hashed}")
    text = keygen(*command, message=MESSAGE)
    read = Signature.from_file(text.encode())
    assert read.namespace == NAMESPACE and read.is_of(MESSAGE) and not read.is_of(MESSAGE + b"x")
    assert list(read_public_keys(tmp_path / "key.pub")) == [read.key]
    assert read.to_file() == text and fingerprint(read.key) in keygen("-l", "-f", str(tmp_path / "key.pub"))
