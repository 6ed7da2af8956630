"""The baselines of one bundle: peers that were opened and agree with it, and are measured in turns with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.measure.end_to_end import FolderRun
from benchmarks.measure.latency import one_slice
from benchmarks.peers import (
    EAGER,
    MODELS,
    MONAI,
    OPENCV,
    PREPROCESSING,
    SCIKIT_IMAGE,
    Floats,
    Infer,
    Peer,
    load_weights,
    open_model,
)
from benchmarks.settings import Settings
from dtvit_edge.backend import Logits
from dtvit_edge.bundle import REFERENCE_PRECISION, Bundle
from dtvit_edge.errors import VerdictError
from dtvit_edge.progress import Progress
from dtvit_edge.selftest import largest_deviation
from dtvit_edge.spec import digest_file
from evaluation.sampling import Pixels

if TYPE_CHECKING:
    from export.model import DTViT

WITHOUT_WEIGHTS = "needs the weights that the bundle was made from: --weights"


class Baselines:
    """The peers that a bundle is compared with, once they are open.

    Attributes:
        opened: models by name, those that agree with the golden logits; left_out: why the others are not there.
        differences: largest |logit difference| to the golden logits, by name.
        reference: (n, C, 224, 224) uint8 to PyTorch's logits; None without weights.
    """

    def __init__(self, bundle: Bundle, weights: Path | None, settings: Settings, progress: Progress) -> None:
        self._bundle = bundle
        self._weights = weights
        self._settings = settings
        self._progress = progress
        self.opened: dict[str, Infer] = {}
        self.left_out: dict[str, str] = {}
        self.differences: dict[str, float] = {}
        self.reference: Callable[[Pixels], Logits] | None = None

    def open(self) -> Baselines:
        """Load the weights, open every peer that is asked for, and compare it with the golden logits.

        Raises:
            VerdictError: weights without PyTorch, or those of another model.
        """
        if self._weights is not None:
            why_not = EAGER.why_not()
            if why_not is not None:
                raise VerdictError(f"--weights needs PyTorch: {why_not}")
            self._open(load_weights(self._weights, self._bundle.manifest.encoder))
        elif self._settings.peers:
            self.left_out |= {peer.name: WITHOUT_WEIGHTS for peer in self._asked(MODELS)}
        reasons = {peer.name: peer.why_not() for peer in self._asked(PREPROCESSING)}
        self.left_out |= {name: why for name, why in reasons.items() if why is not None}
        return self

    def calls(self, pixels: Pixels) -> dict[str, Callable[[], object]]:
        """Every model on one slice, normalised outside of the timer."""
        few = self._normalised(pixels[:16])
        return {name: one_slice(infer, few) for name, infer in self.opened.items()}

    def stage_calls(self, file: Path) -> dict[str, Callable[[], object]]:
        """Reading and preparing one file, by `PEER: STAGE`."""
        calls: dict[str, Callable[[], object]] = {}
        if self._settings.peers:
            from benchmarks.peers.preprocessing import read

            slice_ = read(file)
            calls["pydicom: read"] = partial(read, file)
            for peer in self._preparing():
                calls[f"{peer.name}: preprocess"] = partial(peer.load(), slice_.hu, self._bundle.manifest.spec)
        return calls

    def pipelines(self, files: list[Path]) -> dict[str, Callable[[], FolderRun]]:
        """The plain scripts: scikit-image and MONAI with eager PyTorch, OpenCV with every model."""
        if not self._settings.peers:
            return {}
        from benchmarks.peers.pipeline import score

        pairs: list[tuple[Peer, str]] = []
        there = [peer.name for peer in self._preparing()]
        for name in self.opened:
            if name == EAGER.name:
                pairs += [(peer, name) for peer in (SCIKIT_IMAGE, MONAI) if peer.name in there]
            if OPENCV.name in there:
                pairs.append((OPENCV, name))
        manifest = self._bundle.manifest
        return {
            f"{peer.name}, {name}": partial(
                score, files, peer.load(), self.opened[name], manifest.spec, self._bundle.thresholds.study.value
            )
            for peer, name in pairs
        }

    def _open(self, model: DTViT) -> None:
        assert self._weights is not None
        manifest = self._bundle.manifest
        if digest_file(self._weights) != manifest.weights_sha256:
            raise VerdictError(f"{self._weights.name}: not the weights that {manifest.name} was made from")
        eager = open_model(EAGER, model, self._settings.threads)
        self._keep_if_equal(EAGER.name, eager)
        if EAGER.name not in self.opened:
            raise VerdictError(f"{manifest.name}: PyTorch itself is {self.left_out[EAGER.name]}; nothing was timed")
        self.reference = lambda pixels: eager(self._normalised(pixels))
        others = [peer for peer in self._asked(MODELS) if peer is not EAGER]
        with self._progress("opening peers", len(others)) as step:
            for peer in others:
                why_not = peer.why_not()
                if why_not is None and peer.slow and self._settings.effort.quick:
                    why_not = "takes minutes to compile; --quick leaves it out"
                if why_not is None:
                    self._keep_if_equal(peer.name, open_model(peer, model, self._settings.threads))
                else:
                    self.left_out[peer.name] = why_not
                step(1)

    def _keep_if_equal(self, name: str, infer: Infer) -> None:
        """Keep a peer that gives the golden logits."""
        golden, allowed = self._bundle.golden(), self._bundle.manifest.tolerances[REFERENCE_PRECISION]
        worst = largest_deviation(infer(self._normalised(golden.pixels)), golden)
        if np.isfinite(worst):  # a record holds finite figures alone
            self.differences[name] = worst
        if worst <= allowed:
            self.opened[name] = infer
        else:
            self.left_out[name] = f"{worst:.3g} from the golden logits, {allowed:.3g} is allowed"

    def _normalised(self, pixels: Pixels) -> Floats:
        import torch

        from export.model import normalise

        floats: Floats = normalise(torch.from_numpy(np.ascontiguousarray(pixels)), self._bundle.manifest.spec).numpy()
        return floats

    def _preparing(self) -> list[Peer]:
        return [peer for peer in self._asked(PREPROCESSING) if peer.name not in self.left_out]

    def _asked(self, peers: Sequence[Peer]) -> list[Peer]:
        return [peer for peer in peers if peer.name in self._settings.peers]
