"""The network that `make bench` times, and the files that the engines run."""
import hashlib
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TARGET = ROOT / "target"
WORK = TARGET / "bench-backbone"

# DINOv2 ViT-S/14.
DIM, DEPTH, PATCH, HIDDEN, TRAINED_GRID = 384, 12, 14, 4 * 384, 37
SIZES = ["224x224", "336x448", "518x518"]


class Unavailable(Exception):
    """Why a row cannot be measured here."""


def multiply_accumulates(size):
    """Of one picture: in linear layers, and elsewhere (patch embedding and attention)."""
    height, width = pixels(size)
    patches = (height // PATCH) * (width // PATCH)
    tokens = 1 + patches
    linear = DEPTH * tokens * (DIM * 3 * DIM + DIM * DIM + 2 * DIM * HIDDEN)
    attention = DEPTH * 2 * tokens * tokens * DIM
    return linear, patches * 3 * PATCH * PATCH * DIM + attention


def pixels(size):
    height, width = map(int, size.split("x"))
    return height, width


def made(target, sources, make):
    """`target`, made anew only where one of `sources` or these scripts is no longer what it was made from."""
    digest = hashlib.sha256()
    for source in [HERE / "models.py", HERE / "peers.py", *sources]:
        digest.update(hashlib.sha256(source.read_bytes()).digest())
    stamp = target.with_name(target.name + ".made-from")
    if not target.exists() or not stamp.exists() or stamp.read_text() != digest.hexdigest():
        print(f"making {target.relative_to(ROOT)}", file=sys.stderr)
        make()
        stamp.write_text(digest.hexdigest())
    return target


def write_checkpoint(path):
    """Random weights under the names of DINOv2's authors. Those of attention are larger than timm's at the start of
    training: the softmax is then far from uniform, as it is in a trained network."""
    import numpy as np
    from safetensors.numpy import save_file

    source = np.random.default_rng(14)
    normal = lambda std, *shape: (source.standard_normal(shape) * std).astype(np.float32)
    weights = {
        "cls_token": normal(0.02, 1, 1, DIM),
        "mask_token": normal(0.02, 1, DIM),
        "pos_embed": normal(0.02, 1, 1 + TRAINED_GRID**2, DIM),
        "patch_embed.proj.weight": normal(0.04, DIM, 3, PATCH, PATCH),
        "patch_embed.proj.bias": normal(0.02, DIM),
    }

    def norm(name):
        weights[f"{name}.weight"], weights[f"{name}.bias"] = 1 + normal(0.1, DIM), normal(0.1, DIM)

    def linear(name, inputs, outputs, std):
        weights[f"{name}.weight"], weights[f"{name}.bias"] = normal(std, outputs, inputs), normal(0.02, outputs)

    for block in (f"blocks.{index}" for index in range(DEPTH)):
        norm(f"{block}.norm1")
        linear(f"{block}.attn.qkv", DIM, 3 * DIM, 0.06)
        linear(f"{block}.attn.proj", DIM, DIM, 0.05)
        norm(f"{block}.norm2")
        linear(f"{block}.mlp.fc1", DIM, HIDDEN, 0.05)
        linear(f"{block}.mlp.fc2", HIDDEN, DIM, 0.05)
        for scale in ("ls1", "ls2"):
            weights[f"{block}.{scale}.gamma"] = (0.3 * source.uniform(0.5, 1.5, DIM)).astype(np.float32)
    norm("norm")
    save_file(weights, path)


class Models:
    """Files that the engines run, each made when it is first asked for."""

    def __init__(self, program):
        self.program = program
        checkpoint = WORK / "checkpoint.safetensors"
        self.checkpoint = made(checkpoint, [], lambda: write_checkpoint(checkpoint))

    def tagalong(self, *args):
        if not self.program:
            raise Unavailable("there is no program yet: `make build`, or --program")
        command = [self.program, "model", *args, "--force"]
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            raise Unavailable(f"tagalong model {args[0]}: {last_line(done.stderr)}")

    def imported(self, name, sizes):
        sources = [self.checkpoint] + [self.program] * bool(self.program)
        command = ["import", self.checkpoint, "--name", name, "--input-sizes", ",".join(sizes), "--out", WORK]
        return made(WORK / f"{name}.onnx", sources, lambda: self.tagalong(*command))

    def random(self, name, count, size, seed):
        import numpy as np

        height, width = pixels(size)
        numbers = lambda: np.random.default_rng(seed).standard_normal((count, 3, height, width)).astype("<f4")
        path = WORK / f"{name}-{size}.f32"
        return made(path, [], lambda: numbers().tofile(path))

    def picture(self, size):
        return self.random("picture", 1, size, 1)

    def graph(self, way, size):
        if way == "checkpoint":
            return self.checkpoint
        if way == "imported-int8":
            # One for all sizes: what each layer costs is measured on pictures, which takes a while.
            floats = self.imported("all", SIZES)
            # Everything is quantized, whatever it costs: with random weights that says nothing.
            command = ["quantize", floats.with_suffix(".toml"), "--pictures", "2", "--layer-bound", "1", "--bound", "1"]
            return made(WORK / "all-int8.onnx", [floats, self.program], lambda: self.tagalong(*command))
        imported = self.imported(size, [size])
        if way == "imported":
            return imported
        target = WORK / f"{size}-{way}.onnx"
        command = [sys.executable, HERE / "peers.py", "graph", way, imported, target]
        if way.startswith("qdq"):
            # Pictures of the kind that is timed, but others.
            command += [self.random("calibration", 4, size, 2), size]
        quiet = dict(stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

        def make():
            done = subprocess.run(command, **quiet)
            if done.returncode:
                raise Unavailable(f"no {way} graph: {last_line(done.stderr)}")

        return made(target, [imported], make)


def last_line(text):
    return (text.strip().splitlines() or ["it said nothing"])[-1]
