"""A DTViT on timm's ViT, trained by Lightning: train it, save its checkpoint, and write what proves its export.

Run it with: python examples/own_weights/lightning_dtvit.py out/lightning
"""

import sys
from pathlib import Path

import lightning
import numpy as np
import timm
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from dtvit_edge.phantom import render_study

PLACES = ["deep", "lobar", "subtentorial"]


class DTViT(lightning.LightningModule):
    """An encoder of timm and two heads with GELU and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.vit = timm.create_model("test_vit", img_size=64, num_classes=0)
        self.ich = nn.Sequential(nn.Linear(64, 32), nn.GELU(), nn.Dropout(0.1), nn.Linear(32, 1))
        self.location = nn.Sequential(nn.Linear(64, 32), nn.GELU(), nn.Dropout(0.1), nn.Linear(32, 3))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The logit of haemorrhage (N, 1) and those of its place (N, 3)."""
        features = self.vit(x)
        return self.ich(features), self.location(features)

    def training_step(self, batch: list[torch.Tensor], index: int) -> torch.Tensor:
        """Both losses; a slice without haemorrhage has no place."""
        x, place = batch
        ich, location = self(x)
        place_loss = nn.functional.cross_entropy(location, place, ignore_index=-1, reduction="sum") / len(x)
        return nn.functional.binary_cross_entropy_with_logits(ich[:, 0], (place >= 0).float()) + place_loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW."""
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


def prepare(hu: np.ndarray) -> torch.Tensor:
    """The brain window of 0 to 80 HU in floats, resized to the square, from -1 to 1."""
    image = torch.from_numpy(hu).float()[None, None].clamp(0, 80) / 80
    image = nn.functional.interpolate(image, size=(64, 64), mode="bilinear", antialias=True)
    return (image[0].expand(3, -1, -1) - 0.5) / 0.5


lightning.seed_everything(0)
slices = [s for seed, place in enumerate([None, *PLACES]) for s in render_study(seed, place, range(4, 20, 2)).slices]
y = torch.tensor([PLACES.index(s.location) if s.location else -1 for s in slices])
data = TensorDataset(torch.stack([prepare(s.hu) for s in slices]), y)
model, out = DTViT(), Path(sys.argv[1])
trainer = lightning.Trainer(max_epochs=5, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(model, DataLoader(data, batch_size=8, shuffle=True))
trainer.save_checkpoint(out / "last.ckpt")
(out / "import.toml").write_text("""training = "synthetic"
encoder.name = "test_vit"
heads.activation = "gelu"
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
    ich, location = model(torch.stack([prepare(slice_hu) for slice_hu in hu]))
np.savez(out / "expected.npz", hu=hu, ich_logits=ich, location_logits=location)
print(f"dtvit-edge export {out / 'last.ckpt'} -o {out / 'dtvit.dtvit'} --expect {out / 'expected.npz'}")
