"""What a training's best weights say of its test part, kept in its folder: a file of kilobytes beside the weights.

With it a training can be evaluated on a machine that has neither the weights nor the device, and nothing is computed
twice.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dtvit_edge.errors import ConfigError
from dtvit_edge.files import write_atomically
from dtvit_edge.spec import LOCATION_LABELS, digest_file
from export.npz import read_npz
from training.train import BEST

ANSWERS = "answers.npz"


@dataclass(frozen=True)
class Kept:
    """The answers to the test part.

    Attributes:
        sha256: of the weights; encoder and untrained_heads are what their file says.
        slices: (N,) indices of the slices.
        ich, location: (N,) and (N, 3) probabilities.
    """

    sha256: str
    encoder: str
    untrained_heads: tuple[str, ...]
    slices: NDArray[np.int64] = field(compare=False)
    ich: NDArray[np.float64] = field(compare=False)
    location: NDArray[np.float64] = field(compare=False)


def keep(folder: Path, kept: Kept) -> None:
    """Write the answers into a training's folder."""
    facts = json.dumps({"sha256": kept.sha256, "encoder": kept.encoder, "untrained_heads": kept.untrained_heads})
    data = io.BytesIO()
    np.savez_compressed(data, facts=np.array(facts), slices=kept.slices, ich=kept.ich, location=kept.location)
    write_atomically(folder / ANSWERS, data.getvalue())


def kept_of(folder: Path, slices: Sequence[int]) -> Kept | None:
    """The answers to these slices; None where there are none, or the weights beside them are others by now.

    Raises:
        ConfigError: the file is damaged.
    """
    file = folder / ANSWERS
    if not file.is_file():
        return None
    try:
        arrays = read_npz(file)
        facts = json.loads(str(arrays["facts"]))
        kept = Kept(
            facts["sha256"],
            facts["encoder"],
            tuple(facts["untrained_heads"]),
            arrays["slices"],
            arrays["ich"],
            arrays["location"],
        )
        found = (kept.slices.shape, kept.ich.shape, kept.location.shape)
        if found != ((count := len(kept.slices),), (count,), (count, len(LOCATION_LABELS))):
            raise ValueError(f"arrays of shapes {', '.join(map(str, found))}")
        if not np.isfinite(kept.ich).all() or not np.isfinite(kept.location).all():
            raise ValueError("a probability is not finite")
    except (ConfigError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{file}: not the answers of a training: {error}") from error
    best = folder / BEST
    if kept.slices.tolist() != list(slices) or (best.is_file() and digest_file(best) != kept.sha256):
        return None
    return kept
