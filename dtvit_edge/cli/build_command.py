"""The command `dtvit-edge build`."""

from __future__ import annotations

from typing import Any

import click

from dtvit_edge.cli import render
from dtvit_edge.cli.option_set import (
    BundleOpener,
    bundle_argument,
    bundle_opener,
    device_option,
    json_option,
    refuse_given,
)
from dtvit_edge.precisions import DEVICE_PRECISIONS
from dtvit_edge.trt.releases import DEFAULT_CAPABILITIES, DEFAULT_MAX_BATCH


@click.command(short_help="Build an engine on this device.")
@bundle_argument
@click.option("--precision", type=click.Choice(DEVICE_PRECISIONS),
              help="Choose the precision of the engine.  [default: each that passed its gate, else fp32]")  # fmt: skip
@click.option("--backend", default="auto", show_default=True, metavar="NAME",
              help="Build with auto (a TensorRT), tensorrt, tensorrt-rtx, or openvino for CPUs.")  # fmt: skip
@click.option("--hint", type=click.Choice(["f32", "bf16"]), help="Compile for this type (OpenVINO).  [default: f32]")
@click.option("--max-batch", type=click.IntRange(1), default=DEFAULT_MAX_BATCH, show_default=True, metavar="N",
              help="Let the engine take up to N slices at once.")  # fmt: skip
@click.option("--workspace", "workspace_mib", type=click.IntRange(1), metavar="MIB",
              help="Give the builder this much device memory.  [default: half of what is free]")  # fmt: skip
@click.option("--no-library-tactics", is_flag=True, help="Leave cuBLAS and cuDNN out (below TensorRT 11).")
@click.option("--builder-optimization-level", type=click.IntRange(0, 5), metavar="0..5",
              help="Search this long for kernels (TensorRT 8.6 and newer).  [default: the library's, 3]")  # fmt: skip
@device_option
@click.option("--ahead-of-time", is_flag=True,
              help="Compile with no GPU, hence without a self-test (TensorRT for RTX).")  # fmt: skip
@click.option("--sm", "capabilities", multiple=True, metavar="X.Y",
              help="Compile ahead of time for this compute capability; may be repeated.  "
              f"[default: {', '.join(DEFAULT_CAPABILITIES)}]")  # fmt: skip
@bundle_opener
@json_option
def build(
    open_bundle: BundleOpener,
    hint: str | None,
    no_library_tactics: bool,
    precision: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Build an engine from BUNDLE, on the device that will run it.

    The engine is installed in the bundle's engines/ after its golden slices passed at batch 1 and at the largest batch.
    Of OpenVINO it is the compiled model, which spares each start the compilation and gives the same answers. Without
    --precision, one of each precision that passed its gate; --json is then a list. Exit status 1 where the slices do
    not pass, or where the engine is not of the precision that was asked for.
    """
    from dtvit_edge.scoring.proof import prove_chain

    opened = open_bundle()
    records: list[Any] = []
    if options["backend"] == "openvino":
        from dtvit_edge.backends.openvino_build import build_compiled, passed_models

        refuse_given(set(options) - {"backend"} | {"no_library_tactics"}, "is for TensorRT, not OpenVINO")
        for name in [precision] if precision else passed_models(opened.manifest, hint):
            records.append(build_compiled(opened, name, hint, prove_chain))
            if not as_json:
                render.compiled(records[-1], opened)
    else:
        from dtvit_edge.trt.build import BuildOptions, build_engine
        from dtvit_edge.trt.verdicts import passed_precisions

        refuse_given({"hint"}, "is for OpenVINO, not TensorRT")
        for name in [precision] if precision else passed_precisions(opened.manifest):
            asked = BuildOptions(name, **options, library_tactics=not no_library_tactics)
            records.append(build_engine(opened, asked, prove_chain))
            if not as_json:
                render.build(records[-1], opened)
    if as_json:
        render.builds_as_json(records, one=precision is not None)
