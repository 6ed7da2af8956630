"""The key by which a device knows the engines that it built itself.

An engine is a program. Its record carries a message authentication code (HMAC-SHA256, RFC 2104) by a key that never
leaves this user's state folder, so that a plan which somebody else put into a bundle is refused, however well its
record fits. The code finds what others made; it keeps nobody out who can read the key.
"""

from __future__ import annotations

import hmac
import json
import os
import secrets
from pathlib import Path
from typing import Any

from dtvit_edge.errors import ConfigError, EngineError
from dtvit_edge.files import not_ours, read_regular

KEY_FILE = "device.key"
_KEY_BYTES = 32


def state_folder() -> Path:
    """Where this user's state lies (XDG Base Directory Specification)."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "dtvit-edge"


def make_key() -> bytes:
    """The key of this device, made where there is none.

    Raises:
        ConfigError: it cannot be kept.
        EngineError: others can read or write it.
    """
    folder = state_folder()
    part = folder / f".{secrets.token_hex(8)}.part"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not (folder / KEY_FILE).exists():
            try:
                handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with open(handle, "wb") as file:
                    file.write(secrets.token_bytes(_KEY_BYTES))
                    file.flush()
                    os.fsync(file.fileno())
                os.link(part, folder / KEY_FILE)  # of two processes the first one's key stays
            except FileExistsError:
                pass
            finally:
                part.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(
            f"the key of this device cannot be kept in {folder}: {error.strerror}; XDG_STATE_HOME names another folder"
        ) from error
    key = read_key()
    if key is None:
        raise ConfigError(f"the key of this device is gone again from {folder}")
    return key


def read_key() -> bytes | None:
    """The key of this device, or None where none was made yet.

    Raises:
        EngineError: others can read or write it, or it is damaged; with what to type.
    """
    path = state_folder() / KEY_FILE
    try:
        if why := not_ours(path.parent):
            raise EngineError(f"{path.parent}, which holds the key of this device: {why}")
        key = read_regular(path, _KEY_BYTES, secret=True)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise EngineError(f"{path}: the key of this device is not usable: {error.strerror}") from error
    if len(key) != _KEY_BYTES:
        raise EngineError(f"{path}: not a key of {_KEY_BYTES} bytes; rm {path}, and build the engines anew")
    return key


def code_of(data: dict[str, Any], key: bytes) -> str:
    """The authentication code of plain JSON types, in hexadecimal."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"))
    return hmac.new(key, text.encode(), "sha256").hexdigest()


def is_code_of(code: str, data: dict[str, Any], key: bytes) -> bool:
    """True where the code is the data's; takes the same time whatever it is."""
    return hmac.compare_digest(code.encode(), code_of(data, key).encode())
