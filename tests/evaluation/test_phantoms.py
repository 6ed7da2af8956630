from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import torch

from dtvit_edge.phantom import plan_study, render_plan, write_study
from dtvit_edge.spec import LOCATION_LABELS, PreprocessSpec
from evaluation.images import prepare_image
from evaluation.phantoms import PhantomSet, load_phantoms
from training import augment

SPEC = PreprocessSpec()
FEW = PhantomSet(studies=3, first_seed=60, positives=3, negatives=2)


def test_every_study_gives_a_few_slices_of_each_kind() -> None:
    data = load_phantoms(FEW, SPEC)
    assert {s.patient for s in data.slices} == {"phantom-60", "phantom-61", "phantom-62"}
    for seed in (60, 61, 62):
        study = [s for s in data.slices if s.patient == f"phantom-{seed}"]
        plan = plan_study(seed, LOCATION_LABELS[seed % 3])
        assert sum(bool(s.ich) for s in study) == min(3, len(plan.positive))
        assert 0 < sum(not s.ich for s in study) <= 2
        assert {s.location for s in study if s.ich} == {seed % 3}
    assert all(image.shape == (1, 256, 256) for image in data.images)


def test_the_bytes_are_those_of_the_dicom_files(tmp_path: Path) -> None:
    data = load_phantoms(FEW, SPEC)
    index = int(data.slices[0].path.rsplit("-", 1)[1])
    study = render_plan(plan_study(60, LOCATION_LABELS[0]), [index])
    (path,) = write_study(study, tmp_path)
    np.testing.assert_array_equal(prepare_image(path, SPEC).pixels, data.images[0])


def test_workers_and_the_crop_change_nothing_else() -> None:
    alone, many = load_phantoms(FEW, SPEC), load_phantoms(FEW, SPEC, crop=True, workers=2)
    assert alone.slices == many.slices
    crop = augment.evaluation(SPEC)
    for whole, cropped in zip(alone.images, many.images, strict=True):
        np.testing.assert_array_equal(crop(torch.from_numpy(whole)).numpy(), cropped)


def test_a_sets_digest_names_it() -> None:
    assert FEW.digest == PhantomSet(3, 60, 3, 2).digest
    others = {replace(FEW, **{field.name: getattr(FEW, field.name) + 1}).digest for field in fields(FEW)}
    assert len({FEW.digest, *others}) == 5
