"""A model out of anybody's weights: the file, the encoder, the heads, the preprocessing, and on whose word each is."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dtvit_edge.errors import CheckpointError, ConfigError
from dtvit_edge.spec import ICH_HEAD, TRAINING_STATES, PreprocessSpec, Window, digest_file
from export.checkpoint import Checkpoint, load_checkpoint, ordered_heads
from export.findings import Findings
from export.head_choices import choose_heads
from export.heads import two_heads
from export.import_file import ImportChoices, find_import_file
from export.libraries import EncoderChoice, recognise_encoder
from export.libraries.huggingface import CONFIG
from export.model import HEADS, DTViT
from export.own_module import file_and_factory, load_own_module
from export.preprocessing import compare_normalisation, make_spec
from export.weights import check_values, choose_tensors, read_weights, widened
from export.weights.reading import require_weights_file


@dataclass(frozen=True)
class ImportOptions:
    """What the command line says of a checkpoint; None and empty where it says nothing.

    Attributes:
        encoder: its name.
        training: one of `TRAINING_STATES`.
        windows: one or three.
        untrained_heads: those that were never trained, besides those that the checkpoint marks.
        ema: take averaged weights (True) or plain ones (False).
        activation: between the heads' Linear layers.
        import_file: instead of an import.toml beside the weights.
        model: `FILE.py:FACTORY`, the user's own module; it is run.
        lenient: collect what is asked for in `Findings.questions`, and take a stand-in for it (`--dump-import`).
    """

    encoder: str | None = None
    training: str | None = None
    windows: tuple[Window, ...] = ()
    untrained_heads: Collection[str] = ()
    ema: bool | None = None
    activation: str | None = None
    import_file: Path | None = None
    model: str | None = None
    lenient: bool = False


@dataclass(frozen=True)
class Imported:
    """A model that is ready for export.

    Attributes:
        model: normalised floats to the two logits, eval mode, float32.
        own_module: it is the user's own code, whose insides are not known.
        heads: the layers of each head in words, for the manifest.
    """

    model: DTViT
    training: str
    spec: PreprocessSpec
    sha256: str
    untrained_heads: tuple[str, ...]
    findings: Findings
    own_module: bool = False
    heads: dict[str, list[str]] = field(default_factory=dict)


def import_model(weights: Path, options: ImportOptions) -> Imported:
    """Read a checkpoint of any origin.

    Raises:
        CheckpointError: unreadable, not recognised, or not exact here; the message says what would help.
        ConfigError: options or import.toml that contradict each other or the weights, or a question that nobody
            answered.
    """
    findings = Findings()
    choices = find_import_file(weights, options.import_file)
    if choices.path is not None:
        findings.note(f"{choices.path} is read")
    if options.model is not None:
        return _own_module(weights, options, choices, findings)
    data, metadata = read_weights(weights)
    wanted = choices.weights
    ema = options.ema if options.ema is not None else wanted.get("ema")
    chosen = choose_tensors(weights, data, ema=ema, key=wanted.get("key"), prefix=wanted.get("prefix"))
    is_ours = "encoder" in metadata and all(any(k.startswith(f"{head}.") for k in chosen.tensors) for head in HEADS)
    if is_ours:
        return _ours(load_checkpoint(weights, options.encoder), options, choices, findings)
    del data
    training = _training(None, options, choices)
    _say_choice(chosen.nested_in, chosen.prefix, chosen.averaged, ema, findings)
    try:
        check_values(chosen.tensors)
        tensors, sentence = widened(chosen.tensors)
        findings.note(sentence)
        said = EncoderChoice(**choices.encoder)
        if options.encoder is not None:
            if said.name not in (None, options.encoder):
                raise ConfigError(f"--encoder says {options.encoder!r}, import.toml says {said.name!r}")
            said = replace(said, name=options.encoder)
        encoder = recognise_encoder(tensors, said, weights.parent, findings)
        findings.read("names", encoder.library)
        if "encoder" not in findings.entries:
            (findings.given if said.name else findings.read)("encoder", encoder.name)
        findings.read("encoder.channels", encoder.channels)
        heads = choose_heads(encoder, choices, options.activation, findings, lenient=options.lenient)
    except CheckpointError as error:
        raise CheckpointError(f"{weights}: {error}") from error
    pair = two_heads([(head.modules, head.outputs) for head in heads])
    spec = make_spec(choices.preprocess, options.windows, encoder.size, encoder.channels, findings)
    compare_normalisation(spec, encoder.mean, encoder.std, encoder.name, findings)
    marked = {*options.untrained_heads, *choices.untrained_heads, *pair.untrained}
    return Imported(
        model=DTViT.assemble(encoder.name, encoder.module, pair.ich, pair.location),
        training=training,
        spec=spec,
        sha256=digest_file(weights),
        untrained_heads=untrained(marked),
        findings=findings,
        heads={head.name: list(head.layers) for head in heads},
    )


def files_of(weights: Path, options: ImportOptions) -> dict[str, Path | None]:
    """Every file that an import reads, by what it is; None where there is none of that kind.

    What the file of `--model` imports is not among them.

    Raises:
        CheckpointError, ConfigError: one that is named is not there, or an import.toml that cannot be read.
    """
    require_weights_file(weights)
    config = weights.with_name(CONFIG)
    return {
        "weights": weights,
        "import_file": find_import_file(weights, options.import_file).path,
        "config": config if config.is_file() else None,
        "model": None if options.model is None else file_and_factory(options.model)[0],
    }


def untrained(marked: Collection[str]) -> tuple[str, ...]:
    """The marked heads in order.

    Raises:
        CheckpointError: the haemorrhage head is one of them; such a bundle would detect nothing.
    """
    heads = ordered_heads(marked)
    if ICH_HEAD in heads:
        raise CheckpointError("the checkpoint's haemorrhage head was never trained; its bundle would detect nothing")
    return heads


def _ours(checkpoint: Checkpoint, options: ImportOptions, choices: ImportChoices, findings: Findings) -> Imported:
    """A checkpoint that this project wrote: it says itself what others leave open."""
    if options.activation not in (None, "gelu"):
        raise ConfigError(
            f"the checkpoint is this project's, whose heads have GELU; leave --activation {options.activation} out"
        )
    if choices.heads or choices.encoder or choices.preprocess:
        raise ConfigError(
            f"{choices.path}: the checkpoint is this project's and says itself what it is; keep the file elsewhere, or "
            "take its [encoder], [heads] and [preprocess] out"
        )
    findings.read("names", "dtvit-edge")
    findings.read("encoder", checkpoint.model.encoder_name)
    findings.read("heads.activation", "gelu")
    training = _training(checkpoint.training, options, choices)
    known, given = checkpoint.spec, PreprocessSpec(windows=options.windows) if options.windows else None
    if known and given and known.windows != given.windows:
        raise ConfigError("the checkpoint carries other windows than --window gives; leave --window out")
    spec = known or given or PreprocessSpec()
    (findings.read if known else findings.given if given else findings.assumed)(
        "preprocess.windows", spec.to_dict()["windows"]
    )
    marked = {*checkpoint.untrained_heads, *options.untrained_heads, *choices.untrained_heads}
    return Imported(
        model=checkpoint.model,
        training=training,
        spec=spec,
        sha256=checkpoint.sha256,
        untrained_heads=untrained(marked),
        findings=findings,
        heads={name: [type(layer).__name__ for layer in getattr(checkpoint.model, name)] for name in HEADS},
    )


def _own_module(weights: Path, options: ImportOptions, choices: ImportChoices, findings: Findings) -> Imported:
    assert options.model is not None
    require_weights_file(weights)
    for name, value in (("--encoder", options.encoder), ("--activation", options.activation)):
        if value is not None:
            raise ConfigError(f"{name} describes a state dict; with --model the module says itself what it computes")
    training = _training(None, options, choices)
    findings.given("model", options.model)
    side = choices.preprocess.get("size", PreprocessSpec.crop)
    model, channels, missing = load_own_module(options.model, weights, choices.heads, side, findings)
    spec = make_spec(choices.preprocess, options.windows, None, channels, findings)
    return Imported(
        model=model,
        training=training,
        spec=spec,
        sha256=digest_file(weights),
        untrained_heads=untrained({*options.untrained_heads, *choices.untrained_heads, *missing}),
        findings=findings,
        own_module=True,
    )


def _training(known: str | None, options: ImportOptions, choices: ImportChoices) -> str:
    """The training state: the checkpoint's, else its owner's; a model is never taken for better trained."""
    if known and options.training and known != options.training:
        raise ConfigError(f"the checkpoint says training {known!r}, --training says {options.training!r}")
    if options.training and choices.training and options.training != choices.training:
        raise ConfigError(f"import.toml says training {choices.training!r}, --training says {options.training!r}")
    training = known or options.training or choices.training
    if training is None:
        if options.lenient:
            return TRAINING_STATES[0]
        raise ConfigError(
            f"the checkpoint does not say how it was trained; give --training ({', '.join(TRAINING_STATES)})"
        )
    return training


def _say_choice(nested_in: str, prefix: str, averaged: bool | None, ema: Any, findings: Findings) -> None:
    if nested_in:
        findings.read("weights.key", nested_in)
    if prefix:
        findings.read("weights.prefix", prefix)
    if averaged is not None:
        (findings.given if ema is not None else findings.read)("weights.ema", averaged)
