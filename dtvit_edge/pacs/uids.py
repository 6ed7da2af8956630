"""UIDs: which text is one, and those of objects that are made here."""

from __future__ import annotations

import hashlib
import re
import uuid

# PS3.5 section 9.1, but for leading zeros in a component, which archives hold and which change no meaning.
_UID = re.compile(r"(?=.{1,64}\Z)\d+(\.\d+)*\Z", re.ASCII)


def is_uid(text: str) -> bool:
    """Whether a text can be sent, and be the name of a folder, as a UID."""
    return _UID.match(text) is not None


def derived_uid(*of: str) -> str:
    """A UID under 2.25 (PS3.5 annex B.2) of what it names: the same parts give the same UID, on any machine."""
    digest = hashlib.sha256("\n".join(of).encode("utf-8", "backslashreplace")).digest()
    return f"2.25.{uuid.UUID(bytes=digest[:16], version=5).int}"
