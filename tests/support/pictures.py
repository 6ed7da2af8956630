"""Pictures of heads as a labelled set."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

PATIENTS, SLICES = 10, 8


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CSV over ten patients' eight 8-bit pictures: an ellipse of brain, in every other slice a bright disk."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    lines = ["path,patient,ich,location"]
    for patient in range(PATIENTS):
        for index in range(SLICES):
            image = np.zeros((256, 256), np.uint8)
            axes = (int(rng.integers(60, 90)), int(rng.integers(80, 110)))
            cv2.ellipse(image, (128, 128), axes, 0, 0, 360, int(rng.integers(90, 130)), -1)
            if index % 2:
                spot = (int(rng.integers(100, 156)), int(rng.integers(90, 166)))
                cv2.circle(image, spot, int(rng.integers(8, 24)), 230, -1)
            noise = rng.normal(0, 6, image.shape)
            image = np.where(image > 0, np.clip(image + noise, 1, 255), 0).astype(np.uint8)
            name = f"{patient}-{index}.png"
            cv2.imwrite(str(folder / name), image)
            lines.append(f"{name},P{patient},{index % 2},{'deep' if index % 2 else ''}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder / "labels.csv"
