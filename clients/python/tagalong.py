#!/usr/bin/env python3
"""Reads tracks from a running tagalong daemon, and gives it commands.

One file, the standard library only, Python 3.9 or later: copy it beside your program.

    from tagalong import Control, Tracks

    with Control() as control:
        control.tag(box=(310, 120, 80, 60), name="mug")
    for report in Tracks():
        for track in report.tracks:
            print(report.camera, track.name, track.state, track.box)

The sockets are looked for in /run/tagalong, or in the folder that the environment variable
TAGALONG_SOCKET_DIR names. The daemon's docs/protocol.md describes every field.
"""

from __future__ import annotations

import argparse
import base64
import dataclasses
import json
import os
import socket
import sys
import time
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple, Type, TypeVar

__all__ = [
    "Control", "KnownObject", "ListedTrack", "Reloaded", "Report", "Snapshot", "TagalongError", "Tagged", "Track", "Tracks",
    "decode_rle", "encode_rle", "socket_path",
]

PROTOCOL_MAJOR = 1


class TagalongError(Exception):
    """The daemon refused something. `code` is stable and dotted, such as "track.unknown"."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{message} [{code}]")
        self.code = code
        self.message = message


@dataclasses.dataclass(frozen=True)
class Track:
    """One tracked object in one frame. Coordinates are pixels of the captured frame."""

    id: int
    name: str
    state: str
    """tentative, tracked, occluded, lost or removed."""
    reason: str
    """Why it is in this state."""
    score: float
    """0 to 1: the IoU that the mask is expected to have with the object's true one."""
    area: int
    """Pixels."""
    velocity: Tuple[float, float]
    """x, y in pixels a second."""
    age: int
    """Frames since it was tagged."""
    since_seen: int
    """Frames since it was last seen; 0 when it is seen now."""
    box: Optional[Tuple[float, float, float, float]] = None
    """x, y, width, height; None when nothing is seen."""
    centroid: Optional[Tuple[float, float]] = None
    """x, y; None when nothing is seen."""
    mask: Optional[Dict[str, Any]] = None
    """COCO RLE for `decode_rle`, where masks were asked for and it is seen."""


@dataclasses.dataclass(frozen=True)
class Report:
    """Every track of one camera in one frame."""

    camera: str
    seq: int
    """Counts the camera's frames, those that were lost too."""
    dropped: int
    """Frames that the daemon lost since its last report."""
    t_mono_ns: int
    """Capture time on CLOCK_MONOTONIC, the clock of time.monotonic_ns()."""
    t_real_ns: int
    """Capture time since the Unix epoch, the clock of time.time_ns()."""
    size: Tuple[int, int]
    """Width, height of the frame in pixels."""
    latency_ms: Dict[str, float]
    tracks: List[Track]
    masks_dropped: bool = False
    """The masks that were asked for did not fit into one line."""
    missed: int = 0
    """Reports that this client lost just before this one, because it did not keep up."""


@dataclasses.dataclass(frozen=True)
class Tagged:
    """Where an object was tagged, and its new track."""

    camera: str
    seq: int
    track: Track


@dataclasses.dataclass(frozen=True)
class ListedTrack:
    """A track as `Control.list` tells it."""

    camera: str
    id: int
    name: str
    state: str
    reason: str
    score: float
    age: int
    since_seen: int


@dataclasses.dataclass(frozen=True)
class KnownObject:
    """An object of the gallery."""

    name: str
    model: str
    """The model whose features it is known by."""
    exemplars: Tuple[int, int]
    """How many patches it is known by: its own, and those of other things."""
    tracks: Dict[str, int]
    """Under which track id each camera knows it."""
    saved_ns: int
    changed_ns: int
    """Nanoseconds since 1970: when it was saved, and last learnt from."""
    problem: Optional[str] = None
    """Why it cannot be used, when it cannot."""
    size: Optional[Tuple[int, int]] = None
    """Width, height in pixels of the pictures that it was saved from, where that is known."""
    remark: Optional[str] = None
    """Why it may not be recognised though it can be used."""


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """A camera's newest frame with its masks drawn over it."""

    camera: str
    seq: int
    size: Tuple[int, int]
    """Width, height in pixels."""
    jpeg: bytes


@dataclasses.dataclass(frozen=True)
class Reloaded:
    """Keys of the configuration that took effect, and those that need a restart."""

    applied: List[str]
    restart_needed: List[str]


def socket_path(name: str) -> str:
    """Where the daemon's socket of this file name is."""
    return os.path.join(os.environ.get("TAGALONG_SOCKET_DIR") or "/run/tagalong", name)


class Tracks:
    """Iterates over the reports of a daemon.

    `cameras` names those wanted (None for all), `masks` asks for the objects' pixels, `max_rate` bounds the
    reports a second of each camera. With `reconnect`, a daemon that goes away is waited for; without it the
    iteration ends. `timeout` is the longest wait for one report in seconds: then TimeoutError is raised, and
    iterating may go on.

    Raises OSError when nobody answers at `path`, and TagalongError when the daemon refuses.
    """

    def __init__(
        self,
        path: Optional[str] = None,
        *,
        cameras: Optional[Sequence[str]] = None,
        masks: bool = False,
        max_rate: Optional[float] = None,
        reconnect: bool = False,
        timeout: Optional[float] = None,
    ) -> None:
        self._path = path or socket_path("tracks.sock")
        self._subscribe: Dict[str, Any] = {"class": "subscribe", "id": 1, "masks": masks}
        if cameras is not None:
            self._subscribe["cameras"] = list(cameras)
        if max_rate is not None:
            self._subscribe["max_rate"] = max_rate
        self._reconnect = reconnect
        self._timeout = timeout
        self._lines: Optional[_Lines] = None
        self._subscribed = False
        self._missed = 0
        self._closed = False
        self.hello: Dict[str, Any] = {}
        """The daemon's greeting: protocol, version, boot_id, cameras."""
        if not reconnect:
            self._connect()

    def __iter__(self) -> Iterator[Report]:
        return self

    def __next__(self) -> Report:
        deadline = None if self._timeout is None else time.monotonic() + self._timeout
        pause = 0.1
        while not self._closed:
            try:
                if self._lines is None:
                    self._connect()
                report = self._next_report(deadline)
            except TimeoutError:
                raise
            except TagalongError as error:
                # This client was one too many, or too slow: later it may not be.
                if not (self._reconnect and error.code.startswith("client.")):
                    raise
                report = None
            except OSError:
                if not self._reconnect:
                    raise
                report = None
            if report is not None:
                return report
            if not self._reconnect:
                break
            self._drop()
            if deadline is not None:
                pause = min(pause, deadline - time.monotonic())
                if pause <= 0:
                    raise TimeoutError("no report in time")
            time.sleep(pause)
            pause = min(2 * pause, 5.0)
        self.close()
        raise StopIteration

    def close(self) -> None:
        """Ends the connection, and the iteration."""
        self._closed = True
        self._drop()

    def __enter__(self) -> "Tracks":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _connect(self) -> None:
        self._lines, self.hello = _connect(self._path, self._timeout)
        self._lines.send(self._subscribe)
        self._subscribed = False

    def _drop(self) -> None:
        if self._lines is not None:
            self._lines.close()
            self._lines = None

    def _next_report(self, deadline: Optional[float]) -> Optional[Report]:
        """The next report; None when the daemon has closed the connection."""
        assert self._lines is not None
        while True:
            line = self._lines.read(deadline)
            if line is None:
                return None
            kind = line.get("class")
            if kind == "subscribed":
                self._subscribed = True
            elif kind == "error":
                raise TagalongError(line["code"], line["message"])
            elif kind == "gap":
                self._missed += line["dropped"]
            # What comes before the answer is not yet what was asked for.
            elif kind == "tracks" and self._subscribed:
                missed, self._missed = self._missed, 0
                tracks = [_track(track) for track in line["tracks"]]
                return _build(Report, line, tracks=tracks, missed=missed)


class Control:
    """Gives commands to a daemon, and waits at most `timeout` seconds for each answer.

    Every command raises TagalongError when the daemon refuses it, TimeoutError when no answer comes in time,
    and another OSError when the connection breaks.
    """

    def __init__(self, path: Optional[str] = None, *, timeout: float = 10.0) -> None:
        self._timeout = timeout
        self._last_id = 0
        self._lines, self.hello = _connect(path or socket_path("control.sock"), timeout)

    def tag(
        self,
        *,
        box: Optional[Sequence[float]] = None,
        point: Optional[Sequence[float]] = None,
        mask: Optional[Dict[str, Any]] = None,
        gallery: Optional[str] = None,
        proposal: Optional[int] = None,
        camera: Optional[str] = None,
        name: Optional[str] = None,
        seq: Optional[int] = None,
        save: bool = False,
    ) -> Tagged:
        """Gives an object its identity: by a box (x, y, width, height) around it, a point (x, y) on it, or its
        pixels (COCO RLE, see `encode_rle`), in pixels of the captured frame; or by the name of what the gallery
        knows, where that is seen now; or by the id of what the daemon proposed.

        `camera` may be left out where there is one only. `seq` is the frame that was looked at, the newest
        one if it is left out. With `save` it is put into the gallery, too.
        """
        answer = self.call(
            "tag", camera=camera, name=name, seq=seq, mask=mask, gallery=gallery, proposal=proposal,
            save=True if save else None,
            box=None if box is None else [float(value) for value in box],
            point=None if point is None else [float(value) for value in point],
        )
        return Tagged(answer["camera"], answer["seq"], _track(answer["track"]))

    def save(self, track: int, name: Optional[str] = None) -> List[KnownObject]:
        """Puts a track into the gallery, under its own name or another. Returns the gallery."""
        return self._gallery("save", track=track, name=name)

    def gallery(self) -> List[KnownObject]:
        """What the gallery knows."""
        return self._gallery("gallery")

    def gallery_rename(self, name: str, to: str) -> List[KnownObject]:
        """Gives what the gallery knows another name. Returns the gallery."""
        return self._gallery("gallery_rename", name=name, to=to)

    def gallery_merge(self, name: str, into: str) -> List[KnownObject]:
        """Makes one object of two that are the same thing; `into` stays. Returns the gallery."""
        return self._gallery("gallery_merge", name=name, into=into)

    def gallery_forget(self, name: str) -> List[KnownObject]:
        """Removes an object from the gallery. Returns the gallery."""
        return self._gallery("gallery_forget", name=name)

    def gallery_export(self, name: str) -> bytes:
        """An object as another gallery takes it in, in the safetensors format."""
        return base64.b64decode(self.call("gallery_export", name=name)["object_base64"])

    def gallery_import(self, exported: bytes, name: Optional[str] = None) -> List[KnownObject]:
        """Takes in what `gallery_export` gave, under its own name or another. Returns the gallery."""
        text = base64.b64encode(exported).decode("ascii")
        return self._gallery("gallery_import", object_base64=text, name=name)

    def _gallery(self, command: str, **fields: Any) -> List[KnownObject]:
        return [_build(KnownObject, known) for known in self.call(command, **fields)["gallery"]]

    def untag(self, track: int) -> List[int]:
        """Ends a track. Returns the ids of what was removed."""
        return list(self.call("untag", track=track)["removed"])

    def rename(self, track: int, name: str) -> None:
        """Gives a track another name of 1 to 64 characters."""
        self.call("rename", track=track, name=name)

    def reset(self, camera: Optional[str] = None) -> List[int]:
        """Ends every track of a camera, or of all. Returns the ids of what was removed."""
        return list(self.call("reset", camera=camera)["removed"])

    def list(self, camera: Optional[str] = None) -> List[ListedTrack]:
        """The tracks of a camera, or of all."""
        return [_build(ListedTrack, track) for track in self.call("list", camera=camera)["tracks"]]

    def status(self) -> Dict[str, Any]:
        """The daemon's health. Where a budget is set, "budget" tells what is held and what was done for it."""
        return self.call("status")

    def snapshot(self, camera: Optional[str] = None) -> Snapshot:
        """A camera's newest frame with its masks drawn over it."""
        answer = self.call("snapshot", camera=camera)
        return _build(Snapshot, answer, jpeg=base64.b64decode(answer["jpeg_base64"]))

    def reload(self) -> Reloaded:
        """Has the daemon read its configuration again."""
        return _build(Reloaded, self.call("reload"))

    def call(self, command: str, **fields: Any) -> Dict[str, Any]:
        """Gives any command, and returns its answer's object. Fields that are None are left out."""
        self._last_id += 1
        line = {"class": command, "id": self._last_id}
        line.update((key, value) for key, value in fields.items() if value is not None)
        deadline = time.monotonic() + self._timeout
        self._lines.send(line)
        while True:
            answer = self._lines.read(deadline)
            if answer is None:
                raise ConnectionResetError("the daemon closed the connection")
            # The answer to an earlier command, which came too late, has that one's id.
            if answer.get("id", self._last_id) != self._last_id:
                continue
            if answer.get("class") == "error":
                raise TagalongError(answer["code"], answer["message"])
            if answer.get("class") == "answer":
                return answer

    def close(self) -> None:
        """Ends the connection."""
        self._lines.close()

    def __enter__(self) -> "Control":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def decode_rle(mask: Dict[str, Any]) -> List[bytes]:
    """The pixels of a COCO RLE: one `bytes` for each row from the top, in it 0 or 1 for each pixel.

    Raises ValueError when the counts do not cover the size exactly.
    """
    height, width = mask["size"]
    runs: List[int] = []
    value = shift = 0
    for character in mask["counts"]:
        code = ord(character) - 48
        if not 0 <= code < 64:
            raise ValueError(f"{character!r} is no character of COCO's counts")
        value |= (code & 31) << shift
        shift += 5
        if code & 32:
            continue
        if code & 16:
            value -= 1 << shift
        if len(runs) > 2:
            value += runs[-2]
        runs.append(value)
        value = shift = 0
    if shift or any(run < 0 for run in runs) or sum(runs) != height * width:
        raise ValueError(f"the counts do not cover {width} x {height} pixels")
    # (width * height) pixels, down the columns
    flat = b"".join((b"\1" if index % 2 else b"\0") * run for index, run in enumerate(runs))
    return [flat[row::height] for row in range(height)]


def encode_rle(rows: Sequence[Sequence[int]]) -> Dict[str, Any]:
    """The COCO RLE of a mask given row by row, where 0 is outside and anything else inside."""
    height, width = len(rows), len(rows[0]) if rows else 0
    runs = [0]
    for x in range(width):
        for y in range(height):
            if bool(rows[y][x]) != (len(runs) % 2 == 0):
                runs.append(0)
            runs[-1] += 1
    counts: List[str] = []
    for index, run in enumerate(runs):
        value = run - (runs[index - 2] if index > 2 else 0)
        more = True
        while more:
            code = value & 31
            value >>= 5
            more = value != (-1 if code & 16 else 0)
            counts.append(chr(code + (32 if more else 0) + 48))
    return {"size": [height, width], "counts": "".join(counts)}


class _Lines:
    """A socket that carries one JSON object a line."""

    def __init__(self, path: str, timeout: Optional[float]) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._timeout = timeout
        self._buffer = bytearray()
        self._searched = 0
        try:
            self._socket.settimeout(timeout)
            self._socket.connect(path)
        except OSError as error:
            self._socket.close()
            if error.errno is None:
                raise
            # Python does not say which path it was.
            raise type(error)(error.errno, f"{error.strerror}: is the daemon running?", path) from None

    def send(self, value: Dict[str, Any]) -> None:
        self._socket.settimeout(self._timeout)
        try:
            self._socket.sendall(json.dumps(value, allow_nan=False).encode() + b"\n")
        except socket.timeout:
            raise TimeoutError("the daemon takes nothing") from None

    def read(self, deadline: Optional[float]) -> Optional[Dict[str, Any]]:
        """The next line's object; None at the end. What was read of a line before a timeout is kept."""
        while True:
            end = self._buffer.find(b"\n", self._searched)
            if end >= 0:
                line = bytes(self._buffer[:end])
                del self._buffer[: end + 1]
                self._searched = 0
                value = json.loads(line)
                if isinstance(value, dict):
                    return value
                continue
            self._searched = len(self._buffer)
            left = None if deadline is None else max(deadline - time.monotonic(), 0.001)
            self._socket.settimeout(left)
            try:
                chunk = self._socket.recv(65536)
            except socket.timeout:
                if deadline is not None and time.monotonic() >= deadline:
                    raise TimeoutError("the daemon sent nothing in time") from None
                continue
            except ConnectionResetError:
                return None
            if not chunk:
                return None
            self._buffer += chunk

    def close(self) -> None:
        self._socket.close()


def _connect(path: str, timeout: Optional[float]) -> Tuple[_Lines, Dict[str, Any]]:
    lines = _Lines(path, timeout)
    try:
        hello = lines.read(None if timeout is None else time.monotonic() + timeout)
        if hello is None:
            raise ConnectionResetError("the daemon closed the connection")
        if hello.get("class") == "error":
            raise TagalongError(hello["code"], hello["message"])
        major = hello.get("protocol", {}).get("major")
        if major != PROTOCOL_MAJOR:
            message = f"the daemon speaks protocol version {major}, and this client version {PROTOCOL_MAJOR}"
            raise TagalongError("protocol.version", message)
        return lines, hello
    except BaseException:
        lines.close()
        raise


_T = TypeVar("_T")


def _build(kind: Type[_T], values: Dict[str, Any], **replaced: Any) -> _T:
    """Makes a dataclass of an object's fields; those that this version does not know are passed over."""
    known = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    chosen = {key: _frozen(key, value) for key, value in values.items() if key in known}
    return kind(**{**chosen, **replaced})


def _frozen(key: str, value: Any) -> Any:
    return tuple(value) if key in ("box", "centroid", "velocity", "size", "exemplars") else value


def _track(values: Dict[str, Any]) -> Track:
    return _build(Track, values)


def _main(arguments: Optional[Sequence[str]] = None) -> int:
    parser = argparse.ArgumentParser(prog="tagalong.py", description="Print the tracks of a running daemon.")
    parser.add_argument("path", nargs="?", help=f"the socket, {socket_path('tracks.sock')} if left out")
    parser.add_argument("--camera", action="append", help="a camera to read; may be given again")
    parser.add_argument("--max-rate", type=float, metavar="HZ", help="reports a second of each camera")
    parser.add_argument("--reconnect", action="store_true", help="wait for a daemon that is not there")
    parser.add_argument("--count", type=int, metavar="N", help="end after as many reports")
    options = parser.parse_args(arguments)
    try:
        reports = Tracks(
            options.path, cameras=options.camera, max_rate=options.max_rate, reconnect=options.reconnect
        )
        for number, report in enumerate(reports, start=1):
            if report.missed:
                print(f"({report.missed} reports missed)")
            for track in report.tracks:
                box = "unseen" if track.box is None else "at " + " ".join(f"{value:.0f}" for value in track.box)
                print(f"{report.camera} {report.seq}: {track.id} {track.name!r} {track.state} {track.score:.2f} {box}")
            sys.stdout.flush()
            if number == options.count:
                break
    except (KeyboardInterrupt, BrokenPipeError):
        # Nothing is left to be flushed to a pipe that has closed.
        sys.stdout = open(os.devnull, "w")
    except (OSError, TagalongError) as error:
        print(f"tagalong.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_main())
