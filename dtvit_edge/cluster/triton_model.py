"""The model `dtvit_checked` inside a Triton server: a bundle that answers only once its golden slices have passed.

Triton's Python backend loads `model.py` of the repository, which names this class. `triton_python_backend_utils` is the
server's own module and is there alone.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dtvit_edge.backend import Backend
from dtvit_edge.bundle import Bundle
from dtvit_edge.errors import DtvitError
from dtvit_edge.scoring.api import open_backend
from dtvit_edge.scoring.options import Options
from dtvit_edge.scoring.proof import prove_chain
from dtvit_edge.spec import INPUT_NAME, OUTPUT_NAMES

# Of the model's parameters in `config.pbtxt`.
BUNDLE, DIGEST, BACKEND, PRECISION, THREADS, ENGINE = (
    "bundle",
    "bundle_digest",
    "backend",
    "precision",
    "threads",
    "engine",
)


class TritonPythonModel:
    """What Triton's Python backend calls."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the bundle, check every file's digest, and prove backend and chain on the golden slices.

        Raises:
            DtvitError: it is another bundle, it is damaged, or it does not answer as it has to: the model is not ready.
        """
        config = json.loads(args["model_config"])
        said = {name: value["string_value"] for name, value in config["parameters"].items()}
        self._undo = ExitStack()
        engine = said.get(ENGINE)
        bundle = Bundle.open(said[BUNDLE], expect_digest=said[DIGEST], accept_engines=[engine] if engine else [])
        bundle.check_files()
        on_gpu = args["model_instance_kind"] == "GPU"
        options = Options(
            precision=said[PRECISION],
            threads=None if on_gpu else int(said.get(THREADS, 1)),
            device=int(args["model_instance_device_id"]) if on_gpu else None,
        )
        backend = open_backend(bundle, said[BACKEND], options)
        self._backend: Backend = self._undo.enter_context(backend)
        prove_chain(bundle, self._backend, sorted({1, 3, int(config["max_batch_size"])}))

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer requests in one call of the backend: of each (n, C, side, side) uint8 its logits."""
        import triton_python_backend_utils as server

        # From the tensor's memory: with NumPy 2 some releases' `as_numpy` and `Tensor` lose it.
        pixels = [np.from_dlpack(server.get_input_tensor_by_name(request, INPUT_NAME)) for request in requests]
        try:
            logits = self._backend.infer(np.ascontiguousarray(np.concatenate(pixels)))
        except DtvitError as error:
            return [server.InferenceResponse([], server.TritonError(str(error))) for _ in requests]
        responses, at = [], 0
        for of_request in pixels:
            own = {name: np.ascontiguousarray(logits[name][at : at + len(of_request)]) for name in OUTPUT_NAMES}
            at += len(of_request)
            responses.append(_response(server, own))
        return responses

    def finalize(self) -> None:
        """Free everything."""
        self._undo.close()


def _response(server: Any, logits: dict[str, NDArray[np.float32]]) -> Any:
    if not all(np.isfinite(values).all() for values in logits.values()):
        return server.InferenceResponse([], server.TritonError("the model's answer is not a finite number"))
    return server.InferenceResponse([server.Tensor.from_dlpack(name, values) for name, values in logits.items()])
