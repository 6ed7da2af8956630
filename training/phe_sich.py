"""PHE-SICH-CT-IDS (arXiv 2308.10521) as a labelled set for `train` and `evaluate`.

python -m training.phe_sich FOLDER out/phe-sich/labels.csv

Every haemorrhage there lies in the region of the basal ganglia, so that a location head would learn to say "deep" to
everything: no location is given, and the head stays untrained. Slices whose two annotations disagree are left out.
"""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import click

from dtvit_edge.cli import render
from dtvit_edge.errors import ConfigError
from evaluation.labels import LabelledSlice, write_labels


def convert(folder: Path, out: Path) -> Counter[str]:
    """Write the labelled set; paths are relative to `out`.

    Args:
        folder: holds `labels.csv` (`file, patient, slice, ich, mask_agrees, ...`) and the images.

    Returns:
        How many slices are `ich`, `no_ich` and `disputed`; the last are not written.

    Raises:
        ConfigError: no such set in the folder.
    """
    counts: Counter[str] = Counter()
    rows = []
    try:
        with (folder / "labels.csv").open(newline="", encoding="utf-8") as stream:
            for row in csv.DictReader(stream):
                kind = "disputed" if row["mask_agrees"] == "0" else {"0": "no_ich", "1": "ich"}[row["ich"]]
                counts[kind] += 1
                if kind != "disputed":
                    rows.append(LabelledSlice(folder / row["file"], row["file"], row["patient"], kind == "ich", None))
    except (OSError, KeyError, csv.Error) as error:
        raise ConfigError(f"{folder}: not PHE-SICH-CT-IDS with its labels.csv: {error}") from error
    write_labels(out, rows)
    return counts


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path, dir_okay=False))
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
