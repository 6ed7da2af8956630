from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from dtvit_edge.backend import Logits
from dtvit_edge.report.evidence import CELLS, COARSE, MOST_FINE, box, brain_median, evidence
from dtvit_edge.report.pictures import drawings
from dtvit_edge.scoring.executor import Executor
from dtvit_edge.spec import ICH_OUTPUT, LOCATION_OUTPUT, PreprocessSpec, Window

SPEC = PreprocessSpec()


class LooksAt:
    """An executor whose answers follow the mean of a rectangle of the first channel, and nothing else."""

    def __init__(self, ich: tuple[slice, slice], location: tuple[slice, slice] | None = None, batch: int = 8) -> None:
        self.batch, self._ich, self._location = batch, ich, location or ich
        self.shown: list[NDArray[np.uint8]] = []

    def logits(self, pixels: NDArray[np.uint8]) -> Logits:
        assert 1 <= len(pixels) <= self.batch
        self.shown.extend(pixels)
        ich, location = (
            pixels[:, 0][(slice(None), *where)].mean(axis=(1, 2)) / 10 - 12 for where in (self._ich, self._location)
        )
        zero = np.zeros_like(ich)
        return {
            ICH_OUTPUT: np.stack([zero, ich], axis=1).astype(np.float32),
            LOCATION_OUTPUT: np.stack([zero, location + 20, zero], axis=1).astype(np.float32),
        }


def head(side: int = 224, channels: int = 1, blood: Sequence[slice] = ()) -> NDArray[np.uint8]:
    """A disk of brain in air, with a bright rectangle."""
    y, x = np.mgrid[:side, :side]
    image = np.where((y - side / 2) ** 2 + (x - side / 2) ** 2 < (0.45 * side) ** 2, 100, 0).astype(np.uint8)
    image[tuple(blood)] = 200 if blood else image
    return np.repeat(image[None], channels, axis=0)


BLOOD = slice(70, 90), slice(120, 145)


def looking(executor: LooksAt) -> Executor:
    return executor  # type: ignore[return-value]


def test_the_hottest_cell_lies_where_the_model_looks_and_each_head_has_its_own() -> None:
    executor = LooksAt(BLOOD, (slice(150, 165), slice(60, 75)))
    found = evidence(looking(executor), head(blood=BLOOD), SPEC)
    assert found is not None and found.location is not None
    top, bottom, left, right = box(found.ich.hottest, 224, 1)
    assert top < 90 and bottom > 70 and left < 145 and right > 120
    assert found.location_index == 1
    assert found.ich.answer - found.ich.hidden > 1
    outside = [
        found.ich.loss[i, j] for i in range(CELLS) for j in range(CELLS) if i < 2 and np.isfinite(found.ich.loss[i, j])
    ]
    assert np.allclose(outside, 0)


def test_what_the_location_hangs_on_is_found_in_the_same_passes() -> None:
    where = slice(144, 160), slice(64, 80)
    image = head(blood=BLOOD)
    image[0, 144:160, 64:80] = 180
    found = evidence(looking(LooksAt(BLOOD, where)), image, SPEC)
    assert found is not None and found.location is not None
    top, bottom, left, right = box(found.location.strongest, 224)
    assert top < 160 and bottom > 144 and left < 80 and right > 64


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_the_budget_holds_and_the_batch_changes_nothing(batch: int) -> None:
    executor = LooksAt(BLOOD, batch=batch)
    found = evidence(looking(executor), head(blood=BLOOD), SPEC)
    other = evidence(looking(LooksAt(BLOOD)), head(blood=BLOOD), SPEC)
    assert found is not None and other is not None
    assert found.passes == len(executor.shown) <= 1 + COARSE**2 + MOST_FINE
    assert np.array_equal(found.ich.loss, other.ich.loss, equal_nan=True)


def test_a_patch_is_hidden_by_the_brains_median_and_the_air_stays_air() -> None:
    executor = LooksAt(BLOOD)
    image = head(blood=BLOOD)
    evidence(looking(executor), image, SPEC)
    for shown in executor.shown:
        assert not shown[0][image[0] == 0].any()
        changed = shown != image
        assert (shown[changed] == 100).all()
        rows, columns = np.nonzero(changed[0])
        assert not len(rows) or (np.ptp(rows) < 32 and np.ptp(columns) < 32)


def test_the_fill_is_each_channels_own() -> None:
    spec = PreprocessSpec(windows=(Window(), Window(80, 200), Window(600, 2800)))
    image = head(channels=3, blood=BLOOD)
    image[1] //= 2
    image[2] //= 4
    fill = brain_median(image, spec)
    assert fill is not None and fill.tolist() == [100, 50, 25]
    executor = LooksAt(BLOOD)
    assert evidence(looking(executor), image, spec) is not None
    assert all((shown[1][shown[1] > 0] <= 100).all() for shown in executor.shown)


@pytest.mark.parametrize("side", [64, 225, 256, 384])
def test_cells_tile_inputs_of_any_size(side: int) -> None:
    edges = [box((i, 0), side, 1)[:2] for i in range(CELLS)]
    assert edges[0][0] == 0 and edges[-1][1] == side
    assert all(a[1] == b[0] for a, b in pairwise(edges))
    where = slice(side // 2 - 4, side // 2 + 4), slice(side // 2 - 4, side // 2 + 4)
    assert evidence(looking(LooksAt(where)), head(side, blood=where), SPEC) is not None


def test_without_a_brain_or_a_finite_answer_there_is_no_map() -> None:
    assert evidence(looking(LooksAt(BLOOD)), np.zeros((1, 224, 224), np.uint8), SPEC) is None
    assert evidence(looking(LooksAt(BLOOD)), np.full((1, 224, 224), 255, np.uint8), SPEC) is None

    class Broken(LooksAt):
        def logits(self, pixels: NDArray[np.uint8]) -> Logits:
            logits = super().logits(pixels)
            logits[ICH_OUTPUT][:, 1] = np.nan
            return logits

    assert evidence(looking(Broken(BLOOD)), head(blood=BLOOD), SPEC) is None


def test_an_untrained_location_head_has_no_map() -> None:
    found = evidence(looking(LooksAt(BLOOD)), head(blood=BLOOD), SPEC, ("location",))
    assert found is not None and found.location is None
    assert [drawing.title for drawing in drawings(found, head())] == ["haemorrhage"]


def test_a_map_in_which_nothing_matters_says_so_and_shows_no_place() -> None:
    nowhere = slice(0, 2), slice(0, 2)  # air, which is never hidden
    found = evidence(looking(LooksAt(nowhere)), head(blood=BLOOD), SPEC)
    assert found is not None
    drawn = drawings(found, head())[0]
    assert drawn.is_flat and not any(cell.level for cell in drawn.cells)
    assert "hardly changes" in drawn.note
