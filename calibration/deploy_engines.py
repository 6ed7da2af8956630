"""The last step of a deployment: engines where a GPU with TensorRT is, else the commands that build them."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable

from calibration.deploy_steps import BUILD, LEFT, Outcome, Step
from dtvit_edge.bundle import ENGINES, Bundle
from dtvit_edge.cuda.driver import find
from dtvit_edge.errors import BuildError, BundleError, VerdictError
from dtvit_edge.precisions import ENGINE_PRECISIONS, graphs_of, required_capability
from dtvit_edge.scoring.proof import prove_chain
from dtvit_edge.trt import backend, library
from dtvit_edge.trt.build import BuildOptions, build_engine
from dtvit_edge.trt.releases import TITLES, dotted, multiplies
from dtvit_edge.trt.store import load_engine
from evaluation.gate import FAILED, PASSED


def build_engines(bundle: Bundle, say: Callable[[str], None]) -> Step:
    """An engine of each precision that the bundle holds, on this machine's first GPU.

    An engine that is there already for this library, GPU and graph is checked by its digests and kept.

    Raises:
        MissingDependency, DeviceFault, BuildKilled: as `build_engine`.
    """
    # What was refused as a file is not built.
    models = bundle.manifest.models
    precisions = [name for name in ENGINE_PRECISIONS if any(row.name in models for row in graphs_of(name))]
    why_not = {flavour: backend.unavailable(flavour) for flavour in TITLES}
    flavour = next((name for name, reason in why_not.items() if reason is None), None)
    if flavour is None:
        reasons = "; ".join(f"{TITLES[name]}: {reason}" for name, reason in why_not.items())
        commands = [
            Outcome(name, LEFT, shlex.join(["dtvit-edge", "build", bundle.path.name, "--precision", name]))
            for name in precisions
        ]
        return Step(BUILD, (Outcome("", LEFT, f"copy the bundle there and build it; here: {reasons}"), *commands))
    began = time.perf_counter()
    outcomes = []
    for precision in precisions:
        say(f"{BUILD}: {precision} with {TITLES[flavour]}")
        outcomes.append(_build(bundle, precision, flavour))
    return Step(BUILD, tuple(outcomes), round(time.perf_counter() - began, 3))


def _build(bundle: Bundle, precision: str, flavour: str) -> Outcome:
    """Keep or build one engine."""
    _, release = library.load(flavour)
    gpu = find()
    least = required_capability(precision)
    if least and gpu is not None and not (release.typed and multiplies(precision, gpu.sm)):
        enough = f"SM {dotted(least)} with TensorRT 10 has"
        return Outcome(precision, LEFT, f"SM {gpu.sm} with {release.title} has no {precision.upper()}; {enough}")
    if gpu is not None:
        try:
            record = load_engine(bundle, flavour, release.text, gpu, precision).record
            return Outcome(precision, PASSED, f"{ENGINES}/{record.plan}, built before")
        except BundleError:
            pass  # none that fits: it is built
    try:
        record = build_engine(bundle, BuildOptions(precision, backend=flavour), prove_chain)
    except (VerdictError, BuildError) as error:
        return Outcome(precision, FAILED, str(error))
    return Outcome(precision, PASSED, f"{ENGINES}/{record.plan}")
