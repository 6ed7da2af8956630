"""INT8 by other tools, each with the defaults that its documentation gives for a transformer on a CPU.

All get the same fp32 graph and the same slices as this project's calibration, and give an ONNX file with Q/DQ.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from dtvit_edge.files import write_atomically
from dtvit_edge.spec import INPUT_NAME
from evaluation.sampling import Pixels


def nncf(fp32: bytes, pixels: Pixels) -> bytes:
    """NNCF's post-training quantisation (`nncf.quantize`, `ModelType.TRANSFORMER`).

    Args:
        fp32: an ONNX model; pixels: (N, C, 224, 224) uint8, the slices that give the ranges.
    """
    import nncf as library
    import onnx

    dataset = library.Dataset(list(pixels), lambda image: {INPUT_NAME: image[None]})
    quantised = library.quantize(
        onnx.load_model_from_string(fp32),
        dataset,
        model_type=library.ModelType.TRANSFORMER,
        subset_size=len(pixels),
    )
    data: bytes = quantised.SerializeToString()
    return data


def modelopt(fp32: bytes, pixels: Pixels) -> bytes:
    """NVIDIA ModelOpt's ONNX quantisation (`modelopt.onnx.quantization.quantize`, int8, its default entropy)."""
    from modelopt.onnx.quantization import quantize

    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder, "fp32.onnx"), Path(folder, "int8.onnx")
        write_atomically(before, fp32)
        quantize(
            str(before),
            quantize_mode="int8",
            calibration_data={INPUT_NAME: pixels},
            calibration_eps=["cpu"],
            high_precision_dtype="fp32",  # fp16 is slow on a CPU
            output_path=str(after),
            log_level="ERROR",
        )
        return after.read_bytes()


def onnx_runtime(fp32: bytes, pixels: Pixels) -> bytes:
    """ONNX Runtime's static quantisation, prepared as its page asks (`quant_pre_process`, `quantize_static`)."""
    from onnxruntime.quantization import CalibrationDataReader, quant_pre_process, quantize_static

    class Slices(CalibrationDataReader):
        def __init__(self) -> None:
            self._images: Iterator[Pixels] = iter(pixels)

        def get_next(self) -> dict[str, Pixels] | None:
            image = next(self._images, None)
            return None if image is None else {INPUT_NAME: image[None]}

    with tempfile.TemporaryDirectory() as folder:
        before, prepared, after = (Path(folder, f"{name}.onnx") for name in ("fp32", "prepared", "int8"))
        write_atomically(before, fp32)
        quant_pre_process(str(before), str(prepared))
        quantize_static(str(prepared), str(after), Slices())
        return after.read_bytes()
