"""Slices to calibrate on: from study folders or a labelled CSV, split into three sets that share no patient.

The calibration set gives the ranges; the validation set chooses the method, and which ops keep higher precision; the
gate compares every precision with fp32 on the test set. Within a set slices are spread over patients, position in the
head and haemorrhage: as labelled, and where nobody said, as fp32 predicts it among twice as many slices as are wanted.
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
from dtvit_edge.preprocess.cpu import CpuPreprocessor
from dtvit_edge.progress import Progress, silent
from dtvit_edge.spec import PreprocessSpec, digest_bytes
from evaluation.gate import SliceLabels
from evaluation.images import WINDOWED_SUFFIXES, StoredSlice, read_image, read_slice
from evaluation.labels import read_labels

SETS = ("calibration", "validation", "test")
WHAT_TO_GIVE = (
    "give --slices: folders of head CT studies, or a CSV `path, patient, ich, location`; at least 500 slices of "
    "patients who were not trained on, at best from the scanner that will be used"
)
_THIRDS = 3
_OVERSAMPLING = 2  # of unlabelled slices, as a multiple of those wanted


Pixels = NDArray[np.uint8]
IchPredictor = Callable[[Pixels], NDArray[np.bool_]]


@dataclass(frozen=True)
class Candidate:
    """A slice that a set could take.

    Attributes:
        read: gives the stored pixels; a ConfigError where they cannot be read.
        patient: a name that only tells patients apart.
        position: 0 to 1, from the patient's first slice to the last.
        ich: 1, 0, or -1 where nobody said; location: an index into `LOCATION_LABELS`, -1 where nobody said.
    """

    read: Callable[[], StoredSlice]
    patient: str
    position: float
    ich: int
    location: int = -1


@dataclass(frozen=True)
class SliceSet:
    """Slices in the order of their digests, which is the same whatever order they came in.

    Attributes:
        pixels: (N, C, 224, 224) uint8.
        sources: N functions that give each slice's stored pixels, for shifts of the scanner; empty where nobody has
            them.
        brain_shares: of each slice the share of the head that has the values of brain; empty where nobody measured.
    """

    pixels: Pixels
    labels: SliceLabels
    sources: tuple[Callable[[], StoredSlice], ...] = ()
    brain_shares: tuple[float, ...] = ()

    def __len__(self) -> int:
        return len(self.pixels)

    def at(self, places: Sequence[int]) -> SliceSet:
        """Those of its slices, in that order, with all that is known of them."""
        rows, labels = list(places), self.labels
        some = replace(
            labels,
            digests=tuple(labels.digests[i] for i in rows),
            patients=tuple(labels.patients[i] for i in rows),
            ich=labels.ich[rows],
            location=None if labels.location is None else labels.location[rows],
        )
        sources = tuple(self.sources[i] for i in rows) if self.sources else ()
        return SliceSet(
            self.pixels[rows], some, sources, tuple(self.brain_shares[i] for i in rows) if self.brain_shares else ()
        )


def candidates(sources: Sequence[Path], *, pictures: bool = False, progress: Progress = silent) -> list[Candidate]:
    """Every slice of suitable series below the folders, and every row of the CSVs.

    Args:
        pictures: take PNG and JPEG below the folders as well, each folder of them as one patient, without labels.

    Raises:
        ConfigError: nothing usable in them; the message says what to give.
    """
    pool: list[Candidate] = []
    for source in sources:
        pool += _of_csv(source) if source.suffix.lower() == ".csv" else _of_folder(source, progress)
        pool += _of_pictures(source) if pictures and source.is_dir() else []
    if not pool:
        names = ", ".join(str(s) for s in sources) or "nothing"
        raise ConfigError(f"no head CT to calibrate on in {names}; {WHAT_TO_GIVE}")
    return pool


def split_into_sets(
    pool: Sequence[Candidate], test: Sequence[Candidate] = (), *, seed: int
) -> dict[str, list[Candidate]]:
    """Split candidates by patient: two fifths to calibration, one to validation and two to test; no patient twice.

    Patients with many positives and with few take turns, so that every set has both.

    Args:
        test: the whole test set, if given; its patients are left out of the other two sets, which share the rest 2:1.

    Raises:
        ConfigError: fewer than five patients, or fewer than two besides those of a given test set.
    """
    by_patient: dict[str, list[Candidate]] = defaultdict(list)
    test_patients = {candidate.patient for candidate in test}
    for candidate in pool:
        if candidate.patient not in test_patients:
            by_patient[candidate.patient].append(candidate)
    if test:
        turns: tuple[str, ...] = ("calibration", "validation", "calibration")
        sets, least = "calibration and validation sets", 2
    else:
        turns = ("calibration", "test", "validation", "test", "calibration")
        sets, least = "calibration, validation and test sets", 5
    if len(by_patient) < least:
        raise ConfigError(f"{len(by_patient)} patients; the {sets} need at least {least} who share no slice")
    names = sorted(by_patient)
    random.Random(seed).shuffle(names)
    names.sort(key=lambda name: -sum(c.ich == 1 for c in by_patient[name]))  # stable: the shuffle decides ties
    candidates_by_set: dict[str, list[Candidate]] = {name: [] for name in SETS} | {"test": list(test)}
    for place, name in enumerate(names):
        candidates_by_set[turns[place % len(turns)]] += by_patient[name]
    return candidates_by_set


def stratified(pool: Sequence[Candidate], seed: int) -> Iterator[Candidate]:
    """All candidates, in an order whose every beginning is spread over labels, thirds of the head and patients."""
    order = sorted(pool, key=lambda c: (c.patient, c.position, c.ich))  # whatever order they came in
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
    candidates_by_set: Mapping[str, Sequence[Candidate]],
    sizes: Mapping[str, int],
    spec: PreprocessSpec,
    *,
    seed: int,
    predict_ich: IchPredictor | None = None,
    progress: Progress = silent,
) -> dict[str, SliceSet]:
    """The three sets, each of `sizes` slices at most; the other arguments are those of `load_set`.

    Raises:
        ConfigError: as `load_set`, or a slice of the test set that is also in another: one image under two patients.
    """
    sets = {
        name: load_set(
            candidates_by_set[name], sizes[name], spec, seed=seed, name=name, predict_ich=predict_ich, progress=progress
        )
        for name in SETS
    }
    others = set(sets["calibration"].labels.digests) | set(sets["validation"].labels.digests)
    if twice := len(others & set(sets["test"].labels.digests)):
        raise ConfigError(f"{twice} slices of the test set are also in another set, by another patient's name")
    return sets


def load_set(
    pool: Sequence[Candidate],
    count: int,
    spec: PreprocessSpec,
    *,
    seed: int,
    name: str,
    predict_ich: IchPredictor | None = None,
    progress: Progress = silent,
) -> SliceSet:
    """Up to `count` slices as model bytes, those without brain left out, in the order of their digests.

    Args:
        name: of the set, for progress and errors.
        predict_ich: says of (N, C, crop, crop) uint8 which show haemorrhage; asked where there is a choice among slices
            that nobody labelled. It spreads them, and is no label.

    Raises:
        ConfigError: a slice that cannot be read, or none that shows brain.
    """
    unlabelled = predict_ich is not None and any(c.ich < 0 for c in pool)
    kept = _read(pool, count * _OVERSAMPLING if unlabelled else count, spec, seed=seed, name=name, progress=progress)
    if predict_ich is not None and len(kept) > count:
        flagged = predict_ich(np.stack([pixels for pixels, *_ in kept.values()]))
        known = {
            replace(c, ich=int(flag)) if c.ich < 0 else c: digest
            for (digest, (_, c, _)), flag in zip(kept.items(), flagged, strict=True)
        }
        chosen_digests = [known[c] for c in islice(stratified(list(known), seed), count)]
        kept = {digest: kept[digest] for digest in chosen_digests}
    order = sorted(kept)
    chosen = [kept[digest][1] for digest in order]
    labels = SliceLabels(
        tuple(order),
        tuple(c.patient for c in chosen),
        np.array([c.ich for c in chosen]),
        np.array([c.location for c in chosen]),
    )
    shares = tuple(kept[digest][2] for digest in order)
    return SliceSet(np.stack([kept[digest][0] for digest in order]), labels, tuple(c.read for c in chosen), shares)


def _read(
    pool: Sequence[Candidate], count: int, spec: PreprocessSpec, *, seed: int, name: str, progress: Progress
) -> dict[str, tuple[Pixels, Candidate, float]]:
    """Up to `count` slices by their digests, in the order of `stratified`."""
    kept: dict[str, tuple[Pixels, Candidate, float]] = {}
    prepare = CpuPreprocessor(spec)
    with progress(f"reading the {name} set", min(count, len(pool))) as step:
        for candidate in stratified(pool, seed):
            if len(kept) == count:
                break
            prepared = prepare(*candidate.read())
            if prepared.brain_share < spec.min_brain_share:
                continue  # the runtime would skip it
            digest = digest_bytes(prepared.pixels.tobytes())
            if digest not in kept:
                kept[digest] = (prepared.pixels, candidate, prepared.brain_share)
                step(1)
    if not kept:
        raise ConfigError(f"no slice of the {name} set shows brain; {WHAT_TO_GIVE}")
    return kept


def _of_csv(source: Path) -> list[Candidate]:
    rows = read_labels(source)
    counts: dict[str, int] = defaultdict(int)
    for row in rows:
        counts[row.patient] += 1
    seen: dict[str, int] = defaultdict(int)
    pool = []
    for row in rows:
        position = seen[row.patient] / counts[row.patient]
        seen[row.patient] += 1
        ich = -1 if row.ich is None else int(row.ich)
        location = -1 if row.location is None else row.location
        pool.append(Candidate(partial(read_image, row.file), row.patient, position, ich, location))
    return pool


def _of_folder(source: Path, progress: Progress) -> list[Candidate]:
    walked = walk([source])
    with progress("headers", len(walked.files)) as step:
        plan = discover(walked, progress=lambda: step(1))
    pool = []
    for series in plan.series:
        if series.refusal is None:
            patient = _patient(series.headers[0])
            pool += [
                Candidate(partial(read_slice, header), patient, place / len(series.headers), -1)
                for place, header in enumerate(series.headers)
            ]
    return pool


def _of_pictures(source: Path) -> list[Candidate]:
    by_folder: dict[Path, list[Path]] = defaultdict(list)
    for file in sorted(source.rglob("*")):
        if file.suffix.lower() in WINDOWED_SUFFIXES and file.is_file():
            by_folder[file.parent].append(file)
    return [
        Candidate(partial(read_image, file), digest_bytes(str(folder).encode())[:16], place / len(files), -1)
        for folder, files in by_folder.items()
        for place, file in enumerate(files)
    ]


def _patient(header: SliceHeader) -> str:
    """Tells patients apart without naming them: a digest of the patient's id, of the study's where there is none."""
    dataset = open_dataset(header.file, stop_before_pixels=True)
    key = str(dataset.get("PatientID") or header.identity.study_uid)
    return hashlib.sha256(key.encode()).hexdigest()[:16]
