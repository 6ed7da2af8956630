"""What was concluded about a checkpoint, and on whose word: read in it, given by its owner, or assumed.

Nothing is guessed in silence: what was assumed is printed, recorded in the manifest (`imported`), and can be corrected
in `import.toml`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

READ, GIVEN, ASSUMED = "read", "given", "assumed"


@dataclass
class Findings:
    """Conclusions by name, in the order in which they were drawn.

    Attributes:
        entries: name -> (value as plain JSON types, one of READ, GIVEN and ASSUMED).
        notes: sentences on what changed no meaning (a prefix stripped, halves widened).
        warnings: sentences on what may be wrong.
        questions: name -> sentence, of what could not be concluded; only where they are collected rather than raised.
    """

    entries: dict[str, tuple[Any, str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    questions: dict[str, str] = field(default_factory=dict)

    def read(self, name: str, value: Any) -> None:
        """The weights or the files beside them say so."""
        self.entries[name] = (value, READ)

    def given(self, name: str, value: Any) -> None:
        """An option or import.toml says so."""
        self.entries[name] = (value, GIVEN)

    def assumed(self, name: str, value: Any) -> None:
        """Nobody says so."""
        self.entries[name] = (value, ASSUMED)

    def note(self, sentence: str) -> None:
        """Keep a sentence; an empty one is none."""
        if sentence:
            self.notes.append(sentence)

    def to_dict(self) -> dict[str, Any]:
        """For the manifest: by source, then by name."""
        data: dict[str, Any] = {source: {} for source in (READ, GIVEN, ASSUMED)}
        for name, (value, source) in self.entries.items():
            data[source][name] = value
        return data | {"notes": self.notes, "warnings": self.warnings}

    def lines(self) -> list[str]:
        """For people: one line for each conclusion, the assumed ones marked, then notes and warnings."""
        width = max((len(name) for name in self.entries), default=0)
        lines = [f"{source:<8} {name:<{width}} {_shown(value)}" for name, (value, source) in self.entries.items()]
        return [*lines, *self.notes, *(f"warning: {sentence}" for sentence in self.warnings)]


def _shown(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
