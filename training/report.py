"""The paper's tables and figures over evaluated models, beside what others published, as one report."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from dtvit_edge.bundle.verdicts import NOT_ASSESSED
from dtvit_edge.environment import package_versions
from dtvit_edge.escaping import markdown
from dtvit_edge.files import make_folder, write_atomically
from dtvit_edge.spec import LOCATION_LABELS, NOTICE, PreprocessSpec
from evaluation.html_page import page
from evaluation.image_sets import stored_pixels
from evaluation.images import ImageSet
from evaluation.labels import LabelledSlice
from evaluation.metrics import LEVEL, RESAMPLES, HeadFigures, Interval
from evaluation.plots import Plot, confusions
from evaluation.records import WORKSTATION_PACKAGES, Record, head_summary
from evaluation.tables import Table
from training import claims, figures, paper_tables, published
from training.evaluate import Evaluation, TrainingRun

ICH_METRICS = ("accuracy", "precision", "recall", "f1", "specificity", "auc")
LOCATION_METRICS = ("accuracy", "precision_macro", "recall_macro", "f1_macro", "auc_macro")
# What two runs may differ in and still be each other's arms, or stand in one comparison.
ARM = frozenset({"augment", "batch"})
ENCODER = frozenset({"encoder"})
PROTOCOL = frozenset({"paper_protocol"})
EVALUATION = "evaluation against labels"
TITLE = "Evaluation"


def write_report(
    out: Path, data: ImageSet, evaluations: Sequence[Evaluation], spec: PreprocessSpec, *, seed: int, command: str
) -> Path:
    """Every table and figure that these models allow, into `out`; what they do not allow is said in the report.

    Returns:
        `out/report.md`, which shows them all; `report.html` beside it is the same in one file.
    """
    make_folder(out)
    notes, arms = _provenance(data, evaluations, seed), _arms(evaluations)
    parts: list[Table | Plot | str] = [
        f"`{command}`\n\n" + _differences(data),
        table_1(data, evaluations, notes),
        paper_tables.table_1(),
        _figure_1(data, evaluations, spec, notes),
        _figure_3(arms, notes),
        paper_tables.claims_table(claims.check(arms[True], arms[False])),
        confusions([(e.name, e.ich, e.location) for e in evaluations], notes),
        _comparison("table2", "Table 2: with and without augmentation", evaluations, ARM, notes),
        paper_tables.printed(2),
        _comparison("table3", "Table 3: encoders", evaluations, ENCODER, notes),
        paper_tables.printed(3),
        paper_tables.readings_table(),
        paper_tables.contradictions(),
        _comparison("leakage", "Leakage: the clean split against the paper's protocol", evaluations, PROTOCOL, notes),
        _table("models", "Every model that was judged", evaluations, notes),
        per_class(evaluations, notes),
        paper_tables.second_hand(),
    ]  # fmt: skip
    text = [markdown(f"# {TITLE}\n\n{NOTICE}\n\n")]
    for part in parts:
        if isinstance(part, str):
            text.append(markdown(part))
            continue
        part.write(out)
        text.append(part.markdown())
    report = out / "report.md"
    write_atomically(report, "\n".join(text))
    notice = f"{NOTICE[0].upper()}{NOTICE[1:]}. Figures of slices say nothing about studies."
    write_atomically(out / "report.html", page(TITLE, notice, (), parts))
    return report


def record_of(evaluation: Evaluation, name: str, data: ImageSet, command: str) -> Record:
    """An evaluated model as a record: every figure with its interval, and each patient's share of right answers.

    Args:
        name: what the data are called on the command line.
    """
    heads = {
        head: head_figures
        for head, head_figures in (("ich", evaluation.ich), ("location", evaluation.location))
        if head_figures
    }
    summary: dict[str, float] = {}
    for head, head_figures in heads.items():
        summary |= head_summary(head, head_figures)
    return Record(
        what=EVALUATION,
        unit="share of a patient's slices that were right",
        samples={head: list(head_figures.by_patient) for head, head_figures in heads.items()},
        summary=summary,
        digests={"weights": evaluation.sha256, "data": data.digest},
        options={"command": command, "model": evaluation.name, "encoder": evaluation.encoder, "data": name,
                 "run": evaluation.run.config if evaluation.run else None, "split": _split_name(evaluation.run)},
    )  # fmt: skip


def in_words(head_figures: HeadFigures | None) -> str:
    """Accuracy and AUC of a head in a line for the terminal; a figure that the labels do not allow is not assessed."""
    if head_figures is None:
        return NOT_ASSESSED
    figures_by_name = head_figures.figures
    shown = ", ".join(
        f"{name} {NOT_ASSESSED if math.isnan(value := figures_by_name[name].value) else f'{value:.4f}'}"
        for name in ("accuracy", "auc", "auc_macro")
        if name in figures_by_name
    )
    slices, patients = head_figures.slices, head_figures.patients
    return f"{shown} on {slices} slice{'s' * (slices > 1)} of {patients} patient{'s' * (patients > 1)}"


def table_1(data: ImageSet, evaluations: Sequence[Evaluation], notes: Sequence[str]) -> Table:
    """What the set holds: patients and slices by label, and the parts of the first run's split."""
    run = next((evaluation.run for evaluation in evaluations if evaluation.run), None)
    parts: dict[str, list[int]] = {"slices": list(range(len(data.slices)))}
    if run:
        train = run.split["train"]
        parts |= {
            "train": sorted(set(train)),
            "train, balanced": train,
            "validation": run.split["validation"],
            "test": run.split["test"],
        }
    counts = {name: Counter(_label(data.slices[i]) for i in indices) for name, indices in parts.items()}
    labels = [*LOCATION_LABELS, "ich, no location given", "no_ich", "not labelled"]
    patients = {label: len({s.patient for s in data.slices if _label(s) == label}) for label in labels}
    rows = [
        (label, str(patients[label]), *(str(counts[name][label]) for name in parts))
        for label in labels
        if counts["slices"][label]
    ]
    everyone = str(len({s.patient for s in data.slices}))
    rows.append(("all", everyone, *(str(len(indices)) for indices in parts.values())))
    return Table("table1", "Table 1: what the set holds", ("label", "patients with it", *parts), tuple(rows),
                 (*notes, *_code_counts()))  # fmt: skip


def per_class(evaluations: Sequence[Evaluation], notes: Sequence[str]) -> Table | str:
    """The location head's figures for each class; a sentence where no location was assessed."""
    metrics = ("precision", "recall", "f1", "auc")
    rows = [
        (evaluation.name, label, *(_cell(evaluation.location.figures[f"{metric}_{label}"]) for metric in metrics))
        for evaluation in evaluations
        if evaluation.location
        for label in LOCATION_LABELS
    ]
    title = "Locations, class by class"
    if not rows:
        return f"### {title}\n\nNot here: no location is labelled, or no location head trained.\n"
    return Table("locations", title, ("model", "location", *metrics), tuple(rows), tuple(notes))


def _comparison(
    name: str, title: str, evaluations: Sequence[Evaluation], by: frozenset[str], notes: Sequence[str]
) -> Table | str:
    """The largest group of runs that differ in nothing but `by`."""
    groups: dict[str, list[Evaluation]] = {}
    for evaluation in evaluations:
        if evaluation.run:
            rest = {k: v for k, v in evaluation.run.config.items() if k not in by}
            groups.setdefault(repr(sorted(rest.items())), []).append(evaluation)
    group = max(groups.values(), key=len, default=[])
    if len(group) < 2:
        return f"### {title}\n\nNot here: no two of these models differ in nothing but {' and '.join(sorted(by))}.\n"
    return _table(name, title, group, notes)


def _table(name: str, title: str, evaluations: Sequence[Evaluation], notes: Sequence[str]) -> Table:
    columns = ("model", "encoder", "augmented", "split", "test slices",
               *(f"ich {m}" for m in ICH_METRICS), *(f"location {m}" for m in LOCATION_METRICS))  # fmt: skip
    rows = []
    for evaluation in evaluations:
        config = evaluation.run.config if evaluation.run else {}
        rows.append((
            evaluation.name,
            evaluation.encoder,
            {True: "yes", False: "no", None: ""}[config.get("augment")],
            _split_name(evaluation.run),
            str(len(evaluation.slices)),
            *_cells(evaluation.ich, ICH_METRICS),
            *_cells(evaluation.location, LOCATION_METRICS),
        ))  # fmt: skip
    blank = {i for i, cells in enumerate(zip(*rows, strict=True)) if set(cells) == {NOT_ASSESSED}}
    columns = tuple(c for i, c in enumerate(columns) if i not in blank)
    rows = [tuple(c for i, c in enumerate(row) if i not in blank) for row in rows]
    budgets = [f"{evaluation.name}: {_budget(evaluation.run)}" for evaluation in evaluations if evaluation.run]
    if blank:
        budgets.append("columns that nothing could fill are left out: no label, or a head that was not trained")
    intervals = f"in brackets: {LEVEL:.0%} bootstrap interval over patients, {RESAMPLES} resamples"
    return Table(name, title, columns, tuple(rows), (*budgets, intervals, *notes))


def _split_name(run: TrainingRun | None) -> str:
    if run is None:
        return "none: all judged"
    if not run.config["paper_protocol"]:
        return "by patient"
    return f"the paper's: {run.leaked} of {len(run.split['test'])} test images are also trained on"


def _budget(run: TrainingRun) -> str:
    init = run.config["init"]
    start = "random start" if init is None else f"start {init[:12]}"
    return f"{run.budget}, {start}, seed {run.config['seed']}"


def _cells(head_figures: HeadFigures | None, metrics: Sequence[str]) -> list[str]:
    return [_cell(head_figures.figures[m]) if head_figures else NOT_ASSESSED for m in metrics]


def _cell(interval: Interval) -> str:
    if math.isnan(interval.value):
        return NOT_ASSESSED
    return f"{interval.value:.4f} ({interval.low:.3f} to {interval.high:.3f})"


def _label(labelled: LabelledSlice) -> str:
    if labelled.location is not None:
        return LOCATION_LABELS[labelled.location]
    return {True: "ich, no location given", False: "no_ich", None: "not labelled"}[labelled.ich]


def _figure_1(data: ImageSet, evaluations: Sequence[Evaluation], spec: PreprocessSpec, notes: Sequence[str]) -> Plot:
    """Fig. 1 of the first positive slice that was evaluated, or of the first slice."""
    candidates = evaluations[0].slices if evaluations else range(len(data.slices))
    chosen = next((i for i in candidates if data.slices[i].ich), candidates[0])
    labelled = data.slices[chosen]
    stored, encoding = stored_pixels(labelled)
    return figures.device_removal(stored, encoding, spec, labelled.path, notes)


def _arms(evaluations: Sequence[Evaluation]) -> dict[bool, TrainingRun | None]:
    """Both arms of one training where there are two, else the one there is: with augmentation and without."""
    runs = [
        evaluation.run for evaluation in evaluations if evaluation.run and not evaluation.run.config["paper_protocol"]
    ]
    if not runs:
        return {True: None, False: None}
    encoder = next((r.config["encoder"] for r in runs if not r.config["augment"]), runs[0].config["encoder"])
    return {
        arm: next((r for r in runs if r.config["augment"] is arm and r.config["encoder"] == encoder), None)
        for arm in (True, False)
    }


def _figure_3(arms: Mapping[bool, TrainingRun | None], notes: Sequence[str]) -> Plot | str:
    run = arms[True] or arms[False]
    if run is None:
        return "### Fig. 3: loss and accuracy\n\nNot here: a checkpoint alone has no history.\n"
    return figures.histories(arms[True], arms[False], (f"encoder {run.config['encoder']}", *notes))


def _provenance(data: ImageSet, evaluations: Sequence[Evaluation], seed: int) -> tuple[str, ...]:
    versions = package_versions(
        ("dtvit-edge", "numpy", "opencv-python-headless", *WORKSTATION_PACKAGES, "scikit-learn")
    )
    return (
        f"data {data.digest[:16]}, {len(data.slices)} slices; bootstrap seed {seed}",
        "weights " + ", ".join(f"{evaluation.name} {evaluation.sha256[:12]}" for evaluation in evaluations),
        "versions " + ", ".join(f"{name} {number}" for name, number in versions.items()),
    )


def _code_counts() -> tuple[str, ...]:
    counts = {p.figure: p.value for p in published.group("code_dataset")}
    wanted = ("images_deep", "images_lobar", "images_subtentorial", "images_ich", "images_no_ich")
    said = ", ".join(f"{name.removeprefix('images_')} {counts[name]:.0f}" for name in wanted)
    return (f"the authors' set: {said} ({published.SOURCES['code']})",)


def _differences(data: ImageSet) -> str:
    synthetic = any(s.path.startswith("phantom-") for s in data.slices)
    first = (
        "- **The data are phantoms**, drawn by this project: figures on them say nothing about people, nor the paper.\n"
        if synthetic
        else "- The data are not the paper's, which are not public.\n"
    )
    return (
        "What differs from the paper:\n\n" + first + "- The split is by patient unless a row says otherwise; the "
        "paper's is by image, after replication.\n"
        "- Window, mask, resize and head sizes are this project's choices (README).\n"
        "- Epochs and starting weights are those below the tables, not the paper's 50 epochs.\n"
    )
