"""One thread for PyTorch, for the folders whose conftest imports it."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Two workers with two threads each fight over two cores, and wait for each other at full speed."""
    torch.set_num_threads(1)
