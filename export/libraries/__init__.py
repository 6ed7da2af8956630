"""Encoders by the names that their libraries give to tensors; one module a library.

Each module has `recognise(tensors, choice, findings)`: it returns an `Encoder` where the keys are its library's, None
where they are not, and raises a CheckpointError where they are but cannot be computed exactly here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from dtvit_edge.errors import CheckpointError, ConfigError
from export.findings import GIVEN, Findings
from export.libraries import huggingface, timm_names, torchvision_cnn, torchvision_vit
from export.libraries.encoder import Encoder, EncoderChoice
from export.weights.choosing import groups_of

__all__ = ["LIBRARIES", "Encoder", "EncoderChoice", "recognise_encoder"]

# In this order: torchvision's ViT holds an `encoder.`, as Hugging Face's does; timm takes what it was named.
_LIBRARIES = {
    "huggingface": huggingface.recognise,
    "torchvision": torchvision_vit.recognise,
    "torchvision-cnn": torchvision_cnn.recognise,
    "timm": timm_names.recognise,
}

LIBRARIES = tuple(dict.fromkeys(name.partition("-")[0] for name in _LIBRARIES))

# Keys of [encoder] that change what is computed.
_OF_THE_COMPUTATION = ("pool", "num_heads", "layer_norm_eps", "hidden_act")


def recognise_encoder(
    tensors: Mapping[str, Tensor], choice: EncoderChoice, beside: Path | None, findings: Findings
) -> Encoder:
    """The encoder in a state dict, with its weights.

    Args:
        tensors: by plain key, float32.
        choice: what its owner said of it.
        beside: the folder of the weights, for a library's own configuration file.

    Raises:
        CheckpointError: no encoder is recognised (the keys that are there are listed), or not one that is exact here.
        ConfigError: a name or an option that does not exist, or one that this encoder would pass over.
    """
    for library, recognise in _LIBRARIES.items():
        if choice.library and choice.library != library.partition("-")[0]:
            continue
        encoder = recognise(tensors, choice, beside, findings)
        if encoder is not None:
            _refuse_unused(choice, encoder, findings)
            return encoder
    raise CheckpointError(
        "no encoder is recognised by its keys (timm's, torchvision's and Hugging Face's ViT, ResNet, VGG and AlexNet "
        f"are known; any other of timm's by --encoder NAME). The keys there are: {groups_of(tensors)}. Say in "
        "import.toml what they are, or give the module itself: --model FILE.py:FACTORY"
    )


def _refuse_unused(choice: EncoderChoice, encoder: Encoder, findings: Findings) -> None:
    """What an owner says of the computation is used, or it is wrong: passed over, it would be believed."""
    unused = [
        name
        for name in _OF_THE_COMPUTATION
        if getattr(choice, name) is not None and findings.entries.get(f"encoder.{name}", ("", ""))[1] != GIVEN
    ]
    if choice.options and encoder.library != "timm":
        unused.append("options")
    if unused:
        raise ConfigError(
            f"[encoder] {', '.join(unused)}: {encoder.name} of {encoder.library} has no such choice here; take it out, "
            "or, where your module computes it so, give the module itself, --model FILE.py:FACTORY"
        )
