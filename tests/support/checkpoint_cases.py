"""Checkpoints as other people's libraries write them: their modules, how they were saved, and what their owners say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from export._torchvision import timm, torchvision
from tests.support.foreign_models import SIDE, Dual, huggingface, mlp, resnet, timm_vit, torchvision_vit
from tests.support.saved_forms import as_dinov2_saves, average_of_a_callback, plain_and_ema, prefixed, renamed

TIMM = '[encoder]\nname = "test_vit"\n'
HF = "[encoder]\nnum_heads = 3\n"
RELU = '[heads]\nactivation = "relu"\n'


@dataclass(frozen=True)
class Case:
    """A user's module, how it was saved, what its owner says, and the words of a refusal where there is one.

    `needs` is the library that made it, where tests do not install it; `large` is a network that takes seconds to fill.
    """

    make: Callable[[], nn.Module]
    toml: str = ""
    wrap: Callable[[dict[str, Any]], Any] = lambda state: state
    ending: str = ".pt"
    refused: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    needs: str = ""
    large: bool = False
    side: int = SIDE
    channels: int = 3


def linear_pair(width: int) -> tuple[nn.Module, nn.Module]:
    return nn.Linear(width, 2), nn.Linear(width, 3)


def timm_dual(**options: Any) -> nn.Module:
    return Dual(timm_vit(**options), *linear_pair(64))


def timm_cnn(**options: Any) -> nn.Module:
    return Dual(timm.create_model("test_resnet", num_classes=0, **options), *linear_pair(96))


def timm_mlp(activation: nn.Module, **more: Any) -> nn.Module:
    return Dual(timm_vit(), mlp(64, 2, activation, **more), mlp(64, 3, activation, **more))


class Trunk(nn.Module):
    """Layers that both heads share, called by name."""

    def __init__(self) -> None:
        super().__init__()
        self.vit, self.fc = timm_vit(), nn.Linear(64, 24)
        self.bleed, self.place = nn.Linear(24, 2), nn.Linear(24, 3)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        h = torch.relu(self.fc(self.vit(x)))
        return self.bleed(h), self.place(h)


def hf_dual(pooled: bool, averaged: bool = False, **options: Any) -> nn.Module:
    def features(out: Any) -> torch.Tensor:
        if averaged:
            return out.last_hidden_state[:, 1:].mean(1)
        return out.pooler_output if pooled else out.last_hidden_state[:, 0]

    kind = options.pop("kind", "ViTModel")
    return Dual(huggingface(kind, **options), *linear_pair(48), features, ("vit", "ich", "loc"))


def sequential_resnet() -> nn.Module:
    encoder = nn.Sequential(*list(resnet(nn.Identity()).children())[:-1], nn.Flatten())
    return Dual(encoder, *linear_pair(512))


def vgg(name: str, last: nn.Module) -> nn.Module:
    """A VGG or an AlexNet with another last layer; its random weights are left out, which takes seconds otherwise."""
    with torch.device("meta"):
        model: Any = torchvision.models.get_model(name, weights=None)
    model = model.to_empty(device="cpu")
    model.classifier[-1] = last
    return model


def torchvision_dual(**options: Any) -> nn.Module:
    encoder: Any = torchvision_vit(**options)
    encoder.heads = nn.Identity()
    return Dual(encoder, *linear_pair(48), names=("encoder", "haemorrhage", "where"))


VERSION_4 = {
    "vit.layers.": "vit.encoder.layer.",
    "attention.q_proj": "attention.attention.query",
    "attention.k_proj": "attention.attention.key",
    "attention.v_proj": "attention.attention.value",
    "attention.o_proj": "attention.output.dense",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
}


def _name_of_version_4(key: str) -> str:
    for new, old in VERSION_4.items():
        key = key.replace(new, old)
    return key


ORDER = '[heads.classes]\noutputs = ["deep", "no_ich", "subtentorial", "lobar"]\n'
CASES: dict[str, Case] = {
    # timm
    "timm, linear heads": Case(timm_dual, TIMM),
    "timm, no name": Case(timm_dual, refused="width 64, depth 6 .* give --encoder NAME"),
    "timm, name by option": Case(timm_dual, options={"encoder": "test_vit"}),
    "timm, patch 8 at 48": Case(lambda: timm_dual(img_size=48, patch_size=8), TIMM, side=48),
    "timm, one channel": Case(lambda: timm_dual(in_chans=1), TIMM, channels=1),
    "timm, two channels": Case(
        lambda: timm_dual(in_chans=2),
        TIMM + '[preprocess]\nwindows = [[40, 80, "LINEAR"], [80, 200, "LINEAR"]]\n',
        channels=2,
    ),
    "timm, average pooling": Case(lambda: timm_dual(global_pool="avg"), TIMM),
    "timm CNN, largest of the features": Case(
        lambda: timm_cnn(global_pool="max"), '[encoder]\nname = "test_resnet"\nsize = 32\npool = "max"\n'
    ),
    "timm CNN, heads of attention": Case(
        timm_cnn, '[encoder]\nname = "test_resnet"\nnum_heads = 3\n', refused="num_heads: .* has no such choice here"
    ),
    "timm, average pooling of normed tokens": Case(
        lambda: timm_dual(global_pool="avg", fc_norm=False), TIMM + 'pool = "avg"\n'
    ),
    "timm, own classifier of four": Case(lambda: timm_vit(num_classes=4), TIMM),
    "timm, wrong size said": Case(
        timm_dual, TIMM + "size = 224\n", refused="size is 224, the position embedding is for 32"
    ),
    "timm, option": Case(lambda: timm_dual(init_values=0.1), TIMM + "options = { init_values = 0.1 }\n"),
    "timm, option not said": Case(
        lambda: timm_dual(init_values=0.1), TIMM, refused="unexpected: backbone.blocks.0.ls1"
    ),
    "timm, another network": Case(
        lambda: Dual(__import__("timm").create_model("test_efficientnet", num_classes=0), *linear_pair(256)),
        '[encoder]\nname = "test_efficientnet"\nsize = 64\n',
        side=64,
    ),
    "timm, unknown name": Case(timm_dual, '[encoder]\nname = "vit_bas"\n', refused="no encoder is called 'vit_bas'"),
    # heads
    "ReLU": Case(lambda: timm_mlp(nn.ReLU()), TIMM + RELU),
    "activation not said": Case(lambda: timm_mlp(nn.ReLU()), TIMM, refused="which activation is in no tensor"),
    "GELU by option": Case(lambda: timm_mlp(nn.GELU()), TIMM, options={"activation": "gelu"}),
    "tanh GELU": Case(lambda: timm_mlp(nn.GELU("tanh")), TIMM + RELU.replace("relu", "gelu_tanh")),
    "tanh": Case(lambda: timm_mlp(nn.Tanh()), TIMM + RELU.replace("relu", "tanh")),
    "SiLU": Case(lambda: timm_mlp(nn.SiLU()), TIMM + RELU.replace("relu", "silu")),
    "leaky ReLU with its slope": Case(
        lambda: timm_mlp(nn.LeakyReLU(0.2)), TIMM + RELU.replace("relu", "leaky_relu:0.2")
    ),
    "no activation": Case(lambda: timm_mlp(nn.Identity()), TIMM + RELU.replace("relu", "none")),
    "unknown activation": Case(
        lambda: timm_mlp(nn.Mish()), TIMM + RELU.replace("relu", "mish"), refused="'mish' is none of"
    ),
    "batch norm before ReLU": Case(lambda: timm_mlp(nn.ReLU(), norm=nn.BatchNorm1d(12)), TIMM + RELU),
    "layer norm before GELU": Case(
        lambda: timm_mlp(nn.GELU(), norm=nn.LayerNorm(12)), TIMM, options={"activation": "gelu"}
    ),
    "layer norm first": Case(
        lambda: Dual(timm_vit(), nn.Sequential(nn.LayerNorm(64), nn.Linear(64, 2)), nn.Linear(64, 3)), TIMM
    ),
    "two places for one activation": Case(
        lambda: Dual(
            timm_vit(),
            nn.Sequential(nn.Linear(64, 8), nn.ReLU(), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 2)),
            nn.Linear(64, 3),
        ),
        TIMM + RELU,
        refused="an activation may stand after ich_head.0 or ich_head.2",
    ),
    "layers listed": Case(
        lambda: Dual(
            timm_vit(),
            nn.Sequential(nn.Linear(64, 8), nn.ReLU(), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 2)),
            nn.Linear(64, 3),
        ),
        TIMM + '[heads.ich]\nlayers = ["ich_head.0", "relu", "ich_head.2", "ich_head.4"]\n'
        '[heads.location]\nlayers = ["location_head"]\n',
    ),
    "shared layers": Case(Trunk, TIMM + RELU),
    "blocks in chunks": Case(timm_dual, TIMM, as_dinov2_saves),
    "one logit": Case(lambda: Dual(timm_vit(), nn.Linear(64, 1), nn.Linear(64, 3)), TIMM),
    "one logit of what is normal": Case(
        lambda: Dual(timm_vit(), nn.Linear(64, 1), nn.Linear(64, 3), names=("backbone", "normal_head", "location")),
        TIMM,
        refused=r"normal_head has one output.*outputs = ..no_ich.. or ..ich..",
    ),
    "one logit of what is abnormal": Case(
        lambda: Dual(timm_vit(), nn.Linear(64, 1), nn.Linear(64, 3), names=("backbone", "abnormal", "location")),
        TIMM,
    ),
    "haemorrhage alone": Case(lambda: Dual(timm_vit(), nn.Linear(64, 2), None), TIMM),
    "location alone": Case(lambda: Dual(timm_vit(), None, nn.Linear(64, 3)), TIMM, refused="no head says whether"),
    "six outputs": Case(lambda: Dual(timm_vit(), nn.Linear(64, 6), None), TIMM, refused="in no head: ich_head"),
    "two heads of two": Case(
        lambda: Dual(timm_vit(), nn.Linear(64, 2), nn.Linear(64, 2)), TIMM, refused="could each be"
    ),
    "weight norm": Case(
        lambda: Dual(timm_vit(), torch.nn.utils.parametrizations.weight_norm(nn.Linear(64, 2)), nn.Linear(64, 3)),
        TIMM,
        refused="reparametrised",
    ),
    "weight norm inside the encoder": Case(
        timm_dual,
        TIMM,
        renamed("mlp.fc1.weight", "mlp.fc1.weight_g", "mlp.fc1.weight_v"),
        refused="weight norm.*2 tensors",
    ),
    "LoRA inside the encoder": Case(
        timm_dual, TIMM, renamed("attn.qkv.weight", "attn.qkv.weight", "attn.qkv.lora_A.default.weight"), refused="LoRA"
    ),
    "pruned": Case(
        timm_dual,
        TIMM,
        renamed("mlp.fc1.weight", "mlp.fc1.weight_orig", "mlp.fc1.weight_mask"),
        refused="a pruned layer",
    ),
    "simulated quantisation": Case(
        timm_dual,
        TIMM,
        renamed("mlp.fc1.weight", "mlp.fc1.weight", "mlp.fc1.weight_fake_quant.scale"),
        refused="simulated quantisation",
    ),
    "checkpointed activations": Case(
        timm_dual,
        TIMM,
        lambda state: {key.replace(".attn.", ".attn._checkpoint_wrapped_module."): v for key, v in state.items()},
    ),
    "variances of losses": Case(timm_dual, TIMM, lambda state: state | {"log_vars": torch.zeros(2)}),
    "PReLU": Case(
        lambda: Dual(timm_vit(), nn.Sequential(nn.Linear(64, 8), nn.PReLU(), nn.Linear(8, 2)), nn.Linear(64, 3)),
        TIMM,
        refused="PReLU, RMSNorm",
    ),
    # files
    "Lightning's names": Case(
        timm_dual,
        TIMM,
        lambda s: {
            "state_dict": prefixed("model.")(s),
            "hyper_parameters": {"lr": 1e-3},
            "callbacks": {"a": {"best": 1.0}},
        },
        ".ckpt",
    ),
    "nested twice, .pth.tar": Case(timm_dual, TIMM, lambda s: {"checkpoint": {"model": s}, "epoch": 3}, ".pth.tar"),
    "compiled and parallel": Case(timm_dual, TIMM, prefixed("module._orig_mod.")),
    "optimiser beside it": Case(
        timm_dual,
        TIMM,
        lambda s: {"model_state_dict": s, "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}}},
        ".bin",
    ),
    "average beside it": Case(
        timm_dual, TIMM, plain_and_ema("state_dict_ema"), refused="two models: give --ema or --no-ema"
    ),
    "average chosen": Case(timm_dual, TIMM, plain_and_ema("model_ema"), options={"ema": True}),
    "average of a callback beside it": Case(
        timm_dual, TIMM, average_of_a_callback, ".ckpt", refused="two models: give --ema or --no-ema"
    ),
    "average of a callback chosen": Case(timm_dual, TIMM, average_of_a_callback, ".ckpt", options={"ema": True}),
    "average alone": Case(timm_dual, TIMM, lambda s: {"n_averaged": torch.tensor(5), **prefixed("module.")(s)}),
    "loss beside it": Case(
        timm_dual, TIMM, lambda s: {**prefixed("net.")(s), "criterion.weight": torch.tensor([0.3, 0.7])}
    ),
    "bfloat16": Case(lambda: timm_dual().bfloat16().float(), TIMM, lambda s: {k: v.bfloat16() for k, v in s.items()}),
    "no encoder": Case(lambda: mlp(64, 2, nn.ReLU()), refused="no encoder is recognised .* The keys there are: 0"),
    # torchvision
    "torchvision ViT, heads outside": Case(torchvision_dual, HF),
    "torchvision ViT, another pooling": Case(
        torchvision_dual, HF + 'pool = "avg"\n', refused="pool: .* of torchvision has no such choice here"
    ),
    "torchvision ViT, own head of four": Case(lambda: torchvision_vit(num_classes=4), HF + ORDER),
    "torchvision ViT, representation": Case(lambda: torchvision_vit(num_classes=2, representation_size=20), HF),
    "torchvision ViT, heads of attention": Case(torchvision_dual, refused="heads of attention it has is in no tensor"),
    "torchvision ResNet, fc of four": Case(lambda: resnet(nn.Linear(512, 4)), "[encoder]\nsize = 32\n", large=True),
    "torchvision ResNet, fc with dropout": Case(
        lambda: resnet(nn.Sequential(nn.Dropout(), nn.Linear(512, 1))), "[encoder]\nsize = 32\n"
    ),
    "torchvision ResNet in a Sequential": Case(sequential_resnet, "[encoder]\nsize = 32\n"),
    "torchvision VGG11 of four": Case(
        lambda: vgg("vgg11", nn.Linear(4096, 4)), "[encoder]\nsize = 64\n", large=True, side=64
    ),
    "torchvision VGG11, heads outside": Case(
        lambda: Dual(vgg("vgg11", nn.Identity()), *linear_pair(4096)), "[encoder]\nsize = 64\n", large=True, side=64
    ),
    "torchvision AlexNet with one logit": Case(
        lambda: vgg("alexnet", nn.Linear(4096, 1)), "[encoder]\nsize = 96\n", large=True, side=96
    ),
    # Hugging Face
    "ViTModel, class token": Case(lambda: hf_dual(False, pooler=False), HF, needs="transformers"),
    "ViTModel, mean of the patches": Case(
        lambda: hf_dual(False, averaged=True, pooler=False), HF + 'pool = "avg"\n', needs="transformers"
    ),
    "ViTModel, another pooling": Case(
        lambda: hf_dual(False, pooler=False),
        HF + 'pool = "max"\n',
        refused="pool is 'max'; .*--model",
        needs="transformers",
    ),
    "ViTModel, pooler not said": Case(
        lambda: hf_dual(True), HF, refused="these weights have a pooler", needs="transformers"
    ),
    "ViTModel, pooler": Case(lambda: hf_dual(True), HF + 'pool = "pooler"\n', needs="transformers"),
    "ViTModel, pooler unused": Case(lambda: hf_dual(False), HF + 'pool = "token"\n', needs="transformers"),
    "ViTModel, tanh GELU": Case(
        lambda: hf_dual(False, pooler=False, hidden_act="gelu_new"),
        HF + 'hidden_act = "gelu_new"\n',
        needs="transformers",
    ),
    "ViTModel, no qkv bias": Case(lambda: hf_dual(False, pooler=False, qkv_bias=False), HF, needs="transformers"),
    "ViTForImageClassification": Case(
        lambda: huggingface("ViTForImageClassification", num_labels=4), HF, needs="transformers"
    ),
    "DeiTModel, class token": Case(lambda: hf_dual(False, kind="DeiTModel", pooler=False), HF, needs="transformers"),
    "DeiT with teacher": Case(
        lambda: huggingface("DeiTForImageClassificationWithTeacher", num_labels=4),
        HF,
        refused="averages the logits of two heads",
        needs="transformers",
    ),
    "Hugging Face's names of version 4": Case(
        lambda: hf_dual(False, pooler=False),
        HF,
        lambda s: {_name_of_version_4(key): value for key, value in s.items()},
        needs="transformers",
    ),
}
