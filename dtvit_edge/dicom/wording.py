"""Free text of a header as words that can be compared, whatever the case, accents and punctuation they came with."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import cached_property, lru_cache

_made: list[Expression] = []
_CAMEL_CASE = re.compile(r"(?<=[a-z]{2})(?=[A-Z][a-z])")  # Siemens writes "HeadRoutine", but "keV" is one word
# Text of a header has 64 characters, or 1,024 in a protocol (PS3.5 section 6.2); what is longer says no more.
_MOST_CHARACTERS = 1024
_POINT = re.compile(r"(?<!\d)\.|\.(?!\d)")
_SEPARATORS = re.compile(r"[^A-Z0-9/+\-.&?]+")


def fold(text: str) -> str:
    """Upper case without accents; words apart by one space; of the punctuation `/ + - & ?` and decimal points stay."""
    return _folded(text[:_MOST_CHARACTERS])


@lru_cache(maxsize=4096)
def _folded(text: str) -> str:
    plain = unicodedata.normalize("NFKD", _CAMEL_CASE.sub(" ", text).replace("ß", "ss"))
    upper = "".join(c for c in plain if not unicodedata.combining(c)).upper()
    return _SEPARATORS.sub(" ", _POINT.sub("", upper)).strip()


class Expression:
    """A regular expression that is compiled when it is first used: all of this vocabulary takes 0.05 s of a start.

    Attributes:
        pattern: its text.
    """

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        _made.append(self)

    @cached_property
    def _compiled(self) -> re.Pattern[str]:
        return re.compile(self.pattern)

    def compile(self) -> None:
        """Compile it now, where there is time."""
        self._compiled  # noqa: B018

    def search(self, text: str) -> re.Match[str] | None:
        """See `re.Pattern.search`."""
        return self._compiled.search(text)

    def sub(self, replacement: str, text: str) -> str:
        """See `re.Pattern.sub`."""
        return self._compiled.sub(replacement, text)


def compile_all() -> None:
    """Compile every expression, for a time in which something else is waited for."""
    for expression in _made:
        expression.compile()


def pattern(phrases: Iterable[str], *more: str) -> Expression:
    """Whole words and phrases in folded text: `C SPINE` is C-SPINE and CSPINE as well, `SPINE*` SPINES.

    Args:
        phrases: upper case; a blank stands for nothing, a blank, `/` or `-`; a star at the end for more letters.
        more: regular expressions as they are.
    """
    spelled = sorted((re.escape(p).replace(r"\ ", "[ /-]*").replace(r"\*", "[A-Z]*") for p in phrases), key=len)
    return Expression("|".join([*more, rf"(?<![A-Z])(?:{'|'.join(reversed(spelled))})(?![A-Z])"]))
