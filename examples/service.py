"""A service that keeps a model open: POST a DICOM file to it, and its result comes back as JSON. It needs FastAPI.

Run it with: python examples/service.py model.dtvit
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Any

import dtvit_edge


def make_app(model: dtvit_edge.Model) -> Any:
    """The application; `score` is no `async def`, so that FastAPI runs it in threads."""
    from fastapi import Body, FastAPI

    app = FastAPI(title="dtvit-edge", description="Research use only, not a medical device.")

    @app.post("/slice")
    def score(file: bytes = Body(media_type="application/dicom")) -> dict[str, Any]:
        result = model.score_bytes(file)
        return {"study": asdict(result.study), "slices": [asdict(row) for row in result.slices]}

    return app


def main(bundle_path: str) -> None:
    """What is no DICOM is an answer with a reason, and no error of the service."""
    import uvicorn

    with dtvit_edge.open_model(bundle_path) as model:
        uvicorn.run(make_app(model), host="127.0.0.1", port=8000)


if __name__ == "__main__":
    main(*sys.argv[1:])
