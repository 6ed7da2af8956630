"""Two nodes of Ray with a core each against one process on one core, and what Ray itself costs.

    python -m benchmarks.standalone.ray_nodes BUNDLE STUDIES [--rounds N] [--backend NAME] [--precision NAME]

Both nodes are on this machine (`ray.cluster_utils`), and so is the driver: on two cores it shares them, which on two
machines it does not. Three take turns, each scoring the folder into a new output: one process with one thread, one
worker on Ray, two workers on Ray. Models stay open between rounds, so that no start-up is timed; before the first round
each has scored the folder once. The tables of all runs have to be the same bytes. Printed are seconds, the ratio of one
process to two workers, and that of one worker to one process, which is Ray's own cost; and the CPU seconds of the
driver. Nothing is recorded. Times mean something on a quiet machine alone.
"""

from __future__ import annotations

import logging
import os
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from benchmarks.measure.inputs import discover_slices
from benchmarks.measure.interleaving import LEAST_ROUNDS
from benchmarks.standalone.program import start
from dtvit_edge.bundle import Bundle
from dtvit_edge.cli import render
from dtvit_edge.cli.option_set import FilePath
from dtvit_edge.cluster.ray_model import RayModel, RayOptions
from dtvit_edge.cluster.ray_pool import RayPool
from dtvit_edge.cluster.worker import Order
from dtvit_edge.errors import VerdictError
from dtvit_edge.reasons import Status
from dtvit_edge.scoring.api import open_backend, open_executor, thresholds_of
from dtvit_edge.scoring.opened import OpenModel, RunModel
from dtvit_edge.scoring.options import Options
from dtvit_edge.scoring.run import run
from evaluation.records import ratio_summary

ONE, ONE_WORKER, TWO_WORKERS = "one process", "one worker", "two workers"
_STORE_BYTES = 100_000_000


def open_all(bundle: Bundle, options: Options, stack: ExitStack) -> dict[str, RunModel]:
    """The three models, open until the stack ends."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray
    from ray.cluster_utils import Cluster

    backend = stack.enter_context(open_backend(bundle, options.backend, options))
    executor = stack.enter_context(open_executor(bundle, backend, options))
    models: dict[str, RunModel] = {ONE: OpenModel(options, "asked for", backend, executor)}
    # Two logical cores a node: the pool of one worker and that of two are open at once, and never work at once.
    node: dict[str, Any] = {"num_cpus": 2, "object_store_memory": _STORE_BYTES, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    stack.callback(cluster.shutdown)
    cluster.add_node(**node)
    ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
    stack.callback(ray.shutdown)
    order = Order(str(bundle.path.resolve()), bundle.digest, (), thresholds_of(bundle, options), options, None)
    for name, count in ((ONE_WORKER, 1), (TWO_WORKERS, 2)):
        spread = {"num_cpus": 1, "scheduling_strategy": "SPREAD"}
        pool = RayPool(ray, order, spread, count, lambda precision: {})
        stack.callback(pool.close)
        models[name] = RayModel(pool, pool.open(), RayOptions("auto"))
    return models


@click.command()
@click.argument("bundle", type=FilePath(exists=True))
@click.argument("studies", type=FilePath(exists=True))
@click.option("--rounds", default=LEAST_ROUNDS, show_default=True, type=click.IntRange(min=1), help="Time as often.")
@click.option("--backend", default="openvino", show_default=True, help="Run on this backend.")
@click.option("--precision", default="int8", show_default=True, help="Run this precision.")
@click.option("--batch", default=8, show_default=True, type=click.IntRange(1), help="Give the model so many slices.")
def main(bundle: Path, studies: Path, rounds: int, backend: str, precision: str, batch: int) -> None:
    """Time one process, one worker and two workers, in turns."""
    opened = Bundle.open(bundle)
    options = Options(backend=backend, precision=precision, threads=1, workers=1, batch=batch, any_series=True)
    discover_slices([studies])
    samples: dict[str, list[float]] = {name: [] for name in (ONE, ONE_WORKER, TWO_WORKERS)}
    driver: dict[str, list[float]] = {name: [] for name in samples}
    with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        models = open_all(opened, options, stack)
        tables: set[bytes] = set()
        slices = 0
        for round_ in range(-1, rounds):  # the first warms up
            for name in list(samples)[:: 1 if round_ % 2 else -1]:
                out = Path(folder, f"{round_}-{name}")
                start, used = time.perf_counter(), time.process_time()
                report = run(opened, [studies], out, options, model=models[name])
                if round_ >= 0:
                    samples[name].append(time.perf_counter() - start)
                    driver[name].append(time.process_time() - used)
                slices = report.counts.get(Status.SCORED, 0)
                if not slices:
                    raise VerdictError(f"{name}: not one slice was scored; there is nothing to time")
                tables.add((out / "slices.csv").read_bytes() + (out / "studies.csv").read_bytes())
                assert len(tables) == 1, f"{name} leaves other bytes than the others"
    for name, seconds in samples.items():
        spread = f"({min(seconds):.2f} to {max(seconds):.2f})"
        render.echo(
            f"{name}: {statistics.median(seconds):.2f} s for {slices} slices {spread}, "
            f"{statistics.median(driver[name]):.2f} s of CPU time in the driver"
        )
    for above, below in ((ONE, TWO_WORKERS), (ONE_WORKER, ONE)):
        found = ratio_summary(samples[above], samples[below])
        render.echo(
            f"{above} / {below}: {found['ratio_median']:.3f} (quartiles {found['ratio_lower_quartile']:.3f} to "
            f"{found['ratio_upper_quartile']:.3f}, {rounds} rounds)"
        )


if __name__ == "__main__":
    start(main)
