"""Converts an ONNX file to half precision or 8-bit integers with onnxruntime's tools."""

import io
import logging
import tempfile
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np

from mdw.util.errors import MdwError

PERCENTILE = 99.99  # of an activation's values are in its 8-bit range; the full range would cost more accuracy
TOGETHER = 8  # crops whose activations are in memory at once
WEIGHTED = ["Conv", "Gemm", "MatMul"]  # the operators in 8 bits; the others stay in float32


def to_fp16(data: bytes) -> bytes:
    """Returns the float32 file `data` with weights and maps between layers in float16; input and output stay float32."""
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    return convert_float_to_float16(onnx.load_from_string(data), keep_io_types=True).SerializeToString()


def to_int8(data: bytes, crops: np.ndarray | None) -> bytes:
    """Returns the float32 file `data` with convolutions and matrix products in 8-bit integers, kernels scaled per channel.

    `crops` (n, 3, H, W): normalised crops, from which the ranges of activations are computed. Raises MdwError without any.
    """
    import onnx
    from onnxruntime import quantization

    if crops is None or not len(crops):
        raise MdwError("int8 needs persons to find the ranges of activations on; name a data set with --data and --root")

    samples: np.ndarray = crops

    class Crops(quantization.CalibrationDataReader):
        groups = [samples[begin : begin + TOGETHER] for begin in range(0, len(samples), TOGETHER)]
        position = 0

        def __len__(self):
            return len(self.groups)

        def set_range(self, start_index: int, end_index: int):
            self.position, self.end = start_index, end_index

        def get_next(self):
            self.position += 1
            return {"image": self.groups[self.position - 1]} if self.position <= self.end else None

    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # it advises to fold constants first, which we did
    try:
        with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):  # it prints its progress
            written = Path(folder, "int8.onnx")
            quantization.quantize_static(
                onnx.load_from_string(data),
                written,
                Crops(),
                op_types_to_quantize=WEIGHTED,
                per_channel=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                calibrate_method=quantization.CalibrationMethod.Percentile,
                extra_options={
                    "CalibPercentile": PERCENTILE,
                    "CalibTensorRangeSymmetric": False,
                    "CalibStridedMinMax": 1,  # one group's activations in memory at a time, for every method
                },
            )
            return written.read_bytes()
    finally:
        root.setLevel(level)
