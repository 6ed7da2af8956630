"""A model that is open in workers on Ray: what a run goes through as it goes through one that is open here."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from dtvit_edge import backends
from dtvit_edge.bundle import Bundle
from dtvit_edge.cluster.bundle_copy import packed_bundle
from dtvit_edge.cluster.dispatch import Dispatcher
from dtvit_edge.cluster.ray_pool import Limits, RayPool
from dtvit_edge.cluster.ray_session import ray_session
from dtvit_edge.cluster.worker import Opened, Order
from dtvit_edge.dicom.slice import SliceHeader
from dtvit_edge.errors import ConfigError, SliceRejected
from dtvit_edge.scoring.api import thresholds_of
from dtvit_edge.scoring.identity import model_digest
from dtvit_edge.scoring.journal import FILE_NAME as JOURNAL
from dtvit_edge.scoring.journal import begun_configuration
from dtvit_edge.scoring.opened import ImagePipeline
from dtvit_edge.scoring.options import AUTO, Options
from dtvit_edge.scoring.prefetch import MOST_WORKERS
from dtvit_edge.scoring.timings import Timings

# An item's images: so many batches that what begins and ends with it is little, so few that a lost one is.
BATCHES_AN_ITEM = 4

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RayOptions:
    """How a run goes to Ray.

    Attributes:
        address: of the cluster's head as `ray.init` takes it, `auto`, or `local` for this machine alone.
        actors: workers; None takes one a GPU, or as many as there are cores for.
        mixed: take workers whose results depend on other versions or devices than the first one's.
        images: of a work item; None takes what suits the batch.
        limits: of time.
    """

    address: str
    actors: int | None = None
    mixed: bool = False
    images: int | None = None
    limits: Limits = field(default_factory=Limits)


class RayModel:
    """See `opened.RunModel`."""

    def __init__(self, pool: RayPool, first: Opened, asked: RayOptions) -> None:
        self._pool = pool
        self._first = first
        self._asked = asked

    @property
    def options(self) -> Options:
        """See `RunModel.options`."""
        return self._first.options

    @property
    def why(self) -> str:
        """See `RunModel.why`."""
        return self._first.why

    @property
    def batch(self) -> int:
        """See `RunModel.batch`."""
        return self._first.batch

    def identity(self, bundle: Bundle) -> dict[str, Any]:
        """As the workers say it; of mixed ones what they have in common."""
        if not self._asked.mixed:
            return self._first.identity
        mixed = {"backend": self._first.options.backend, "workers": "mixed"}
        model = model_digest(bundle, self._first.options.precision)
        return self._first.identity | {"model": model, "backend": mixed, "packages": {}}

    def pipeline(
        self, bundle: Bundle, *, timings: Timings, rejected: Callable[[SliceHeader, SliceRejected], None]
    ) -> ImagePipeline:
        """See `RunModel.pipeline`."""
        return Dispatcher(self._pool, self._asked.images or BATCHES_AN_ITEM * self.batch, rejected)

    def report_fields(self) -> dict[str, Any]:
        """The machines that answered, without their names."""
        return {"workers": list(self._pool.machines.values())}


@contextmanager
def open_on_ray(
    bundle: Bundle, options: Options, asked: RayOptions, out: Path | None = None, *, overwrite: bool = False
) -> Iterator[RayModel]:
    """Open a bundle in workers on Ray.

    Args:
        options: `threads` are of one worker, `workers` the threads that read in each.
        out: the output folder, which may have begun with a configuration.

    Raises:
        MissingDependency, ConfigError: no Ray, a worker that is refused, or options that mean nothing there.
    """
    if options.device is not None:
        raise ConfigError("--device names a GPU of this machine; on Ray each worker has one of its own")
    if options.backend not in (AUTO, *backends.NAMES):
        raise ConfigError(f"no backend called {options.backend!r}; there are {', '.join(backends.NAMES)}")
    begun = None if out is None or overwrite else begun_configuration(out / JOURNAL)
    with ray_session(asked.address) as ray:
        resources = ray.cluster_resources()
        gpus, cores = int(resources.get("GPU", 0)), int(resources.get("CPU", 0))
        on_gpus = backends.runs_engines(options.backend) if options.backend != AUTO else gpus > 0
        if on_gpus:
            count = asked.actors or max(gpus, 1)
            share = max(cores // max(gpus, count), 1)
            wanted: dict[str, float] = {"num_gpus": 1, "num_cpus": share}
            options = replace(options, workers=options.workers or min(share, MOST_WORKERS))
        else:
            threads = options.threads or 1
            count = asked.actors or max(cores // threads, 1)
            wanted = {"num_cpus": threads}
            options = replace(options, threads=threads, workers=options.workers or threads)
        if count * wanted["num_cpus"] > cores or count * wanted.get("num_gpus", 0) > gpus:
            raise ConfigError(
                f"{count} workers of {wanted} are asked for, and the cluster at {asked.address} has {cores} cores and "
                f"{gpus} GPUs: give fewer --actors or --threads"
            )
        order = Order(
            str(bundle.path.resolve()),
            bundle.digest,
            tuple(sorted(bundle.accepted_engines)),
            thresholds_of(bundle, options),
            options,
            begun,
        )
        pool = RayPool(
            ray, order, wanted, count, partial(packed_bundle, bundle), mixed=asked.mixed, limits=asked.limits
        )
        with closing(pool):
            first = pool.open()
            if on_gpus and not backends.runs_engines(first.options.backend):
                raise ConfigError(
                    f"the workers have GPUs and nothing that runs on them ({first.why}): install TensorRT there, or "
                    f"ask for --backend {first.options.backend}"
                )
            log.info(
                "%d of %d workers on Ray, backend %s, precision %s: %s",
                len(pool.ready), count, first.options.backend, first.options.precision, first.why,
            )  # fmt: skip
            yield RayModel(pool, first, asked)
