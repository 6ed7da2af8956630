"""`driver.c`, its input and its output: `native.c` outside of Python, one slice after the other."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dtvit_edge.preprocess.native import SOURCE, NativePlan
from tests.support.data import ROOT
from tests.support.preprocess_cases import Case

HERE = Path(__file__).parent
FLAGS = ("-std=c11", "-fwrapv", "-Wall", "-Wextra", "-Wno-psabi", '-DDTVIT_SOURCE_DIGEST="none"')

ZIG = ROOT / "build" / "platform-wheels" / "bin" / "python"  # `make dist` makes it

Prepared = tuple[NDArray[np.uint8], int, int]


def compile_driver(compiler: Sequence[str], folder: Path, *flags: str, part: str | None = None) -> Path:
    """The driver as a program.

    Args:
        part: C that allocates a part of the scratch, so that a sanitizer sees where each ends.
    """
    source = SOURCE.read_text(encoding="utf-8")
    if part is not None:
        macro = "#define PART(type, bytes) (type *)(memory + part(&end, bytes))\n"
        assert source.count(macro) == 1
        source = source.replace(macro, f"#define PART(type, bytes) (type *)({part})\n")
    (folder / SOURCE.name).write_text(source, encoding="utf-8")
    driver = folder / "driver"
    command = [*compiler, *FLAGS, *flags, "-I", str(folder), str(HERE / "driver.c"), "-o", str(driver)]
    subprocess.run(command, check=True)
    return driver


def run_driver(command: Sequence[str], cases: Sequence[Case], folder: Path) -> list[Prepared]:
    """What the driver makes of every case: bytes, and pixels of the head and of brain."""
    plans = []
    for case in cases:
        rows, columns = case.stored.shape
        plans.append(NativePlan(rows, columns, case.encoding, case.spec, True))
    with (folder / "input").open("wb") as file:
        file.write(np.int32(len(cases)).tobytes())
        for plan, case in zip(plans, cases, strict=True):
            table, *axes = plan.arrays
            file.write(bytes(plan.structure) + table.tobytes())
            for start, count, weights in axes:
                file.write(np.array(weights.shape, np.int32).tobytes())
                file.writelines(array.tobytes() for array in (start, count, weights))
            file.write(case.stored.tobytes())
    subprocess.run([*command, str(folder / "input"), str(folder / "output")], check=True)
    results: list[Prepared] = []
    data = (folder / "output").read_bytes()
    for plan in plans:
        size = int(np.prod(plan.shape))
        head, brain = np.frombuffer(data[:16], np.int64).tolist()
        results.append((np.frombuffer(data[16 : 16 + size], np.uint8).reshape(plan.shape), head, brain))
        data = data[16 + size :]
    assert not data
    return results
