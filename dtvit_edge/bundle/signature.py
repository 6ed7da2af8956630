"""`bundle.sig`: who answers for a bundle.

What is signed is what `sha256sum manifest.json thresholds.json` prints in the bundle, without the second line where
there are no thresholds: the manifest names every model and golden file by its digest, and thresholds that were changed,
added or taken away change what is found as much as another model does. Engines are no part of it: one runs only where
this device built it from a model that the manifest names, or where its digest was accepted (`trt.store`).

    (cd NAME.dtvit && sha256sum manifest.json thresholds.json) |
        ssh-keygen -Y verify -f ALLOWED_SIGNERS -I WHO -n dtvit-edge-bundle -s NAME.dtvit/bundle.sig

A signature says who signed, and not which bundle was meant: an earlier one by the same key verifies as well, and
`--expect-digest` tells them apart.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from dtvit_edge.bundle.manifest import MANIFEST
from dtvit_edge.bundle.schema import THRESHOLDS
from dtvit_edge.bundle.sshsig import (
    MOST_SIGNATURE_BYTES,
    Passphrase,
    Signature,
    read_private_key,
    read_public_keys,
    sign,
)
from dtvit_edge.errors import ConfigError, MissingDependency, SignatureError
from dtvit_edge.files import read_regular, write_atomically

SIGNATURE = "bundle.sig"
NAMESPACE = "dtvit-edge-bundle"

Trust = str | os.PathLike[str] | Collection[str | os.PathLike[str]]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Signed:
    """What a signature covers, by digest.

    Attributes:
        manifest: sha256 of `manifest.json`; thresholds: of `thresholds.json`, None where there is none.
    """

    manifest: str
    thresholds: str | None

    @property
    def message(self) -> bytes:
        """What is signed: the lines that sha256sum prints."""
        names = {MANIFEST: self.manifest, THRESHOLDS: self.thresholds}
        return "".join(f"{digest}  {name}\n" for name, digest in names.items() if digest is not None).encode()


@dataclass(frozen=True)
class SignatureState:
    """What is known of a bundle's signature, for people to read.

    Attributes:
        key: the signer's fingerprint; None where there is no readable signature.
        valid: whether it is of this very content; None where that was not checked.
        trusted: whether the key is one that was given as trusted.
        words: all of it, in words.
    """

    key: str | None
    valid: bool | None
    trusted: bool
    words: str


def trusted_keys(trust: Trust) -> dict[bytes, str]:
    """The keys of some files, by their blobs; see `sshsig.read_public_keys`.

    Raises:
        ConfigError: no file, or one that is no key's.
    """
    paths = [trust] if isinstance(trust, (str, os.PathLike)) else list(trust)
    if not paths:
        raise ConfigError("no key is given whose signature could be trusted")
    return {key: name for path in paths for key, name in read_public_keys(Path(path)).items()}


def require_signature(folder: Path, signed: Signed, trusted: Mapping[bytes, str]) -> str:
    """Refuse a bundle that no trusted key has signed as it is.

    Args:
        signed: the digests of the very bytes that will be used.
        trusted: as `trusted_keys` gives it.

    Returns:
        The fingerprint of the key that did.

    Raises:
        SignatureError: no signature, none that can be read, of another key, or of other content.
        MissingDependency: `cryptography` is not here.
    """
    path = folder / SIGNATURE
    signature = _read(path)
    if signature.key not in trusted:
        given = ", ".join(sorted(set(trusted.values())))
        raise SignatureError(f"{path}: signed by the key {signature.fingerprint}, which is not trusted here ({given})")
    _require_valid(path, signature, signed)
    return signature.fingerprint


def signature_state(folder: Path, signed: Signed, trusted: str | None) -> SignatureState:
    """What `inspect` says; nothing is refused here.

    Args:
        trusted: the fingerprint that `require_signature` gave, if it was asked.
    """
    path = folder / SIGNATURE
    if trusted is not None:
        return SignatureState(trusted, True, True, f"valid, by the trusted key {trusted}")
    if not os.path.lexists(path):
        return SignatureState(None, None, False, "none")
    key = None
    try:
        signature = _read(path)
        key = signature.fingerprint
        _require_valid(path, signature, signed)
    except SignatureError as error:
        return SignatureState(key, False, False, f"NOT VALID: {error}")
    except MissingDependency as error:
        return SignatureState(key, None, False, f"by the key {key}, not checked: {error}")
    return SignatureState(key, True, False, f"valid, by the key {key}; whether that key is to be trusted, --trust says")


def write_signature(folder: Path, signed: Signed, key: Path, passphrase: Passphrase) -> str:
    """Sign, in place of any earlier signature.

    Args:
        key: a private key as `sshsig.read_private_key` takes it.

    Returns:
        The fingerprint of the key.

    Raises:
        ConfigError, MissingDependency: as `sshsig.read_private_key`; or a folder lies in its place.
        DiskFault: it cannot be written.
    """
    path = folder / SIGNATURE
    if path.is_dir() and not path.is_symlink():
        raise ConfigError(f"{path} is a folder, where the signature is to be written")
    signature = sign(read_private_key(key, passphrase), NAMESPACE.encode(), signed.message)
    write_atomically(path, signature.to_file())
    return signature.fingerprint


def remove_signature(folder: Path) -> None:
    """Remove the signature of content that is about to change, and say so.

    Raises:
        ConfigError: it cannot be removed.
    """
    path = folder / SIGNATURE
    try:
        path.unlink()
    except FileNotFoundError:
        return
    except OSError as error:
        raise ConfigError(f"{path}, which signs what is to be changed, cannot be removed: {error.strerror}") from error
    say_removed(folder)


def say_removed(folder: Path) -> None:
    """Warn that a bundle is signed no more."""
    logger.warning("%s: its signature was of what it held before, and is removed; `dtvit-edge sign` signs anew", folder)


def _read(path: Path) -> Signature:
    try:
        signature = Signature.from_file(read_regular(path, MOST_SIGNATURE_BYTES, within=path.parent))
    except FileNotFoundError as error:
        raise SignatureError(f"{path.parent}: it is not signed (no {SIGNATURE}); `dtvit-edge sign` signs it") from error
    except OSError as error:
        raise SignatureError(f"{path}: the signature is not readable: {error.strerror}") from error
    except ValueError as error:
        raise SignatureError(f"{path}: no signature as `dtvit-edge sign` makes it: {error}") from error
    if signature.namespace != NAMESPACE.encode():
        raise SignatureError(f"{path}: a signature for something else than a bundle ({signature.namespace[:40]!r})")
    return signature


def _require_valid(path: Path, signature: Signature, signed: Signed) -> None:
    if not signature.is_of(signed.message):
        raise SignatureError(
            f"{path}: not a signature of this {MANIFEST} with {'this' if signed.thresholds else 'no'} {THRESHOLDS}: "
            "one of them was changed, or the signature is another bundle's"
        )
