"""The paper's claims of its curves are checked against both arms of a training, or said to be open."""

from __future__ import annotations

from pathlib import Path

from training.claims import check
from training.evaluate import TrainingRun


def run(*epochs: tuple[float, float, float]) -> TrainingRun:
    """Of (training loss, validation loss, validation accuracy) by epoch."""
    history = [
        {"epoch": i, "train": {"loss": train}, "validation": {"loss": loss, "ich_accuracy": accuracy}}
        for i, (train, loss, accuracy) in enumerate(epochs, 1)
    ]
    return TrainingRun(Path("."), {}, "phantoms:1", {}, 0, history)


def test_curves_like_the_papers_bear_its_claims_out() -> None:
    augmented, plain = run((0.6, 0.5, 0.8), (0.1, 0.11, 0.99)), run((0.6, 0.5, 0.8), (0.01, 0.25, 0.95))
    assert [claim.holds for claim in check(augmented, plain)] == [True, True, True]


def test_other_curves_do_not() -> None:
    augmented, plain = run((0.6, 0.5, 0.8), (0.3, 0.4, 0.9)), run((0.6, 0.5, 0.8), (0.1, 0.1, 0.95))
    checked = check(augmented, plain)
    assert [claim.holds for claim in checked] == [False, False, False] and "0.9000" in checked[1].seen


def test_without_an_arm_a_claim_stays_open() -> None:
    assert [claim.holds for claim in check(run((0.6, 0.5, 0.8), (0.1, 0.1, 0.9)), None)] == [True, None, None]
    assert {claim.holds for claim in check(None, None)} == {None}
