"""Run a bundle's golden slices on every CPU backend of this machine, and compare the logits with PyTorch's.

Run it with: python examples/compare_backends.py model.dtvit
"""

from __future__ import annotations

import sys

import dtvit_edge
from dtvit_edge import backends
from dtvit_edge.scoring.api import open_backend
from dtvit_edge.selftest import selftest


def main(bundle_path: str) -> None:
    """What `dtvit-edge verify` does, in a few lines."""
    bundle = dtvit_edge.open_bundle(bundle_path)
    for name, why_not in backends.availability().items():
        if why_not or backends.runs_engines(name):
            print(f"{name}: {why_not or 'runs engines, which `build` makes'}")
            continue
        with open_backend(bundle, name, dtvit_edge.Options()) as backend:
            result = selftest(bundle, backend)
        print(f"{name}: at most {result.worst:.2g} from the golden logits, allowed {result.tolerance:g}")


if __name__ == "__main__":
    main(*sys.argv[1:])
