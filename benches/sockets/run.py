#!/usr/bin/env python3
"""What a storm of clients does to those who only read: the age of reports when they arrive, with and without it.

    make bench-sockets                # SOCKETS="--seconds 10 --rounds 1" for a try
    python3 benches/sockets/run.py --program target/release/tagalong

Without and with the storm by turns, in one run. The storm: 1,000 connections a second to both sockets, each of which reads a little,
writes half a line or nothing, and is gone; 200 readers that take a byte a second; and clients of both kinds that are killed while
they write or read. The age of a report is from the capture of its frame, on the monotonic clock, to its arrival at one reader that
keeps up. Exit code 1 where the 99th percentile, median of all rounds, grows by more than a fifth.
"""

import argparse
import json
import multiprocessing
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

CONFIGURATION = """
state_dir = "{folder}/state"
[model]
input = "240x320"
[serve]
directory = "{folder}/sockets"
max_clients = 400
write_timeout_ms = 600000
[[camera]]
name = "scene"
source = "synthetic"
fps = 15.0
width = 320
height = 240
"""
CONNECTIONS = 1000
SLOW_READERS = 200


def connect(path):
    stream = socket.socket(socket.AF_UNIX)
    stream.settimeout(10)
    stream.connect(path)
    return stream


def storm(folder, done, made):
    """Connections that come and go, at a steady rate."""
    paths = [os.path.join(folder, "sockets", name) for name in ("tracks.sock", "control.sock")]
    start = time.monotonic()
    count = 0
    while not done.is_set():
        wait = start + count / CONNECTIONS - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        try:
            with connect(paths[count % 2]) as stream:
                if count % 3 == 0:
                    stream.recv(100)
                if count % 5 == 0:
                    stream.send(b'{"class":"sta')
        except OSError:
            pass
        count += 1
    made.value = count / (time.monotonic() - start)


def dawdle(folder, done):
    """Readers that take a byte a second each."""
    path = os.path.join(folder, "sockets", "tracks.sock")
    streams = []
    for _ in range(SLOW_READERS):
        streams.append(connect(path))
        time.sleep(0.005)
    while not done.is_set():
        for stream in streams:
            stream.recv(1)
            time.sleep(1 / SLOW_READERS)


def write_without_end(folder):
    """A client that is killed while it writes commands and reads nothing."""
    stream = connect(os.path.join(folder, "sockets", "control.sock"))
    stream.settimeout(None)
    while True:
        stream.sendall(b'{"class":"list"}\n' * 100)


def kill(folder, done):
    while not done.is_set():
        victim = multiprocessing.Process(target=write_without_end, args=(folder,), daemon=False)
        victim.start()
        time.sleep(0.2)
        os.kill(victim.pid, signal.SIGKILL)
        victim.join()


def ages(folder, seconds):
    """The age of each report at its arrival, ms."""
    stream = connect(os.path.join(folder, "sockets", "tracks.sock"))
    lines = stream.makefile("rb")
    found, until = [], time.monotonic() + seconds
    while time.monotonic() < until:
        line = lines.readline()
        now = time.monotonic_ns()
        report = json.loads(line)
        if report["class"] == "tracks":
            found.append((now - report["t_mono_ns"]) * 1e-6)
    # The first is the state that was there already.
    return found[1:]


def percentile(values, fraction):
    ordered = sorted(values)
    return ordered[round((len(ordered) - 1) * fraction)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="target/release/tagalong")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = os.path.join(folder, "tagalong.toml")
        with open(file, "w") as configuration:
            configuration.write(CONFIGURATION.format(folder=folder))
        with open(os.path.join(folder, "log"), "w") as log:
            daemon = subprocess.Popen([os.path.abspath(options.program), "run", "--config", file], stdout=log, stderr=log)
        try:
            return rounds(folder, daemon, options)
        finally:
            daemon.terminate()
            daemon.wait(60)


def rounds(folder, daemon, options):
    deadline = time.monotonic() + 60
    while not os.path.exists(os.path.join(folder, "sockets", "control.sock")):
        if daemon.poll() is not None or time.monotonic() > deadline:
            with open(os.path.join(folder, "log")) as log:
                raise SystemExit("the daemon does not start:\n" + log.read())
        time.sleep(0.1)
    time.sleep(2)
    p99 = {"calm": [], "storm": []}
    print(f"{'':>8} {'reports':>8} {'median ms':>10} {'p99 ms':>8} {'connections/s':>14}")
    for _ in range(options.rounds):
        for weather in p99:
            done, made = multiprocessing.Event(), multiprocessing.Value("d", 0.0)
            clients = []
            if weather == "storm":
                clients = [multiprocessing.Process(target=storm, args=(folder, done, made)),
                           multiprocessing.Process(target=dawdle, args=(folder, done)),
                           multiprocessing.Process(target=kill, args=(folder, done))]
            for client in clients:
                client.start()
            time.sleep(2)
            found = ages(folder, options.seconds)
            done.set()
            for client in clients:
                client.join()
            p99[weather].append(percentile(found, 0.99))
            print(f"{weather:>8} {len(found):8} {statistics.median(found):10.2f} {p99[weather][-1]:8.2f} {made.value:14.0f}", flush=True)
            time.sleep(1)
    growth = statistics.median(p99["storm"]) / statistics.median(p99["calm"])
    print(f"p99 with the storm is {growth:.2f} times that without")
    return 0 if growth <= 1.2 else 1


if __name__ == "__main__":
    sys.exit(main())
