"""Encoders, arms and seeds beside each other on one test set: what ranks, by paired intervals, and what does not.

The figures of several seeds are their mean. Differences are taken on the same draws of patients, so that what is hard
about the test set is hard for both sides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dtvit_edge.spec import HEAD_LABELS, ICH_HEAD, LOCATION_HEAD
from evaluation.images import ImageSet
from evaluation.metrics import Answers, HeadFigures, auc, difference, location_auc, mean_figure
from evaluation.records import Record
from training.evaluate import Evaluation, TrainingRun

WHAT = "encoders, arms and seeds under one budget"
LEFT_CHANCE = 0.9  # AUC of every seed
_FIGURES = {
    ICH_HEAD: ("accuracy", "precision", "recall", "f1", "specificity"),
    LOCATION_HEAD: ("accuracy", "precision_macro", "recall_macro", "f1_macro"),
}
_AUC: dict[str, Callable[[NDArray[np.int64], NDArray[np.float64]], float]] = {
    ICH_HEAD: auc,
    LOCATION_HEAD: location_auc,
}


@dataclass(frozen=True)
class Row:
    """One encoder in one arm.

    Attributes:
        figures: by name, the mean over the seeds.
        auc: mean over the seeds, `low` to `high` over patients; of the location head the mean of each against the rest.
        least, most: of the seeds.
        behind: the AUC less that of the best row, with its interval `behind_low` to `behind_high`; 0 of the best.
        minutes: CPU minutes of a training, by seed.
        wall_minutes: of a training on a GPU, by seed, beside the others that ran there; 0 on a CPU.
        pretrained: it did not begin with random weights.
        rate: the learning rate; 0 in records of earlier versions, whose encoders had one rate.
        patch_weight: of the loss on patch tokens, which only a ViT can have; 0 without it.
    """

    encoder: str
    augmented: bool
    seeds: int
    figures: dict[str, float]
    auc: float
    low: float
    high: float
    least: float
    most: float
    behind: float
    behind_low: float
    behind_high: float
    minutes: tuple[float, ...]
    wall_minutes: tuple[float, ...] = ()
    pretrained: bool = False
    rate: float = 0.0
    patch_weight: float = 0.0

    @property
    def ranks_below(self) -> bool:
        """Whether the interval leaves no doubt that the best is better."""
        return self.behind_high < 0


@dataclass(frozen=True)
class Leak:
    """How much better an encoder looks under the paper's protocol, whose test set shares images with the training set.

    Attributes:
        leaked: share of the test images that are also trained on.
        paper, clean: AUC of haemorrhage under the paper's protocol, and on patients that the training never saw.
        difference: of the two, with its interval `low` to `high` over the patients of both sets.
    """

    encoder: str
    leaked: float
    paper: float
    clean: float
    difference: float
    low: float
    high: float


@dataclass(frozen=True)
class Judged:
    """One training on the test set that all share."""

    encoder: str
    augmented: bool
    figures: HeadFigures
    probability: NDArray[np.float64]
    minutes: float
    wall_minutes: float = 0.0
    pretrained: bool = False
    rate: float = 0.0
    patch_weight: float = 0.0


def rows(head: str, truth: NDArray[np.int64], patients: Sequence[str], judged: Sequence[Judged]) -> list[Row]:
    """A row for each encoder and arm, the best first.

    Args:
        truth: (N,) labels of the head; patients: N names.
    """
    groups: dict[tuple[str, bool], list[Judged]] = {}
    for one in judged:
        groups.setdefault((one.encoder, one.augmented), []).append(one)
    figure = _AUC[head]

    answers = {key: Answers(truth, [judged.probability for judged in group], patients) for key, group in groups.items()}
    means = {key: mean_figure(figure, of) for key, of in answers.items()}
    ordered = sorted(groups, key=lambda key: -means[key].value)
    made = []
    for key in ordered:
        group, mean = groups[key], means[key]
        each = [figure(truth, j.probability) for j in group]
        behind = difference(figure, answers[key], answers[ordered[0]])
        figures = {name: float(np.mean([j.figures.figures[name].value for j in group])) for name in _FIGURES[head]}
        made.append(
            Row(
                *key,
                len(group),
                figures,
                mean.value,
                mean.low,
                mean.high,
                min(each),
                max(each),
                behind.value,
                behind.low,
                behind.high,
                tuple(j.minutes for j in group),
                tuple(j.wall_minutes for j in group),
                group[0].pretrained,
                group[0].rate,
                group[0].patch_weight,
            )
        )
    return made


def record_of(evaluations: Sequence[Evaluation], name: str, data: ImageSet, command: str) -> Record | None:
    """The comparison of all trainings that share a test set by patient, or None where there are no two of them.

    Args:
        name: what the data are called on the command line.
    """
    runs = [(e, e.run) for e in evaluations if e.run is not None and not e.run.config["paper_protocol"]]
    if len(runs) < 2 or len({e.slices for e, _ in runs}) != 1:
        return None
    slices = [data.slices[i] for i in runs[0][0].slices]
    by_head: dict[str, list[Row]] = {}
    for head, labels in (
        (ICH_HEAD, [None if s.ich is None else int(s.ich) for s in slices]),
        (LOCATION_HEAD, [s.location for s in slices]),
    ):
        kept = [k for k, label in enumerate(labels) if label is not None]
        judged = [j for e, run in runs if (j := _judged(head, e, run, kept)) is not None]
        truth = np.array([labels[k] for k in kept], np.int64)
        if len(judged) == len(runs) and len(set(truth.tolist())) == len(HEAD_LABELS[head]):
            by_head[head] = rows(head, truth, [slices[k].patient for k in kept], judged)
    if ICH_HEAD not in by_head:
        return None
    leaks = [asdict(leak) for leak in _leaks(evaluations, data)]
    return Record(
        WHAT,
        "CPU minutes of a training",
        {f"{row.encoder}, {_arm(row.augmented)}": list(row.minutes) for row in by_head[ICH_HEAD]},
        {"slices": float(len(slices)), "patients": float(len({s.patient for s in slices}))},
        {"data": data.digest} | {e.name: e.sha256 for e, _ in runs},
        {
            "command": command,
            "data": name,
            "budget": runs[0][1].budget,
            "devices": sorted({run.device for _, run in runs if run.device}),
            "leaks": leaks,
            "rows": {head: [asdict(row) for row in made] for head, made in by_head.items()},
        },
    )


def leaks_of(record: Record) -> list[Leak]:
    """The leaks of a record of this comparison."""
    return [Leak(**leak) for leak in record.options["leaks"]]


def rows_of(record: Record) -> Mapping[str, list[Row]]:
    """The rows of a record of this comparison, by head."""
    read: dict[str, list[dict[str, Any]]] = record.options["rows"]
    return {head: [_row(row) for row in made] for head, made in read.items()}


def _row(row: dict[str, Any]) -> Row:
    times = {name: tuple(row.get(name, ())) for name in ("minutes", "wall_minutes")}
    return Row(**row | times)


def ranking(made: Sequence[Row]) -> str:
    """What ranks and what does not, in a sentence."""
    best, *others = made
    below = [_name(row) for row in others if row.ranks_below]
    beside = [_name(row) for row in others if not row.ranks_below]
    said = [f"highest is {_name(best)}"]
    if below:
        said.append(f"below it {'is' if len(below) == 1 else 'are'} {', '.join(below)}")
    if beside:
        said.append(f"not told apart from it {'is' if len(beside) == 1 else 'are'} {', '.join(beside)}")
    chance = [_name(row) for row in made if row.least < LEFT_CHANCE]
    if chance:
        said.append(
            f"an AUC below {LEFT_CHANCE:g} in at least one seed has {', '.join(chance)}, whose place says nothing"
        )
    return "; ".join(said)


def _leaks(evaluations: Sequence[Evaluation], data: ImageSet) -> list[Leak]:
    """Of each training under the paper's protocol, beside the same training under the clean one."""
    clean = {_but_protocol(e.run): e for e in evaluations if e.run and not e.run.config["paper_protocol"]}
    made = []
    for paper in evaluations:
        if paper.run and paper.run.config["paper_protocol"] and (other := clean.get(_but_protocol(paper.run))):
            sides = [_answers(e, data) for e in (paper, other)]
            between = difference(auc, *sides)
            leaky, honest = (auc(side.truth, side.models[0]) for side in sides)
            share = paper.run.leaked / len(paper.run.split["test"])
            made.append(Leak(paper.encoder, share, leaky, honest, between.value, between.low, between.high))
    return made


def _but_protocol(run: TrainingRun) -> str:
    free = {"paper_protocol", "test_folds", "split_seed"}
    return repr(sorted((k, v) for k, v in run.config.items() if k not in free))


def _answers(evaluation: Evaluation, data: ImageSet) -> Answers:
    kept = [k for k, i in enumerate(evaluation.slices) if data.slices[i].ich is not None]
    slices = [data.slices[evaluation.slices[k]] for k in kept]
    truth = np.array([int(bool(s.ich)) for s in slices], np.int64)
    return Answers(truth, [evaluation.ich_probability[kept]], [s.patient for s in slices])


def _name(row: Row) -> str:
    return f"{row.encoder} ({_arm(row.augmented)})"


def _arm(augmented: bool) -> str:
    return "augmented" if augmented else "not augmented"


def _judged(head: str, evaluation: Evaluation, run: TrainingRun, kept: Sequence[int]) -> Judged | None:
    figures = evaluation.ich if head == ICH_HEAD else evaluation.location
    if figures is None:
        return None
    probability = evaluation.ich_probability if head == ICH_HEAD else evaluation.location_probability
    minutes, wall = (sum(epoch.get(of, 0.0) for epoch in run.history) / 60 for of in ("cpu_seconds", "wall_seconds"))
    began, rate = run.config.get("init") is not None, float(run.config["learning_rate"])
    kept_probability, augmented = probability[list(kept)], bool(run.config["augment"])
    patches = float(run.config.get("patch_weight", 0.0))
    return Judged(evaluation.encoder, augmented, figures, kept_probability, minutes, wall, began, rate, patches)
