"""What the paper leaves open, tried out: what each choice does to the head's mask and to the AUC on PHE-SICH-CT-IDS.

    python -m training.ablation FOLDER WEIGHTS [--work FOLDER]

Each row changes one choice of the preprocessing. A frozen encoder sees the slices so prepared, and a logistic
regression on its features is judged on patients that it has not seen (five folds by patient, the same for every row).
So the features are the same network's for all rows, and the classifier learns from what its own row shows. The first
rows after ours are what public code of the paper's authors does. The images are 8-bit and windowed already: another
window cannot be tried on them.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path

import click
import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from dtvit_edge.cli import render
from dtvit_edge.cli.option_set import FilePath
from dtvit_edge.errors import ConfigError
from dtvit_edge.files import make_folder, write_atomically
from dtvit_edge.preprocess.cpu import CpuPreprocessor
from dtvit_edge.preprocess.mask import head_mask
from dtvit_edge.spec import WINDOWED_8_BIT, PreprocessSpec, digest_file, digest_json
from evaluation.images import in_workers, read_image
from evaluation.labels import labels_digest
from evaluation.metrics import RESAMPLES, Answers, auc, difference
from evaluation.records import Record, append
from evaluation.repeating import RecordFile, RecordOption, command_line
from export.checkpoint import read_tensors
from export.encoders import create_encoder
from export.npz import read_npz
from training import devices
from training.phe_sich import AnnotatedSlice, annotated_slices

PROGRAM = ("python", "-m", "training.ablation")
WHAT = "what the choices that the paper leaves open do on PHE-SICH-CT-IDS"
RECORDS = Path(__file__).parents[1] / "benchmarks" / "results" / "paper.jsonl"
OURS = "as here"
HEADS = "two layers instead of one"
FOLDS = 5
_BATCH = 16
_SAID = "said: "
# dx^2 + dy^2 <= 9, as scikit-image's disk(3): 29 pixels.
_DISK_3 = (0, 2, 2, 3, 2, 2, 0)


def variants() -> dict[str, PreprocessSpec]:
    """The rows: each is our preprocessing with one choice changed."""
    ours = PreprocessSpec()
    return {
        OURS: ours,
        "bytes above 3 are object": replace(ours, mask_threshold=3),
        "disk of radius 3": replace(ours, disk_half_widths=_DISK_3),
        "one edge column": replace(ours, edge_columns=1),
        "these three together": replace(ours, mask_threshold=3, disk_half_widths=_DISK_3, edge_columns=1),
        "no head mask": replace(ours, device_mask=False),
        "bicubic resize": replace(ours, filter="bicubic"),
        "literal crop, no resize": replace(ours, resize=None),
    }


@dataclass(frozen=True)
class Masks:
    """What a row does to the head's masks, beside ours.

    Attributes:
        overlap: (N,) intersection over union with our mask of the same slice.
        lost: (P,) share of the annotated box's pixels outside the mask, of the P slices with a haemorrhage.
    """

    overlap: NDArray[np.float64]
    lost: NDArray[np.float64]


@dataclass(frozen=True)
class Tried:
    """What a row's classifiers say of each slice, and what the row took.

    Attributes:
        said: by the name of the classifier's row, (N,) probability of a haemorrhage.
        masks: None where the choice changes no mask.
        minutes: of CPU time.
    """

    said: dict[str, NDArray[np.float64]]
    masks: Masks | None
    minutes: float


@dataclass(frozen=True)
class Row:
    """What a choice does.

    Attributes:
        difference: of the AUC from ours, with its 95 % interval `low` to `high` over patients.
        overlap: mean intersection over union with our masks; None where the choice changes no mask.
        differ: share of slices whose mask overlaps less than 99 %.
        cut: slices on which more than 1 % of the annotated box lies outside the mask.
    """

    name: str
    auc: float
    difference: float
    low: float
    high: float
    overlap: float | None = None
    differ: float | None = None
    cut: int | None = None


def masks(slices: Sequence[AnnotatedSlice], spec: PreprocessSpec, ours: PreprocessSpec, *, workers: int = 1) -> Masks:
    """Compare the head's masks under two specs."""
    compared = list(in_workers(partial(_compared, spec=spec, ours=ours), slices, workers, chunk=_BATCH))
    lost = [share for _, share in compared if share is not None]
    return Masks(np.array([overlap for overlap, _ in compared]), np.array(lost))


def _compared(annotated: AnnotatedSlice, spec: PreprocessSpec, ours: PreprocessSpec) -> tuple[float, float | None]:
    """The masks' intersection over union, and the share of the box outside the first; None without a box."""
    image = read_image(annotated.labelled.file)[0].astype(np.uint8)
    mask, reference = head_mask(image, spec).astype(bool), head_mask(image, ours).astype(bool)
    union = np.count_nonzero(mask | reference)
    overlap = np.count_nonzero(mask & reference) / union if union else 1.0
    if annotated.box is None:
        return overlap, None
    left, top, right, bottom = annotated.box
    return overlap, 1 - float(mask[top:bottom, left:right].mean())


def features(
    slices: Sequence[AnnotatedSlice],
    spec: PreprocessSpec,
    encoder: torch.nn.Module,
    *,
    device: str = devices.CPU,
    workers: int = 1,
) -> NDArray[np.float32]:
    """(N, F): the encoder's pooled features of each slice, prepared by the spec.

    Args:
        device: that the encoder is on; workers: processes that prepare.
    """
    mean, std = (torch.tensor(values, device=device).view(1, 3, 1, 1) for values in (spec.mean, spec.std))
    prepared = in_workers(partial(_prepared, spec=spec), [s.labelled.file for s in slices], workers, chunk=_BATCH)

    def batches() -> Iterator[NDArray[np.float32]]:
        while grey := list(islice(prepared, _BATCH)):
            pixels = torch.from_numpy(np.stack(grey)).to(device).float().div(255).expand(-1, 3, -1, -1)
            yield encoder((pixels - mean) / std).cpu().numpy()

    with torch.inference_mode():
        return np.concatenate(list(batches()))


def _prepared(file: Path, spec: PreprocessSpec) -> NDArray[np.uint8]:
    cv2.setNumThreads(1)
    return CpuPreprocessor(spec)(read_image(file)[0], WINDOWED_8_BIT).pixels


def out_of_fold(
    values: NDArray[np.float32], truth: NDArray[np.int64], patients: Sequence[str], *, hidden: int = 0
) -> NDArray[np.float64]:
    """(N,) probability of a haemorrhage, each from a classifier that saw none of that patient's slices.

    Args:
        hidden: width of a hidden layer; 0 is a logistic regression.
    """
    classifier = (
        MLPClassifier((hidden,), alpha=1.0, max_iter=200, random_state=0)
        if hidden
        else LogisticRegression(C=0.01, max_iter=2000)
    )
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
    model = make_pipeline(StandardScaler(), classifier)
    said = cross_val_predict(model, values, truth, groups=list(patients), cv=folds, method="predict_proba")
    return np.asarray(said[:, 1], np.float64)


def row(
    name: str,
    truth: NDArray[np.int64],
    patients: Sequence[str],
    said: Mapping[str, NDArray[np.float64]],
    seen: Mapping[str, Masks],
    resamples: int = RESAMPLES,
) -> Row:
    """The figures of one row beside those of ours."""
    beside = difference(
        auc, Answers(truth, [said[name]], patients), Answers(truth, [said[OURS]], patients), resamples=resamples
    )
    figures = name, auc(truth, said[name]), beside.value, beside.low, beside.high
    if name not in seen:
        return Row(*figures)
    compared = seen[name]
    differ, cut = float((compared.overlap < 0.99).mean()), int((compared.lost > 0.01).sum())
    return Row(*figures, float(compared.overlap.mean()), differ, cut)


def try_out(
    name: str,
    slices: Sequence[AnnotatedSlice],
    encoder: torch.nn.Module,
    *,
    device: str = devices.CPU,
    workers: int = 1,
) -> Tried:
    """Compute one row of `variants`."""
    started = sum(os.times()[:4])  # of this process and of the workers that have ended
    specs = variants()
    spec, ours = specs[name], specs[OURS]
    truth = np.array([int(bool(s.labelled.ich)) for s in slices], np.int64)
    patients = [s.labelled.patient for s in slices]
    values = features(slices, spec, encoder, device=device, workers=workers)
    said = {name: out_of_fold(values, truth, patients)}
    if name == OURS:
        said[HEADS] = out_of_fold(values, truth, patients, hidden=values.shape[1])
    changes_masks = spec.device_mask and spec.resize is not None and spec.filter == ours.filter
    seen = masks(slices, spec, ours, workers=workers) if changes_masks else None
    return Tried(said, seen, (sum(os.times()[:4]) - started) / 60)


def kept(file: Path) -> Tried | None:
    """A row of an earlier run; None where it has not come so far."""
    if not file.is_file():
        return None
    arrays = read_npz(file)
    said = {name.removeprefix(_SAID): values for name, values in arrays.items() if name.startswith(_SAID)}
    seen = Masks(arrays["overlap"], arrays["lost"]) if "overlap" in arrays else None
    return Tried(said, seen, float(arrays["minutes"]))


def keep(file: Path, tried: Tried) -> None:
    """Write a row for a later run."""
    arrays: dict[str, NDArray[np.float64]] = {_SAID + name: values for name, values in tried.said.items()}
    if tried.masks is not None:
        arrays |= {"overlap": tried.masks.overlap, "lost": tried.masks.lost}
    data = io.BytesIO()
    np.savez(data, minutes=np.array(tried.minutes), **arrays)  # type: ignore[arg-type]
    make_folder(file.parent)
    write_atomically(file, data.getvalue())


@click.command()
@click.argument("folder", type=FilePath(exists=True, file_okay=False))
@click.argument("weights", type=FilePath(exists=True, dir_okay=False))
@click.option("--encoder", default="vit_small_patch14_dinov2", show_default=True, help="Name the encoder of WEIGHTS.")
@click.option("--every", default=2, show_default=True, type=click.IntRange(1), help="Take one slice of so many.")
@click.option("--threads", default=1, show_default=True, type=click.IntRange(1), help="Compute with so many threads.")
@click.option("--device", default=devices.CPU, show_default=True, help="Compute the features on this PyTorch device.")
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1), help="Prepare in so many processes.")
@click.option(
    "--work",
    cls=RecordOption,
    type=FilePath(file_okay=False),
    help="Keep each row in this folder, and take those that are there.",
)
@click.option("--record", cls=RecordFile, default=RECORDS, show_default=True, help="Append the record to this.")
def main(
    folder: Path,
    weights: Path,
    encoder: str,
    every: int,
    threads: int,
    device: str,
    workers: int,
    work: Path | None,
    record: Path,
) -> None:
    """Try out on FOLDER (PHE-SICH-CT-IDS) what the paper leaves open, with the encoder of WEIGHTS."""
    torch.set_num_threads(threads)
    try:
        devices.require(device)
        slices = annotated_slices(folder)[::every]
        network = create_encoder(encoder, read_tensors(weights)[0]).eval().to(device)
    except ConfigError as error:
        raise click.ClickException(str(error)) from error
    truth = np.array([int(bool(s.labelled.ich)) for s in slices], np.int64)
    patients = [s.labelled.patient for s in slices]
    digest = digest_file(weights)
    shown = [labels_digest([s.labelled for s in slices]), [s.box for s in slices]]
    said: dict[str, NDArray[np.float64]] = {}
    seen: dict[str, Masks] = {}
    minutes: dict[str, list[float]] = {}
    for name, spec in variants().items():
        asked = digest_json([name, spec.digest, encoder, digest, FOLDS, *shown])
        file = work / f"{asked[:16]}.npz" if work else None
        tried = kept(file) if file else None
        if tried is None:
            tried = try_out(name, slices, network, device=device, workers=workers)
            if file:
                keep(file, tried)
        said |= tried.said
        if tried.masks is not None:
            seen[name] = tried.masks
        minutes[name] = [tried.minutes]
        render.echo(f"{name}: {tried.minutes:.1f} minutes", err=True)
    rows = [row(name, truth, patients, said, seen) for name in said]
    for each in rows:
        render.echo(f"{each.name:<28} {each.auc:.4f} {each.difference:+.4f} ({each.low:+.4f} to {each.high:+.4f})")
    summary = {"slices": float(len(slices)), "patients": float(len(set(patients))), "AUC": rows[0].auc}
    command = command_line(click.get_current_context(), *PROGRAM)
    options = {"encoder": encoder, "every": every, "folds": FOLDS, "command": command,
               "device": devices.name_of(device), "rows": list(map(asdict, rows))}  # fmt: skip
    append(record, Record(WHAT, "CPU minutes", minutes, summary, {"weights": digest}, options))


if __name__ == "__main__":
    main(prog_name=" ".join(PROGRAM))
