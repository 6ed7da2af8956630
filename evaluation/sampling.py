"""Slices to calibrate on: from study folders or a labelled CSV, dealt into three sets that share no patient.

One set gives the ranges, one chooses the method, one judges. Within a set slices are spread over patients, position in
the head and haemorrhage: as labelled, and where nobody said, as fp32 finds it among twice as many slices as are wanted.
Slices are known by the digest of their model bytes and by nothing else.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dtvit_edge.dicom.discover import discover
from dtvit_edge.dicom.opening import open_dataset
from dtvit_edge.dicom.slice import SliceHeader
from dtvit_edge.dicom.walk import walk
from dtvit_edge.errors import ConfigError
from dtvit_edge.preprocess.cpu import PreparedSlice
from dtvit_edge.progress import Progress, silent
from dtvit_edge.spec import PreprocessSpec, digest_bytes
from evaluation.gate import Cases
from evaluation.images import prepare_image, prepare_slice
from evaluation.labels import read_labels

SETS = ("ranges", "choice", "verdict")
WHAT_TO_GIVE = (
    "give --slices: folders of head CT studies, or a CSV `path, patient, ich, location`; at least 500 slices of "
    "patients who were not trained on, at best from the scanner that will be used"
)
_THIRDS = 3
_DRAWN = 2  # of unlabelled slices, as a multiple of those wanted


Pixels = NDArray[np.uint8]
Guess = Callable[[Pixels], NDArray[np.bool_]]


@dataclass(frozen=True)
class Candidate:
    """A slice that could be chosen.

    Attributes:
        patient: a name that only tells patients apart.
        position: 0 to 1, from the patient's first slice to the last.
        ich: 1, 0, or -1 where nobody said; location: an index into `LOCATION_LABELS`, -1 where nobody said.
    """

    load: Callable[[PreprocessSpec], PreparedSlice]
    patient: str
    position: float
    ich: int
    location: int = -1


@dataclass(frozen=True)
class SliceSet:
    """Slices in the order of their digests, which is the same whatever order they were found in.

    Attributes:
        pixels: (N, C, 224, 224) uint8.
    """

    pixels: Pixels
    cases: Cases

    def __len__(self) -> int:
        return len(self.pixels)


def candidates(sources: Sequence[Path], *, progress: Progress = silent) -> list[Candidate]:
    """Every slice of suitable series below the folders, and every row of the CSVs.

    Raises:
        ConfigError: nothing usable in them; the message says what to give.
    """
    found: list[Candidate] = []
    for source in sources:
        found += _of_csv(source) if source.suffix.lower() == ".csv" else _of_folder(source, progress)
    if not found:
        names = ", ".join(str(s) for s in sources) or "nothing"
        raise ConfigError(f"no head CT to calibrate on in {names}; {WHAT_TO_GIVE}")
    return found


def deal(found: Sequence[Candidate], judge: Sequence[Candidate] = (), *, seed: int) -> dict[str, list[Candidate]]:
    """Patients dealt out, two fifths for ranges, one for the choice and two for the verdict; no patient twice.

    Patients with many positives and with few are dealt by turns, so that every set has both.

    Args:
        judge: gives the verdict alone; its patients are left out of the other two sets, which share the rest 2:1.

    Raises:
        ConfigError: fewer than five patients, or fewer than two beside those who judge.
    """
    by_patient: dict[str, list[Candidate]] = defaultdict(list)
    judges = {candidate.patient for candidate in judge}
    for candidate in found:
        if candidate.patient not in judges:
            by_patient[candidate.patient].append(candidate)
    turns = ("ranges", "choice", "ranges") if judge else ("ranges", "verdict", "choice", "verdict", "ranges")
    sets, least = ("ranges and choice", 2) if judge else ("ranges, choice and verdict", 5)
    if len(by_patient) < least:
        raise ConfigError(f"{len(by_patient)} patients; {sets} need at least {least} who share no slice")
    names = sorted(by_patient)
    random.Random(seed).shuffle(names)
    names.sort(key=lambda name: -sum(c.ich == 1 for c in by_patient[name]))  # stable: the shuffle decides ties
    dealt: dict[str, list[Candidate]] = {name: [] for name in SETS} | {"verdict": list(judge)}
    for place, name in enumerate(names):
        dealt[turns[place % len(turns)]] += by_patient[name]
    return dealt


def pick(found: Sequence[Candidate], seed: int) -> Iterator[Candidate]:
    """All candidates, in an order whose every beginning is spread over labels, thirds of the head and patients."""
    order = sorted(found, key=lambda c: (c.patient, c.position, c.ich))  # however they were found
    buckets: dict[tuple[int, int], dict[str, list[Candidate]]] = defaultdict(lambda: defaultdict(list))
    for candidate in random.Random(seed).sample(order, len(order)):
        third = min(int(candidate.position * _THIRDS), _THIRDS - 1)
        buckets[candidate.ich, third][candidate.patient].append(candidate)
    taken: Counter[str] = Counter()
    while buckets:
        for key in sorted(buckets):
            patients = buckets[key]
            patient = min(patients, key=lambda name: taken[name])  # the first of those who gave the fewest
            taken[patient] += 1
            yield patients[patient].pop()
            if not patients[patient]:
                del patients[patient]
            if not patients:
                del buckets[key]


def load_sets(
    dealt: Mapping[str, Sequence[Candidate]],
    sizes: Mapping[str, int],
    spec: PreprocessSpec,
    *,
    seed: int,
    guess: Guess | None = None,
    progress: Progress = silent,
) -> dict[str, SliceSet]:
    """The three sets, each of `sizes` slices at most; the other arguments are those of `load`.

    Raises:
        ConfigError: as `load`, or a slice of the verdict that is also in another set: one image by two patients' names.
    """
    sets = {
        name: load(dealt[name], sizes[name], spec, seed=seed, name=name, guess=guess, progress=progress)
        for name in SETS
    }
    others = set(sets["ranges"].cases.digests) | set(sets["choice"].cases.digests)
    if twice := len(others & set(sets["verdict"].cases.digests)):
        raise ConfigError(f"{twice} slices of the verdict are also in another set, by another patient's name")
    return sets


def load(
    found: Sequence[Candidate],
    count: int,
    spec: PreprocessSpec,
    *,
    seed: int,
    name: str,
    guess: Guess | None = None,
    progress: Progress = silent,
) -> SliceSet:
    """Up to `count` slices as model bytes, those without brain left out, in the order of their digests.

    Args:
        guess: says of (N, C, crop, crop) uint8 which show haemorrhage; asked where there is a choice among slices that
            nobody labelled. It spreads them, and is no label.

    Raises:
        ConfigError: a slice that cannot be read, or none that shows brain.
    """
    unlabelled = guess is not None and any(c.ich < 0 for c in found)
    kept = _read(found, count * _DRAWN if unlabelled else count, spec, seed=seed, name=name, progress=progress)
    if guess is not None and len(kept) > count:
        flagged = guess(np.stack([pixels for pixels, _ in kept.values()]))
        known = {
            replace(c, ich=int(flag)) if c.ich < 0 else c: digest
            for (digest, (_, c)), flag in zip(kept.items(), flagged, strict=True)
        }
        chosen_digests = [known[c] for c in islice(pick(list(known), seed), count)]
        kept = {digest: kept[digest] for digest in chosen_digests}
    order = sorted(kept)
    chosen = [kept[digest][1] for digest in order]
    cases = Cases(
        tuple(order),
        tuple(c.patient for c in chosen),
        np.array([c.ich for c in chosen]),
        np.array([c.location for c in chosen]),
    )
    return SliceSet(np.stack([kept[digest][0] for digest in order]), cases)


def _read(
    found: Sequence[Candidate], count: int, spec: PreprocessSpec, *, seed: int, name: str, progress: Progress
) -> dict[str, tuple[Pixels, Candidate]]:
    """Up to `count` slices by their digests, in the order of `pick`."""
    kept: dict[str, tuple[Pixels, Candidate]] = {}
    with progress(f"reading {name}", min(count, len(found))) as step:
        for candidate in pick(found, seed):
            if len(kept) == count:
                break
            prepared = candidate.load(spec)
            if prepared.brain_share < spec.min_brain_share:
                continue  # the runtime would skip it
            digest = digest_bytes(prepared.pixels.tobytes())
            if digest not in kept:
                kept[digest] = (prepared.pixels, candidate)
                step(1)
    if not kept:
        raise ConfigError(f"no slice for {name} shows brain; {WHAT_TO_GIVE}")
    return kept


def _of_csv(source: Path) -> list[Candidate]:
    rows = read_labels(source)
    counts: dict[str, int] = defaultdict(int)
    for row in rows:
        counts[row.patient] += 1
    seen: dict[str, int] = defaultdict(int)
    found = []
    for row in rows:
        position = seen[row.patient] / counts[row.patient]
        seen[row.patient] += 1
        ich = -1 if row.ich is None else int(row.ich)
        location = -1 if row.location is None else row.location
        found.append(Candidate(partial(prepare_image, row.file, crop=True), row.patient, position, ich, location))
    return found


def _of_folder(source: Path, progress: Progress) -> list[Candidate]:
    files = walk([source])
    with progress("headers", len(files)) as step:
        plan = discover(files, progress=lambda: step(1))
    found = []
    for series in plan.series:
        if series.refusal is None:
            patient = _patient(series.headers[0])
            found += [
                Candidate(partial(prepare_slice, header), patient, place / len(series.headers), -1)
                for place, header in enumerate(series.headers)
            ]
    return found


def _patient(header: SliceHeader) -> str:
    """Tells patients apart without naming them: a digest of the patient's id, of the study's where there is none."""
    dataset = open_dataset(header.file, stop_before_pixels=True)
    key = str(dataset.get("PatientID") or header.identity.study_uid)
    return hashlib.sha256(key.encode()).hexdigest()[:16]
