"""What the paper claims of its curves (Fig. 3), as checks of ours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from training.evaluate import TrainingRun
from training.published import facts

# The paper's losses end at about 0.1 with augmentation.
_LOW_LOSS = 0.15


@dataclass(frozen=True)
class Checked:
    """A claim and what became of it here.

    Attributes:
        figure: of the paper; text: the claim; holds: None where no run can tell.
        seen: the figures that decide, in words.
    """

    figure: str
    text: str
    holds: bool | None
    seen: str


def check(with_augmentation: TrainingRun | None, without: TrainingRun | None) -> list[Checked]:
    """Every claim against both arms of one training; an arm that was not trained leaves its claims open."""
    results = []
    for claim in facts()["claims"]:
        holds, seen = _CHECKS[claim["check"]](with_augmentation, without)
        results.append(Checked(claim["figure"], claim["text"], holds, seen))
    return results


_Arms = Callable[[TrainingRun | None, TrainingRun | None], tuple[bool | None, str]]
_ABSENT = (None, "an arm was not trained")


def _losses_fall(augmented: TrainingRun | None, plain: TrainingRun | None) -> tuple[bool | None, str]:
    if augmented is None:
        return _ABSENT
    ends = {part: (augmented.history[0][part]["loss"], augmented.history[-1][part]["loss"]) for part in _PARTS}
    seen = "; ".join(f"{part} loss from {first:.3f} to {last:.3f}" for part, (first, last) in ends.items())
    return all(last <= min(first, _LOW_LOSS) for first, last in ends.values()), seen


def _accuracy_ends_higher(augmented: TrainingRun | None, plain: TrainingRun | None) -> tuple[bool | None, str]:
    if augmented is None or plain is None:
        return _ABSENT
    high, low = (run.history[-1]["validation"]["ich_accuracy"] for run in (augmented, plain))
    return high > low, f"validation accuracy of haemorrhage ends at {high:.4f} with and {low:.4f} without"


def _loss_ends_higher(augmented: TrainingRun | None, plain: TrainingRun | None) -> tuple[bool | None, str]:
    if augmented is None or plain is None:
        return _ABSENT
    low, high = (run.history[-1]["validation"]["loss"] for run in (augmented, plain))
    first, last = (plain.history[place]["train"]["loss"] for place in (0, -1))
    seen = f"without: training loss from {first:.3f} to {last:.3f}, validation loss ends at {high:.3f}; with: {low:.3f}"
    return last < first and high > low, seen


_PARTS = ("train", "validation")
_CHECKS: dict[str, _Arms] = {
    "losses_fall_with_augmentation": _losses_fall,
    "accuracy_ends_higher_with_augmentation": _accuracy_ends_higher,
    "validation_loss_ends_higher_without_augmentation": _loss_ends_higher,
}
