"""Was there a contrast agent? By the tags that name it or say how much, and by descriptions."""

from __future__ import annotations

import re
from functools import lru_cache

from dtvit_edge.dicom.fast_header import FastHeader
from dtvit_edge.dicom.header_values import Tags, items, number, parts, text, value
from dtvit_edge.dicom.vocabulary import (
    AGENT_FILLERS,
    CONTRAST_OBJECT,
    NO_AGENT,
    UNKNOWN_AGENT,
    VIRTUAL_NON_CONTRAST,
    WITH_CONTRAST,
    WITHOUT_CONTRAST,
)
from dtvit_edge.dicom.wording import Expression, fold, pattern

# What is measured of an injection (PS3.3 C.7.6.4): above 0 there was one, whatever the agent is called.
_AMOUNTS = ("ContrastBolusVolume", "ContrastBolusTotalDose", "ContrastFlowRate")
# What is only said of it: a protocol may carry these although the agent says NONE.
_CIRCUMSTANCES = ("ContrastBolusRoute", "ContrastBolusStartTime", "ContrastBolusStopTime", "ContrastBolusIngredient")
_AGENT, _AGENT_SEQUENCE = "ContrastBolusAgent", "ContrastBolusAgentSequence"
_TAGS = frozenset((_AGENT, *_AMOUNTS, *_CIRCUMSTANCES))
_ZERO = re.compile(r"0+(ML|CC|MG|G)?")

_OBJECT = rf"(?:[ /-]*(?:IV[ /-]*)?(?:{CONTRAST_OBJECT})(?![A-Z]))?"
_BOTH = Expression(
    r"(?<![A-Z])W(?:ITH)?(?: ?IV)?(?: ?CON(?:TRAST)?)? ?(?:[/&+]|AND|OR)? ?W(?:[ /-]?O|ITHOUT)(?![A-Z])"
    r"|(?<![A-Z])W(?:[ /-]?O|ITHOUT)(?: ?IV)?(?: ?CON(?:TRAST)?)? ?(?:[/&+]|AND|OR|THEN) ?W(?:ITH)?(?![A-Z])"
)
# "PRE" is before the agent, unless it is before an operation; "C-" is no C-SPINE.
_WITHOUT = pattern(
    WITHOUT_CONTRAST,
    r"(?<![A-Z])PRE(?![A-Z]|[ -]?(?:OP|SURG|INTERV|EMBOL|COIL|TREAT|TX))",
    r"(?<![A-Z])S/ ?(?=C(?![A-Z])|CONTRAST|CIV|KM|MDC|INJ)",
    r"(?<![A-Z])C-(?![A-Z0-9]| ?SPINE)",
    r"(?<![A-Z0-9])-C(?![A-Z0-9-]| ?SPINE)",
)
_WITHOUT_AND_OBJECT = Expression(rf"(?:{_WITHOUT.pattern}){_OBJECT}")
_WITH = pattern(
    WITH_CONTRAST,
    r"(?<![A-Z])C\+(?![A-Z])",
    r"\+ ?C(?![A-Z0-9-]| ?SPINE)",
    r"(?<![A-Z])C/ ?(?:C(?![A-Z])|CONTRAST|CIV|MDC)",
    r"(?<![A-Z])W(?:ITH)?/?$",
)
_VIRTUAL = pattern(VIRTUAL_NON_CONTRAST)


def tagged_contrast(dataset: Tags, administered: str) -> bool | None:
    """What the tags of the Contrast/Bolus module say; None where they say nothing.

    An amount outweighs an agent called NONE; such an agent outweighs a route or a time, which protocols fill in.

    Args:
        administered: ContrastBolusAgentAdministered of the frame, YES, NO or empty (PS3.3 C.8.15.3.7).
    """
    if administered == "NO":
        return False
    if isinstance(dataset, FastHeader) and _TAGS.isdisjoint(dataset.values):
        return None  # nearly always
    if any((number(value(dataset, keyword)) or 0) > 0 for keyword in _AMOUNTS):
        return True
    agent = names_agent(" ".join(parts(value(dataset, _AGENT))))
    sequence = items(dataset, _AGENT_SEQUENCE)
    coded = [names_agent(text(item, "CodeMeaning")) for item in sequence]
    if agent or any(answer is not False for answer in coded):
        return True
    if agent is False or coded:
        return False
    if any(names_agent(text(dataset, keyword)) for keyword in _CIRCUMSTANCES):
        return True
    return None


@lru_cache(maxsize=1024)
def names_agent(agent: str) -> bool | None:
    """Whether a ContrastBolusAgent names one: False for NONE, W/O or 0, None where it is empty, `-` or unknown."""
    found = re.findall(r"[A-Z0-9]+", re.sub(r"[./]", "", fold(agent)))
    found = [word for word in found if word not in UNKNOWN_AGENT]
    if not found:
        return None
    none = [word in NO_AGENT or _ZERO.fullmatch(word) is not None for word in found]
    return not (any(none) and all(n or word in AGENT_FILLERS for n, word in zip(none, found, strict=True)))


@lru_cache(maxsize=4096)
def described_contrast(description: str) -> frozenset[bool]:
    """What a folded description names: {True} with an agent, {False} without, both of a study of several scans."""
    both = _BOTH.search(description) is not None
    description = _VIRTUAL.sub(" ", description)
    rest = _WITHOUT_AND_OBJECT.sub(" ", description)
    answers = set()
    if both or rest != description:
        answers.add(False)
    if both or _WITH.search(rest.strip()):
        answers.add(True)
    return frozenset(answers)


@lru_cache(maxsize=4096)
def is_contrast(tagged: bool | None, series: str, protocol: str, study: str) -> bool | None:
    """Whether a slice shows a contrast agent; None where nothing says so, or only that the study has both kinds.

    The series' own description outweighs the protocol's, and that the study's; tags that say there was none
    outweigh these two.

    Args:
        tagged: what `tagged_contrast` said.
        series, protocol, study: the folded descriptions.
    """
    if tagged:
        return True
    own = described_contrast(series)
    if len(own) == 1:
        return next(iter(own))
    if tagged is False:
        return False
    for description in (protocol, study):
        answers = described_contrast(description)
        if len(answers) == 1 and not own:
            return next(iter(answers))
        if answers or own:
            return None
    return None
