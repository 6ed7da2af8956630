"""A model repository for NVIDIA's Triton inference server, made of a bundle.

REPO/dtvit/          the engine, or the ONNX file, as the server's own backends run it: fast, and nothing is proved
REPO/dtvit_checked/  Triton's Python backend over this package: opens the bundle, checks every digest, and is ready
                     only once its golden slices have passed there
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from dtvit_edge import backends
from dtvit_edge.bundle import REFERENCE_PRECISION, Bundle
from dtvit_edge.bundle.verdicts import PASSED
from dtvit_edge.cluster import triton_model
from dtvit_edge.cluster.triton_config import MARK, ModelConfig
from dtvit_edge.errors import ConfigError
from dtvit_edge.files import make_folder, unusable, write_atomically
from dtvit_edge.precisions import BY_NAME
from dtvit_edge.scoring.configuration import verdict
from dtvit_edge.scoring.options import AUTO
from dtvit_edge.spec import NOTICE
from dtvit_edge.trt.store import Engine, trusted_engines

PLAIN, CHECKED = "dtvit", "dtvit_checked"
TENSORRT, ONNXRUNTIME = "tensorrt", "onnxruntime"
PLAN, ONNX = "model.plan", "model.onnx"
CPU_BATCH = 8  # as both CPU backends take it

_MODEL = f'''"""{MARK.removeprefix("# ")}"""

from dtvit_edge.cluster.triton_model import TritonPythonModel as TritonPythonModel
'''

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Repository:
    """What was written: where, and what the models run.

    Attributes:
        engine: the sha256 of the engine, empty where the ONNX file is served; needs: what the server has to have.
    """

    path: Path
    models: tuple[str, ...]
    backend: str
    precision: str
    max_batch: int
    engine: str
    needs: str


def write_repository(
    bundle: Bundle,
    repo: Path,
    *,
    precision: str = AUTO,
    backend: str = AUTO,
    instances: int = 1,
    threads: int = 1,
    bundle_at: str | None = None,
    overwrite: bool = False,
) -> Repository:
    """Write both models into a repository, beside other models that it may hold.

    Args:
        precision: with `auto` the engine's, or fp32.
        backend: `tensorrt`, `onnxruntime`, or `auto`: TensorRT where an engine is there.
        instances: of each model; threads: of one on the CPU.
        bundle_at: where the server finds the bundle; None where it lies here.
        overwrite: replace both models of an earlier call.

    Raises:
        ConfigError: no engine fits, several do, or the repository has such models already.
        BundleError: the bundle is damaged, or has no such model.
    """
    if backend not in (AUTO, TENSORRT, ONNXRUNTIME):
        raise ConfigError(f"no backend called {backend} in a Triton repository; there are {TENSORRT}, {ONNXRUNTIME}")
    bundle.check_files()
    engine = None if backend == ONNXRUNTIME else _engine(bundle, precision, needed=backend == TENSORRT)
    chosen = TENSORRT if engine else ONNXRUNTIME
    precision = engine.record.precision if engine else REFERENCE_PRECISION if precision == AUTO else precision
    offered = [name for name in backends.precisions(ONNXRUNTIME) if not BY_NAME[name].trims]
    if not engine and precision not in backends.precisions(ONNXRUNTIME):
        runs = ", ".join(offered)
        raise ConfigError(f"{ONNXRUNTIME} serves {runs}, not {precision}, and no engine of it is here")
    if not engine and precision not in offered:
        raise ConfigError(
            f"{precision} takes one slice a call, and Triton's ONNX Runtime gives it batches; serve "
            f"{BY_NAME[precision].trims}"
        )
    if (said := verdict(bundle, chosen, precision, None)) != PASSED:
        log.warning("%s is served though the gate said of it: %s", precision, said)
    if engine:
        file, data, served = PLAN, engine.plan, ("platform", "tensorrt_plan")
        max_batch, kind, sha256 = engine.max_batch, "KIND_GPU", engine.record.plan_sha256
        preferred = sorted({int(profile["opt"]) for profile in engine.record.profiles})
        needs = f"TensorRT {engine.record.version} on {engine.record.gpu or 'a GPU'} of SM " + ", ".join(
            engine.record.capabilities
        )
    else:
        file, data, served = ONNX, bundle.model_bytes(precision), ("backend", "onnxruntime")
        max_batch, kind, sha256 = CPU_BATCH, "KIND_CPU", bundle.manifest.models[precision].sha256
        preferred, needs = [CPU_BATCH], "Triton's ONNX Runtime backend"
    manifest = bundle.manifest
    digests = {
        triton_model.DIGEST: bundle.digest,
        "model_sha256": sha256,
        "spec_digest": manifest.spec.digest,
        "golden_digest": manifest.golden_digest,
        triton_model.PRECISION: precision,
        "training": manifest.training,
        "notice": NOTICE,
    }
    own = {
        triton_model.BUNDLE: bundle_at or str(bundle.path.resolve()),
        triton_model.BACKEND: chosen,
        triton_model.THREADS: str(threads),
        **({triton_model.ENGINE: sha256} if engine else {}),
    }
    plain = ModelConfig(PLAIN, served, max_batch, preferred, kind, instances, digests)
    checked = ModelConfig(CHECKED, ("backend", "python"), max_batch, preferred, kind, instances, digests | own)
    _require_free(repo, overwrite)
    _write(repo / PLAIN, file, data, plain.text(manifest.spec))
    _write(repo / CHECKED, "model.py", _MODEL.encode(), checked.text(manifest.spec))
    return Repository(repo, (PLAIN, CHECKED), chosen, precision, max_batch, sha256 if engine else "", needs)


def _engine(bundle: Bundle, precision: str, *, needed: bool) -> Engine | None:
    """The one engine of TensorRT that this device built or somebody accepted.

    Raises:
        ConfigError: there are several, or there is none and one is needed.
    """
    engines = [e for e in trusted_engines(bundle, TENSORRT) if precision in (AUTO, e.record.precision)]
    if bundle.accepted_engines:  # who names one means it
        engines = [e for e in engines if e.record.plan_sha256 in bundle.accepted_engines] or engines
    if len(engines) > 1:
        named = "; ".join(f"{e.record.name} ({e.record.plan_sha256})" for e in engines)
        raise ConfigError(f"several engines could be served: {named}: name one by --precision or --accept-engine")
    if not engines and needed:
        raise ConfigError(
            f"{bundle.path} has no engine of TensorRT that was built here or is accepted; `dtvit-edge build` makes "
            "one, --accept-engine SHA256 trusts another device's"
        )
    return engines[0] if engines else None


def _require_free(repo: Path, overwrite: bool) -> None:
    for name in (PLAIN, CHECKED):
        folder = repo / name
        if not folder.exists() and not folder.is_symlink():
            continue
        if not overwrite:
            raise ConfigError(f"{folder} exists already; give another repository or --overwrite")
        try:
            ours = (folder / "config.pbtxt").read_text(encoding="utf-8").startswith(MARK)
        except (OSError, ValueError):
            ours = False
        if not ours or folder.is_symlink():
            raise ConfigError(f"{folder} is no model of dtvit-edge; it is not overwritten")


def _write(folder: Path, file: str, data: bytes, config: str) -> None:
    """The model's file first, and its configuration last: without one a server does not take the folder."""
    make_folder(folder / "1")
    try:
        for other in (folder / "config.pbtxt", *(folder / "1" / name for name in (PLAN, ONNX) if name != file)):
            other.unlink(missing_ok=True)
    except OSError as error:
        raise unusable(folder, error) from error
    write_atomically(folder / "1" / file, data)
    write_atomically(folder / "config.pbtxt", config)
