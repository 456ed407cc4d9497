#!/usr/bin/env python3
"""Weeks in an hour: the daemon at the highest rate that it reaches, with tags coming and going, until a million frames are reported.

    make soak                         # SOAK="--frames 100000" for less
    python3 benches/soak/run.py --program target/release/tagalong

Pictures and the model's input are small, so that frames are many. A reader takes every report, others come and go, one never
reads; a controller tags, names, keeps, forgets and removes objects all the time, and reloads the configuration. Held are, from the
first tenth on: resident memory within 2 MiB, the numbers of file descriptors and threads, the median time for a frame within a
quarter; and from the first frame on: sequence numbers that only rise, ids that are never given twice, no report lost by the reader.
Exit code 1 where one of them is not held.
"""

import argparse
import collections
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
sys.path.insert(0, os.path.join(ROOT, "clients", "python"))
from tagalong import Control, TagalongError, Tracks  # noqa: E402

CONFIGURATION = """
state_dir = "{folder}/state"
[model]
manifest = "{folder}/model/bundled.toml"
threads = 1
[serve]
directory = "{folder}/sockets"
queue = 1000
[[camera]]
name = "scene"
source = "synthetic"
fps = 1000.0
width = 160
height = 120
objects = 4
timeout_ms = 20000
[propagate]
preset = "soak"
[presets.soak]
refine_radius = 0.0
[track]
remove_after_s = 2.0
lost_after_s = 0.5
[log]
summary_interval_s = 0
"""
MIB = 1 << 20


class Daemon:
    """A daemon in a folder of its own."""

    def __init__(self, program, folder):
        self.folder = folder
        self.file = os.path.join(folder, "tagalong.toml")
        self.configure(CONFIGURATION)
        small_model(program, os.path.join(folder, "model"))
        self.log = open(os.path.join(folder, "log"), "w")
        self.process = subprocess.Popen([program, "run", "--config", self.file], stderr=self.log, stdout=self.log)
        os.environ["TAGALONG_SOCKET_DIR"] = os.path.join(folder, "sockets")
        deadline = time.monotonic() + 60
        while True:
            try:
                Control().close()
                return
            except OSError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise SystemExit("the daemon does not start; its log:\n" + self.tail())
                time.sleep(0.1)

    def configure(self, text):
        with open(self.file, "w") as file:
            file.write(text.format(folder=self.folder))

    def tail(self):
        with open(os.path.join(self.folder, "log")) as file:
            return "".join(file.readlines()[-20:])

    def resources(self):
        """Resident bytes, open files, threads."""
        proc = f"/proc/{self.process.pid}"
        with open(f"{proc}/statm") as file:
            resident = int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")
        return resident, len(os.listdir(f"{proc}/fd")), len(os.listdir(f"{proc}/task"))


def small_model(program, folder):
    """The bundled network, for pictures smaller than it is bundled for."""
    os.makedirs(folder)
    network = shutil.copy(os.path.join(ROOT, "models", "bundled.onnx"), folder)
    command = [program, "model", "manifest", network, "--output", "last_hidden_state", "--input-sizes", "64x96"]
    subprocess.run(command + ["--mean", "0,0,0", "--std", "1,1,1"], check=True, stdout=subprocess.DEVNULL)


class Controller(threading.Thread):
    """Tags objects and lets them go, without end, as an impatient robot would."""

    def __init__(self, daemon):
        super().__init__(daemon=True)
        self.host = daemon
        self.random = random.Random(1)
        self.done = threading.Event()
        self.ids = []
        self.counts = collections.Counter()
        self.refusals = collections.Counter()
        self.failure = None

    def run(self):
        try:
            with Control(timeout=60) as control:
                while not self.done.is_set():
                    self.act(control)
                    time.sleep(0.02)
        except Exception as failure:  # Told at the end, by the thread that waits.
            self.failure = failure

    def act(self, control):
        what = self.random.choices(["tag", "untag", "rename", "save", "forget", "reset", "snapshot", "reload"],
                                   [40, 25, 10, 6, 6, 2, 5, 2])[0]
        alive = [track.id for track in control.list()]
        try:
            if what == "tag":
                box = (self.random.randrange(100), self.random.randrange(60), self.random.randrange(24, 60), self.random.randrange(24, 60))
                self.ids.append(control.tag(box=box, name=f"object {len(self.ids)}").track.id)
            elif what == "reset":
                control.reset()
            elif what == "snapshot":
                control.snapshot()
            elif what == "reload":
                lost = self.random.choice(["0.5", "0.4"])
                self.host.configure(CONFIGURATION.replace("lost_after_s = 0.5", f"lost_after_s = {lost}"))
                control.reload()
            elif what == "forget":
                for known in control.gallery()[:2]:
                    control.gallery_forget(known.name)
            elif alive:
                track = self.random.choice(alive)
                if what == "untag":
                    control.untag(track)
                elif what == "rename":
                    control.rename(track, f"renamed {self.random.randrange(1000)}")
                elif what == "save":
                    control.save(track, f"known {self.random.randrange(1000)}")
            self.counts[what] += 1
        except TagalongError as refused:
            # What it pointed at may have gone by then, or be in the way of another.
            self.refusals[refused.code] += 1


def come_and_go(done):
    """Readers that read a little and leave; and one that never reads, until the daemon has long let it go."""
    deaf, since = Tracks(), time.monotonic()
    while not done.is_set():
        if time.monotonic() - since > 10:
            deaf.close()
            deaf, since = Tracks(), time.monotonic()
        with Tracks(timeout=5) as reader:
            for _ in range(20):
                next(reader)
        time.sleep(0.05)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="target/release/tagalong")
    parser.add_argument("--frames", type=int, default=1_000_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        daemon = Daemon(os.path.abspath(options.program), folder)
        try:
            problems = soak(daemon, options.frames)
        finally:
            daemon.process.send_signal(signal.SIGTERM)
            code = daemon.process.wait(60)
        if code:
            problems.append(f"the daemon ended with {code}; its log:\n{daemon.tail()}")
    for problem in problems:
        print(f"NOT HELD: {problem}")
    if not problems:
        print("all of it was held")
    return 1 if problems else 0


def soak(daemon, frames):
    """Runs it, prints a line for each tenth, and returns what was not held."""
    problems = []
    controller = Controller(daemon)
    controller.start()
    threading.Thread(target=come_and_go, args=(controller.done,), daemon=True).start()
    reader = Tracks(masks=True, timeout=60)
    reported, lost, last, first_ids, removed = 0, 0, -1, set(), set()
    window, medians, samples = [], [], []
    tenth = max(frames // 10, 1)
    start = time.monotonic()
    print(f"{'frames':>9} {'frames/s':>9} {'resident MiB':>13} {'files':>6} {'threads':>8} {'median ms':>10} {'lost':>6} {'tracks':>7}")
    while reported < frames:
        report = next(reader)
        if report.seq <= last:
            problems.append(f"frame {report.seq} was reported after frame {last}")
        last = report.seq
        reported += 1
        lost += report.missed
        window.append(report.latency_ms["total"])
        for track in report.tracks:
            if track.id in removed:
                problems.append(f"track {track.id} was removed, and is back")
                removed.discard(track.id)
            if track.state == "removed":
                removed.add(track.id)
            first_ids.add(track.id)
        if reported % max(tenth // 20, 1) == 0:
            samples.append((reported, *daemon.resources()))
        if reported % tenth == 0:
            medians.append(statistics.median(window))
            window.clear()
            resident, files, threads = daemon.resources()
            rate = reported / (time.monotonic() - start)
            print(f"{reported:9} {rate:9.0f} {resident / MIB:13.2f} {files:6} {threads:8} {medians[-1]:10.3f} {lost:6} {len(first_ids):7}",
                  flush=True)
    controller.done.set()
    controller.join(60)
    status = Control(timeout=60)
    told = status.status()
    status.close()
    reader.close()
    return problems + judge(controller, told, samples, medians, lost, frames)


def judge(controller, told, samples, medians, lost, frames):
    problems = []
    warm = [sample for sample in samples if sample[0] >= frames // 10]
    third = max(len(warm) // 3, 1)
    # Memory rises and falls with what is tracked; what must not rise is the level that it has most of the time.
    early, late = (statistics.median(sample[1] for sample in part) for part in (warm[:third], warm[-third:]))
    print(f"resident: {early / MIB:.2f} MiB in the first third after the first tenth, {late / MIB:.2f} in the last")
    if late - early > 2 * MIB:
        problems.append(f"memory grew by {(late - early) / MIB:.2f} MiB")
    for name, column, slack in (("file descriptors", 2, 4), ("threads", 3, 0)):
        counts = [sample[column] for sample in warm]
        print(f"{name}: {min(counts)} to {max(counts)}")
        # Readers that come and go have a descriptor each.
        if max(counts) - min(counts) > slack:
            problems.append(f"{name}: {min(counts)} to {max(counts)}")
    drift = medians[-1] / medians[1] if len(medians) > 1 else 1.0
    print(f"median time for a frame, last tenth over second: {drift:.3f}")
    if drift > 1.25:
        problems.append(f"frames take {drift:.2f} times as long as at first")
    if lost:
        problems.append(f"a reader that kept reading lost {lost} reports")
    ids = controller.ids
    print(f"tagged {len(ids)} objects, ids {min(ids, default=0)} to {max(ids, default=0)}; done {dict(controller.counts)}, refused {dict(controller.refusals)}")
    if not ids or len(set(ids)) != len(ids) or ids != sorted(ids):
        problems.append("an id was given twice, or a later one is lower")
    if controller.failure:
        problems.append(f"the controller: {controller.failure!r}")
    camera = told["cameras"][0]
    if not camera["captured"] >= camera["embedded"] >= camera["reported"] >= frames:
        problems.append(f"counters do not fit together: {camera}")
    if told.get("warnings"):
        problems.append(f"warnings: {told['warnings']}")
    return problems


if __name__ == "__main__":
    sys.exit(main())
