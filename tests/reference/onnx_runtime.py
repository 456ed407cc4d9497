#!/usr/bin/env python3
"""Runs an ONNX graph with ONNX Runtime.

    python onnx_runtime.py MODEL INPUT HEIGHT WIDTH OUTPUT

INPUT holds (1, 3, HEIGHT, WIDTH) little-endian 32-bit floats; the graph's first output is written to OUTPUT the
same way.
"""
import sys

import numpy as np
import onnxruntime

model, source, height, width, target = sys.argv[1:]
onnxruntime.set_default_logger_severity(3)
options = onnxruntime.SessionOptions()
# On x86 without VNNI its fast products of 8-bit integers overflow 16 bits: the reference must be the exact ones.
options.add_session_config_entry("session.x64quantprecision", "1")
session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
pixels = np.fromfile(source, "<f4").reshape(1, 3, int(height), int(width))
session.run(None, {session.get_inputs()[0].name: pixels})[0].astype("<f4").tofile(target)
