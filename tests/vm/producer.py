"""Gives one picture to an output device of V4L2 again and again, as MJPG: producer.py DEVICE WIDTH HEIGHT FPS FILE.jpg."""

import fcntl
import struct
import sys
import time

VIDIOC_S_FMT = 0xC0D05605
OUTPUT = 2
NO_FIELDS = 1

device, width, height, fps, file = sys.argv[1], *map(int, sys.argv[2:5]), sys.argv[5]
with open(file, "rb") as f:
    picture = f.read()
with open(device, "r+b", buffering=0) as node:
    pixels = (width, height, int.from_bytes(b"MJPG", "little"), NO_FIELDS, 0, width * height * 2)
    # A struct v4l2_format of 64 bits: its type, and 200 bytes of which the picture's format is the first.
    fcntl.ioctl(node, VIDIOC_S_FMT, bytearray(struct.pack("=II6I", OUTPUT, 0, *pixels).ljust(208, b"\0")))
    while True:
        node.write(picture)
        time.sleep(1 / fps)
