"""Hugging Face's ViTModel, ViTForImageClassification and DeiT, to timm's VisionTransformer.

The names are those of `model.state_dict()` in transformers up to 4 (`encoder.layer.0.attention.attention.query`), which
`save_pretrained` still writes, and in transformers 5 (`layers.0.attention.q_proj`). `config.json` beside the weights
says what no tensor says.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dtvit_edge.errors import CheckpointError
from export.findings import Findings
from export.libraries.encoder import Encoder, EncoderChoice, heads_of, load_encoder, prefix_of, split
from export.libraries.vit import build_vit, depth_of
from export.weights.choosing import some

# Beside the weights, as `save_pretrained` leaves it.
CONFIG = "config.json"
_PROJECTION = "embeddings.patch_embeddings.projection.weight"
# transformers' ViTConfig; DeiTConfig has the same.
_DEFAULT_EPS = 1e-12
_EMBEDDINGS = {
    "embeddings.cls_token": "cls_token",
    "embeddings.distillation_token": "reg_token",
    "embeddings.position_embeddings": "pos_embed",
    "embeddings.patch_embeddings.projection.weight": "patch_embed.proj.weight",
    "embeddings.patch_embeddings.projection.bias": "patch_embed.proj.bias",
    "layernorm.weight": "norm.weight",
    "layernorm.bias": "norm.bias",
}
_LAYER = re.compile(r"^(?:encoder\.layer|layers)\.(\d+)\.(.+)\.(weight|bias)$")
_PARTS = {
    "layernorm_before": "norm1",
    "layernorm_after": "norm2",
    "attention.output.dense": "attn.proj",
    "attention.o_proj": "attn.proj",
    "intermediate.dense": "mlp.fc1",
    "mlp.fc1": "mlp.fc1",
    "output.dense": "mlp.fc2",
    "mlp.fc2": "mlp.fc2",
}
_QKV = {"query": 0, "key": 1, "value": 2, "q_proj": 0, "k_proj": 1, "v_proj": 2}
_ATTENTION = re.compile(r"^attention\.(?:attention\.)?(query|key|value|q_proj|k_proj|v_proj)$")
_IGNORED = {"embeddings.position_ids", "embeddings.mask_token"}
_POOLER = "pooler.dense"


def recognise(
    tensors: Mapping[str, Tensor], choice: EncoderChoice, beside: Path | None, findings: Findings
) -> Encoder | None:
    """See `export.libraries`."""
    prefix = choice.prefix if choice.prefix is not None else prefix_of(tensors, _PROJECTION)
    if prefix is None or f"{prefix}{_PROJECTION}" not in tensors:
        return None
    config = _config(beside, findings)
    inside, rest = split(tensors, prefix)
    if prefix == "":
        # A bare model has the encoder's keys at the top, beside its heads.
        names = ("embeddings.", "encoder.layer.", "layers.", "layernorm.", "pooler.")
        rest = {key: value for key, value in inside.items() if not key.startswith(names)}
        inside = {key: value for key, value in inside.items() if key.startswith(names)}
    state, odd = _timm_names(inside)
    pooler = {f"{prefix}{key}": value for key, value in inside.items() if key.startswith(_POOLER)}
    odd = [key for key in odd if not key.startswith(_POOLER)]
    kind = config.get("model_type")
    if odd or kind not in (None, "vit", "deit"):
        named = f" (its config.json says {kind!r})" if kind else ""
        raise CheckpointError(
            f"keys like Hugging Face's, but not those of ViT or DeiT{named}: {some('of another model', odd)}; what it "
            "computes is not known here: give the module itself, --model FILE.py:FACTORY"
        )
    if any("distillation_classifier" in key for key in rest):
        raise CheckpointError(
            "DeiTForImageClassificationWithTeacher averages the logits of two heads on two tokens, which is not taken; "
            "give the module itself, --model FILE.py:FACTORY"
        )
    distilled = "reg_token" in state
    width, depth = state["patch_embed.proj.weight"].shape[0], depth_of(state)
    if not depth:
        raise CheckpointError("keys of Hugging Face's patch embedding, but no layers beside it")
    given = EncoderChoice(size=choice.size, num_heads=choice.num_heads or config.get("num_attention_heads"))
    heads, said = heads_of(given, width, depth)
    _say(findings, "encoder.num_heads", heads, choice.num_heads, config.get("num_attention_heads") if said else None)
    eps = choice.layer_norm_eps or config.get("layer_norm_eps") or _DEFAULT_EPS
    _say(findings, "encoder.layer_norm_eps", eps, choice.layer_norm_eps, config.get("layer_norm_eps"))
    act = choice.hidden_act or config.get("hidden_act") or "gelu"
    _say(findings, "encoder.hidden_act", act, choice.hidden_act, config.get("hidden_act"))
    name = f"{'deit' if distilled else 'vit'}-{width}x{depth}-patch{state['patch_embed.proj.weight'].shape[2]}"
    module, size = build_vit(
        state, num_heads=heads, eps=eps, hidden_act=act, registers=int(distilled), choice=choice, name=name
    )
    channels = load_encoder(module, state, f"Hugging Face's {name}")
    before, activations = _pooling(choice, pooler, prefix, config, findings)
    if choice.pool == "avg":
        vit: Any = module
        vit.global_pool = "avg"
    if before:
        rest = rest | pooler
    return Encoder(module, f"huggingface/{name}", "huggingface", width, size, channels, rest, before, activations)


def _timm_names(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Tensors by timm's names, and the keys that are none of a ViT's."""
    state: dict[str, Tensor] = {}
    parts: dict[str, dict[int, Tensor]] = {}
    odd = []
    for key, value in tensors.items():
        layer = _LAYER.match(key)
        if key in _EMBEDDINGS:
            state[_EMBEDDINGS[key]] = value
        elif layer and layer[2] in _PARTS:
            state[f"blocks.{layer[1]}.{_PARTS[layer[2]]}.{layer[3]}"] = value
        elif layer and (which := _ATTENTION.match(layer[2])):
            parts.setdefault(f"blocks.{layer[1]}.attn.qkv.{layer[3]}", {})[_QKV[which[1]]] = value
        elif key not in _IGNORED:
            odd.append(key)
    for key, three in parts.items():
        if set(three) == {0, 1, 2}:
            state[key] = torch.cat((three[0], three[1], three[2]))
        else:
            odd.append(key)
    return state, odd


def _pooling(
    choice: EncoderChoice, pooler: Mapping[str, Tensor], prefix: str, config: Mapping[str, Any], findings: Findings
) -> tuple[tuple[str, ...], dict[str, str]]:
    """What stands between the pooled token and the heads: nothing, or the pooler's Linear and its activation."""
    if choice.pool not in (None, "token", "avg", "pooler"):
        raise CheckpointError(
            f"[encoder] pool is {choice.pool!r}; of Hugging Face's ViT `token`, `avg` (the mean of the patches) and "
            "`pooler` are taken, and whatever else it is with the module itself, --model FILE.py:FACTORY"
        )
    if not pooler:
        if choice.pool == "pooler":
            raise CheckpointError("[encoder] pool is 'pooler', but these weights have no pooler.dense")
        if choice.pool is None:  # the heads may as well read a mean of last_hidden_state
            findings.assumed("encoder.pool", "token")
        else:
            findings.given("encoder.pool", choice.pool)
        return (), {}
    if choice.pool is None:
        raise CheckpointError(
            "these weights have a pooler: whether the heads read pooler_output or last_hidden_state[:, 0] is in no "
            'tensor; say pool = "pooler" or pool = "token" under [encoder] in import.toml'
        )
    findings.given("encoder.pool", choice.pool)
    if choice.pool != "pooler":
        return (), {}
    key, act = f"{prefix}{_POOLER}", config.get("pooler_act", "tanh")
    return (key, act), {key: act}


def _config(beside: Path | None, findings: Findings) -> dict[str, Any]:
    """`config.json` beside the weights; empty where there is none of transformers'."""
    path = None if beside is None else beside / CONFIG
    if path is None or not path.is_file():
        return {}
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: not readable: {error}") from error
    if not isinstance(config, dict) or "model_type" not in config:
        return {}
    findings.note(f"{path.name} beside the weights is read")
    return config


def _say(findings: Findings, name: str, value: Any, given: Any, read: Any) -> None:
    if given is not None:
        findings.given(name, value)
    elif read is not None:
        findings.read(name, value)
    else:
        findings.assumed(name, value)
