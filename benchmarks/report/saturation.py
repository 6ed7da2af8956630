"""What fills up first as slices and machines grow: a table of what each part can do, from measured costs of a slice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.report.run_view import RunView
from benchmarks.standalone import driver_memory, preprocessing, reading
from evaluation.records import Record

# A plain slice of 512 x 512 pixels of 16 bits, and what networks carry in a second.
SLICE_BYTES = 512 * 512 * 2
NETWORKS = {"a network of 1 Gbit/s": 1e9 / 8, "a network of 10 Gbit/s": 1e10 / 8}
INT8 = "openvino int8"


@dataclass(frozen=True)
class Part:
    """A part that a slice passes, and how many slices a second fill one of it."""

    name: str
    slices_s: float
    is_shared: bool


def parts(views: Sequence[RunView], records: Sequence[Record]) -> Iterator[Part]:
    """What records tell of; a part that nobody measured is left out."""
    newest = {record.what: record for record in records}
    one_core = {view.title: view for view in views if view.threads == 1 and INT8 in view.passed}
    for title, view in one_core.items():
        yield Part(f"a core that infers, {title}, int8", 1e3 / view.median_ms(INT8), False)
    if record := newest.get(preprocessing.WHAT):
        yield Part("a core that preprocesses", 1e3 / record.summary["one window: library: ms"], False)
    if record := newest.get(reading.WHAT):
        for kind in ("uncompressed", "RLE"):
            yield Part(f"a core that reads, {kind}", 1e3 / record.summary[f"{kind}: read: ms"], False)
    for name, bytes_s in NETWORKS.items():
        yield Part(name, bytes_s / SLICE_BYTES, True)
    if record := newest.get(driver_memory.WHAT):
        yield Part("the driver, one core", 1e6 / record.summary["us a slice"], True)


def saturation_table(views: Sequence[RunView], records: Sequence[Record]) -> str:
    """Slices a second of each part, and how many inferring cores fill what all share."""
    found = sorted(parts(views, records), key=lambda part: part.slices_s)
    inferring = [part for part in found if "infers" in part.name]
    heads = "".join(f" {part.name.split(', ', 1)[1]}: cores that fill it |" for part in inferring)
    rows = "".join(
        f"| {part.name} | {part.slices_s:,.0f} |" + "".join(f" {_cores(part, core)} |" for core in inferring) + "\n"
        for part in found
    )
    return f"\n| part | slices a second |{heads}\n|---|---|{'---|' * len(inferring)}\n{rows}\n"


def _cores(part: Part, core: Part) -> str:
    if not part.is_shared:
        return ""
    cores = part.slices_s / core.slices_s
    return f"{cores:,.0f}" if cores >= 10 else f"{cores:.1f}"
