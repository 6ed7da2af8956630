"""Heads as found and as their owner describes them, and the question where neither says enough."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from dtvit_edge.errors import CheckpointError, ConfigError
from export.findings import Findings
from export.heads.finding import OPEN, FoundHead, find_heads
from export.heads.layers import (
    ACTIVATIONS,
    LEAKY_SLOPE,
    Epsilons,
    build_layers,
    is_activation,
    make_activation,
    parts_of,
)
from export.heads.outputs import ICH, NO_ICH, USUAL_LABELS, check_labels, section_of
from export.import_file import HeadChoice, ImportChoices
from export.libraries import Encoder

_STAND_IN = "gelu"
# What a head is called whose one logit may speak for the absence of a haemorrhage; `abnormal` and `norm` are not.
_OF_ABSENCE = re.compile(
    r"(?i:(?<!ab)normal(?!i[sz])|healthy|negativ|benign|control|absen|without|clean|(^|[._])(neg|non?|not)([._]|$))"
    r"|(?i:(?<![a-z])no[_-]?(ich|bleed|h(a)?em))|(^|[._])n[o][A-Z]"
)


@dataclass(frozen=True)
class ChosenHead:
    """A head with its weights.

    Attributes:
        name: `ich`, `location`, `four` or `five`, by its outputs.
        layers: keys and activations, in order.
        modules: the same, made.
        outputs: labels in the order of the outputs.
    """

    name: str
    layers: tuple[str, ...]
    modules: list[nn.Module]
    outputs: tuple[str, ...]


def choose_heads(
    encoder: Encoder, choices: ImportChoices, activation: str | None, findings: Findings, *, lenient: bool = False
) -> list[ChosenHead]:
    """The heads of a user's model.

    Args:
        activation: of the command line.
        lenient: collect questions in `findings.questions` instead of raising.

    Raises:
        CheckpointError: layers that are no head here.
        ConfigError: a question that nobody answered; or answers that do not fit.
    """
    described = dict(choices.heads)
    epsilons = Epsilons(choices.batch_norm_eps or 1e-5, choices.layer_norm_eps or 1e-5)
    asked = activation or choices.activation
    if activation and choices.activation and activation != choices.activation:
        raise ConfigError(f"--activation says {activation!r}, import.toml says {choices.activation!r}")
    for named in (asked, *(head.activation for head in described.values())):
        if named is not None:
            make_activation(named)
    chosen = []
    for name, head in described.items():
        if head.layers:
            chosen.append(_described(name, head, encoder, epsilons, findings))
    if not chosen:
        beside = {key: v for key, v in encoder.rest.items() if key.rpartition(".")[0] not in encoder.before_heads}
        found, left_out = find_heads(beside, _width(encoder), encoder.known_activations)
        if left_out:
            findings.note(f"left out, being of training alone: {', '.join(left_out)}")
        for key, candidate in _assigned(found).items():
            chosen.append(_completed(key, candidate, encoder, described, asked, epsilons, findings, lenient))
    _say_epsilons(chosen, choices, encoder, findings)
    return chosen


def _width(encoder: Encoder) -> int:
    """The width of what the heads read: the encoder's, or what stands between gives."""
    keys = [name for name in encoder.before_heads if not is_activation(name)]
    return parts_of(_of(encoder.rest, keys[-1]))[0].outputs if keys else encoder.width


def _assigned(found: Mapping[str, FoundHead]) -> dict[str, FoundHead]:
    """At most one head a number of outputs; heads that are an activation's question share the answer."""
    by_outputs: dict[int, list[str]] = {}
    for name, head in found.items():
        by_outputs.setdefault(1 if head.outputs in (1, 2) else head.outputs, []).append(name)
    for names in by_outputs.values():
        if len(names) > 1:
            raise CheckpointError(
                f"{' and '.join(names)} could each be the same head; say in import.toml which one is: "
                '[heads.ich] layers = ["..."], [heads.location] layers = ["..."]'
            )
    if (4 in by_outputs and len(by_outputs) > 1) or (5 in by_outputs and len(by_outputs) > 1):
        raise CheckpointError(
            f"{', '.join(found)}: a head of four or five classes beside another; say in import.toml which ones count"
        )
    return dict(found)


def _completed(
    key: str,
    head: FoundHead,
    encoder: Encoder,
    described: Mapping[str, HeadChoice],
    asked: str | None,
    epsilons: Epsilons,
    findings: Findings,
    lenient: bool,
) -> ChosenHead:
    """A found head, with the activation and the labels that its owner says."""
    kind = check_labels(USUAL_LABELS[head.outputs], head.outputs)
    section = section_of(kind)
    said = described.get(section, HeadChoice())
    labels = said.outputs or USUAL_LABELS[head.outputs]
    if check_labels(labels, head.outputs) != kind:
        raise ConfigError(f"[heads] outputs {', '.join(labels)} are not those of {key} with its {head.outputs} outputs")
    place = f"heads.{section}"
    (findings.given if said.outputs else findings.assumed)(f"{place}.outputs", list(labels))
    if head.outputs == 1 and not said.outputs and _OF_ABSENCE.search(key):
        sentence = (
            f"{key} has one output: by its name it may be that of no haemorrhage, and the other way round every answer "
            f'would be wrong. Say in import.toml which: [{place}] outputs = ["{NO_ICH}"] or ["{ICH}"]'
        )
        _ask(f"{place}.outputs", sentence, findings, lenient)
    if head.doubts:
        sentence = (
            f"{'; '.join(head.doubts)}: no tensor says where. List the layers in import.toml: [{place}] layers = "
            f"{_toml_list([*encoder.before_heads, *(name for name in head.layers if name != OPEN)])} with the "
            "activations between them"
        )
        _ask(f"{place}.layers", sentence, findings, lenient)
    activation = said.activation or asked
    if head.is_open and activation is None:
        sentence = (
            f"{key} has Linear layers with something between them: which activation is in no tensor. Give --activation "
            f"({', '.join(ACTIVATIONS)}), or activation under [heads] in import.toml; `none` where it is dropout alone"
        )
        _ask("heads.activation", sentence, findings, lenient)
        activation = _STAND_IN
    elif head.is_open:
        findings.given(f"{place}.activation", activation)
        if activation == "leaky_relu":
            findings.assumed(f"{place}.negative_slope", LEAKY_SLOPE)
    if head.assumed:
        findings.assumed(f"{place}.before", head.assumed)
    layers = (*encoder.before_heads, *(str(activation) if name == OPEN else name for name in head.layers))
    findings.read(f"{place}.layers", list(layers))
    modules = build_layers(layers, encoder.rest, epsilons, known=len(encoder.before_heads))
    return ChosenHead(kind, layers, modules, tuple(labels))


def _described(name: str, head: HeadChoice, encoder: Encoder, epsilons: Epsilons, findings: Findings) -> ChosenHead:
    """A head whose layers its owner lists."""
    modules = build_layers(head.layers, encoder.rest, epsilons)
    keys = [layer for layer in head.layers if not is_activation(layer) and any(_of(encoder.rest, layer))]
    if not keys:
        raise ConfigError(f"[heads.{name}] layers holds no layer with weights")
    first, last = parts_of(_of(encoder.rest, keys[0]))[0], parts_of(_of(encoder.rest, keys[-1]))[0]
    if first.inputs != encoder.width:
        raise CheckpointError(
            f"[heads.{name}] begins with {first.key}, which takes {first.inputs} values; the encoder "
            f"gives {encoder.width}"
        )
    if head.outputs:
        findings.given(f"heads.{name}.outputs", list(head.outputs))
    elif last.outputs not in USUAL_LABELS:
        raise CheckpointError(f"[heads.{name}] ends with {last.key}, which has {last.outputs} outputs")
    else:
        findings.assumed(f"heads.{name}.outputs", list(USUAL_LABELS[last.outputs]))
    labels = head.outputs or USUAL_LABELS[last.outputs]
    kind = check_labels(labels, last.outputs)
    if section_of(kind) != name:
        raise ConfigError(f"[heads.{name}] outputs {', '.join(labels)} belong under [heads.{kind}]")
    findings.given(f"heads.{name}.layers", list(head.layers))
    return ChosenHead(kind, tuple(head.layers), modules, tuple(labels))


def _say_epsilons(heads: list[ChosenHead], choices: ImportChoices, encoder: Encoder, findings: Findings) -> None:
    """What a normalisation in a head adds to the variance is in no tensor."""
    modules = [module for head in heads for module in head.modules]
    for kind, name, given in (
        (nn.BatchNorm1d, "batch_norm_eps", choices.batch_norm_eps),
        (nn.LayerNorm, "layer_norm_eps", choices.layer_norm_eps),
    ):
        if any(isinstance(module, kind) for module in modules):
            (findings.given if given else findings.assumed)(f"heads.{name}", given or 1e-5)


def _ask(name: str, sentence: str, findings: Findings, lenient: bool) -> None:
    if not lenient:
        raise ConfigError(sentence)
    findings.questions[name] = sentence


def _of(tensors: Mapping[str, Tensor], key: str) -> dict[str, Tensor]:
    return {name: value for name, value in tensors.items() if name.rpartition(".")[0] == key}


def _toml_list(names: list[str]) -> str:
    return f"[{', '.join(f'{chr(34)}{name}{chr(34)}' for name in names)}]"
