"""Free text of a header as words that can be compared, whatever the case, accents and punctuation they came with."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache

_CAMEL_CASE = re.compile(r"(?<=[a-z]{2})(?=[A-Z][a-z])")  # Siemens writes "HeadRoutine", but "keV" is one word
_POINT = re.compile(r"(?<!\d)\.|\.(?!\d)")
_SEPARATORS = re.compile(r"[^A-Z0-9/+\-.&?]+")


@lru_cache(maxsize=4096)
def fold(text: str) -> str:
    """Upper case without accents; words apart by one space; of the punctuation `/ + - & ?` and decimal points stay."""
    plain = unicodedata.normalize("NFKD", _CAMEL_CASE.sub(" ", text).replace("ß", "ss"))
    upper = "".join(c for c in plain if not unicodedata.combining(c)).upper()
    return _SEPARATORS.sub(" ", _POINT.sub("", upper)).strip()


def pattern(phrases: Iterable[str], *more: str) -> re.Pattern[str]:
    """Whole words and phrases in folded text: `C SPINE` is C-SPINE and CSPINE as well, `SPINE*` SPINES.

    Args:
        phrases: upper case; a blank stands for nothing, a blank, `/` or `-`; a star at the end for more letters.
        more: regular expressions as they are.
    """
    spelled = sorted((re.escape(p).replace(r"\ ", "[ /-]*").replace(r"\*", "[A-Z]*") for p in phrases), key=len)
    return re.compile("|".join([*more, rf"(?<![A-Z])(?:{'|'.join(reversed(spelled))})(?![A-Z])"]))
