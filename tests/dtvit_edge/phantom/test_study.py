"""Rendering: determinism, truth, where haemorrhages lie, and whether the device mask leaves them alone."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from dtvit_edge.phantom import PhantomSlice, StudyPlan, plan_study, render_plan, render_slice, render_study
from dtvit_edge.phantom.tissues import VISIBLE_HU, VISIBLE_MM2
from dtvit_edge.spec import LOCATION_LABELS

SEEDS = range(300, 308)


@pytest.fixture(scope="module")
def plans() -> list[StudyPlan]:
    return [plan_study(seed, location) for location in LOCATION_LABELS for seed in SEEDS]


@pytest.fixture(scope="module")
def ends(plans: list[StudyPlan]) -> list[tuple[StudyPlan, PhantomSlice]]:
    """The lowest and highest positive slices of every plan: where blood is nearest to bone and base."""
    return [(plan, render_slice(plan, index)) for plan in plans for index in (plan.positive[0], plan.positive[-1])]


def window_byte(hu: np.ndarray) -> np.ndarray:
    return np.floor(255 * np.clip((hu.astype(np.float64) - 40) / 80 + 0.5, 0, 1) + 0.5)


def device_mask(hu: np.ndarray) -> np.ndarray:
    """The mask of docs/architecture.md (preprocessing), with SciPy."""
    y, x = np.mgrid[-4:5, -4:5]
    disk = x * x + y * y <= 16
    binary = window_byte(hu) > 10
    eroded = ndimage.binary_erosion(binary, disk)
    eroded[:, :8] = eroded[:, -8:] = False
    labels, _ = ndimage.label(eroded, np.ones((3, 3)))
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    largest = labels == int(np.argmax(sizes)) if sizes.any() else np.zeros_like(eroded)
    return ndimage.binary_fill_holes(ndimage.binary_dilation(largest, disk) & binary)


def middle_of(blood: np.ndarray, plan: StudyPlan, index: int) -> np.ndarray:
    """The centre of a slice's blood in canonical head coordinates."""
    row, column = np.argwhere(blood).mean(axis=0)
    acquisition = plan.acquisition
    step = acquisition.pixel_spacing_mm
    point = acquisition.position_mm(index) + step * (column * acquisition.column + row * acquisition.row)
    return acquisition.to_head(point)


def test_same_seed_renders_the_same_pixels_whichever_slices_are_asked_for() -> None:
    plan = plan_study(7, "lobar")
    wanted = (plan.positive[0], 3, plan.slice_count - 1)
    some = render_study(7, "lobar", indices=wanted)
    again = [render_slice(plan_study(7, "lobar"), index) for index in sorted(wanted, reverse=True)]
    assert [s.index for s in some.slices] == sorted(wanted)
    for one, other in zip(some.slices, reversed(again), strict=True):
        np.testing.assert_array_equal(one.hu, other.hu)
        np.testing.assert_array_equal(one.haemorrhage, other.haemorrhage)


def test_different_seeds_differ_in_more_than_noise() -> None:
    one, other = (render_study(seed, None, indices=[14]).slices[0].hu for seed in (1, 2))
    assert (np.abs(one.astype(int) - other) > 100).mean() > 0.02


def test_slice_is_512_square_int16_and_study_has_20_to_34_slices(plans: list[StudyPlan]) -> None:
    phantom_slice = render_slice(plans[0], 0)
    assert phantom_slice.hu.shape == phantom_slice.haemorrhage.shape == (512, 512)
    assert phantom_slice.hu.dtype == np.int16 and phantom_slice.haemorrhage.dtype == np.bool_
    assert all(20 <= plan.slice_count <= 34 for plan in plans)
    assert all(2 <= len(plan.positive) <= 8 for plan in plans)


def test_same_seed_with_and_without_haemorrhage_is_the_same_head() -> None:
    sick, well = plan_study(5, "deep"), plan_study(5, None)
    outside = next(i for i in range(sick.slice_count) if i < sick.positive[0] - 3)
    assert sick.head == well.head
    assert (render_slice(sick, outside).hu == render_slice(well, outside).hu).mean() > 0.5


def test_negative_study_has_no_blood() -> None:
    plan = plan_study(11, None)
    study = render_plan(plan, [4, 12])
    assert plan.positive == () and study.location is None
    assert not any(s.ich or s.location or s.haemorrhage.any() or s.haemorrhage_mm2 for s in study.slices)


def test_labels_follow_the_plan_and_the_mask() -> None:
    plan = plan_study(21, "subtentorial")
    around = range(plan.positive[0] - 1, plan.positive[-1] + 2)
    for phantom_slice in render_plan(plan, [i for i in around if i >= 0]).slices:
        assert phantom_slice.ich == (phantom_slice.index in plan.positive) == bool(phantom_slice.haemorrhage.any())
        assert phantom_slice.location == ("subtentorial" if phantom_slice.ich else None)


def test_every_positive_slice_shows_enough_blood(ends: list[tuple[StudyPlan, PhantomSlice]]) -> None:
    for plan, phantom_slice in ends:
        pixels = np.count_nonzero(phantom_slice.haemorrhage)
        assert phantom_slice.haemorrhage_mm2 == pytest.approx(pixels * plan.acquisition.pixel_spacing_mm**2)
        assert phantom_slice.haemorrhage_mm2 >= VISIBLE_MM2, (plan.seed, plan.location, phantom_slice.index)


def test_blood_is_denser_than_the_brain_around_it(ends: list[tuple[StudyPlan, PhantomSlice]]) -> None:
    for plan, phantom_slice in ends:
        blood = phantom_slice.haemorrhage
        near = ndimage.binary_dilation(blood, iterations=14) & ~ndimage.binary_dilation(blood, iterations=4)
        brain = near & (phantom_slice.hu > 0) & (phantom_slice.hu < 100)
        density = phantom_slice.hu[blood].mean()
        assert density > VISIBLE_HU, (plan.seed, plan.location, phantom_slice.index)
        assert density > np.median(phantom_slice.hu[brain]) + 10, (
            plan.seed,
            plan.location,
            phantom_slice.index,
        )


def test_haemorrhages_lie_in_the_region_of_their_label(plans: list[StudyPlan]) -> None:
    for plan in plans:
        for bleed in plan.bleeding.bleeds:
            x, y, z = bleed.centre
            if plan.location == "deep":
                assert abs(x) < 40 and abs(y) < 35 and 8 < z < 40
            elif plan.location == "lobar":
                assert (x / 66) ** 2 + (y / 82) ** 2 + ((z - 22) / 76) ** 2 > 0.2
            else:
                assert z < 10 and y > 8 and abs(x) < 40


def test_subtentorial_slices_are_low_and_lobar_blood_is_peripheral(
    ends: list[tuple[StudyPlan, PhantomSlice]],
) -> None:
    radius: dict[str, list[float]] = {name: [] for name in LOCATION_LABELS}
    for plan, phantom_slice in ends:
        x, y, z = middle_of(phantom_slice.haemorrhage, plan, phantom_slice.index)
        radius[plan.location or ""].append(((x / 66) ** 2 + (y / 82) ** 2 + ((z - 22) / 76) ** 2) ** 0.5)
        if plan.location == "subtentorial":
            assert z < 20 and y > 5
            assert phantom_slice.index < plan.slice_count / 2
    assert max(radius["deep"]) < 0.65
    assert np.median(radius["lobar"]) > np.max(radius["deep"])


def test_device_mask_keeps_the_haemorrhage(ends: list[tuple[StudyPlan, PhantomSlice]]) -> None:
    for plan, phantom_slice in ends:
        kept = device_mask(phantom_slice.hu)[phantom_slice.haemorrhage].mean()
        assert kept >= 0.95, (plan.seed, plan.location, phantom_slice.index)


def test_device_mask_drops_the_headrest_and_keeps_the_brain(plans: list[StudyPlan]) -> None:
    dropped = 0
    for plan in plans[::3]:
        index = plan.slice_count // 2
        hu = render_slice(plan, index).hu
        mask = device_mask(hu)
        shell = np.kron(plan.gantry > 30, np.ones((2, 2), bool)) & (window_byte(hu) > 10)
        away = shell & ~ndimage.binary_dilation(mask, iterations=3)
        dropped += int(away.any())
        assert not (mask & shell).any() or (mask & shell).sum() < 0.02 * shell.sum(), plan.seed
        assert mask.sum() * plan.acquisition.pixel_spacing_mm**2 > 8000, plan.seed
    assert dropped >= len(plans[::3]) // 2


@pytest.mark.parametrize("location", ["frontal", "", "DEEP"])
def test_unknown_location_is_refused_with_the_known_ones(location: str) -> None:
    with pytest.raises(ValueError, match="deep, lobar, subtentorial"):
        plan_study(0, location)


def test_slice_outside_the_stack_is_refused() -> None:
    plan = plan_study(0, None)
    with pytest.raises(IndexError):
        render_slice(plan, plan.slice_count)


def test_auto_draws_about_half_positive_studies() -> None:
    drawn = [plan_study(seed, "auto").location for seed in range(40)]
    assert 10 <= sum(location is not None for location in drawn) <= 30
    assert set(drawn) == {None, *LOCATION_LABELS}
