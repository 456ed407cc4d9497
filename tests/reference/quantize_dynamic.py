#!/usr/bin/env python3
"""Quantizes an ONNX graph with ONNX Runtime's own tool, as it does it by itself.

    python quantize_dynamic.py MODEL TARGET
"""
import logging
import sys

from onnxruntime.quantization import quantize_dynamic

logging.disable(logging.WARNING)
quantize_dynamic(*sys.argv[1:])
