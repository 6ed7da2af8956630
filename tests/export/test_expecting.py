"""The user's own outputs prove a model, or name what is wrong with its import."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from dtvit_edge.errors import ConfigError, VerdictError
from dtvit_edge.preprocess.cpu import CpuPreprocessor
from dtvit_edge.spec import WINDOWED_8_BIT, PixelEncoding, PreprocessSpec
from export.expectations import read_expectations
from export.expecting import _Comparison, prove_expected
from export.importing import Imported, ImportOptions, import_model
from export.model import normalise
from tests.support.foreign_models import Dual, mlp, seeded, timm_vit

HALF = (0.5,) * 3


def heads_of_ct(count: int = 6, side: int = 160) -> NDArray[np.int16]:
    """Discs of skull and brain with a blob that differs, in HU, and a bar of a headrest below."""
    rows, columns = np.mgrid[:side, :side]
    images = np.full((count, side, side), -1000, np.int16)
    generator = np.random.default_rng(3)
    for image in images:
        distance = np.hypot(rows - side / 2, (columns - side / 2) * generator.uniform(1.0, 1.3))
        image[distance < side * 0.4] = 900
        image[distance < side * 0.36] = 35
        y, x = generator.uniform(0.35, 0.65, 2) * side
        image[np.hypot(rows - y, columns - x) < generator.uniform(5, 25)] = 70
        image += generator.normal(0, 4, image.shape).astype(np.int16)
        image[side - 12 : side - 7, 20:-20] = 300
    return images


def users_model(activation: nn.Module) -> nn.Module:
    return seeded(Dual(timm_vit(img_size=64), mlp(64, 2, activation), mlp(64, 3, activation)))


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Imported:
    path = tmp_path_factory.mktemp("user") / "a.pt"
    torch.save(users_model(nn.GELU()).state_dict(), path)
    return import_model(path, ImportOptions(encoder="test_vit", training="synthetic", activation="gelu"))


def outputs(spec: PreprocessSpec, hu: NDArray[np.int16], activation: nn.Module | None = None) -> tuple[Any, Any]:
    """What the user's own code says of images, prepared by a spec."""
    prepare = CpuPreprocessor(spec)
    pixels = np.stack([prepare(image.astype(np.uint16), PixelEncoding()).pixels for image in hu])
    with torch.no_grad():
        ich, location = users_model(activation or nn.GELU())(normalise(torch.from_numpy(pixels), spec))
    return ich.numpy(), location.numpy()


def test_agreement_is_a_proof_with_its_numbers(imported: Imported, tmp_path: Path) -> None:
    hu = heads_of_ct()
    ich, location = outputs(imported.spec, hu)
    np.savez(tmp_path / "e.npz", hu=hu, ich_logits=ich, location_logits=location)
    proof = prove_expected(imported, tmp_path / "e.npz", lambda line: None)
    assert proof["says"] == "proved against the user's own outputs" and proof["images"] == 6
    assert proof["max_abs_difference"] <= proof["tolerance"] < 1e-3 and proof["tolerance_of"] == "rounding"
    assert proof["preprocessing_proved"] and len(proof["sha256"]) == 64


@pytest.mark.parametrize("form", ["tensors", "probabilities", "one logit", "pixels", "labels"])
def test_outputs_are_taken_in_the_forms_that_people_have(imported: Imported, tmp_path: Path, form: str) -> None:
    hu = heads_of_ct()
    ich, location = outputs(imported.spec, hu)
    arrays: dict[str, Any] = {"hu": hu, "ich_logits": ich}
    if form == "tensors":
        prepare = CpuPreprocessor(imported.spec)
        pixels = np.stack([prepare(image.astype(np.uint16), PixelEncoding()).pixels for image in hu])
        arrays = {"tensors": normalise(torch.from_numpy(pixels), imported.spec).numpy(), "location_logits": location}
    elif form == "probabilities":
        arrays = {"hu": hu, "ich_probabilities": torch.from_numpy(ich).softmax(1)[:, 1].numpy()}
    elif form == "one logit":
        arrays = {"hu": hu, "ich_logits": ich[:, 1] - ich[:, 0]}
    elif form == "pixels":
        arrays = {"pixels": (hu + 1024).astype(np.uint16), "intercept": -1024.0, "ich_logits": ich}
    elif form == "labels":
        arrays = {"hu": hu, "logits": location[:, ::-1], "labels": np.array(["subtentorial", "lobar", "deep"])}
    np.savez(tmp_path / "e.npz", **arrays)
    assert prove_expected(imported, tmp_path / "e.npz", lambda line: None)["images"] == 6


def test_another_pooling_is_named_although_no_tensor_shows_it(imported: Imported, tmp_path: Path) -> None:
    """A mean of the patches has the same state dict as the class token."""
    hu = heads_of_ct()
    vit = timm_vit(img_size=64, global_pool="avg", fc_norm=False)
    user = seeded(Dual(vit, mlp(64, 2, nn.GELU()), mlp(64, 3, nn.GELU())))
    assert user.state_dict().keys() == users_model(nn.GELU()).state_dict().keys()
    prepare = CpuPreprocessor(imported.spec)
    pixels = np.stack([prepare(image.astype(np.uint16), PixelEncoding()).pixels for image in hu])
    with torch.no_grad():
        ich, location = user(normalise(torch.from_numpy(pixels), imported.spec))
    np.savez(tmp_path / "e.npz", hu=hu, ich_logits=ich.numpy(), location_logits=location.numpy())
    with pytest.raises(VerdictError, match=r"They would agree to .* with: pool avg\. Say so"):
        prove_expected(imported, tmp_path / "e.npz", lambda line: None)
    assert imported.model.encoder.global_pool == "token"


def test_a_change_that_explains_most_is_not_said_to_make_them_agree(imported: Imported, tmp_path: Path) -> None:
    """Whoever takes the advice would be refused again."""
    hu = heads_of_ct()
    ich, location = outputs(imported.spec, hu)
    off = np.linspace(0, 0.2 * float(np.abs(location[:, 0] - location[:, 2]).max()), len(hu))[:, None]
    np.savez(tmp_path / "e.npz", hu=hu, ich_logits=ich, location_logits=location[:, [2, 1, 0]] + off)
    with pytest.raises(VerdictError, match=r"Most of it goes with: locations in the order .* would stay, for which no"):
        prove_expected(imported, tmp_path / "e.npz", lambda line: None)


def test_folder_of_pictures_with_a_table(imported: Imported, tmp_path: Path) -> None:
    rows = []
    for number, hu in enumerate(heads_of_ct(4)):
        picture = np.floor(255 * np.clip((hu.astype(float) - 40) / 80 + 0.5, 0, 1) + 0.5).astype(np.uint8)
        cv2.imwrite(str(tmp_path / f"{number}.png"), picture)
        pixels = CpuPreprocessor(imported.spec)(picture.astype(np.uint16), WINDOWED_8_BIT).pixels
        with torch.no_grad():
            ich, location = users_model(nn.GELU())(normalise(torch.from_numpy(pixels[None]), imported.spec))
        p = location.softmax(1)[0].tolist()
        rows.append({"file": f"{number}.png", "logit_no_ich": ich[0, 0].item(), "logit_ich": ich[0, 1].item(),
                     "p_deep": p[0], "p_lobar": p[1], "p_subtentorial": p[2]})  # fmt: skip
    with (tmp_path / "expected.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    proof = prove_expected(imported, tmp_path, lambda line: None)
    assert proof["kind"] == "png" and len(proof["outputs"]) == 2


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "labels": ({"swap": True}, "with: ich labels swapped"),
    "activation": ({"activation": nn.ReLU()}, "with: activation relu"),
    "mean and std": ({"mean": HALF, "std": HALF}, "with: mean and std 0.5"),
    "mask": ({"device_mask": False}, "with: mask off"),
    "fit": ({"fit": "squash", "resize": 64}, "with: (fit squash|resize straight)"),
    "softmax": ({"softmax": True}, r"with: logits given are probabilities \(softmax\)"),
    "a pair": ({"mean": HALF, "std": HALF, "activation": nn.SiLU()}, "with: mean and std 0.5 and activation silu"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_named_and_nothing_is_exported(imported: Imported, tmp_path: Path, what: str) -> None:
    wrong, message = dict(WRONG[what][0]), WRONG[what][1]
    swap, softmax = wrong.pop("swap", False), wrong.pop("softmax", False)
    activation = wrong.pop("activation", None)
    hu = heads_of_ct()
    ich, location = outputs(replace(imported.spec, **wrong), hu, activation)
    if softmax:
        ich, location = (torch.from_numpy(a).softmax(1).numpy() for a in (ich, location))
    np.savez(tmp_path / "e.npz", hu=hu, ich_logits=ich[:, ::-1] if swap else ich, location_logits=location)
    with pytest.raises(VerdictError, match=rf"They would agree to .* {message}[\s\S]*Tried \(\d+ in all\)") as caught:
        prove_expected(imported, tmp_path / "e.npz", lambda line: None)
    assert caught.value.exit_status == 1


def test_a_model_whose_second_head_is_not_finite_proves_nothing(
    imported: Imported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hu = heads_of_ct()
    ich, location = outputs(imported.spec, hu)
    np.savez(tmp_path / "e.npz", hu=hu, ich_logits=ich, location_logits=location)
    forward = type(imported.model).forward
    broken = lambda self, x: (lambda a, b: (a, b * float("nan")))(*forward(self, x))  # noqa: E731
    monkeypatch.setattr(type(imported.model), "forward", broken)
    with pytest.raises(VerdictError, match="not finite"):
        prove_expected(imported, tmp_path / "e.npz", lambda line: None)


def test_a_difference_is_infinite_where_any_output_is_not_finite(imported: Imported, tmp_path: Path) -> None:
    hu = heads_of_ct()
    ich, location = outputs(imported.spec, hu)
    np.savez(tmp_path / "e.npz", hu=hu, ich_logits=ich, location_logits=location)
    comparison = _Comparison(imported, read_expectations(tmp_path / "e.npz"))
    for pair in ((ich, location * np.nan), (ich * np.nan, location)):
        assert comparison.difference(pair, len(hu)) == float("inf")


def test_outputs_of_another_model_are_refused_without_a_cause(imported: Imported, tmp_path: Path) -> None:
    hu = heads_of_ct()
    ich = np.random.default_rng(0).normal(size=(6, 2))
    np.savez(tmp_path / "e.npz", hu=hu, ich_logits=ich)
    with pytest.raises(VerdictError, match="No single change that is known explains it"):
        prove_expected(imported, tmp_path / "e.npz", lambda line: None)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"ich_logits": np.zeros((2, 2))}, "expected exactly one of tensors, hu"),
        ({"hu": np.zeros((2, 64, 64))}, "expected one or more of ich_logits"),
        ({"hu": np.zeros((2, 64, 64)), "ich_logits": np.zeros((3, 2))}, "is for 3 images, there are 2"),
        ({"hu": np.zeros((2, 64, 64)), "ich_logits": np.ones((2, 2))}, "hardly vary"),
        (
            {"tensors": np.zeros((2, 3, 9, 9)), "ich_logits": np.eye(2)},
            r"tensors are \(3, 9, 9\) each, the model takes",
        ),
        ({"images": np.zeros((2, 64, 64)), "ich_logits": np.eye(2)}, "expected uint8"),
    ],
    ids=["no images", "no outputs", "numbers", "constant", "size", "type"],
)
def test_files_that_prove_nothing_are_refused(
    imported: Imported, tmp_path: Path, arrays: dict[str, Any], message: str
) -> None:
    np.savez(tmp_path / "e.npz", **arrays)
    with pytest.raises(ConfigError, match=message):
        prove_expected(imported, tmp_path / "e.npz", lambda line: None)
