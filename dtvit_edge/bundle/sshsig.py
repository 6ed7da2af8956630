"""Keys and signatures as OpenSSH writes them, of Ed25519 alone.

A signature is an SSHSIG file (OpenSSH's PROTOCOL.sshsig), which `ssh-keygen -Y verify` checks as well. It is read
strictly: one signature, no byte too many, none of the fields that a later version may fill. Reading and fingerprints
need nothing but Python; `cryptography` is imported where something is signed or checked.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from dtvit_edge.errors import ConfigError, MissingDependency
from dtvit_edge.files import read_regular

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

INSTALL = "pip install 'cryptography[ssh]'"
KEY_TYPE = "ssh-ed25519"
MOST_SIGNATURE_BYTES = 1 << 13  # one by Ed25519 has 300
_MOST_KEY_BYTES = 1 << 16
_MAGIC, _VERSION = b"SSHSIG", 1
_KEY_BYTES, _SIGNATURE_BYTES = 32, 64
_HASHES = {b"sha512": hashlib.sha512, b"sha256": hashlib.sha256}
_BEGIN, _END = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"
_ARMOR = re.compile(rf"{_BEGIN}\r?\n([A-Za-z0-9+/=\r\n]+?)\r?\n{_END}\s*", re.ASCII)
_WORDS = {b"ssh-": "a public key of SSH", b"----": "a key in another format, or a private one"}

Passphrase = Callable[[], str | None]


@dataclass(frozen=True)
class Signature:
    """One SSHSIG signature.

    Attributes:
        key: the public key's blob, as in the second word of a `.pub` file, decoded.
        namespace: what the signature is for; it is worth nothing for anything else.
        hash_name: of the message; value: 64 bytes.
    """

    key: bytes
    namespace: bytes
    hash_name: bytes
    value: bytes

    @cached_property
    def fingerprint(self) -> str:
        """The key's, as `ssh-keygen -l` prints it."""
        return fingerprint(self.key)

    def is_of(self, message: bytes) -> bool:
        """Whether the key signed this message in this namespace.

        Raises:
            MissingDependency: `cryptography` is not here.
        """
        try:
            from cryptography.exceptions import InvalidSignature
            from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        except ImportError as error:
            raise _not_installed(error) from error
        try:
            key = Ed25519PublicKey.from_public_bytes(self.key[-_KEY_BYTES:])
            key.verify(self.value, _signed(self.namespace, self.hash_name, message))
        except (InvalidSignature, ValueError):
            return False
        return True

    @classmethod
    def from_file(cls, data: bytes) -> Signature:
        """Read an armored signature.

        Raises:
            ValueError: it is none, or not one by an Ed25519 key; in words.
        """
        found = _ARMOR.fullmatch(data.decode("ascii", errors="replace"))
        if found is None:
            raise ValueError("it is not one SSH signature and nothing else")
        rest = _unbase64(found[1].replace("\r", "").replace("\n", ""))
        if rest[:6] != _MAGIC or rest[6:10] != struct.pack(">I", _VERSION):
            raise ValueError(f"it is no SSH signature of version {_VERSION}")
        key, namespace, reserved, hash_name, value = _strings(rest[10:], 5)
        check_key(key)
        if reserved or hash_name not in _HASHES:
            raise ValueError("it has a hash or a field that nobody knows here")
        kind, value = _strings(value, 2)
        if kind != KEY_TYPE.encode() or len(value) != _SIGNATURE_BYTES:
            raise ValueError(f"it is not by {KEY_TYPE}")
        return cls(key, namespace, hash_name, value)

    def to_file(self) -> str:
        """As `ssh-keygen -Y sign` writes it."""
        value = _string(KEY_TYPE.encode()) + _string(self.value)
        parts = (self.key, self.namespace, b"", self.hash_name, value)
        blob = _MAGIC + struct.pack(">I", _VERSION) + b"".join(map(_string, parts))
        text = base64.b64encode(blob).decode()
        return "\n".join([_BEGIN, *(text[i : i + 70] for i in range(0, len(text), 70)), _END, ""])


def sign(key: Ed25519PrivateKey, namespace: bytes, message: bytes) -> Signature:
    """Sign a message for a namespace."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    raw = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    blob = _string(KEY_TYPE.encode()) + _string(raw)
    return Signature(blob, namespace, b"sha512", key.sign(_signed(namespace, b"sha512", message)))


def fingerprint(key: bytes) -> str:
    """The fingerprint of a public key's blob, as `ssh-keygen -l` prints it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key).digest()).decode().rstrip("=")


def check_key(key: bytes) -> None:
    """Refuse a public key's blob that is not one of Ed25519.

    Raises:
        ValueError: with its type.
    """
    kind, *_ = _strings(key, 1, rest=True)
    if kind != KEY_TYPE.encode():
        raise ValueError(f"the key is of type {kind[:40].decode('ascii', 'backslashreplace')}, expected {KEY_TYPE}")
    if len(_strings(key, 2)[1]) != _KEY_BYTES:
        raise ValueError(f"the key has not {_KEY_BYTES} bytes")


def read_public_keys(path: Path) -> dict[bytes, str]:
    """The keys of a `.pub` file, or of an allowed_signers file without options: blob -> fingerprint.

    Raises:
        ConfigError: the file cannot be read, others may write it, or a line is no Ed25519 key.
    """
    try:
        text = read_regular(path, _MOST_KEY_BYTES, owned=True).decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{path}: the key is not readable: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: no public key of SSH: not UTF-8 text") from error
    keys: dict[bytes, str] = {}
    for number, line in enumerate(text.split("\n"), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        try:
            key = _key_of(words)
        except ValueError as error:
            raise ConfigError(f"{path}: line {number} is no public key that can be trusted: {error}") from error
        keys[key] = fingerprint(key)
    if not keys:
        raise ConfigError(f"{path}: it holds no key")
    return keys


def read_private_key(path: Path, passphrase: Passphrase) -> Ed25519PrivateKey:
    """The private key that `ssh-keygen -t ed25519` wrote.

    Args:
        passphrase: is asked for it where the key has one; None where nobody can be asked.

    Raises:
        ConfigError: it cannot be read, others can read it, it is of another type or format, or the passphrase is wrong.
        MissingDependency: `cryptography` is not here.
    """
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_ssh_private_key
    except ImportError as error:
        raise _not_installed(error) from error
    try:
        data = read_regular(path, _MOST_KEY_BYTES, secret=True)
    except OSError as error:
        raise ConfigError(f"{path}: the key is not usable: {error.strerror}") from error
    if not data.startswith(b"-----BEGIN OPENSSH PRIVATE KEY-----"):
        kind = _WORDS.get(data[:4], "no key")
        raise ConfigError(f"{path}: {kind}; expected a private key as `ssh-keygen -t {KEY_TYPE[4:]}` makes it")
    try:
        try:
            key = load_ssh_private_key(data, None)
        except TypeError:  # it has a passphrase
            typed = passphrase()
            if typed is None:
                raise ConfigError(f"{path}: the key has a passphrase, which can only be typed on a terminal") from None
            key = load_ssh_private_key(data, typed.encode())
    except UnsupportedAlgorithm as error:
        raise MissingDependency(f"{path}: the key's passphrase or type needs more; {INSTALL}") from error
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{path}: the key cannot be read: a wrong passphrase, or it is damaged") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"{path}: the key is of another type; expected one that `ssh-keygen -t ed25519` makes")
    return key


def _key_of(words: list[str]) -> bytes:
    """The blob of a line `TYPE KEY [COMMENT]`, or `PRINCIPALS TYPE KEY [COMMENT]`."""
    if words[0].startswith("-----BEGIN"):
        raise ValueError("it begins a private key or another format; give the file NAME.pub that ssh-keygen made")
    if words[0] != KEY_TYPE and words[1:2] == [KEY_TYPE] and "=" not in words[0] and words[0] != "cert-authority":
        words = words[1:]
    if len(words) < 2 or words[0] != KEY_TYPE:
        raise ValueError(f"expected `{KEY_TYPE} KEY`, as in NAME.pub, or `WHO {KEY_TYPE} KEY`, and no options")
    key = _unbase64(words[1])
    check_key(key)
    return key


def _signed(namespace: bytes, hash_name: bytes, message: bytes) -> bytes:
    """What the key signs in place of the message."""
    parts = (namespace, b"", hash_name, _HASHES[hash_name](message).digest())
    return _MAGIC + b"".join(map(_string, parts))


def _string(data: bytes) -> bytes:
    """A string of RFC 4251: its length in four bytes, then its bytes."""
    return struct.pack(">I", len(data)) + data


def _strings(data: bytes, count: int, *, rest: bool = False) -> list[bytes]:
    """So many strings of RFC 4251, and nothing behind them unless `rest` allows it."""
    strings = []
    for _ in range(count):
        size = int.from_bytes(data[:4], "big")
        if len(data) < 4 + size:
            raise ValueError("it is cut off")
        strings.append(data[4 : 4 + size])
        data = data[4 + size :]
    if data and not rest:
        raise ValueError("bytes follow that do not belong to it")
    return strings


def _unbase64(text: str) -> bytes:
    try:
        return base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise ValueError("it is not base64") from error


def _not_installed(error: ImportError) -> MissingDependency:
    return MissingDependency(f"signatures need the package cryptography, which is not here ({error}); {INSTALL}")
