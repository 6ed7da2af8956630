"""timm's names: any encoder that its owner names, and plain ViTs by their keys and shapes alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from dtvit_edge.errors import CheckpointError, ConfigError
from export._torchvision import timm
from export.encoders import INPUT_SIZE, create_encoder, feature_width, timm_name
from export.findings import Findings
from export.libraries.encoder import USUAL_VITS, Encoder, EncoderChoice, grid_side, load_encoder, prefix_of, split
from export.libraries.vit import activation_of
from export.weights.choosing import groups_of, some
from export.weights.parts import refuse_parts

_PATCHES = "patch_embed.proj.weight"
_POOLS = ("token", "avg", "avgmax", "max", "map", "prr")
# Where timm's own classifier is, which is one of the heads here.
_CLASSIFIER = re.compile(r"^(head|fc|classifier|head_dist|last_linear)(\.|$)")


def recognise(
    tensors: Mapping[str, Tensor], choice: EncoderChoice, beside: Path | None, findings: Findings
) -> Encoder | None:
    """See `export.libraries`."""
    name = choice.name
    tensors = _as_published_by_dinov2(tensors, findings)
    vit_prefix = choice.prefix if choice.prefix is not None else _vit_prefix(tensors)
    if name is None:
        if vit_prefix is None or f"{vit_prefix}{_PATCHES}" not in tensors:
            return None
        name = _usual_name(split(tensors, vit_prefix)[0])
        findings.assumed("encoder", name)
    is_vit = vit_prefix is not None and f"{vit_prefix}{_PATCHES}" in tensors
    inside = split(tensors, vit_prefix)[0] if is_vit and vit_prefix is not None else {}
    size, options = _vit_options(inside, choice, findings) if is_vit else (choice.size, {})
    options |= choice.options
    if choice.layer_norm_eps is not None:
        options["norm_layer"] = partial(nn.LayerNorm, eps=choice.layer_norm_eps)
        findings.given("encoder.layer_norm_eps", choice.layer_norm_eps)
    if choice.hidden_act is not None:
        options["act_layer"] = activation_of(choice.hidden_act)
        findings.given("encoder.hidden_act", choice.hidden_act)
    if choice.pool is not None and not is_vit:
        options["global_pool"] = choice.pool
        findings.given("encoder.pool", choice.pool)
    module = _create(name, size or INPUT_SIZE, options)
    if "encoder.pool" not in findings.entries and (pool := _pool_of(module)):
        findings.assumed("encoder.pool", pool)
    if is_vit and vit_prefix is not None:
        prefix = vit_prefix
    else:
        prefix = choice.prefix if choice.prefix is not None else _prefix_that_fits(module, tensors, name)
    inside, rest = split(tensors, prefix)
    expected = module.state_dict()
    rest |= {f"{prefix}{key}": value for key, value in inside.items() if key not in expected}
    state = {key: value for key, value in inside.items() if key in expected}
    odd = [f"{prefix}{key}" for key in inside if key not in expected and prefix and not _CLASSIFIER.match(key)]
    refuse_parts(odd)
    if odd:
        raise CheckpointError(
            f"weights do not fit {name}: {some('unexpected', odd)}; where it has an option for them, give it in "
            "import.toml: [encoder] options = { ... }"
        )
    channels = load_encoder(module, state, name)
    known = timm_name(name)
    config: Any = timm.get_pretrained_cfg(known) if timm.is_model(known) else None
    return Encoder(
        module,
        name,
        "timm",
        feature_width(module),
        size,
        channels,
        rest,
        mean=None if config is None else tuple(config.mean),
        std=None if config is None else tuple(config.std),
    )


def _as_published_by_dinov2(tensors: Mapping[str, Tensor], findings: Findings) -> dict[str, Tensor]:
    """The keys of a plain ViT for those of Meta's own code: blocks in chunks, and the mask token of pretraining.

    A block's second number counts through all chunks (dinov2/models/vision_transformer.py, `block_chunks`).
    """
    keys = {key: key for key in tensors}
    for prefix in (key.removesuffix(_PATCHES) for key in tensors if key.endswith(_PATCHES)):
        chunked = re.compile(rf"{re.escape(prefix)}blocks\.\d+\.(\d+)\.(?=(?:norm[12]|attn|mlp|ls[12])\.)")
        renamed = {key: chunked.sub(rf"{prefix}blocks.\1.", plain) for key, plain in keys.items()}
        if len(set(renamed.values())) == len(renamed):
            keys = renamed
        if keys.pop(f"{prefix}mask_token", None):
            findings.note(f"left out, being of pretraining alone: {prefix}mask_token")
    return {plain: tensors[key] for key, plain in keys.items()}


def _pool_of(module: nn.Module) -> str | None:
    """How a network of timm's pools, which no tensor shows; None where it has no such option."""
    for holder in (module, getattr(module, "head", None)):
        pool = getattr(holder, "global_pool", None)
        pool = getattr(pool, "pool_type", pool)
        if isinstance(pool, str) and pool:
            return pool
    return None


def _create(name: str, size: int, options: dict[str, Any]) -> nn.Module:
    try:
        return create_encoder(name, size=size, **options).eval()
    except (TypeError, AssertionError, RuntimeError, ValueError) as error:
        said = ", ".join(f"{key} = {value!r}" for key, value in options.items())
        raise ConfigError(f"timm makes no {name} of size {size} with {said or 'no options'}: {error}") from error


def _vit_prefix(tensors: Mapping[str, Tensor]) -> str | None:
    return prefix_of(tensors, _PATCHES, "blocks.0.norm1.weight")


def _prefix_that_fits(module: nn.Module, tensors: Mapping[str, Tensor], name: str) -> str:
    """The prefix under which most of an encoder's keys are.

    Raises:
        CheckpointError: there is none.
    """
    keys = list(module.state_dict())
    prefixes = {key.removesuffix(keys[0]) for key in tensors if key == keys[0] or key.endswith(f".{keys[0]}")}
    counts = {prefix: sum(f"{prefix}{key}" in tensors for key in keys) for prefix in prefixes}
    if not counts or max(counts.values()) < len(keys) // 2:
        raise CheckpointError(
            f"weights do not fit {name}: no keys like {keys[0]} with {len(keys) - 1} others; there are "
            f"{groups_of(tensors)}"
        )
    return max(counts, key=lambda prefix: (counts[prefix], -len(prefix)))


def _usual_name(inside: Mapping[str, Tensor]) -> str:
    """The name of a plain ViT of a usual width and depth.

    Raises:
        CheckpointError: another one; heads of attention are in no shape.
    """
    width, _, patch, _ = inside[_PATCHES].shape
    depth = 1 + max(int(key.split(".")[1]) for key in inside if re.match(r"blocks\.\d+\.", key))
    odd = sorted({key for key in inside if re.search(r"norm_pre|q_norm|ls1|reg_token|dist_token|mlp\.w12", key)})
    usual = USUAL_VITS.get((width, depth))
    name = f"vit_{usual[0]}_patch{patch}_224" if usual else ""
    if not usual or odd or "cls_token" not in inside or not timm.is_model(name):
        what = f" with {odd[0]}" if odd else ""
        raise CheckpointError(
            f"timm's keys of a ViT of width {width}, depth {depth} and patches of {patch}{what}: which of timm's it is "
            "(its heads of attention, its LayerNorm) is in no tensor; give --encoder NAME"
        )
    return name


def _vit_options(
    inside: Mapping[str, Tensor], choice: EncoderChoice, findings: Findings
) -> tuple[int | None, dict[str, Any]]:
    """Input size and options of a ViT, as its tensors show them; pooling, where they show it or its owner says."""
    options: dict[str, Any] = {}
    patch = inside[_PATCHES].shape[2]
    options["patch_size"] = patch
    size = choice.size
    if "pos_embed" in inside:
        tokens = inside["pos_embed"].shape[1] if inside["pos_embed"].ndim == 3 else 0
        prefix = sum(inside[key].shape[1] for key in ("cls_token", "dist_token", "reg_token") if key in inside)
        side = grid_side(tokens - prefix) or grid_side(tokens)
        if side is None:
            raise CheckpointError(f"a position embedding for {tokens} tokens: only square inputs are taken")
        if choice.size is not None and choice.size != side * patch:
            raise ConfigError(f"[encoder] size is {choice.size}, the position embedding is for {side * patch}")
        size = side * patch
        findings.read("encoder.size", size)
    if choice.pool is not None:
        if choice.pool not in _POOLS:
            raise ConfigError(f"[encoder] pool is {choice.pool!r}, expected one of {', '.join(_POOLS)}")
        options["global_pool"] = choice.pool
        if choice.pool in ("avg", "avgmax", "max"):
            options["fc_norm"] = "fc_norm.weight" in inside
        findings.given("encoder.pool", choice.pool)
    elif "fc_norm.weight" in inside and "norm.weight" not in inside:
        options["global_pool"] = "avg"
        findings.assumed("encoder.pool", "avg")
    if choice.num_heads is not None:
        options["num_heads"] = choice.num_heads
        findings.given("encoder.num_heads", choice.num_heads)
    return size, options
