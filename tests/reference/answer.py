#!/usr/bin/env python3
"""Answers questions of a Rust test with the functions of the NumPy reference.

    python answer.py PROPAGATE_PY FOLDER

FOLDER/questions.json lists the questions; arrays lie beside it as raw little-endian files. The answers are
written beside them. Needs numpy, cv2 and Pillow.
"""
import importlib.util
import json
import pathlib
import sys
import types

import numpy as np

try:
    import onnxruntime  # noqa: F401
except ImportError:  # The reference imports it at its top, but no function that is asked here needs it.
    sys.modules["onnxruntime"] = types.ModuleType("onnxruntime")

spec = importlib.util.spec_from_file_location("propagate", sys.argv[1])
reference = importlib.util.module_from_spec(spec)
spec.loader.exec_module(reference)
folder = pathlib.Path(sys.argv[2])
scores = []
for q in json.loads((folder / "questions.json").read_text()):
    name, height, width = q["name"], q["height"], q["width"]
    if q["ask"] == "score":
        predicted, truth = (np.fromfile(folder / f"{name}.{end}", np.uint8).reshape(height, width)
                            for end in ("predicted", "truth"))
        valid = truth != 255
        pair = (predicted == 1) & valid, (truth == 1) & valid
        scores.append([float(reference.region(*pair)), float(reference.boundary(*pair))])
    elif q["ask"] == "seed":
        mask = np.fromfile(folder / f"{name}.mask", np.uint8).reshape(height, width)
        field = reference.seed_labels(mask, 1, q["rows"], q["cols"], q["soft"])
        field[:, 1].astype("<f4").tofile(folder / f"{name}.answer")
    elif q["ask"] == "masks":
        field = np.fromfile(folder / f"{name}.field", "<f4").reshape(q["rows"] * q["cols"], -1)
        reference.to_mask(field, q["rows"], q["cols"], q["patch"], height, width, q["min_max"]).tofile(
            folder / f"{name}.answer")
    else:
        sys.exit(f"unknown question {q['ask']}")
(folder / "scores.json").write_text(json.dumps(scores))
