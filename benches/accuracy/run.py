#!/usr/bin/env python3
"""How true the masks of every preset are, and what they cost: one table, made in one run.

    make eval MODEL=vit_tiny_patch16_480x848.onnx OUTPUT=x6 DAVIS=DAVIS
    python3 benches/accuracy/run.py --program target/release/tagalong --model m.toml --davis DAVIS [--plot jf.svg]

Presets are run one after the other by `tagalong eval`. Beside them stands the published rule in NumPy behind ONNX Runtime, where
TAGALONG_REFERENCE names the folder of `propagate.py` and the model is a bare ONNX file: as it was published (`numpy`), and with
seeds by area and labels as they are (`numpy-soft`). It runs in TAGALONG_REFERENCE_PYTHON, or in the interpreter that runs this.
"""
import argparse
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

PRESETS = ["dino", "dinov3", "crw", "soft", "fast", "sharp", "best"]
# What `sharp` adds to `soft`, one thing at a time.
TRICKS = Path(__file__).with_name("tricks.toml")
REFERENCES = {"numpy": [], "numpy-soft": ["--soft-seed", "--no-min-max"]}
LINE = re.compile(r"(\S+) +\d+ (?:frames|seqs) +J (\S+) +F (\S+) +J&F (\S+)")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="target/release/tagalong")
    parser.add_argument("--model", required=True, help="a manifest, `bundled`, or an ONNX file")
    parser.add_argument("--output", help="of an ONNX file: the output that holds the tokens")
    parser.add_argument("--davis", required=True, help="a folder in the layout of DAVIS 2017")
    parser.add_argument("--sequences", help="these, separated by commas, and not all")
    parser.add_argument("--presets", help="these, separated by commas [default: all built in, and all of the configuration]")
    parser.add_argument("--config", default=str(TRICKS), help=f"a configuration with presets of your own [default: {TRICKS}]")
    parser.add_argument("--without-reference", action="store_true", help="leave the NumPy program out: it takes long")
    parser.add_argument("--json", type=Path, help="save everything that was measured")
    parser.add_argument("--plot", type=Path, help="save J&F against operations, as SVG; needs matplotlib")
    arguments = parser.parse_args()
    if not arguments.presets:
        own = tomllib.loads(Path(arguments.config).read_text()).get("presets", {})
        arguments.presets = ",".join(PRESETS + [name for name in own if name not in PRESETS])
    try:
        columns = ours(arguments)
    except Failed as failed:
        sys.exit(str(failed))
    if not arguments.without_reference:
        columns = references(arguments) | columns
    print(table(columns))
    if arguments.json:
        arguments.json.write_text(json.dumps(columns, indent=1) + "\n")
    if arguments.plot:
        plot(columns, arguments.plot)


def ours(arguments):
    """What `tagalong eval` says of each preset."""
    command = [arguments.program, "eval", "--model", arguments.model, "--davis", arguments.davis, "--backend", "int8"]
    command += ["--preset", arguments.presets, "--json", "-"]
    for option in ["output", "sequences", "config"]:
        if value := getattr(arguments, option):
            command += [f"--{option}", value]
    said = json.loads(run(command))
    # Of one preset it is told alone.
    return said["presets"] if "presets" in said else {arguments.presets: said}


def references(arguments):
    """What the program in NumPy scores, where there is one."""
    folder, python = os.environ.get("TAGALONG_REFERENCE"), os.environ.get("TAGALONG_REFERENCE_PYTHON") or sys.executable
    if not folder:
        return missing("TAGALONG_REFERENCE is not set")
    if not arguments.model.lower().endswith(".onnx"):
        return missing("it takes a bare ONNX file alone")
    columns = {}
    for name, options in REFERENCES.items():
        command = [python, str(Path(folder) / "propagate.py"), "--model", arguments.model, "--davis", arguments.davis]
        if arguments.output:
            command += ["--output", arguments.output]
        if arguments.sequences:
            command += ["--sequences", *arguments.sequences.split(",")]
        try:
            said = run(command + options)
        except Failed as failed:
            # What was measured of the presets is not lost with it.
            return missing(failed)
        scores = {found[1]: dict(zip(["j", "f", "jf"], map(float, found.groups()[1:])))
                  for found in map(LINE.match, said.splitlines()) if found}
        mean = scores.pop("mean")
        columns[name] = {"sequences": scores, "mean": mean}
    return columns


def missing(why):
    print(f"the NumPy program is left out: {why}", file=sys.stderr)
    return {}


class Failed(Exception):
    """A program ended with an error, which it told itself."""


def run(command):
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise Failed(f"{' '.join(command)}: exit code {done.returncode}")
    return done.stdout


def table(columns):
    """Markdown: a row for each sequence, then the means, then what a frame costs."""
    def row(name, value):
        return f"| {name} | " + " | ".join(value(column) for column in columns.values()) + " |"

    def ms(stage):
        return lambda column: f"{1e3 / column['fps'][stage]:.1f}" if stage in column.get("fps", {}) else ""

    def operations(column):
        return f"{column['operations'] * 1e-9:.2f}" if "operations" in column else ""

    rows = ["| J&F | " + " | ".join(columns) + " |"]
    rows.append("|---|" + "--:|" * len(columns))
    for sequence in next(iter(columns.values()))["sequences"]:
        rows.append(row(sequence, lambda column: f"{column['sequences'][sequence]['jf']:.4f}"))
    for name, key in [("**mean**", "jf"), ("mean J", "j"), ("mean F", "f")]:
        rows.append(row(name, lambda column: f"{column['mean'][key]:.4f}"))
    rows.append(row("backbone, GOP a frame", operations))
    for name, stage in [("backbone", "embed"), ("propagation", "propagate"), ("masks", "mask")]:
        rows.append(row(f"{name}, ms a frame", ms(stage)))
    return "\n".join(rows)


def plot(columns, file):
    import matplotlib

    matplotlib.use("SVG")
    # The same numbers give the same bytes.
    matplotlib.rcParams["svg.hashsalt"] = "tagalong"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    for name, column in columns.items():
        if "operations" in column:
            place = column["operations"] * 1e-9, column["mean"]["jf"]
            axes.plot(*place, "o", color="tab:blue")
            axes.annotate(name, place, xytext=(7, -3), textcoords="offset points")
        else:
            axes.axhline(column["mean"]["jf"], color="tab:grey", linestyle="--", linewidth=0.8)
            axes.annotate(name, (0.01, column["mean"]["jf"]), xycoords=("axes fraction", "data"), va="bottom")
    axes.margins(x=0.15, y=0.1)
    axes.set(xlabel="operations of the backbone a frame, 10⁹", ylabel="J&F, mean of sequences")
    axes.grid(alpha=0.3)
    figure.savefig(file, metadata={"Date": None})


if __name__ == "__main__":
    main()
