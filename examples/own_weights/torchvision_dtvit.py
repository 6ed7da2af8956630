"""A DTViT on torchvision's VisionTransformer: train it, save it, and write what proves its export.

Run it with: python examples/own_weights/torchvision_dtvit.py out/torchvision
"""

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torchvision import transforms
from torchvision.models import VisionTransformer

from dtvit_edge.phantom import render_study

PLACES = ["lobar", "deep", "subtentorial"]  # this model's order of labels
prepare_image = transforms.Compose([
    transforms.Resize(72), transforms.CenterCrop(64), transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.5] * 3),
])  # fmt: skip


class DTViT(nn.Module):
    """A small VisionTransformer; for a real one, take `torchvision.models.vit_b_16(weights=...)`."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = VisionTransformer(64, 16, num_layers=2, num_heads=3, hidden_dim=48, mlp_dim=96)
        self.encoder.heads = nn.Identity()
        self.ich, self.location = nn.Linear(48, 2), nn.Linear(48, 3)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits of haemorrhage (N, 2) and of its place (N, 3)."""
        features = self.encoder(x)
        return self.ich(features), self.location(features)


def prepare(hu: np.ndarray) -> torch.Tensor:
    """The brain window of 0 to 80 HU as a picture, and from there as ImageNet's models take theirs."""
    picture = np.floor(255 * np.clip(hu.astype(float), 0, 80) / 80 + 0.5).astype(np.uint8)
    return prepare_image(Image.fromarray(picture).convert("RGB"))


torch.manual_seed(0)
slices = [s for seed, place in enumerate([None, *PLACES]) for s in render_study(seed, place, range(4, 20, 2)).slices]
x, ich_true = torch.stack([prepare(s.hu) for s in slices]), torch.tensor([int(s.ich) for s in slices])
place_true = torch.tensor([PLACES.index(s.location) if s.location else -1 for s in slices])
model, out = DTViT(), Path(sys.argv[1])
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
for _ in range(20):
    ich, location = model(x)
    place_loss = nn.functional.cross_entropy(location, place_true, ignore_index=-1)
    loss = nn.functional.cross_entropy(ich, ich_true) + place_loss
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

out.mkdir(parents=True, exist_ok=True)
torch.save({"model_state_dict": model.state_dict(), "optimizer": optimizer.state_dict()}, out / "weights.pth")
(out / "import.toml").write_text("""training = "synthetic"
encoder.num_heads = 3
heads.location.outputs = ["lobar", "deep", "subtentorial"]
[preprocess]
mask = false
resize = 72
mean = [0.5, 0.5, 0.5]
std = [0.5, 0.5, 0.5]
""")

# The lines of docs/own-weights.md that write what --expect reads.
model.eval()
hu = np.stack([s.hu for s in slices[::2]]).astype(np.int16)
with torch.no_grad():
    ich, location = model(torch.stack([prepare(slice_hu) for slice_hu in hu]))
deep_lobar_subtentorial = [PLACES.index(place) for place in ("deep", "lobar", "subtentorial")]
np.savez(out / "expected.npz", hu=hu, ich_logits=ich, location_logits=location[:, deep_lobar_subtentorial])
print(f"dtvit-edge export {out / 'weights.pth'} -o {out / 'dtvit.dtvit'} --expect {out / 'expected.npz'}")
