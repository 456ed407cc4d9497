#!/usr/bin/env python3
"""The engines that `make bench` compares with, and the graphs that serve them best.

    peers.py child ENGINE MODEL HEIGHTxWIDTH THREADS
    peers.py graph WAY MODEL.onnx TARGET.onnx [PICTURES HEIGHTxWIDTH]

`child` is one row of the table: `onnxruntime`, `openvino`, `openvino-native` or `torch`, whose MODEL is the checkpoint.
It reads the picture, (1, 3, height, width) little-endian 32-bit floats, from the file that BENCH_INPUT names, prints
`ready`, and then answers each line that it reads with one:

    run              runs the network once: milliseconds
    features PATH    writes the patch tokens, (patches, dim) little-endian 32-bit floats: `ok`
    about            its version and settings, for the notes under the table
    quit             ends

`graph` makes one of the graphs that the engines run. In all of them GELU is spelt as PyTorch exports it, which more
engines recognise. Only products with constant weights are quantized, each of their outputs with a scale of its own;
between them everything stays in floats, as the residual stream does not bear 8 bits.

    float          nothing quantized
    fused          and attention as one MultiHeadAttention, which ONNX Runtime and rten have and the standard has not
    dynamic        as fused, and activations quantized as they come (DynamicQuantizeLinear, MatMulInteger)
    qdq-gemm       as fused, and by fixed scales, without sign, product and bias as one Gemm: ONNX Runtime's fastest
    qdq-unsigned   as float, and by fixed scales, without sign: OpenVINO's fastest without AMX
    qdq-signed     the same with sign and around zero: OpenVINO's fastest with AMX

Fixed scales are found on PICTURES, a file with any number of pictures as above.
"""
import logging
import os
import sys
import time

import numpy as np

# The network's own, as the driver makes it.
PATCH = 14
HEADS = 6
EPSILON = 1e-6


class OnnxRuntime:
    def __init__(self, model, picture, threads):
        import onnxruntime

        onnxruntime.set_default_logger_severity(3)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Threads that spin after their work would take the time of the row that comes next.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self.feed = {self.session.get_inputs()[0].name: picture}
        self.about = f"ONNX Runtime {onnxruntime.__version__}"

    def run(self):
        return self.session.run(None, self.feed)[0]


class OpenVino:
    # Left to itself it computes what is not quantized in 16 bits, where the processor has them.
    precision = {"INFERENCE_PRECISION_HINT": "f32"}

    def __init__(self, model, picture, threads):
        import openvino

        settings = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": threads, **self.precision}
        compiled = openvino.Core().compile_model(model, "CPU", settings)
        self.request, self.picture = compiled.create_infer_request(), picture
        floats = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        self.about = f"OpenVINO {openvino.__version__.split('-')[0]}, floats as {floats}"

    def run(self):
        return self.request.infer({0: self.picture}, share_inputs=True, share_outputs=True)[0]


class OpenVinoNative(OpenVino):
    precision = {}


class Torch:
    """DINOv2 as its authors wrote it, with PyTorch's own attention."""

    def __init__(self, checkpoint, picture, threads):
        import torch
        from safetensors.torch import load_file

        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)
        self.torch, self.weights = torch, load_file(checkpoint)
        self.picture = torch.from_numpy(picture)
        self.depth = 1 + max(int(name.split(".")[1]) for name in self.weights if name.startswith("blocks."))
        self.positions = self.stretched([side // PATCH for side in picture.shape[2:]])
        self.about = f"PyTorch {torch.__version__}, eager"

    def stretched(self, grid):
        """Position embeddings on another grid than the trained one: (1, 1 + patches, dim)."""
        positions = self.weights["pos_embed"]
        dim, side = positions.shape[2], int((positions.shape[1] - 1) ** 0.5)
        if grid == [side, side]:
            return positions
        of_patches = positions[:, 1:].reshape(1, side, side, dim).permute(0, 3, 1, 2)
        factors = [(length + 0.1) / side for length in grid]
        stretched = self.torch.nn.functional.interpolate(of_patches, scale_factor=factors, mode="bicubic")
        return self.torch.cat([positions[:, :1], stretched.permute(0, 2, 3, 1).reshape(1, -1, dim)], 1)

    def run(self):
        f, weights = self.torch.nn.functional, self.weights
        part = lambda name: (weights[f"{name}.weight"], weights[f"{name}.bias"])
        norm = lambda name, x: f.layer_norm(x, x.shape[-1:], *part(name), EPSILON)
        x = f.conv2d(self.picture, *part("patch_embed.proj"), stride=PATCH).flatten(2).transpose(1, 2)
        x = self.torch.cat([weights["cls_token"], x], 1) + self.positions
        tokens, dim = x.shape[1:]
        for block in (f"blocks.{index}." for index in range(self.depth)):
            qkv = f.linear(norm(block + "norm1", x), *part(block + "attn.qkv"))
            qkv = qkv.reshape(1, tokens, 3, HEADS, dim // HEADS).permute(2, 0, 3, 1, 4)
            attended = f.scaled_dot_product_attention(*qkv).transpose(1, 2).reshape(1, tokens, dim)
            x = x + weights[block + "ls1.gamma"] * f.linear(attended, *part(block + "attn.proj"))
            inside = f.gelu(f.linear(norm(block + "norm2", x), *part(block + "mlp.fc1")))
            x = x + weights[block + "ls2.gamma"] * f.linear(inside, *part(block + "mlp.fc2"))
        return norm("norm", x).numpy()


ENGINES = {"onnxruntime": OnnxRuntime, "openvino": OpenVino, "openvino-native": OpenVinoNative, "torch": Torch}


def child(engine, model, size, threads):
    # What a library prints goes elsewhere than the answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    height, width = map(int, size.split("x"))
    picture = np.fromfile(os.environ["BENCH_INPUT"], "<f4").reshape(1, 3, height, width)
    network = ENGINES[engine](model, picture, int(threads))
    print("ready", file=answers)
    for line in sys.stdin:
        command, _, path = line.strip().partition(" ")
        if command == "run":
            start = time.perf_counter()
            network.run()
            answer = f"{(time.perf_counter() - start) * 1e3:.4f}"
        elif command == "features":
            patches = (height // PATCH) * (width // PATCH)
            network.run()[0, -patches:].astype("<f4").tofile(path)
            answer = "ok"
        elif command == "about":
            answer = network.about
        elif command == "quit":
            break
        else:
            answer = "unknown"
        print(answer, file=answers)


class Pictures:
    """What ONNX Runtime's calibration reads."""

    def __init__(self, path, size):
        height, width = map(int, size.split("x"))
        pictures = np.fromfile(path, "<f4").reshape(-1, 1, 3, height, width)
        self.feeds = iter([{"pixel_values": picture} for picture in pictures])

    def get_next(self):
        return next(self.feeds, None)


def respell_gelu(model):
    """x * 0.7071 before Erf becomes x / 1.4142, which is how ONNX Runtime knows GELU."""
    from onnx import numpy_helper

    makers = {node.output[0]: node for node in model.graph.node}
    model.graph.initializer.append(numpy_helper.from_array(np.array(2**0.5, np.float32), "root_of_two"))
    for node in model.graph.node:
        if node.op_type == "Erf" and makers[node.input[0]].op_type == "Mul":
            scaling = makers[node.input[0]]
            scaling.op_type = "Div"
            scaling.input[1] = "root_of_two"


def fuse_attention(model):
    """What stands between the linear layer that makes queries, keys and values and the one behind attention becomes one
    node."""
    from onnx import helper, numpy_helper

    graph = model.graph
    makers = {node.output[0]: node for node in graph.node}
    users = {name: node for node in graph.node for name in node.input}
    replaced, by_softmax = set(), {}
    for softmax in (node for node in graph.node if node.op_type == "Softmax"):
        up = lambda node, port=0: makers[node.input[port]]
        down = lambda node: users[node.output[0]]
        scores, attended = up(softmax), down(softmax)
        scaled, transposed = up(scores), up(scores, 1)
        queries, keys, values = up(scaled), up(transposed), up(attended, 1)
        by_head = up(queries)
        apart, last = up(by_head), down(down(attended))
        chain = [apart, by_head, queries, keys, values, scaled, transposed, scores, softmax, attended]
        chain += [down(attended), last]
        kinds = [node.op_type for node in chain]
        if kinds != ["Reshape", "Transpose", *["Gather"] * 3, "Mul", "Transpose", "MatMul", "Softmax", "MatMul",
                     "Transpose", "Reshape"]:
            sys.exit(f"the graph's attention is not as it was: {kinds}")
        replaced |= {node.output[0] for node in chain} - {softmax.output[0]}
        parts = [f"{softmax.name}_{part}" for part in ("queries", "keys", "values")]
        by_softmax[softmax.output[0]] = [
            helper.make_node("Split", [apart.input[0], "thirds"], parts, name=parts[0] + "_split", axis=2),
            helper.make_node("MultiHeadAttention", parts, [last.output[0]], name=softmax.name + "_attention",
                             domain="com.microsoft", num_heads=HEADS),
        ]
    dim = numpy_helper.to_array(next(t for t in graph.initializer if list(t.dims)[1:2] == [3])).shape[0]
    graph.initializer.append(numpy_helper.from_array(np.array([dim] * 3, np.int64), "thirds"))
    nodes = [new for node in graph.node for new in by_softmax.get(node.output[0], [node])]
    nodes = [node for node in nodes if node.output[0] not in replaced or node.op_type == "MultiHeadAttention"]
    del graph.node[:]
    graph.node.extend(nodes)
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))


def with_gemm(path, target):
    """Constants folded, and each product joined with the bias that is added to it."""
    import onnx
    import onnxruntime

    onnxruntime.set_default_logger_severity(3)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = target
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    model = onnx.load(target)
    # Types are not inferred behind MultiHeadAttention, and what has none is not calibrated.
    inputs = {node.input[0] for node in model.graph.node if node.op_type == "Gemm"}
    inputs -= {value.name for value in model.graph.value_info}
    floats = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in sorted(inputs)]
    model.graph.value_info.extend(floats)
    onnx.save(model, target)


def linear_layers(model):
    """Names of the products of something computed with constant weights."""
    constants = {tensor.name for tensor in model.graph.initializer}
    products = [node for node in model.graph.node if node.op_type in ("MatMul", "Gemm")]
    computed = [node for node in products if node.input[1] in constants and node.input[0] not in constants]
    return [node.name for node in computed]


def quantize(way, plain, target, pictures, size):
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_dynamic, quantize_static

    layers = linear_layers(onnx.load(plain))
    common = {
        "op_types_to_quantize": ["MatMul", "Gemm"],
        "nodes_to_quantize": layers,
        "per_channel": True,
        "weight_type": QuantType.QInt8,
    }
    # Nor are they known to the quantizer there.
    extra = {"DefaultTensorType": onnx.TensorProto.FLOAT}
    if way == "dynamic":
        quantize_dynamic(plain, target, extra_options=extra, **common)
    else:
        signed = way == "qdq-signed"
        extra.update(ActivationSymmetric=signed, OpTypesToExcludeOutputQuantization=["MatMul", "Gemm"])
        kind = QuantType.QInt8 if signed else QuantType.QUInt8
        quantize_static(plain, target, Pictures(pictures, size), quant_format=QuantFormat.QDQ, activation_type=kind,
                        extra_options=extra, **common)
    quantized = [n for n in onnx.load(target).graph.node if n.op_type in ("QuantizeLinear", "DynamicQuantizeLinear")]
    if len(quantized) != len(layers):
        sys.exit(f"{target}: {len(quantized)} of {len(layers)} products were quantized")


def graph(way, source, target, pictures=None, size=None):
    import onnx

    logging.disable(logging.WARNING)
    model = onnx.load(source)
    for index, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{index}"
    respell_gelu(model)
    if way in ("fused", "dynamic", "qdq-gemm"):
        fuse_attention(model)
    onnx.save(model, target)
    if way not in ("float", "fused"):
        plain = target + ".plain"
        os.rename(target, plain)
        if way == "qdq-gemm":
            with_gemm(plain, plain)
        quantize(way, plain, target, pictures, size)
        os.remove(plain)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["child", engine, model, size, threads] if engine in ENGINES:
            child(engine, model, size, threads)
        case ["graph", "float" | "fused" | "dynamic" as way, source, target]:
            graph(way, source, target)
        case ["graph", "qdq-gemm" | "qdq-unsigned" | "qdq-signed" as way, source, target, pictures, size]:
            graph(way, source, target, pictures, size)
        case _:
            sys.exit(__doc__)
