"""README's two pictures, a study's page and `view`'s worklist: phantoms, scored by the demo bundle, drawn by Chromium.

    python -m benchmarks.standalone.report_pictures BUNDLE [--browser chromium]

One study has a gap, one a file that is cut off, so that the pages show what is left out. Nothing here is a patient's.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

import click
import pydicom
from PIL import Image

from benchmarks.standalone.program import start
from dtvit_edge.bundle import Bundle
from dtvit_edge.cli import render
from dtvit_edge.cli.option_set import FilePath
from dtvit_edge.errors import MissingDependency
from dtvit_edge.files import write_atomically
from dtvit_edge.phantom import write_phantoms
from dtvit_edge.report.page_server import Pages
from dtvit_edge.report.run_results import read_run
from dtvit_edge.report.write import write_report
from dtvit_edge.scoring.options import Options
from dtvit_edge.scoring.run import run

PICTURES = Path(__file__).resolve().parents[2] / "docs" / "pictures"
STUDIES, SEED = 8, 41
# Width and height of the window in CSS pixels: of a study down to its first map, and of the worklist.
STUDY_SIZE, WORKLIST_SIZE = (1000, 1410), (1000, 1410)
# Of the pictures: a page has few colours, and greys of the images.
WIDTH, COLORS = 760, 128


def damage(folder: Path) -> None:
    """Take a slice out of one study, and cut one of another off."""
    missing, cut = (_in_order((folder / name).iterdir()) for name in ("study-0004", "study-0006"))
    missing[12].unlink()
    cut[9].write_bytes(cut[9].read_bytes()[:9000])


def draw(browser: str, page: Path, size: tuple[int, int], profile: Path) -> bytes:
    """A page's top as PNG; the browser gets no network."""
    shot = profile / "shot.png"
    subprocess.run(
        [browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={profile}",
         "--host-resolver-rules=MAP * ~NOTFOUND", f"--window-size={size[0]},{size[1]}", f"--screenshot={shot}",
         page.as_uri()],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    with Image.open(shot) as image:
        small = image.convert("RGB").resize((WIDTH, round(WIDTH * image.height / image.width)), Image.Resampling.BOX)
    written = io.BytesIO()
    small.quantize(COLORS).save(written, "PNG", optimize=True)
    return written.getvalue()


def _in_order(files: Iterable[Path]) -> list[Path]:
    return sorted(files, key=lambda file: float(pydicom.dcmread(file, stop_before_pixels=True).SliceLocation))


@click.command()
@click.argument("bundle", type=FilePath(exists=True))
@click.option("--browser", default="chromium", show_default=True, help="Draw with this Chromium.")
@click.option("--out", default=PICTURES, type=FilePath(file_okay=False), help="Write them there.")
def main(bundle: Path, browser: str, out: Path) -> None:
    """Draw the two pictures."""
    if shutil.which(browser) is None:
        raise MissingDependency(f"{browser} is not installed; apt-get install chromium, or --browser PATH")
    with tempfile.TemporaryDirectory() as folder:
        studies, results = Path(folder, "studies"), Path(folder, "results")
        write_phantoms(studies, STUDIES, SEED)
        (studies / "truth.csv").unlink()
        damage(studies)
        opened = Bundle.open(bundle)
        run(opened, [studies], results, Options())
        index = write_report(results, [studies], opened, progress=render.progress).index
        worklist = Path(folder, "worklist.html")
        worklist.write_text(Pages(results).worklist({}), encoding="utf-8")
        flagged = min((s for s in read_run(results).studies if s.flagged), key=lambda s: (s.location, s.uid))
        page = index.with_name(f"study-{flagged.uid}.html")
        out.mkdir(parents=True, exist_ok=True)
        for name, shown, size in (("report-study", page, STUDY_SIZE), ("view-worklist", worklist, WORKLIST_SIZE)):
            write_atomically(out / f"{name}.png", draw(browser, shown, size, Path(folder, name)))
            render.echo(out / f"{name}.png")


if __name__ == "__main__":
    start(main)
