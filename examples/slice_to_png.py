"""Preprocess one DICOM slice as a model sees it, and save it as PNG.

Run it with: python examples/slice_to_png.py slice.dcm slice.png
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2

from dtvit_edge.dicom.header import read_headers
from dtvit_edge.dicom.pixels import SliceReader
from dtvit_edge.preprocess.cpu import CpuPreprocessor
from dtvit_edge.spec import PreprocessSpec


def main(file: str, png: str) -> None:
    """The first frame, through the default preprocessing: 224 x 224 bytes, the headrest removed."""
    header = read_headers(Path(file), Path(file).name)[0]
    prepared = CpuPreprocessor(PreprocessSpec())(SliceReader().read(header).stored, header.encoding)
    cv2.imwrite(png, prepared.pixels[0])
    print(f"{png}: {prepared.head_pixels} pixels of head, {prepared.brain_share:.0%} of them in the range of brain")


if __name__ == "__main__":
    main(*sys.argv[1:])
