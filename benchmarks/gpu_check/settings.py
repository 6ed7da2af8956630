"""What one run of the check is about, as a file that its processes read."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from dtvit_edge.files import make_folder, write_atomically
from dtvit_edge.trt import library
from dtvit_edge.trt.releases import PRECISIONS

# FP8 is asked for by name: not every GPU has it, and not every bundle.
DEFAULT_PRECISIONS = tuple(precision for precision in PRECISIONS if precision != "fp8")
ROOT = Path(__file__).resolve().parents[2]
SETTINGS, RECORDS, LOGS = "settings.json", "records.jsonl", "logs"
BOOT = (sys.executable, "-u", "-m", "benchmarks.gpu_check.child")


@dataclass(frozen=True)
class Settings:
    """What was asked for; paths are absolute, since the processes run in the repository's root.

    Attributes:
        bundle: a ready bundle; engines are built into it.
        studies: folders with CT studies.
        out: takes the records, logs and everything else that is written.
        backend: `tensorrt`, `tensorrt-rtx` or `auto`.
        max_batch: of the engines.
        counts: slices of the batches in which the kernel alone is timed.
        rounds: samples of each time.
        library_tactics: False leaves cuBLAS and cuDNN out of the builder's search.
        pytorch_python: the interpreter that has torch; weights: the checkpoint for it. PyTorch is timed with both.
        boot: the command that runs one stage; tests put stand-ins in between.
    """

    bundle: str
    studies: tuple[str, ...]
    out: str
    backend: str = library.AUTO
    precisions: tuple[str, ...] = DEFAULT_PRECISIONS
    max_batch: int = 64
    counts: tuple[int, ...] = (1, 64, 132, 264)
    rounds: int = 200
    library_tactics: bool = True
    pytorch_python: str | None = None
    weights: str | None = None
    boot: tuple[str, ...] = BOOT

    @property
    def folder(self) -> Path:
        """`out` as a path."""
        return Path(self.out)

    @property
    def records(self) -> Path:
        """The file that every record is appended to."""
        return self.folder / RECORDS

    @property
    def file(self) -> Path:
        """Where these settings lie."""
        return self.folder / SETTINGS

    @property
    def flavour(self) -> str:
        """The library that is used: `tensorrt` or `tensorrt-rtx`."""
        return library.choose(self.backend)

    @property
    def batches(self) -> list[int]:
        """Batch sizes at which engines are timed."""
        return sorted({1, min(8, self.max_batch), self.max_batch})

    def command_of(self, stage: str) -> str:
        """What repeats one stage; folders by their names alone, without what they lie in."""
        options = [] if self.library_tactics else ["--no-library-tactics"]
        if self.backend != library.AUTO:
            options += ["--backend", self.backend]
        if self.pytorch_python:
            options += ["--pytorch-python", "python3", "--weights", Path(self.weights or "").name]
        options += ["--max-batch", str(self.max_batch), "--rounds", str(self.rounds), "--stage", stage]
        names = [Path(path).name for path in (self.bundle, *self.studies)]
        return shlex.join(["python", "-m", "benchmarks.gpu_check", *names, "-o", "OUT", *options])

    def write(self) -> None:
        """Make the folder and write the file."""
        make_folder(self.folder / LOGS)
        write_atomically(self.file, json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def read(cls, file: Path) -> Settings:
        """Read what `write` wrote."""
        values = json.loads(file.read_text(encoding="utf-8"))
        lists = [field.name for field in fields(cls) if str(field.type).startswith("tuple")]
        return cls(**values | {name: tuple(values[name]) for name in lists})
