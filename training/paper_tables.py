"""The paper's own tables, what they can mean, and where they contradict each other, as tables of the report."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from evaluation.records import Record
from evaluation.tables import Table
from training import encoder_comparison, published
from training.claims import Checked
from training.published import METRICS, SOURCES, PaperRow, facts, paper_rows
from training.readings import figures, macro_fits, readings

CLASSIFIERS = {1: "haemorrhage", 2: "location"}


def printed(table: int) -> Table:
    """Table 2 or 3 as printed."""
    rows = tuple(
        (
            str(row.classifier),
            CLASSIFIERS[row.classifier],
            row.model,
            "yes" if row.augmentation else "no",
            *(f"{row.printed[metric]:g}" for metric in METRICS),
        )
        for row in paper_rows()
        if row.table == table
    )
    note = f"of {facts()['test_set']['images']} test images, split by image after replication; no interval is printed"
    columns = ("classifier", "tells", "encoder", "augmented", *METRICS)
    return Table(f"printed{table}", f"Table {table} as the paper prints it", columns, rows, (note,))


def table_1() -> Table:
    """Table 1 as printed."""
    counts = facts()["table_1"]
    rows = (
        ("patients", str(counts["patients"]), f"{counts['male']} male, {counts['female']} female"),
        ("slices", str(counts["slices"]), f"{counts['ich']} with haemorrhage, {counts['no_ich']} without"),
        ("slices with haemorrhage", str(counts["ich"]),
         f"{counts['deep']} deep, {counts['lobar']} lobar, {counts['subtentorial']} subtentorial"),
    )  # fmt: skip
    return Table("printed1", "Table 1 as the paper prints it", ("what", "total", "of them"), rows)


@cache  # a second of trying, always of the same printed figures
def readings_table() -> Table:
    """For each printed row the reading that fits it best, and what a mean over the locations could have."""
    rows = []
    for row in paper_rows():
        best = readings(row)[0]
        tp, fn, fp, tn = best.counts
        macro = ", ".join(macro_fits(row)) if row.classifier == 2 else ""
        rows.append((
            row.name, best.name, f"{tp} hits, {fn} misses, {fp} false alarms, {tn} rejections",
            f"{len(best.fits)} of {len(METRICS)}" + _missed(row, best.fits),
            macro,
        ))  # fmt: skip
    notes = (
        "every count of misses and false alarms was tried against the figures as they are rounded; specificity is "
        "TN / (TN + FP), which the paper does not define",
        "the last column is what could stand if the figures were means over the three locations: no row of classifier "
        "2 can be one, nor do all five figures follow from any one location",
    )
    columns = ("row", "the reading that fits best", "its counts", "figures that follow", "possible as a mean")
    return Table("readings", "What the paper's figures can mean", columns, tuple(rows), notes)


def contradictions() -> Table:
    """What does not fit what."""
    test, text, counts = facts()["test_set"], facts()["confusion_in_text"], facts()["table_1"]
    said = figures(
        text["true_positives"], text["positives"] - text["true_positives"],
        text["negatives"] - text["true_negatives"], text["true_negatives"],
    )  # fmt: skip
    by_row = {(row.table, row.classifier, row.model, row.augmentation): row.printed for row in paper_rows()}
    pairs = [(by_row[2, c, "ViT", True]["accuracy"], by_row[3, c, "ViT", True]["accuracy"]) for c in (1, 2)]
    others = ", ".join(f"{p.value:g} ({p.place})" for p in published.group("accuracies") if p.source == "paper")
    rows = (
        ("counts of section 3.2 against the test set",
         f"{text['negatives']} negatives and {text['positives']} positives; "
         f"the test set has {test['no_ich']} and {test['ich']}"),
        ("counts of section 3.2 against its accuracy",
         f"they give {said['accuracy']:.4f}; the text says {text['accuracy_ich']:g}"),
        ("one model in Tables 2 and 3",
         "; ".join(f"classifier {c}: {a:g} and {b:g}" for c, (a, b) in enumerate(pairs, 1))),
        ("one model in the text", others),
        ("patients", f"{counts['patients_in_text']} in the text, {counts['patients']} in Table 1"),
        ("locations", "deep, subcortical and lobar in the abstract; deep, lobar and subtentorial in Table 1"),
    )  # fmt: skip
    return Table("contradictions", "Where the paper contradicts itself", ("what", "figures"), rows)


def choices(record: Record) -> Table:
    """What each choice that the paper leaves open does, of a record of `python -m training.ablation`."""
    rows = tuple(
        (
            row["name"],
            f"{row['auc']:.4f}",
            "" if row is record.options["rows"][0] else
            f"{row['difference']:+.4f} ({row['low']:+.4f} to {row['high']:+.4f})",
            *(("", "", "") if row["overlap"] is None else
              (f"{row['overlap']:.4f}", f"{100 * row['differ']:.1f} %", str(row["cut"]))),
        )
        for row in record.options["rows"]
    )  # fmt: skip
    more_than_1 = ("masks that differ by more than 1 %", "boxes cut by more than 1 %")
    columns = ("choice", "AUC", "difference", "overlap of masks", *more_than_1)
    notes = (
        f"{record.summary['slices']:.0f} slices of {record.summary['patients']:.0f} patients, a frozen "
        f"{record.options['encoder']} and a logistic regression, {record.options['folds']} folds by patient; in "
        "brackets the 95 % interval of the difference over patients, on the same draws for both",
        f"{sum(map(sum, record.samples.values())):.0f} minutes of one core: `{record.options['command']}`",
    )
    return Table("choices", "What the choices that the paper leaves open do", columns, rows, notes)


def encoders(record: Record) -> list[Table]:
    """Tables 2 and 3 of what was trained here, one for each head, of a record of `training.encoder_comparison`.

    Columns of what no training of the record has, such as minutes on a GPU, are left out.
    """
    tables = []
    for head, rows in encoder_comparison.rows_of(record).items():
        by_column = {
            "encoder": [row.encoder for row in rows],
            "augmented": ["yes" if row.augmented else "no" for row in rows],
            "began with": ["given weights" if row.pretrained else "random weights" for row in rows],
            "learning rate": [f"{row.rate:g}" for row in rows],
            "loss on patches": [f"{row.patch_weight:g}" if row.patch_weight else "none" for row in rows],
            **{name: [f"{row.figures[name]:.4f}" for row in rows] for name in rows[0].figures},
            "AUC": [f"{row.auc:.4f} ({row.low:.4f} to {row.high:.4f})" for row in rows],
            "of the seeds": [f"{row.least:.4f} to {row.most:.4f}" if row.seeds > 1 else "one seed" for row in rows],
            "less the first": [
                f"{row.behind:+.4f} ({row.behind_low:+.4f} to {row.behind_high:+.4f})" if row is not rows[0] else ""
                for row in rows
            ],
            "CPU minutes each": [f"{sum(row.minutes) / row.seeds:.0f}" for row in rows],
            "minutes on the wall each": [f"{sum(row.wall_minutes) / row.seeds:.1f}" for row in rows],
        }
        absent = {
            "began with": not any(row.pretrained for row in rows),
            "learning rate": not any(row.rate for row in rows),
            "loss on patches": not any(row.patch_weight for row in rows),
            "minutes on the wall each": not any(map(sum, (row.wall_minutes for row in rows))),
        }
        shown = {name: column for name, column in by_column.items() if not absent.get(name)}
        seeds = max(row.seeds for row in rows)
        notes = [
            encoder_comparison.ranking(rows),
            f"{record.options['budget']}; {record.summary['slices']:.0f} test slices of "
            f"{record.summary['patients']:.0f} patients; figures are means over the seeds, {seeds} at most; "
            "in brackets the 95 % interval over patients, of differences on the same draws",
        ]
        if devices := record.options.get("devices"):
            notes.append(f"trained on {', '.join(devices)}; minutes on the wall are beside what else ran there")
        notes.append(f"`{record.options['command']}`")
        title = f"Tables 2 and 3 here: {head} on `{record.options['data']}`"
        cells = tuple(zip(*shown.values(), strict=True))
        tables.append(Table(f"encoders_{head}", title, tuple(shown), cells, tuple(notes)))
    if leaks := encoder_comparison.leaks_of(record):
        cells = tuple(
            (
                leak.encoder,
                f"{100 * leak.leaked:.0f} %",
                f"{leak.paper:.4f}",
                f"{leak.clean:.4f}",
                f"{leak.difference:+.4f} ({leak.low:+.4f} to {leak.high:+.4f})",
            )
            for leak in leaks
        )
        columns = ("encoder", "test images also trained on", "AUC, the paper's protocol", "AUC, by patient", "leak")
        tables.append(
            Table("leak", f"What the paper's protocol leaks on `{record.options['data']}`", columns, cells, ())
        )
    return tables


def claims_table(checked: Sequence[Checked]) -> Table:
    """What the captions and the text claim of the curves, and whether it is so here."""
    words = {True: "so here", False: "not so here", None: "not known here"}
    rows = tuple((claim.figure, claim.text, words[claim.holds], claim.seen) for claim in checked)
    return Table("claims", "What the paper claims of its curves", ("figure", "claim", "here", "seen"), rows)


def second_hand() -> Table:
    """Accuracies of the authors' code and of others, each with its place and how it was read."""
    rows = tuple(
        (p.figure, f"{p.value:.4g}", p.place, SOURCES[p.source])
        for p in (*published.group("accuracies"), *published.group("code_accuracies"))
    )
    return Table(
        "published", "Other accuracies that were published", ("figure", "value", "place", "how it was read"), rows
    )


def _missed(row: PaperRow, fits: Sequence[str]) -> str:
    missed = [f"{metric} {row.printed[metric]:g}" for metric in METRICS if metric not in fits]
    return f": not {', '.join(missed)}" if missed else ""
