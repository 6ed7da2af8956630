"""A DTViT on Hugging Face's ViTModel: train it, save it with save_pretrained, and write what proves its export.

Run it with: python examples/own_weights/huggingface_dtvit.py out/huggingface
"""

import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn
from transformers import ViTConfig, ViTImageProcessor, ViTModel, ViTPreTrainedModel

from dtvit_edge.phantom import render_study

LABELS = ["no_ich", "deep", "lobar", "subtentorial"]
processor = ViTImageProcessor(size={"height": 64, "width": 64})


class DTViT(ViTPreTrainedModel):
    """A ViTModel and one head of four classes on its class token."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__(config)
        self.vit = ViTModel(config, add_pooling_layer=False)
        self.classifier = nn.Linear(config.hidden_size, len(LABELS))
        self.post_init()

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Logits (N, 4)."""
        return self.classifier(self.vit(pixel_values).last_hidden_state[:, 0])


def prepare(hu: np.ndarray) -> torch.Tensor:
    """The brain window of 0 to 80 HU as a picture, and from there as the image processor does it."""
    picture = np.floor(255 * np.clip(hu.astype(float), 0, 80) / 80 + 0.5).astype(np.uint8)
    return processor(np.stack([picture] * 3, axis=-1), return_tensors="pt")["pixel_values"][0]


torch.manual_seed(0)
slices = [
    s for seed, place in enumerate([None, *LABELS[1:]]) for s in render_study(seed, place, range(4, 20, 2)).slices
]
x = torch.stack([prepare(s.hu) for s in slices])
y = torch.tensor([LABELS.index(s.location or "no_ich") for s in slices])
sizes = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 96, "image_size": 64}
model = DTViT(ViTConfig(**sizes))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
for _ in range(20):
    loss = nn.functional.cross_entropy(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

out = Path(sys.argv[1])
model.save_pretrained(out)  # model.safetensors and config.json, which export reads as well
(out / "import.toml").write_text("""training = "synthetic"
heads.classes.outputs = ["no_ich", "deep", "lobar", "subtentorial"]
[preprocess]
mask = false
fit = "squash"
mean = [0.5, 0.5, 0.5]
std = [0.5, 0.5, 0.5]
""")

# The lines of docs/own-weights.md that write what --expect reads.
model.eval()
hu = np.stack([s.hu for s in slices[::2]]).astype(np.int16)
with torch.no_grad():
    logits = model(torch.stack([prepare(slice_hu) for slice_hu in hu]))
np.savez(out / "expected.npz", hu=hu, logits=logits, labels=LABELS)
print(f"dtvit-edge export {out / 'model.safetensors'} -o {out / 'dtvit.dtvit'} --expect {out / 'expected.npz'}")
