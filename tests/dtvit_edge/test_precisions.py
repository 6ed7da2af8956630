"""The table of precisions: what its readers rely on."""

from __future__ import annotations

from dtvit_edge import precisions
from dtvit_edge.precisions import (
    BY_NAME,
    CPU_PRECISIONS,
    ENGINE_PRECISIONS,
    EXACT,
    EXACTNESS,
    MODEL_PRECISIONS,
    TRIMMED,
)


def test_names_files_and_places_are_each_its_own() -> None:
    for values in ([row.name for row in MODEL_PRECISIONS], [row.file for row in MODEL_PRECISIONS]):
        assert len(set(values)) == len(MODEL_PRECISIONS)
    assert sorted(row.exactness for row in MODEL_PRECISIONS) == list(range(len(MODEL_PRECISIONS)))


def test_what_leaves_out_patches_is_as_exact_as_what_it_trims_and_makes_no_engine() -> None:
    assert TRIMMED == {"fp32": "fp32-trimmed", "int8": "int8-trimmed"}
    for whole, name in TRIMMED.items():
        row, of = BY_NAME[name], BY_NAME[whole]
        assert (row.exact, row.made_by, row.opset, row.typed) == (of.exact, of.made_by, of.opset, of.typed)
        assert row.engine is None and row.on_cpus
        assert EXACTNESS.index(name) > EXACTNESS.index(whole)


def test_engines_are_those_of_before_and_cpus_run_more() -> None:
    assert ENGINE_PRECISIONS == ("fp32", "fp16", "int8", "fp8")
    assert all(not row.trims for engine in ENGINE_PRECISIONS for row in precisions.graphs_of(engine))
    assert CPU_PRECISIONS == ("fp32", "fp32-op16", "int8", "fp32-trimmed", "int8-trimmed")
    assert EXACT == ("fp32", "fp32-op16", "fp32-trimmed")
