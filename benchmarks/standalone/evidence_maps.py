"""Does the evidence map of the report point at the blood, does int8 point where fp32 does, and what does chance do?

    python -m benchmarks.standalone.evidence_maps BUNDLE phantoms:80@9500000 --int8
    python -m benchmarks.standalone.evidence_maps BUNDLE held-out.csv --boxes PHE-SICH/labels.csv

Slices are those with blood that the model calls positive. The truth is the phantom's own, or an annotator's box. A map
hits where its hottest cell (1/14 of the side) touches the truth; the strongest patch is twice as wide. Chance is the
share of all cells with evidence that touch it. A wrong model is the same graph with the values of each weight shuffled:
its maps are made of the same slices, and what it points at beyond chance is what the method sees in any model. In the
pointing game (Zhang et al., 2018, without its margin) the middle of the hottest cell has to lie inside. Intervals are
bootstrapped over patients.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from benchmarks.standalone.program import keep, record_option, start
from dtvit_edge import backends
from dtvit_edge.backend import Backend
from dtvit_edge.bundle import REFERENCE_PRECISION, Bundle
from dtvit_edge.cli import render
from dtvit_edge.cli.option_set import FilePath
from dtvit_edge.errors import ConfigError
from dtvit_edge.report.evidence import CELLS, Evidence, box, evidence
from dtvit_edge.scoring.executor import CpuExecutor
from dtvit_edge.spec import PreprocessSpec
from evaluation.image_sets import phantom_set
from evaluation.images import prepare_image
from evaluation.labels import read_labels
from evaluation.phantoms import PhantomSet, load_phantoms

WHAT = "evidence maps against where the blood is"
INT8 = "int8"
RESAMPLES = 1000
BOXED_SIDE = 512  # pixels of the images that the boxes were drawn on


@dataclass(frozen=True)
class Case:
    """A positive slice: pixels (C, side, side) uint8, truth (side, side) bool."""

    patient: str
    pixels: NDArray[np.uint8]
    truth: NDArray[np.bool_]


@dataclass(frozen=True)
class Hits:
    """Of one map whether it hits, by each way of judging; `chance` is a share."""

    cell: float
    patch: float
    point: float
    chance: float
    location_cell: float


def judge(found: Evidence, truth: NDArray[np.bool_]) -> Hits:
    """Compare a slice's maps with its truth."""
    side = truth.shape[0]

    def touches(cell: tuple[int, int], cells: int) -> bool:
        top, bottom, left, right = box(cell, side, cells)
        return bool(truth[top:bottom, left:right].any())

    known = [(i, j) for i in range(CELLS) for j in range(CELLS) if np.isfinite(found.ich.loss[i, j])]
    top, bottom, left, right = box(found.ich.hottest, side, 1)
    return Hits(
        touches(found.ich.hottest, 1),
        touches(found.ich.strongest, 2),
        bool(truth[(top + bottom) // 2, (left + right) // 2]),
        float(np.mean([touches(cell, 1) for cell in known])),
        touches(found.location.hottest, 1) if found.location else 0.0,
    )


def shuffled(model: bytes, seed: int) -> bytes:
    """The same graph with the values of each of its weights in another order."""
    graph = onnx.load_from_string(model)
    rng = np.random.default_rng(seed)
    for tensor in graph.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype.kind == "f" and values.size > 1:
            tensor.CopyFrom(numpy_helper.from_array(rng.permutation(values.ravel()).reshape(values.shape), tensor.name))
    return bytes(graph.SerializeToString())


def cases(data: str, boxes: Path | None, spec: PreprocessSpec) -> list[Case]:
    """The slices of a set that have blood, and where it is.

    Raises:
        ConfigError: a labelled set without boxes, or a table without them.
    """
    if (phantoms := phantom_set(data)) is not None:
        found = load_phantoms(PhantomSet(phantoms.studies, phantoms.first_seed, negatives=0), spec, crop=True)
        assert found.masks is not None
        rows = zip(found.slices, found.images, found.masks, strict=True)
        return [Case(s.patient, image, mask > 0) for s, image, mask in rows if mask.any()]
    if boxes is None:
        raise ConfigError("a labelled set needs --boxes, which says where the haemorrhage is")
    with boxes.open(newline="", encoding="utf-8") as stream:
        table = csv.DictReader(stream)
        if lacking := {"file", "box_xyxy", "mask_agrees"} - set(table.fieldnames or ()):
            raise ConfigError(f"{boxes.name} has no column {', '.join(sorted(lacking))}: is it a table of boxes?")
        drawn = {Path(r["file"]).name: r["box_xyxy"] for r in table if r["mask_agrees"] != "0"}
    return [
        Case(s.patient, prepare_image(s.file, spec, crop=True).pixels, _box_mask(drawn[s.file.name], spec))
        for s in read_labels(Path(data))
        if s.ich and drawn.get(s.file.name)
    ]


def _box_mask(text: str, spec: PreprocessSpec) -> NDArray[np.bool_]:
    scale = (spec.resize or BOXED_SIDE) / BOXED_SIDE
    offset = round(((spec.resize or BOXED_SIDE) - spec.crop) / 2)
    left, top, right, bottom = (round(float(v) * scale) - offset for v in text.split())
    mask = np.zeros((spec.crop, spec.crop), bool)
    mask[max(top, 0) : max(bottom, 0) + 1, max(left, 0) : max(right, 0) + 1] = True
    return mask


def positive(executor: CpuExecutor, found: Sequence[Case]) -> list[Case]:
    """Those that the model calls positive, at 0.5."""
    kept = []
    for case in found:
        no_ich, ich = executor.logits(case.pixels[None])["ich_logits"][0]
        kept += [case] if ich > no_ich else []
    return kept


@contextmanager
def _executor(backend: Backend, spec: PreprocessSpec):  # type: ignore[no-untyped-def]
    with backend as opened:
        yield CpuExecutor(spec, opened, 0.0, opened.batch)


def interval(values: Sequence[float], patients: Sequence[str], seed: int = 0) -> tuple[float, float, float]:
    """The mean, and its 95 % interval over patients."""
    by_patient: dict[str, list[float]] = {}
    for value, patient in zip(values, patients, strict=True):
        by_patient.setdefault(patient, []).append(value)
    groups = list(by_patient.values())
    rng = np.random.default_rng(seed)
    drawn = [
        float(np.mean(np.concatenate([groups[i] for i in rng.integers(0, len(groups), len(groups))])))
        for _ in range(RESAMPLES)
    ]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(np.mean(values)), float(low), float(high)


@click.command()
@click.argument("bundle", type=FilePath(exists=True))
@click.argument("data")
@click.option("--boxes", type=FilePath(exists=True), help="Take the boxes of this table as truth.")
@click.option("--int8", "with_int8", is_flag=True, help="Make int8's maps as well, and correlate them with fp32's.")
@click.option("--shuffles", default=3, show_default=True, type=click.IntRange(min=1), help="Shuffle with N seeds.")
@click.option("--slices", type=click.IntRange(min=1), help="Take N of the true-positive slices.  [default: all]")
@click.option("--backend", "name", default="openvino", show_default=True, help="Run on this backend.")
@record_option()
def main(
    bundle: Path,
    data: str,
    boxes: Path | None,
    with_int8: bool,
    shuffles: int,
    slices: int | None,
    name: str,
    out: Path,
) -> None:
    """Judge the evidence maps of BUNDLE on the true-positive slices of DATA, and append the record."""
    opened = Bundle.open(bundle)
    spec, heads = opened.manifest.spec, opened.manifest.untrained_heads
    make = {REFERENCE_PRECISION: backends.model_loader(name, opened, REFERENCE_PRECISION, None)}
    if with_int8:
        make[INT8] = backends.model_loader(name, opened, INT8, None)
    model = opened.model_bytes(REFERENCE_PRECISION)
    wrong = [f"shuffled {seed}" for seed in range(shuffles)]
    make |= {label: lambda seed=i: shuffled(model, seed) for i, label in enumerate(wrong)}  # type: ignore[misc]
    judged: dict[str, list[Hits]] = {}
    maps: dict[str, list[Evidence]] = {}
    chosen: list[Case] = []
    seconds: dict[str, list[float]] = {}
    for label, load in make.items():
        precision = INT8 if label == INT8 else REFERENCE_PRECISION
        with _executor(backends.create(name, load, precision, threads=1), spec) as executor:
            if label == REFERENCE_PRECISION:
                everything = positive(executor, cases(data, boxes, spec))
                if not everything:
                    raise ConfigError("the model calls no slice with blood positive: there is nothing to judge")
                step = max(len(everything) // (slices or len(everything)), 1)
                chosen = everything[::step][:slices]
            found, took = [], []
            for case in chosen:
                start = time.process_time()
                map_ = evidence(executor, case.pixels, spec, heads)
                took.append(time.process_time() - start)
                assert map_ is not None
                found.append(map_)
        maps[label], seconds[label] = found, took
        judged[label] = [judge(map_, case.truth) for map_, case in zip(found, chosen, strict=True)]
        render.echo(_line(label, judged[label], [c.patient for c in chosen], found, took))
    patients = [case.patient for case in chosen]
    samples = {f"{label}: hottest cell": [float(h.cell) for h in hits] for label, hits in judged.items()}
    samples |= {f"{label}: seconds of CPU": took for label, took in seconds.items()}
    summary = _summary(judged, patients, maps) | {
        "slices": float(len(chosen)),
        "patients": float(len(set(patients))),
        "passes": float(np.mean([e.passes for e in maps[REFERENCE_PRECISION]])),
    }
    if with_int8:
        alike = [_correlation(a, b) for a, b in zip(maps[REFERENCE_PRECISION], maps[INT8], strict=True)]
        samples["fp32 against int8: correlation"] = alike
        summary |= {"correlation_median": float(np.median(alike)), "correlation_least": min(alike),
                    "correlation_pooled": _pooled(maps[REFERENCE_PRECISION], maps[INT8]),
                    "correlation_at_least_0.9": float(np.mean(np.array(alike) >= 0.9))}  # fmt: skip
        render.echo("fp32 against int8, correlation: " + ", ".join(
            f"{key.removeprefix('correlation_')} {value:.3f}" for key, value in summary.items() if "correlation" in key
        ))  # fmt: skip
    digests = {"bundle": opened.digest, "weights": opened.manifest.weights_sha256}
    keep(
        out, WHAT, "1 where the map hits", samples, summary, digests, backend=name, data=data.rsplit("/", 1)[-1],
        encoder=opened.manifest.encoder, training=opened.manifest.training, boxes=boxes is not None,
    )  # fmt: skip


def _summary(
    judged: dict[str, list[Hits]], patients: Sequence[str], maps: dict[str, list[Evidence]]
) -> dict[str, float]:
    wrong = [label for label in judged if label.startswith("shuffled")]
    sides = {label: hits for label, hits in judged.items() if label not in wrong}
    sides["shuffled"] = [hits for label in wrong for hits in judged[label]]
    summary: dict[str, float] = {}
    for label, hits in sides.items():
        whose = list(patients) * (len(wrong) if label == "shuffled" else 1)
        for name in ("cell", "patch", "point", "chance", "location_cell"):
            value, low, high = interval([float(getattr(h, name)) for h in hits], whose)
            summary |= {f"{label}: {name}": value, f"{label}: {name}_low": low, f"{label}: {name}_high": high}
    return summary


def _line(
    label: str, hits: Sequence[Hits], patients: Sequence[str], maps: Sequence[Evidence], took: Sequence[float]
) -> str:
    said = []
    for name in ("cell", "patch", "point", "chance", "location_cell"):
        value, low, high = interval([float(getattr(h, name)) for h in hits], patients)
        said.append(f"{name} {value:.1%} ({low:.1%} to {high:.1%})")
    cost = f"{np.mean([e.passes for e in maps]):.0f} passes, {np.mean(took) * 1e3:.0f} ms of CPU a slice"
    return f"{label}, {len(hits)} slices of {len(set(patients))} patients: {', '.join(said)}; {cost}"


def _correlation(a: Evidence, b: Evidence) -> float:
    """Of two maps, over the cells that both have."""
    both = np.isfinite(a.ich.loss) & np.isfinite(b.ich.loss)
    return float(np.corrcoef(a.ich.loss[both], b.ich.loss[both])[0, 1])


def _pooled(first: Sequence[Evidence], second: Sequence[Evidence]) -> float:
    """Of all cells of all slices together."""
    pairs = [(a.ich.loss, b.ich.loss) for a, b in zip(first, second, strict=True)]
    kept = [np.isfinite(a) & np.isfinite(b) for a, b in pairs]
    one, other = (np.concatenate([pair[i][k] for pair, k in zip(pairs, kept, strict=True)]) for i in (0, 1))
    return float(np.corrcoef(one, other)[0, 1])


if __name__ == "__main__":
    start(main)
