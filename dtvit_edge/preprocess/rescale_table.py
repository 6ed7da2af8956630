"""One table per rescale: every 16-bit pattern that a pixel can hold, mapped to its byte.

The table is made on the host in float64 and does everything at once: BitsStored and HighBit masking, sign, rescale,
padding, window and rounding. CPU and GPU index it with the raw pattern and so agree bit for bit.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from dtvit_edge.errors import ConfigError
from dtvit_edge.spec import AIR_HU, PixelEncoding, PreprocessSpec, Window, WindowKind

PATTERNS = 1 << 16


@lru_cache(maxsize=64)
def rescale_table(encoding: PixelEncoding, spec: PreprocessSpec) -> NDArray[np.uint8]:
    """The table of one encoding: (C, 65536) uint8, C-contiguous, read-only, indexed by the raw pattern.

    Raises:
        ConfigError: windowed bytes for a spec of more than one window.
    """
    patterns = np.arange(PATTERNS, dtype=np.uint16)
    stored = encoding.values(patterns).astype(np.int64)
    if encoding.windowed:
        if spec.channels != 1:
            raise ConfigError("8-bit images that are windowed already fit specs of one window only")
        rows = [np.clip(stored, 0, 255).astype(np.uint8)]
    else:
        hu = stored * np.float64(encoding.slope) + np.float64(encoding.intercept)
        is_padding = encoding.is_padding(patterns)
        rows = []
        for window in spec.windows:
            row = to_bytes(window_position(hu, window))
            rows.append(np.where(is_padding, to_bytes(window_position(np.float64(AIR_HU), window)), row))
    table = np.ascontiguousarray(np.stack(rows))
    table.flags.writeable = False
    return table


def window_position(hu: NDArray[np.float64] | np.float64, window: Window) -> NDArray[np.float64]:
    """Where HU lie in the window, 0 at its lower and 1 at its upper end, not clipped (float64).

    LINEAR is PS3.3 C.11.2.1.2.1, LINEAR_EXACT is C.11.2.1.3.2.
    """
    center, width = np.float64(window.center_hu), np.float64(window.width_hu)
    if window.kind is WindowKind.LINEAR:
        return np.asarray((hu - (center - 0.5)) / (width - 1.0) + 0.5)
    return np.asarray((hu - center) / width + 0.5)


def to_bytes(position: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Positions in the window to bytes: floor(255 * clip(y, 0, 1) + 0.5)."""
    return np.floor(255.0 * np.clip(position, 0.0, 1.0) + 0.5).astype(np.uint8)


def brain_bytes(spec: PreprocessSpec) -> tuple[int, int]:
    """The spec's brain range as bytes of the first channel, inclusive."""
    position = window_position(np.asarray(spec.brain_range_hu, dtype=np.float64), spec.windows[0])
    low, high = to_bytes(position)
    return int(low), int(high)
