"""Stages of one precision's engine: build, golden slices, layers, speed."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.gpu_check.inputs import repeated, study_slices
from benchmarks.gpu_check.settings import Settings
from benchmarks.gpu_check.stages import NotHere
from benchmarks.measure import gpu_times
from dtvit_edge.bundle import Bundle
from dtvit_edge.cuda import driver
from dtvit_edge.cuda.device import Device
from dtvit_edge.errors import VerdictError
from dtvit_edge.files import write_atomically
from dtvit_edge.scoring.api import Options, open_backend, open_executor
from dtvit_edge.scoring.proof import BETWEEN, prove_chain, selftest_chain
from dtvit_edge.selftest import require_passed
from dtvit_edge.trt import library
from dtvit_edge.trt.backend import EngineBackend
from dtvit_edge.trt.build import BuildOptions, build_engine
from dtvit_edge.trt.store import engine_precisions, load_engine
from evaluation.records import Record

WHAT_BUILD = "engine built"
WHAT_GOLDEN = "golden slices through an engine, batch sizes interleaved"
WHAT_LAYERS = "engine by layer"
WHAT_SPEED = "engine alone, and the whole executor from host memory"
# From the third equal call on a batch is a CUDA graph: the sequence is gone through so often.
_NAMED_LAYERS = 20


def options_of(settings: Settings, precision: str, **more: Any) -> Options:
    """How this engine is asked for."""
    return Options(backend=settings.flavour, precision=precision, **more)


def require_engine(settings: Settings, bundle: Bundle, precision: str) -> None:
    """Stages after a build that failed have nothing to ask.

    Raises:
        NotHere: no engine of this precision has been installed.
    """
    if precision not in engine_precisions(bundle, settings.flavour):
        raise NotHere(f"no {precision} engine has been installed (stage engine-{precision})")


def build(settings: Settings, precision: str) -> Iterator[Record]:
    """Build, prove and install it; its record and the inspector's JSON are kept beside the records."""
    bundle = Bundle.open(settings.bundle)
    asked = BuildOptions(precision, settings.flavour, settings.max_batch, library_tactics=settings.library_tactics)
    built = build_engine(bundle, asked, prove_chain)
    write_atomically(settings.folder / f"engine-{precision}.json", built.to_json())
    summary = {"seconds": built.seconds, "plan_bytes": float(built.plan_bytes)}
    summary |= {f"layers: {kind}": float(count) for kind, count in built.layer_precisions.items()}
    told: dict[str, Any] = {
        "precision": precision,
        "version": built.version,
        "flags": list(built.flags),
        "selftest": built.selftest,
    }
    told |= {"profiles": list(built.profiles), "warnings": list(built.warnings), "max_batch": settings.max_batch}
    digests = {"bundle": bundle.digest, "plan": built.plan_sha256, "onnx": built.onnx_sha256}
    yield Record(WHAT_BUILD, "s", {"build": [built.seconds]}, summary, digests, told)
    write_atomically(settings.folder / f"inspector-{precision}.json", _inspected(settings, bundle, precision))


def golden(settings: Settings, precision: str) -> Iterator[Record]:
    """The whole chain on the golden slices: prepared bytes, then batches of max, 1, 7 and max again, three times over.

    The backend alone is tested first, from prepared bytes, so that a deviation can be told from the kernel's.

    Raises:
        VerdictError: a byte or a logit that is not the bundle's, within the precision's tolerance.
    """
    bundle = Bundle.open(settings.bundle)
    require_engine(settings, bundle, precision)
    with open_backend(bundle, settings.flavour, options_of(settings, precision)) as backend:
        result = selftest_chain(bundle, backend, sorted({1, min(BETWEEN, backend.batch), backend.batch}))
    deviations = {f"backend alone: batch {batch}": value for batch, value in result.deviations.items()} | result.chain
    if not all(map(math.isfinite, deviations.values())):
        raise VerdictError(f"{precision}: logits that are not finite")
    summary = {
        "worst": result.worst,
        "tolerance": result.tolerance,
        "slices": float(result.slices),
        "differing bytes": float(result.differing_bytes or 0),
    }
    samples = {where: [value] for where, value in deviations.items()}
    told = result.backend | {"precision": precision}
    yield Record(WHAT_GOLDEN, "logit", samples, summary, {"bundle": bundle.digest}, told)
    require_passed(result)


def layers(settings: Settings, precision: str) -> Iterator[Record]:
    """Milliseconds by layer at batch 1 and at the largest; all of them go to a file, the costliest into the record."""
    bundle = Bundle.open(settings.bundle)
    require_engine(settings, bundle, precision)
    with open_backend(bundle, settings.flavour, options_of(settings, precision)) as backend:
        assert isinstance(backend, EngineBackend)
        for batch in sorted({1, backend.batch}):
            by_layer = backend.layers(_golden_batch(bundle, batch))
            file = settings.folder / f"layers-{precision}-{batch}.json"
            write_atomically(file, json.dumps(by_layer, indent=1) + "\n")
            costliest = dict(sorted(by_layer.items(), key=lambda item: -item[1])[:_NAMED_LAYERS])
            summary = {"layers": float(len(by_layer)), "sum ms": sum(by_layer.values())}
            told = {"precision": precision, "batch": batch, "file": file.name}
            yield Record(
                WHAT_LAYERS, "ms", {k: [v] for k, v in costliest.items()}, summary, {"bundle": bundle.digest}, told
            )


def speed(settings: Settings, precision: str) -> Iterator[Record]:
    """The engine alone and the executor, alternating in parts of 10 rounds, and copies apart; a record a batch size."""
    bundle, options = Bundle.open(settings.bundle), options_of(settings, precision)
    require_engine(settings, bundle, precision)
    slices = study_slices(settings)
    with open_backend(bundle, settings.flavour, options) as backend:
        assert isinstance(backend, EngineBackend)
        manifest = bundle.manifest
        told = {"precision": precision, "encoder": manifest.encoder, "training": manifest.training}
        told |= backend.describe()
        for batch in (size for size in settings.batches if size <= backend.batch):
            engine, whole = f"engine {batch}", f"executor {batch}"
            samples: dict[str, list[float]] = {engine: [], whole: []}
            with open_executor(bundle, backend, options) as executor:
                for done in range(0, settings.rounds, 10):
                    rounds = min(10, settings.rounds - done)
                    samples[engine] += gpu_times.engine_ms(backend, batch, rounds)
                    samples[whole] += gpu_times.executor_ms(executor, repeated(slices, batch), batch, rounds)
            stages = gpu_times.stages_ms(backend, _golden_batch(bundle, batch), settings.rounds)
            samples |= {f"{stage} {batch}": values for stage, values in stages.items()}
            medians = {name: statistics.median(values) for name, values in samples.items()}
            summary = {f"{name}: p50 ms": value for name, value in medians.items()}
            summary[f"{whole}: slices a second"] = 1e3 * batch / medians[whole]
            summary[f"{whole}: share of the engine's rate"] = medians[engine] / medians[whole]
            yield Record(WHAT_SPEED, "ms", samples, summary, {"bundle": bundle.digest}, told | {"batch": str(batch)})


def _golden_batch(bundle: Bundle, batch: int) -> NDArray[np.uint8]:
    """(batch, C, side, side) of the golden slices over and over."""
    pixels = bundle.golden().pixels
    return np.ascontiguousarray(np.resize(pixels, (batch, *pixels.shape[1:])))


def _inspected(settings: Settings, bundle: Bundle, precision: str) -> str:
    """The inspector's JSON of the installed engine as the library gives it."""
    trt, release = library.load(settings.flavour)
    gpu = driver.find()
    assert gpu is not None
    engine = load_engine(bundle, settings.flavour, release.text, gpu, precision, unproven=True)

    def inspect() -> str:
        runtime = library.runtime(trt, release, library.logger(trt, lambda severity, message: None))
        inspector = runtime.deserialize_cuda_engine(engine.plan).create_engine_inspector()
        return str(inspector.get_engine_information(trt.LayerInformationFormat.JSON))

    with Device() as device:  # an engine belongs to a context, and to the thread that has it
        return device.call(inspect)
