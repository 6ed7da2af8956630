"""Open a bundle, which checks every digest, and show what it is.

Run it with: python examples/show_bundle.py model.dtvit
"""

from __future__ import annotations

import sys

import dtvit_edge


def main(bundle_path: str) -> None:
    """The digest is what `--expect-digest` takes."""
    bundle = dtvit_edge.open_bundle(bundle_path)
    manifest = bundle.manifest
    print(f"{manifest.name}: {manifest.encoder}, training {manifest.training}, digest {bundle.digest}")
    for precision in bundle.present:
        record = manifest.models[precision]
        print(f"  {precision}: {record.file}, {record.bytes / 2**20:.1f} MiB, opset {record.facts['opset']}")
    print(f"  windows in HU: {[(window.center_hu, window.width_hu) for window in manifest.spec.windows]}")


if __name__ == "__main__":
    main(*sys.argv[1:])
