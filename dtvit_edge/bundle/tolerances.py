"""How far from the golden logits a file or an engine may be.

The golden logits are PyTorch's in float64. Its own float32 differs from them by rounding, which grows with the logits;
an absolute limit would refuse honest models whose logits are large, and so the limit for float32 is a multiple of it.
"""

from __future__ import annotations

from collections.abc import Mapping

from dtvit_edge.precisions import EXACT

# A float32 file may differ from the float64 logits by this many times what PyTorch's own float32 does. Other libraries
# sum in other orders: of 12 encoders none needed more than 4.
ROUNDING_FACTOR = 8.0
# And by this in any case: PyTorch's own rounding is a maximum over few slices, and may be small by luck.
FP32_FLOOR = 1e-5

# Lower precisions may differ by a share of the standard deviation of the golden logits, since an error is large or
# small against what tells slices apart. Untrained ViT-Tiny measured 0.025 in float16, a trained ViT below 0.001.
SPREAD_SHARES = {"fp16": 0.05}

# A model whose float32 rounding is more than this share of what tells slices apart is ill-conditioned: refused.
MOST_ROUNDING = 1e-3


def tolerance_of(precision: str, rounding: float, spread: Mapping[str, float]) -> float:
    """The largest |logit difference| to the golden logits that a precision may show.

    Args:
        rounding, spread: of the `manifest.Reference`.
    """
    if precision in EXACT:
        return max(ROUNDING_FACTOR * rounding, FP32_FLOOR)
    return SPREAD_SHARES[precision] * min(spread.values())
