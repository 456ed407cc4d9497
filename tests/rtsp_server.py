"""Serves a picture that moves as a live stream of JPEGs: rtsp://127.0.0.1:PORT/scene. Says `ready` once it listens, and runs until killed."""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer

Gst.init(None)
server = GstRtspServer.RTSPServer(address="127.0.0.1", service=sys.argv[1])
factory = GstRtspServer.RTSPMediaFactory(
    launch="( videotestsrc is-live=true pattern=ball ! video/x-raw,format=I420,width=64,height=48,framerate=30/1 ! jpegenc ! rtpjpegpay name=pay0 )",
    shared=True,
)
server.get_mount_points().add_factory("/scene", factory)
if not server.attach(None):
    sys.exit(f"port {sys.argv[1]} is taken")
print("ready", flush=True)
GLib.MainLoop().run()
