"""A TensorFlow.js graph model as an ONNX model: the operators that MoveNet has, and no others."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mdw.util.errors import MdwError

DTYPES = {"DT_FLOAT": TensorProto.FLOAT, "DT_INT32": TensorProto.INT32}
SAME_NAME = {"AddV2": "Add", "Sub": "Sub", "Mul": "Mul", "RealDiv": "Div", "FloorDiv": "Div", "Sigmoid": "Sigmoid",
             "Sqrt": "Sqrt", "Identity": "Identity"}  # fmt: skip
CONVOLUTIONS = ("Conv2D", "_FusedConv2D", "DepthwiseConv2dNative", "FusedDepthwiseConv2dNative")


def to_onnx(model: dict, weights: bytes) -> onnx.ModelProto:
    """model: what model.json holds. weights: its one file of weights, float32 kept as float16 or as they are, and int32.

    The inputs and outputs keep their names and shapes, the latter (N, H, W, C). FloorDiv becomes ONNX's division of whole
    numbers, which is the same where none is negative, as places in a map are. Raises MdwError for another operator.
    """
    return _Graph(model, weights).model


class _Graph:
    def __init__(self, model: dict, weights: bytes) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants = _constants(model["weightsManifest"], weights)
        self.initializers: dict[str, np.ndarray] = {}
        for node in model["modelTopology"]["node"]:
            if node["op"] not in ("Const", "Placeholder"):
                self._add(node["name"], node["op"], list(node["input"]), node.get("attr", {}))
        said = model["signature"]
        inputs, outputs = (
            [
                helper.make_tensor_value_info(
                    name.partition(":")[0], DTYPES[told["dtype"]], [int(side["size"]) for side in told["tensorShape"]["dim"]]
                )
                for name, told in said[kind].items()
            ]
            for kind in ("inputs", "outputs")
        )
        kept = [numpy_helper.from_array(value, name) for name, value in self.initializers.items()]
        graph = helper.make_graph(self.nodes, "tfjs", inputs, outputs, kept)
        self.model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(self.model)

    def _emit(self, op: str, inputs: list[str], output: str | list[str], **attributes) -> str:
        outputs = output if isinstance(output, list) else [output]
        self.nodes.append(helper.make_node(op, [self._known(name) for name in inputs], outputs, **attributes))
        return outputs[0]

    def _known(self, name: str) -> str:
        if name in self.constants:
            self.initializers[name] = self.constants[name]
        return name

    def _whole(self, name: str, values) -> str:
        """A constant of whole numbers, int64, as ONNX wants its axes and shapes."""
        self.initializers[name] = np.atleast_1d(np.asarray(values, np.int64))
        return name

    def _add(self, name: str, op: str, inputs: list[str], attr: dict) -> None:
        value = lambda place: self.constants[inputs[place]]  # noqa: E731  a constant input
        if op in SAME_NAME:
            self._emit(SAME_NAME[op], inputs, name)
        elif op in CONVOLUTIONS:
            self._convolution(name, op, inputs, attr)
        elif op == "SquaredDifference":
            gap = self._emit("Sub", inputs, f"{name}/gap")
            self._emit("Mul", [gap, gap], name)
        elif op == "Cast":
            self._emit("Cast", inputs, name, to=DTYPES[attr["DstT"]["type"]])
        elif op == "Reshape":
            self._emit("Reshape", [inputs[0], self._whole(f"{name}/shape64", value(1))], name)
        elif op == "ExpandDims":
            self._emit("Unsqueeze", [inputs[0], self._whole(f"{name}/axes", value(1))], name)
        elif op == "Squeeze":
            axes = [int(i) for i in attr["squeeze_dims"]["list"]["i"]]
            self._emit("Squeeze", [inputs[0], self._whole(f"{name}/axes", axes)], name)
        elif op == "Unpack":
            axis, count = int(attr["axis"]["i"]), int(attr["num"]["i"])
            parts = [f"{name}/part{i}" for i in range(count)]
            self._emit("Split", [inputs[0], self._whole(f"{name}/sizes", [1] * count)], parts, axis=axis)
            for place, part in enumerate(parts):
                self._emit("Squeeze", [part, self._whole(f"{name}/axes", axis)], f"{name}:{place}" if place else name)
        elif op == "Pack":
            axis = int(attr["axis"]["i"])
            axes = self._whole(f"{name}/axes", axis)
            parts = [self._emit("Unsqueeze", [part, axes], f"{name}/part{i}") for i, part in enumerate(inputs)]
            self._emit("Concat", parts, name, axis=axis)
        elif op == "ConcatV2":
            self._emit("Concat", inputs[:-1], name, axis=int(value(-1).item()))
        elif op == "ArgMax":
            place = self._emit("ArgMax", inputs[:1], f"{name}/int64", axis=int(value(1).item()), keepdims=0)
            self._emit("Cast", [place], name, to=DTYPES[attr["output_type"]["type"]])
        elif op == "GatherNd":
            places = self._emit("Cast", inputs[1:], f"{name}/int64", to=TensorProto.INT64)
            self._emit("GatherND", [inputs[0], places], name)
        elif op == "ResizeBilinear" and attr["half_pixel_centers"]["b"]:
            self._resize(name, inputs[0], value(1))
        else:
            raise MdwError(f"{name} is the operator {op}, which benchmarks/tfjs.py cannot write as ONNX; add it there")

    def _channels_first(self, name: str, source: str) -> str:
        return self._emit("Transpose", [source], f"{name}/channels_first", perm=[0, 3, 1, 2])

    def _channels_last(self, name: str, source: str) -> None:
        self._emit("Transpose", [source], name, perm=[0, 2, 3, 1])

    def _resize(self, name: str, source: str, size) -> None:
        """Bilinear, with the pixels' centres at halves; the transposed map keeps its number of channels by its own shape."""
        first = self._channels_first(name, source)
        shape = self._emit("Shape", [first], f"{name}/shape", end=2)
        sizes = self._emit("Concat", [shape, self._whole(f"{name}/size", size)], f"{name}/sizes", axis=0)
        options = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
        self._channels_last(name, self._emit("Resize", [first, "", "", sizes], f"{name}/resized", **options))

    def _convolution(self, name: str, op: str, inputs: list[str], attr: dict) -> None:
        """TensorFlow's kernels are (h, w, in, out), of depthwise ones (h, w, in, multiplier); bias and ReLU6 may be fused."""
        kernel = self.constants[inputs[1]]
        depthwise = "Depthwise" in op
        height, width, channels, _ = kernel.shape
        if depthwise:
            kernel = kernel.reshape(height, width, 1, -1)
        self.initializers[f"{name}/kernel"] = np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))
        sides = {key: [int(i) for i in attr[key]["list"]["i"]][1:3] for key in ("strides", "dilations") if key in attr}
        padding = {"SAME": "SAME_UPPER", "VALID": "VALID"}[_text(attr["padding"]["s"])]
        fused = [_text(part) for part in attr.get("fused_ops", {}).get("list", {}).get("s", [])]
        if fused not in ([], ["BiasAdd"], ["BiasAdd", "Relu"], ["BiasAdd", "Relu6"]):
            raise MdwError(f"{name} is fused with {fused}, which benchmarks/tfjs.py cannot write as ONNX; add it there")
        found = self._emit(
            "Conv",
            [self._channels_first(name, inputs[0]), f"{name}/kernel", *inputs[2 : 2 + bool(fused)]],
            f"{name}/convolved",
            auto_pad=padding,
            group=channels if depthwise else 1,
            kernel_shape=[height, width],
            **sides,
        )
        if fused[1:] == ["Relu"]:
            found = self._emit("Relu", [found], f"{name}/relu")
        elif fused[1:] == ["Relu6"]:
            self.initializers |= {"zero": np.float32(0).reshape(()), "six": np.float32(6).reshape(())}
            found = self._emit("Clip", [found, "zero", "six"], f"{name}/relu6")
        self._channels_last(name, found)


def _text(told: str) -> str:
    """A string of the graph, which is kept as base64."""
    import base64

    return base64.b64decode(told).decode()


def _constants(manifest: list[dict], weights: bytes) -> dict[str, np.ndarray]:
    """All weights by their names."""
    found, begin = {}, 0
    for told in (weight for group in manifest for weight in group["weights"]):
        kept = np.dtype(told.get("quantization", {}).get("dtype", told["dtype"])).newbyteorder("<")
        count = int(np.prod(told["shape"], dtype=np.int64))
        values = np.frombuffer(weights, kept, count, begin).reshape(told["shape"])
        found[told["name"]], begin = values.astype(told["dtype"]), begin + count * kept.itemsize
    if begin != len(weights):
        raise MdwError(f"the graph's weights take {begin} bytes and their file has {len(weights)}; fetch both again")
    return found
