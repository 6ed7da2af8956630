"""PHE-SICH-CT-IDS (arXiv 2308.10521) as a labelled set for `train` and `evaluate`.

python -m training.phe_sich FOLDER out/phe-sich/labels.csv

Every haemorrhage there lies in the region of the basal ganglia, so that a location head would learn to say "deep" to
everything: no location is given, and the head stays untrained. Slices whose two annotations disagree are left out.
"""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import click

from dtvit_edge.cli import render
from dtvit_edge.cli.option_set import FilePath
from dtvit_edge.errors import ConfigError
from evaluation.labels import LabelledSlice, write_labels


@dataclass(frozen=True)
class AnnotatedSlice:
    """A slice of the set.

    Attributes:
        box: left, top, right and bottom of the annotated haemorrhage in pixels, the last two behind it; None without.
        disputed: the two annotations disagree.
    """

    labelled: LabelledSlice
    box: tuple[int, int, int, int] | None
    disputed: bool


def annotated_slices(folder: Path, *, disputed: bool = False) -> list[AnnotatedSlice]:
    """Every slice of the set, those whose annotations disagree only if asked for.

    Args:
        folder: holds `labels.csv` (`file, patient, slice, ich, mask_agrees, mask_pixels, box_xyxy`) and the images.

    Raises:
        ConfigError: no such set in the folder.
    """
    slices = []
    try:
        with (folder / "labels.csv").open(newline="", encoding="utf-8") as stream:
            for row in csv.DictReader(stream):
                ich = {"0": False, "1": True}[row["ich"]]
                box = _box(row["box_xyxy"]) if ich else None
                labelled = LabelledSlice(folder / row["file"], row["file"], row["patient"], ich, None)
                slices.append(AnnotatedSlice(labelled, box, row["mask_agrees"] == "0"))
    except (OSError, KeyError, ValueError, csv.Error) as error:
        raise ConfigError(f"{folder}: not PHE-SICH-CT-IDS with its labels.csv: {error}") from error
    return [s for s in slices if disputed or not s.disputed]


def convert(folder: Path, out: Path) -> Counter[str]:
    """Write the labelled set; paths are relative to `out`.

    Returns:
        How many slices are `ich`, `no_ich` and `disputed`; the last are not written.

    Raises:
        ConfigError: no such set in the folder.
    """
    slices = annotated_slices(folder, disputed=True)
    write_labels(out, [s.labelled for s in slices if not s.disputed])
    return Counter("disputed" if s.disputed else "ich" if s.labelled.ich else "no_ich" for s in slices)


def _box(text: str) -> tuple[int, int, int, int]:
    left, top, right, bottom = (int(float(part)) for part in text.replace(",", " ").split())
    return left, top, right, bottom


@click.command()
@click.argument("folder", type=FilePath())
@click.argument("out", type=FilePath(dir_okay=False))
def main(folder: Path, out: Path) -> None:
    """Write FOLDER's labelled set to OUT (.csv)."""
    try:
        counts = convert(folder, out)
    except ConfigError as error:
        raise click.ClickException(str(error)) from error
    render.echo(f"{out}: {counts['ich']} slices with haemorrhage, {counts['no_ich']} without, "
               f"{counts['disputed']} left out whose annotations disagree")  # fmt: skip


if __name__ == "__main__":
    main(prog_name="python -m training.phe_sich")
