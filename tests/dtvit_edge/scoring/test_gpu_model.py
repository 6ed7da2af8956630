"""The open model on the stand-in GPU: the context's thread is one, its callers are many."""

from __future__ import annotations

import gc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dtvit_edge.bundle import Bundle
from dtvit_edge.errors import ConfigError
from dtvit_edge.scoring.model import Model, open_model
from tests.support.cuda.fixtures import install_engine
from tests.support.open_models import opened, slices_of

MakeGpu = Callable[..., Any]


@pytest.fixture(params=[False, True], ids=["discrete", "jetson"])
def gpu(bundle: Bundle, make_gpu: MakeGpu, request: pytest.FixtureRequest) -> Any:
    gpu = make_gpu(integrated=request.param)
    install_engine(bundle, max_batch=3)
    return gpu


def answers(model: Model, files: list[Path]) -> list[float | None]:
    return [row.ich_probability for result in model.score(files) for row in result.slices]


def test_many_callers_get_what_the_cpu_says_and_all_is_given_back(
    bundle: Bundle, gpu: Any, phantom_folder: Path
) -> None:
    files = slices_of(phantom_folder / "study-0001")[6:14]
    with opened(bundle) as model:
        expected = answers(model, files)
    pixels = bundle.golden().pixels[:2]
    with open_model(bundle, backend="tensorrt") as model:
        assert model.backend == "tensorrt"
        alone = answers(model, files)
        np.testing.assert_allclose(alone, expected, atol=1e-5)
        said = model.predict(pixels).ich_logits

        def call(i: int) -> bool:
            if i % 3 == 2:
                return bool(np.allclose(model.predict(pixels).ich_logits, said, atol=1e-5))
            return bool(np.allclose(answers(model, files), alone, atol=1e-5))

        with ThreadPoolExecutor(4) as pool:
            assert all(pool.map(call, range(9)))
    assert not gpu.left()


@pytest.mark.parametrize("leave", ["close", "drop"])
def test_a_model_that_is_left_amid_its_work_gives_all_back(
    bundle: Bundle, gpu: Any, phantom_folder: Path, leave: str
) -> None:
    files = [file for number in (1, 2) for file in slices_of(phantom_folder / f"study-000{number}")[6:11]]
    model = open_model(bundle, backend="tensorrt", batch=1)
    results = model.score(files)
    next(results)  # and two batches of the other study are under way
    if leave == "close":
        model.close()
        with pytest.raises(ConfigError, match="the model is closed"):
            list(results)
    del results, model
    gc.collect()
    assert not gpu.left()
