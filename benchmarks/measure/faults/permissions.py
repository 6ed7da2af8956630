"""Permissions that bind root too: without it a folder of mode 000 is no obstacle where the benchmark runs as root."""

from __future__ import annotations

import ctypes
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# capget(2) and capset(2): version 3, two words of three sets. CAP_DAC_OVERRIDE is 1, CAP_DAC_READ_SEARCH 2.
_VERSION_3 = 0x20080522
_PASSES_BY = (1 << 1) | (1 << 2)


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Sets(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


@contextmanager
def bound_by_permissions() -> Iterator[None]:
    """Inside, files' permissions bind this thread, and those that it starts, even as root (Linux)."""
    if os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header, sets = _Header(_VERSION_3, 0), (_Sets * 2)()
    if libc.capget(ctypes.byref(header), ctypes.byref(sets)) != 0:
        raise OSError(ctypes.get_errno(), "capget")
    before = sets[0].effective
    sets[0].effective = before & ~_PASSES_BY
    _capset(libc, header, sets)
    try:
        yield
    finally:
        sets[0].effective = before
        _capset(libc, header, sets)


def permissions_bind() -> bool:
    """Whether a folder can be locked here at all."""
    with tempfile.TemporaryDirectory() as folder:
        locked = Path(folder) / "locked"
        locked.mkdir(mode=0o000)
        try:
            with bound_by_permissions():
                list(locked.iterdir())
        except PermissionError:
            return True
        except (OSError, AttributeError):  # no Linux
            return False
        finally:
            locked.chmod(0o700)
    return False


def _capset(libc: ctypes.CDLL, header: _Header, sets: ctypes.Array[_Sets]) -> None:
    if libc.capset(ctypes.byref(header), ctypes.byref(sets)) != 0:
        raise OSError(ctypes.get_errno(), "capset")
