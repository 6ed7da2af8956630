from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from benchmarks.measure import end_to_end
from benchmarks.measure.configurations import Configuration
from benchmarks.measure.end_to_end import FolderRun, measure, score
from dtvit_edge.backends.onnxruntime import OnnxRuntimeBackend
from dtvit_edge.bundle import Bundle

SLOW_S = 0.3


def folder_run(seconds: float, *, sees: bool = True, slices: int = 10) -> FolderRun:
    flagged: dict[str, bool | None] = {"study": sees}
    return FolderRun(seconds, 0.5, {"infer": seconds / 2}, slices, {str(i): sees for i in range(slices)}, flagged)


def test_opening_a_model_is_not_part_of_what_a_slice_costs(
    tiny_bundle: Bundle, phantom_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(OnnxRuntimeBackend):
        def __enter__(self) -> Any:
            time.sleep(SLOW_S)
            return super().__enter__()

        def __exit__(
            self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
        ) -> None:
            super().__exit__(kind, error, trace)

    monkeypatch.setattr("dtvit_edge.backends.onnxruntime.OnnxRuntimeBackend", Slow)
    start = time.perf_counter()
    scored = score(Configuration(tiny_bundle, "onnxruntime", "fp32"), [phantom_folder / "study-0001"], 1)
    wall = time.perf_counter() - start
    assert scored.opening_s is not None and scored.opening_s >= SLOW_S
    assert 0 < scored.seconds < scored.seconds + scored.opening_s < wall
    assert scored.slices > 10 and set(scored.decisions) and len(scored.flagged) == 1


def test_runs_take_turns_and_nobody_is_always_first() -> None:
    called: list[str] = []

    def call(name: str) -> Any:
        return lambda: called.append(name) or folder_run(1.0)

    measure({name: call(name) for name in "abc"}, 2, lambda n: None)
    assert "".join(called) == "abcbca"


def test_a_ratio_and_the_share_of_equal_decisions() -> None:
    runs = measure({"ours": lambda: folder_run(1.0), "theirs": lambda: folder_run(4.0)}, 3, lambda n: None)
    figures = runs.against("ours", "theirs", seed=0)
    assert figures["ours: times as fast as theirs"] == pytest.approx(4.0)
    assert figures["ours: slices decided as by theirs"] == 1.0 == figures["ours: studies flagged as by theirs"]
    assert runs.samples["ours: a slice"] == [100.0] * 3 and runs.samples["ours: stage infer"] == [50.0] * 3
    assert runs.summary()["ours: studies a minute"] == pytest.approx(60.0)
    other = end_to_end.FolderRuns()
    other.add("ours", folder_run(1.0))
    other.add("theirs", folder_run(4.0, sees=False))
    figures = other.against("ours", "theirs", seed=0)
    assert figures["ours: slices decided as by theirs"] == 0.0 == figures["ours: studies flagged as by theirs"]
    assert "ours: times as fast as theirs, low" not in figures  # one round has no interval
