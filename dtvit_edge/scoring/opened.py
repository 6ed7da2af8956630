"""A model that is open: what runs go through, one after the other."""

from __future__ import annotations

from dataclasses import dataclass

from dtvit_edge.backend import Backend
from dtvit_edge.scoring.executor import Executor
from dtvit_edge.scoring.options import Options


@dataclass(frozen=True)
class OpenModel:
    """A backend and its executor, opened by `api.open_backend` and `api.open_executor`; who opened them closes them.

    Attributes:
        options: that they were opened with, resolved: backend and precision are named.
        why: where these come from, in words.
    """

    options: Options
    why: str
    backend: Backend
    executor: Executor
