"""Imports that are wrong on purpose: how many does `--expect` refuse, and of how many does it name the cause?

A user's model is a timm ViT with two MLP heads. Seeded combinations of one or two wrong statements about it (label
order, normalisation, activation, mask, resize) are made, the user's own code computes the outputs the right way, and
the import that says something else is compared with them.

python benchmarks/standalone/expected_outputs.py --count 200
"""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from benchmarks.standalone.program import start
from dtvit_edge.cli import render
from dtvit_edge.errors import VerdictError
from dtvit_edge.phantom.study import plan_study, render_plan
from dtvit_edge.preprocess.cpu import CpuPreprocessor
from dtvit_edge.spec import PixelEncoding, PreprocessSpec
from export._torchvision import timm
from export.expecting import prove_expected
from export.findings import Findings
from export.heads.layers import Activation
from export.importing import Imported
from export.model import DTViT, normalise

SIDE = 112
NORMALISATIONS = {
    "mean and std of ImageNet": PreprocessSpec.mean + PreprocessSpec.std,
    "mean and std 0.5": (0.5,) * 6,
    "no mean and std (bytes / 255 alone)": (0.0,) * 3 + (1.0,) * 3,
}
ACTIVATIONS = ("relu", "gelu", "tanh", "silu", "leaky_relu")
FITS = {"fit shorter": ("shorter", 128), "fit squash": ("squash", SIDE), "no resize (literal crop)": ("shorter", None)}
PARTS = ("labels", "normalisation", "activation", "mask", "resize")


@dataclass(frozen=True)
class Truth:
    """What the user's code does, by part; the import says what another one does."""

    labels: str = "plain"
    normalisation: str = "mean and std of ImageNet"
    activation: str = "gelu"
    mask: str = "mask on"
    resize: str = "fit shorter"

    def spec(self) -> PreprocessSpec:
        """The preprocessing."""
        numbers = NORMALISATIONS[self.normalisation]
        fit, resize = FITS[self.resize]
        return PreprocessSpec(
            crop=SIDE, fit=fit, resize=resize, mean=numbers[:3], std=numbers[3:], device_mask=self.mask == "mask on"
        )


CHOICES: dict[str, tuple[str, ...]] = {
    "labels": ("plain", "ich labels swapped", "locations in the order"),
    "normalisation": tuple(NORMALISATIONS),
    "activation": ACTIVATIONS,
    "mask": ("mask on", "mask off"),
    "resize": tuple(FITS),
}


def model_of(seed: int, activation: str) -> DTViT:
    """A user's model from a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = timm.create_model("test_vit", num_classes=0, img_size=SIDE)
        heads = [nn.Sequential(nn.Linear(64, 32), Activation(activation), nn.Linear(32, n)) for n in (2, 3)]
        for module in (*heads[0], *heads[1]):
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=(2 / module.in_features) ** 0.5)
    return DTViT.assemble("test_vit", encoder, heads[0], heads[1])


def expected(truth: Truth, seed: int, images: list[NDArray[np.int16]], path: Path) -> None:
    """Write the outputs of the user's own code."""
    spec = truth.spec()
    prepare = CpuPreprocessor(spec)
    pixels = np.stack([prepare(image.astype(np.uint16), PixelEncoding()).pixels for image in images])
    with torch.no_grad():
        ich, location = model_of(seed, truth.activation)(normalise(torch.from_numpy(pixels), spec))
    if truth.labels == "ich labels swapped":
        ich = ich.flip(1)
    elif truth.labels != "plain":
        location = location[:, [1, 2, 0]]
    np.savez(path, hu=np.stack(images), ich_logits=ich.numpy(), location_logits=location.numpy())


def named(message: str, said: Truth, truth: Truth) -> bool:
    """Whether a refusal names every part that was wrong, and no other."""
    line = next((line for line in message.splitlines() if line.startswith("They would agree")), "")
    wrong = [part for part in PARTS if getattr(said, part) != getattr(truth, part)]
    words = {part: getattr(truth, part) for part in wrong}
    words |= {"activation": f"activation {truth.activation}"} if "activation" in words else {}
    if words.get("labels") == "plain":
        words["labels"] = "ich labels swapped" if said.labels == "ich labels swapped" else "locations in the order"
    count = line.count(" and ") - line.count("mean and std")
    return bool(line) and all(word in line for word in words.values()) and count == len(wrong) - 1


@click.command()
@click.option("--count", default=200, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(count: int, seed: int) -> None:
    """Print the share of wrong imports that is refused, and the share whose cause is named."""
    torch.set_num_threads(1)
    generator = np.random.default_rng(seed)
    plans = [plan_study(i, place) for i, place in enumerate(("deep", "lobar", "subtentorial", None))]
    images = [
        render_plan(plan, [index]).slices[0].hu[::2, ::2].copy()
        for plan in plans
        for index in (plan.slice_count // 3, plan.slice_count // 2)
    ]
    results: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "expected.npz"
        for number in range(count):
            said = Truth()
            truth = said
            for part in generator.choice(PARTS, 1 + number % 2, replace=False):
                others = [value for value in CHOICES[part] if value != getattr(said, part)]
                truth = replace(truth, **{str(part): str(generator.choice(others))})
            expected(truth, number % 5, images, path)
            imported = Imported(model_of(number % 5, said.activation), "synthetic", said.spec(), "", (), Findings())
            try:
                prove_expected(imported, path, lambda line: None)
                results["accepted"] += 1
                render.echo(f"accepted: {truth}")
            except VerdictError as error:
                results["refused"] += 1
                if named(str(error), said, truth):
                    results["named"] += 1
                else:
                    line = next((line for line in str(error).splitlines()[1:2]), "")
                    render.echo(f"not named: {truth}: {line}")
    render.echo(
        f"refused {results['refused']} of {count}, cause named for {results['named']}, accepted {results['accepted']}"
    )


if __name__ == "__main__":
    start(main)
