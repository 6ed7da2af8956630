"""What a user would take instead: their own PyTorch, their own export, their own preprocessing.

A peer is written the way its library's documentation would have it, no better and no worse. It takes normalised floats
(N, 3, 224, 224) and gives logits. Whatever is absent is named, with what installs it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dtvit_edge.backend import Logits
from dtvit_edge.errors import ConfigError

if TYPE_CHECKING:
    from export.model import DTViT

Floats = NDArray[np.float32]
# (N, 3, 224, 224) float32, normalised, to logits (N, 2) and (N, 3) float32 by output name.
Infer = Callable[[Floats], Logits]


@dataclass(frozen=True)
class Peer:
    """Something that a user could take instead.

    Attributes:
        name: as reports call it; group: of pyproject.toml, that installs it; empty for what comes with the runtime.
        needs: modules; module, attribute: its code.
        check: a function of that module which says what else is missing.
        slow: opening takes minutes; a quick run leaves it out.
    """

    name: str
    group: str
    needs: tuple[str, ...]
    module: str
    attribute: str
    check: str = ""
    slow: bool = False

    def why_not(self) -> str | None:
        """Why it cannot run here, or None."""
        absent = [name for name in self.needs if find_spec(name) is None]
        if absent:
            return f"{', '.join(absent)} not installed; pip install -e . --group {self.group}"
        if not self.check:
            return None
        ask: Callable[[], str | None] = getattr(import_module(self.module), self.check)
        return ask()

    def load(self) -> Any:
        """Its function."""
        return getattr(import_module(self.module), self.attribute)


EAGER = Peer("PyTorch eager", "workstation", ("torch", "timm"), "benchmarks.peers.pytorch", "eager")
MODELS = (
    EAGER,
    Peer(
        "PyTorch compiled",
        "workstation",
        ("torch", "timm"),
        "benchmarks.peers.pytorch",
        "compiled",
        check="no_compiler",
        slow=True,
    ),
    Peer(
        "ONNX Runtime, plain export",
        "workstation",
        ("torch", "timm", "onnxruntime", "onnxscript"),
        "benchmarks.peers.plain_export",
        "onnx_runtime",
    ),
    Peer(
        "OpenVINO, plain export",
        "workstation",
        ("torch", "timm", "openvino", "onnxscript"),
        "benchmarks.peers.plain_export",
        "openvino",
    ),
)
# What a plain export is compared with: the configuration that runs the bundle's own on the same library.
PLAIN_EXPORTS = {"ONNX Runtime, plain export": "onnxruntime fp32", "OpenVINO, plain export": "openvino fp32"}
SCIKIT_IMAGE = Peer(
    "pydicom, scikit-image", "peer-scikit-image", ("skimage",), "benchmarks.peers.preprocessing", "scikit_image"
)
OPENCV = Peer("pydicom, OpenCV", "", ("cv2",), "benchmarks.peers.preprocessing", "opencv")
MONAI = Peer("MONAI", "peer-monai", ("monai",), "benchmarks.peers.monai_transforms", "prepare")
PREPROCESSING = (SCIKIT_IMAGE, OPENCV, MONAI)
# INT8 of the bundle's fp32 graph by other tools; quantising takes minutes.
QUANTISERS = (
    Peer("NNCF", "peer-nncf", ("nncf",), "benchmarks.peers.quantisers", "nncf", slow=True),
    Peer("ModelOpt", "peer-modelopt", ("modelopt.onnx",), "benchmarks.peers.quantisers", "modelopt", slow=True),
    Peer("ONNX Runtime static", "workstation", ("onnxruntime", "onnx"), "benchmarks.peers.quantisers",
         "onnx_runtime", slow=True),
)  # fmt: skip


def chosen_peers(names: Sequence[str], *, every: bool) -> tuple[str, ...]:
    """The peers that are asked for, by name.

    Raises:
        ConfigError: no such peer; the message lists them.
    """
    known = [peer.name for peer in (*MODELS, *PREPROCESSING, *QUANTISERS)]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ConfigError(f"no peer called {', '.join(map(repr, unknown))}; there are {'; '.join(known)}")
    return tuple(known) if every else tuple(names)


def open_model(peer: Peer, model: DTViT, threads: int | None) -> Infer:
    """The peer over a model: loads and compiles."""
    infer: Infer = peer.load()(model, threads)
    return infer


def load_weights(path: Path, encoder: str) -> DTViT:
    """A checkpoint's model, fp32, eval mode."""
    from export.checkpoint import load_checkpoint

    return load_checkpoint(path, encoder).model
