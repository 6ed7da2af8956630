"""The gate of a calibration looks at home and elsewhere, and at configurations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from calibration.calibrate import Config
from calibration.judging import TEST, VALIDATION, Judge
from calibration.slices import find_candidates, load
from dtvit_edge import backends
from dtvit_edge.bundle import Bundle
from dtvit_edge.errors import ConfigError
from dtvit_edge.progress import silent
from evaluation.gate import FAILED, OTHER, PASSED, SliceLabels
from evaluation.limits import Limits
from evaluation.sampling import SliceSet
from tests.support.tiny_bundle import tiny_model

LIMITS = Limits(slices=4, shift_agreement=0.9, difference=0.9, shift_slices=4)


def slices_of(brightness: list[int]) -> SliceSet:
    """Flat slices, each of another patient; the tiny model's answer is the mean brightness."""
    pixels = np.stack([np.full((1, 224, 224), value, np.uint8) for value in brightness])
    names = tuple(f"d{value}" for value in brightness)
    return SliceSet(pixels, SliceLabels(names, names, np.full(len(names), -1)))


@pytest.fixture
def judge(tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> Judge:
    """Home is dark or bright, where nothing is near the model's middle of 45; the shifted slices lie about it."""
    sets = {TEST: slices_of([10, 20, 30, 80, 90, 100, 110, 120, 130, 140, 150, 160])}
    shifted = {"HU +10": slices_of([48, 49, 50, 51, 52, 53, 54, 55, 56, 46])}
    monkeypatch.setattr("calibration.judging.shifted_sets", lambda *given, **more: shifted)
    return Judge(tiny_bundle, sets, LIMITS, 0, silent)


def test_a_precision_that_is_fine_at_home_and_fails_under_a_shift_is_refused(judge: Judge) -> None:
    verdict = judge.assess("int8", tiny_model(middle=57.0))
    assert verdict.ich.flips == 0 and verdict.verdict == FAILED
    assert [(one.name, one.verdict, one.ich.flips) for one in verdict.elsewhere] == [("HU +10", FAILED, 10)]
    assert verdict.reasons[0] == "HU +10: ich: 0.00% of decisions agree, 90.00% are asked"
    assert judge.assess("int8", judge.fp32).verdict == PASSED


def test_another_site_is_judged_with_the_limits_of_the_shifts(judge: Judge) -> None:
    judge.limits = Limits(slices=4, shift_agreement=0.9, difference=0.9, shift_slices=0)
    judge.sets = dict(judge.sets) | {OTHER: slices_of([50, *range(100, 109)])}
    verdict = judge.assess("int8", tiny_model(middle=57.0))
    (there,) = verdict.elsewhere
    assert (there.name, there.verdict, there.ich.flips, there.ich.slices) == (OTHER, PASSED, 1, 10)
    judge.sets[OTHER] = slices_of([50, 51, *range(100, 108)])
    judge._reference.clear()
    del judge.__dict__["elsewhere"]
    assert judge.assess("int8", tiny_model(middle=57.0)).verdict == FAILED


def test_the_validation_set_has_to_pass_under_shifts_as_well(judge: Judge) -> None:
    judge.sets = dict(judge.sets) | {VALIDATION: judge.sets[TEST]}
    assert judge.passes("int8", judge.fp32)
    assert not judge.passes("int8", tiny_model(middle=57.0))
    judge.limits = Limits(slices=4, shift_agreement=0.9, difference=0.9, shift_slices=0)
    for name in ("validation_elsewhere", "_asked"):
        del judge.__dict__[name]
    assert judge.passes("int8", tiny_model(middle=57.0))


def test_fp32_passes_on_a_validation_set_that_is_too_small_for_a_verdict(judge: Judge) -> None:
    judge.limits = Limits()  # away from home it asks a verdict for 100 slices, and the shifted set has 10
    judge.sets = dict(judge.sets) | {VALIDATION: judge.sets[TEST]}
    assert judge.passes("int8", judge.fp32)
    assert not judge.passes("int8", tiny_model(middle=57.0))


def test_the_slices_that_are_shifted_to_choose_by_are_those_of_which_fp32_is_least_sure(
    judge: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge.sets = dict(judge.sets) | {VALIDATION: slices_of([10, 44, 160, 47, 100])}
    monkeypatch.setattr("calibration.judging._VALIDATION_SHIFTED", 2)
    shifted: list[SliceSet] = []
    monkeypatch.setattr("calibration.judging.shifted_sets", lambda few, spec, **more: shifted.append(few) or {})
    assert judge.validation_elsewhere == {}
    assert shifted[0].labels.patients == ("d44", "d47") and len(shifted[0].pixels) == 2


@pytest.mark.parametrize("where", [VALIDATION, "validation, HU +10"])
def test_what_only_just_keeps_the_difference_is_not_chosen_by_the_validation_set(judge: Judge, where: str) -> None:
    middle = slices_of([46] * 10)
    far = slices_of([10] * 5 + [160] * 5)
    judge.sets = dict(judge.sets) | {VALIDATION: middle if where == VALIDATION else far}
    judge.__dict__["validation_elsewhere"] = {"validation, HU +10": far if where == VALIDATION else middle}
    near = tiny_model(middle=45.5)
    fp32, int8 = (judge.run("int8", data, middle.pixels)["ich_logits"] for data in (judge.fp32, near))
    shares = [1 / (1 + np.exp(logits[:, 0] - logits[:, 1])) for logits in (fp32, int8)]
    differs = float(np.abs(shares[0] - shares[1]).max())
    for share, passes in ((1.1, False), (2.2, True)):
        judge.limits = Limits(slices=4, shift_slices=4, difference=share * differs)
        judge.sets[TEST] = middle
        judge.__dict__["elsewhere"] = {}
        judge._reference.clear()
        assert judge.assess("int8", near).verdict == PASSED
        assert judge.passes("int8", near) is passes


def test_the_first_no_on_the_validation_set_ends_it_and_is_asked_first_the_next_time(judge: Judge) -> None:
    judge.sets = dict(judge.sets) | {VALIDATION: judge.sets[TEST]}
    ran: list[str] = []

    @contextmanager
    def progress(name: str, total: int) -> Iterator[Callable[[int], None]]:
        ran.append(name.removeprefix("comparing int8 with fp32: "))
        yield lambda slices: None

    judge.progress = progress
    assert not judge.passes("int8", tiny_model(middle=57.0))
    assert [name for name in ran if name in judge._asked] == [VALIDATION, "validation, HU +10"]
    ran.clear()
    assert not judge.passes("int8", tiny_model(middle=57.0))
    assert ran == ["validation, HU +10"]


def test_fp32_answers_each_set_once(judge: Judge) -> None:
    judge.sets = dict(judge.sets) | {VALIDATION: judge.sets[TEST]}
    judge.passes("int8", judge.fp32)
    known = dict(judge._reference)
    assert set(known) == {VALIDATION, "validation, HU +10"}
    judge.passes("int8", tiny_model(middle=57.0))
    assert all(judge.reference(name) is logits for name, logits in known.items())


def test_a_hint_is_judged_on_the_backend_that_has_it(judge: Judge, monkeypatch: pytest.MonkeyPatch) -> None:
    if backends.availability()["openvino"] is not None:
        pytest.skip("openvino is not installed")
    monkeypatch.setattr("dtvit_edge.backends.openvino.native_hints", lambda: ("bf16",))
    (verdict,) = judge.assess_hinted("int8", tiny_model(middle=57.0))
    assert (verdict.precision, verdict.verdict) == ("int8+bf16", FAILED)
    assert verdict.ran_on.startswith("openvino ") and verdict.ran_on.endswith(", hint bf16")
    monkeypatch.setattr("dtvit_edge.backends.openvino.native_hints", tuple)
    assert judge.assess_hinted("int8", tiny_model(middle=57.0)) == ()


def test_slices_of_another_site_are_not_those_of_this_one(tiny_bundle: Bundle, pictures: Path) -> None:
    config = Config(calibration_slices=4, validation_slices=4, test_slices=80)
    found = find_candidates([pictures], [], config, other=[pictures])
    assert set(found) == {"calibration", "validation", "test", OTHER} and len(found[OTHER]) == 80
    with pytest.raises(ConfigError, match="slices of --other are also among --slices"):
        load(tiny_bundle, found, config)
