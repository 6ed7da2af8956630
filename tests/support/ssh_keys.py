"""Keys and signatures of SSH for tests, made by `cryptography` or piece by piece."""

from __future__ import annotations

import base64
import hashlib
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("cryptography", reason="cryptography is not installed, which signatures need")

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)


@dataclass(frozen=True)
class Keys:
    """A pair in two files, as ssh-keygen leaves them."""

    private: Path
    public: Path
    blob: bytes = b""


def write_keys(folder: Path, name: str = "signer", *, passphrase: bytes | None = None, key: Any = None) -> Keys:
    """A new pair; `key` is a private one of another type."""
    key = key or Ed25519PrivateKey.generate()
    private, public = folder / name, folder / f"{name}.pub"
    how = NoEncryption() if passphrase is None else BestAvailableEncryption(passphrase)
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, how))
    private.chmod(0o600)
    public.write_bytes(key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH) + b" somebody@here\n")
    public.chmod(0o644)
    return Keys(private, public, base64.b64decode(public.read_text().split()[1]))


def string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def sshsig(
    message: bytes,
    key: Ed25519PrivateKey,
    *,
    namespace: bytes = b"dtvit-edge-bundle",
    reserved: bytes = b"",
    hash_name: bytes = b"sha512",
    version: int = 1,
    kind: bytes = b"ssh-ed25519",
    key_kind: bytes = b"ssh-ed25519",
    public: bytes | None = None,
    more: bytes = b"",
) -> str:
    """An armored signature, written from OpenSSH's description of the format and not by the code under test."""
    raw = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw) if public is None else public
    digest = hashlib.new(hash_name.decode(), message).digest()
    value = key.sign(b"SSHSIG" + b"".join(map(string, (namespace, reserved, hash_name, digest))))
    parts = (string(key_kind) + string(raw), namespace, reserved, hash_name, string(kind) + string(value))
    return armored(b"SSHSIG" + struct.pack(">I", version) + b"".join(map(string, parts)) + more)


def armored(blob: bytes) -> str:
    text = base64.encodebytes(blob).decode()
    return f"-----BEGIN SSH SIGNATURE-----\n{text}-----END SSH SIGNATURE-----\n"


def unarmored(text: str) -> bytes:
    return base64.b64decode("".join(text.splitlines()[1:-1]))
