"""What runs that are disturbed are compared with."""

from __future__ import annotations

from pathlib import Path

import pytest

from dtvit_edge.bundle import Bundle
from tests.support.scoring_runs import results, score


@pytest.fixture(scope="session")
def reference(tiny_bundle: Bundle, phantom_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What an undisturbed run over the phantoms writes."""
    out = tmp_path_factory.mktemp("reference") / "out"
    score(tiny_bundle, phantom_folder, out)
    return results(out)
