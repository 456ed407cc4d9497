#!/usr/bin/env python3
"""How fast the backbone runs here, beside other engines: one table, made in one run.

    make bench
    python3 benches/backbone/run.py --program target/release/tagalong [--only tagalong,onnxruntime] [--rounds 15]

The network is DINOv2 ViT-S/14 with random weights: what it computes is meaningless, how long it takes is not. Every
engine runs the same picture in a process of its own. In each round every row of a size is timed once, in an order that
changes from round to round, so that what disturbs the machine disturbs all alike; the table shows medians.

The engines come from PyPI, into target/bench-venv, and from crates.io (benches/peers/). `peers.py` says how they are
set and which graphs they run.
"""
import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

# Nothing is left beside the sources.
sys.dont_write_bytecode = True

from models import DIM, HERE, ROOT, SIZES, TARGET, WORK, Models, Unavailable, last_line, multiply_accumulates

VENV = TARGET / "bench-venv"
WARM_UPS = 3
# Runs of each graph where the faster one is chosen.
TRIALS = 5
# Below this something else was computed, and a time means nothing.
LEAST_COSINE = 0.99
# OpenVINO and PyTorch compute with oneDNN. Some virtual machines announce AMX and fault on it; what is tried, in turn.
INSTRUCTION_SETS = [None, "AVX512_CORE_FP16", "AVX512_CORE_VNNI", "AVX2"]

EXTENSIONS = ["avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_int8"]
EXTENSIONS += ["asimddp", "asimdhp", "i8mm", "bf16", "sve"]


@dataclass(frozen=True)
class Row:
    name: str
    title: str
    # Of the products with constant weights, `f32` or `int8`; all else is then in 32-bit floats. None: it chooses.
    arithmetic: str | None
    engine: str
    # Ways of `peers.py graph`, or models that are made here. Of several the fastest is taken.
    graphs: tuple[str, ...]
    # Ours alone: what `TAGALONG_CPU` asks for.
    kernel: str | None = None


ROWS = [
    Row("tagalong-amx", "tagalong, AMX", "amx", "tagalong", ("imported",), "amx"),
    Row("tagalong-vnni", "tagalong, AVX-512 VNNI", "avx512vnni", "tagalong", ("imported",), "avx512vnni"),
    Row("tagalong-avxvnni", "tagalong, AVX-VNNI", "avxvnni", "tagalong", ("imported",), "avxvnni"),
    Row("tagalong-avx2", "tagalong, AVX2", "avx2", "tagalong", ("imported",), "avx2"),
    Row("tagalong-i8mm", "tagalong, i8mm", "i8mm", "tagalong", ("imported",), "i8mm"),
    Row("tagalong-dotprod", "tagalong, NEON dot product", "dotprod", "tagalong", ("imported",), "dotprod"),
    Row("tagalong-neon", "tagalong, NEON", "neon", "tagalong", ("imported",), "neon"),
    Row("tagalong-file", "tagalong, int8 file, its own kernel", None, "tagalong", ("imported-int8",)),
    Row("tract", "tract fp32", "f32", "tract", ("imported",)),
    Row("onnxruntime", "ONNX Runtime fp32", "f32", "onnxruntime", ("fused",)),
    Row("onnxruntime-dynamic", "ONNX Runtime dynamic int8", "int8", "onnxruntime", ("dynamic",)),
    Row("onnxruntime-qdq", "ONNX Runtime QDQ int8", "int8", "onnxruntime", ("qdq-gemm",)),
    Row("openvino", "OpenVINO fp32", "f32", "openvino", ("float",)),
    Row("openvino-int8", "OpenVINO int8", "int8", "openvino", ("qdq-signed", "qdq-unsigned")),
    Row("openvino-native", "OpenVINO, 16-bit floats", None, "openvino-native", ("float",)),
    Row("openvino-int8-native", "OpenVINO int8, 16-bit floats", None, "openvino-native",
        ("qdq-signed", "qdq-unsigned")),
    Row("rten", "rten fp32", "f32", "rten", ("fused",)),
    Row("rten-int8", "rten int8", "int8", "rten", ("dynamic",)),
    Row("torch", "PyTorch fp32, eager", "f32", "torch", ("checkpoint",)),
]


def environment(with_torch):
    """The Python environment of the peers, made if need be; this script then goes on inside it."""
    packages = ["numpy", "onnx", "onnxruntime", "openvino", "safetensors"] + ["torch"] * with_torch
    python, installed = VENV / "bin" / "python", VENV / "installed"
    have = installed.read_text().split() if installed.exists() else []
    if not set(packages) <= set(have):
        print(f"installing {', '.join(packages)} in {VENV.relative_to(ROOT)}", file=sys.stderr)
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages]
        subprocess.run(pip, check=True)
        installed.write_text(" ".join(sorted({*packages, *have})))
    if Path(sys.prefix) != VENV:
        os.execv(python, [str(python), *sys.argv])


class Programs:
    """The programs of the Rust engines, each built when it is first asked for."""

    def __init__(self, ours):
        self.built = {"ours": ours} if ours else {}

    def command(self, engine):
        if engine in ("tagalong", "tract"):
            args = ["bench", "--locked", "--no-run", "--bench", "backbone"]
            return [self.executable("ours", "backbone", args), "--engine", engine]
        if engine == "rten":
            crate = ["--manifest-path", HERE.parent / "peers" / "Cargo.toml", "--target-dir", TARGET / "bench-peers"]
            return [self.executable("rten", "rten", ["build", "--locked", "--release", *crate])]
        return [sys.executable, HERE / "peers.py", "child", engine]

    def executable(self, key, target, args):
        if key not in self.built:
            command = ["cargo", *args, "--message-format", "json-render-diagnostics"]
            done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            messages = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
            paths = [m["executable"] for m in messages if m.get("executable") and m["target"]["name"] == target]
            self.built[key] = paths[-1] if paths and done.returncode == 0 else Unavailable(last_line(done.stderr))
        if isinstance(self.built[key], Unavailable):
            raise self.built[key]
        return self.built[key]


class Child:
    """One engine with one graph, in a process of its own."""

    def __init__(self, command, environment):
        self.errors = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True,
            env={**os.environ, **environment},
        )
        self.expect("ready", self.answer())

    def ask(self, command):
        try:
            print(command, file=self.process.stdin, flush=True)
        except BrokenPipeError:
            pass
        return self.answer()

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            code = self.process.wait()
            self.errors.seek(0)
            raise Died(code, last_line(self.errors.read()))
        return line.strip()

    def expect(self, wanted, got):
        if wanted != got:
            raise Unavailable(f"it said {got!r} instead of {wanted!r}")

    def run(self):
        return float(self.ask("run"))

    def features(self):
        """(patches, dim), each of length 1"""
        import numpy as np

        path = WORK / "features.f32"
        self.expect("ok", self.ask(f"features {path}"))
        features = np.fromfile(path, "<f4").reshape(-1, DIM).astype(np.float64)
        return features / np.linalg.norm(features, axis=1, keepdims=True)

    def quit(self):
        self.process.stdin.close()
        self.process.wait()
        self.errors.close()


class Died(Unavailable):
    def __init__(self, code, said):
        super().__init__(f"signal {-code}" if code < 0 else said)
        self.by_signal = code < 0


class Bench:
    def __init__(self, models, programs):
        self.models, self.programs = models, programs
        # By engine, the first of INSTRUCTION_SETS that did not fault.
        self.limits = {}
        self.peaks = None

    def start(self, engine, graph, size, threads, kernel=None):
        """A child that has run once, with the instructions that this machine bears."""
        model = self.models.graph(graph, size)
        command = [*self.programs.command(engine), model, size, threads]
        picture = {"BENCH_INPUT": str(self.models.picture(size))}
        if kernel:
            picture["TAGALONG_CPU"] = kernel
        of_onednn = engine.startswith("openvino") or engine == "torch"
        sets = INSTRUCTION_SETS[self.limits.get(engine, 0) :] if of_onednn else [None]
        for limit in sets:
            try:
                child = Child(command, {**picture, **({"ONEDNN_MAX_CPU_ISA": limit} if limit else {})})
                child.run()
                self.limits[engine] = INSTRUCTION_SETS.index(limit)
                child.graph, child.limit = graph, limit
                return child
            except Died as died:
                if not died.by_signal or limit == sets[-1]:
                    raise

    def fastest(self, row, size, threads):
        children = [self.start(row.engine, graph, size, threads, row.kernel) for graph in row.graphs]
        if len(children) == 1:
            return children[0]
        times = [[child.run() for child in children] for _ in range(TRIALS)]
        medians = [statistics.median(of_child) for of_child in zip(*times)]
        best = children[medians.index(min(medians))]
        for child in children:
            if child is not best:
                child.quit()
        return best

    def measure(self, rows, size, threads, rounds, order):
        """What each row takes for one size with so many threads."""
        reference = self.start("onnxruntime", "float", size, threads)
        expected = reference.features()
        reference.quit()
        children, results = {}, {}
        for row in rows:
            result = {"row": row.name, "title": row.title, "size": size, "threads": threads}
            results[row.name] = result
            try:
                child = self.fastest(row, size, threads)
            except Unavailable as problem:
                result["problem"] = str(problem)
                continue
            cosines = (child.features() * expected).sum(1)
            about = child.ask("about")
            result.update(graph=child.graph, instruction_limit=child.limit, about=None if about == "unknown" else about,
                          cosine_mean=cosines.mean(), cosine_min=cosines.min())
            if self.peaks is None and row.engine in ("tagalong", "tract"):
                self.peaks = peaks(child.ask("peak"))
            if not cosines.mean() >= LEAST_COSINE:
                result["problem"] = f"it computes something else: cosine {cosines.mean():.3f}"
                child.quit()
            elif row.engine == "openvino-native" and about.endswith("f32"):
                result["problem"] = "it chooses 32-bit floats here"
                child.quit()
            else:
                children[row.name] = child
        times = {name: [] for name in children}
        for _ in range(WARM_UPS + rounds):
            names = list(children)
            order.shuffle(names)
            for name in names:
                try:
                    times[name].append(children[name].run())
                except Died as died:
                    results[name]["problem"] = str(died)
                    del children[name]
        for row in (row for row in rows if row.name in children):
            children[row.name].quit()
            timed = times[row.name][WARM_UPS:]
            results[row.name].update(times_ms=timed, median_ms=statistics.median(timed), min_ms=min(timed),
                                     **self.rates(row, size, threads, statistics.median(timed)))
        return list(results.values())

    def rates(self, row, size, threads, milliseconds):
        linear, other = multiply_accumulates(size)
        rates = {"gops": 2 * (linear + other) / milliseconds / 1e6}
        peaks = self.peaks or {}
        # Other engines' 8-bit networks multiply in floats where nothing is constant: each part is held to its own peak.
        integers = max((peak for name, peak in peaks.items() if name != "f32"), default=None)
        of_linear = integers if row.arithmetic == "int8" else peaks.get(row.arithmetic)
        of_other = of_linear if row.kernel else peaks.get("f32")
        if of_linear and of_other:
            at_peak = 2 * (linear / of_linear + other / of_other) / threads / 1e6
            rates["of_peak"] = at_peak / milliseconds
        return rates


def peaks(answer):
    """GOP/s of one core by arithmetic, where our child measures them."""
    try:
        return {name: float(value) for name, value in json.loads(answer).items()}
    except (ValueError, AttributeError):
        return {}


# Telling it


def table(results, sizes, threads):
    columns = ["engine"]
    for size in sizes:
        columns += [f"{size}, {count} thread{'s' * (count > 1)}" for count in threads] + ["cosine mean / least"]
    lines = [columns, ["---"] + ["--:"] * (len(columns) - 1)]
    for name in dict.fromkeys(result["row"] for result in results):
        of_row = {(r["size"], r["threads"]): r for r in results if r["row"] == name}
        limits = {r.get("instruction_limit") for r in of_row.values()} - {None}
        title = next(iter(of_row.values()))["title"]
        line = [title + "".join(f" (at most {limit}: it faults on more)" for limit in sorted(limits))]
        for size in sizes:
            line += [cell(of_row[size, count]) for count in threads]
            first = of_row[size, threads[0]]
            line.append(f"{first['cosine_mean']:.5f} / {first['cosine_min']:.5f}" if "cosine_mean" in first else "")
        lines.append(line)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell(result):
    if "median_ms" not in result:
        return "none"
    share = f", {result['of_peak']:.0%}" if "of_peak" in result else ""
    return f"{result['median_ms']:.1f} ms, least {result['min_ms']:.1f} ({result['gops']:.0f} GOP/s{share})"


def notes(results, sizes, machine, peaks, rounds):
    operations = ", ".join(f"{size} {2 * sum(multiply_accumulates(size)) / 1e9:.1f}" for size in sizes)
    lines = [
        f"- DINOv2 ViT-S/14 with random weights. Medians and least times of {rounds} rounds; GOP/s are of the medians.",
        "- Cosines are those of each patch to ONNX Runtime's in floats: their mean and the least.",
        f"- {machine['processor']}, {machine['cores']} cores, {', '.join(machine['extensions']) or 'no extensions'}; "
        f"load {machine['load_before']:.1f} before and {machine['load_after']:.1f} after.",
        f"- Operations, two for each multiply-accumulate, in G: {operations}.",
    ]
    if peaks:
        measured = ", ".join(f"{name} {value:.0f}" for name, value in peaks.items())
        lines.append(f"- Peak of one core in GOP/s, which the shares are of: {measured}.")
    for name in dict.fromkeys(result["row"] for result in results):
        of_row = [result for result in results if result["row"] == name]
        told = [result["about"] for result in of_row if result.get("about")]
        graphs = {}
        for result in (result for result in of_row if "graph" in result):
            graphs.setdefault(result["graph"], []).append(f"{result['size']} with {result['threads']}")
        used = [f"graph {graph}" + f" ({', '.join(where)})" * (len(graphs) > 1) for graph, where in graphs.items()]
        problems = sorted({f"{r['size']} with {r['threads']}: {r['problem']}" for r in of_row if "problem" in r})
        if told or used or problems:
            parts = [*dict.fromkeys(told), *used, *(f"none for {problem}" for problem in problems)]
            lines.append(f"- {of_row[0]['title']}: {'; '.join(parts)}.")
    return "\n".join(lines)


def processor():
    """Its name, and those of its extensions that decide which kernels are used."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    first = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in reversed(lines))}
    name = first.get("model name") or first.get("Model") or platform.processor() or platform.machine()
    extensions = (first.get("flags") or first.get("Features") or "").split()
    return name, [extension for extension in EXTENSIONS if extension in extensions]


def comma_separated(choices):
    def parse(text):
        parts = text.split(",")
        unknown = [part for part in parts if str(part) not in map(str, choices)]
        if unknown:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}; there are {', '.join(map(str, choices))}")
        return [choice for choice in choices if str(choice) in parts]

    return parse


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    built = [path for path in (TARGET / "release/tagalong", TARGET / "debug/tagalong") if path.exists()]
    parser.add_argument("--program", type=Path, default=next(iter(built), None), help="makes the models")
    parser.add_argument("--child", help="the built benches/backbone.rs [default: built by cargo]")
    names = [row.name for row in ROWS]
    parser.add_argument("--only", type=comma_separated(names), metavar="ENGINE,...", help=", ".join(names))
    parser.add_argument("--sizes", type=comma_separated(SIZES), default=SIZES, metavar="HEIGHTxWIDTH,...")
    parser.add_argument("--threads", type=comma_separated([1, 2, 4, 8]), default=[1, 2], metavar="N,...")
    parser.add_argument("--rounds", type=int, default=15, metavar="N")
    parser.add_argument("--seed", type=int, default=1, help="of the order in each round")
    parser.add_argument("--with-torch", action="store_true", help="PyTorch too, a download of gigabytes")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write all times there")
    return parser.parse_args()


def main():
    args = arguments()
    environment(args.with_torch)
    WORK.mkdir(parents=True, exist_ok=True)
    rows = [row for row in ROWS if row.name != "torch" or args.with_torch]
    rows = [row for row in rows if args.only is None or row.name in args.only]
    # Kernels of other processors are not asked for.
    foreign = ("i8mm", "dotprod", "neon") if platform.machine() in ("x86_64", "AMD64") else ("amx", "avx512vnni", "avxvnni", "avx2")
    rows = [row for row in rows if row.kernel not in foreign]
    name, extensions = processor()
    machine = {"processor": name, "extensions": extensions, "cores": os.cpu_count(), "load_before": os.getloadavg()[0]}
    bench, order, results = Bench(Models(args.program), Programs(args.child)), random.Random(args.seed), []
    for size in args.sizes:
        for threads in args.threads:
            print(f"timing {size} with {threads}", file=sys.stderr)
            results += bench.measure(rows, size, threads, args.rounds, order)
    machine["load_after"] = os.getloadavg()[0]
    print(table(results, args.sizes, args.threads), end="\n\n")
    print(notes(results, args.sizes, machine, bench.peaks, args.rounds))
    if args.json:
        told = {"machine": machine, "peaks_gops": bench.peaks, "rounds": args.rounds, "results": results}
        args.json.write_text(json.dumps(told, indent=1))


if __name__ == "__main__":
    try:
        main()
    except Unavailable as problem:
        sys.exit(f"bench-backbone: {problem}")
