#!/bin/bash
# Runs inside a VM that has the kernel's virtual camera (vivid) at /dev/video0: streams every format through the
# daemon, tags the square of the test pattern, reads its track, unplugs the camera and plugs it in again.
#
#   camera.sh TAGALONG [CAPTURE_TEST]     the daemon's binary, and the compiled tests/camera_capture.rs
set -euo pipefail
tagalong=$1
capture_test=${2:-}
device=/dev/video0
work=$(mktemp -d)
export TAGALONG_SOCKET_DIR=$work
log=$work/log
daemon=

. "$(dirname "$0")/common.sh"

declare -A by=()
start() { # FORMAT
    cat >"$work/tagalong.toml" <<EOF
state_dir = "$work/state"
[serve]
directory = "$work"
[model]
input = "240x320"
[presets.sharp]
zoom = 1.0
context_frames = 3
radius = 5
[track]
lost_after_s = 5
[[camera]]
name = "vivid"
source = "v4l2"
device = "${by[$1]:-$device}"
format = "$1"
width = 640
height = 360
fps = 15
EOF
    "$tagalong" check "$work/tagalong.toml" >/dev/null || fail "the configuration for $1 is refused"
    "$tagalong" run --config "$work/tagalong.toml" 2>"$log" &
    daemon=$!
}

stop() {
    kill "$daemon"
    wait "$daemon" || fail "the daemon ended with $?"
    daemon=
}

if [ -n "$capture_test" ]; then
    "$capture_test" --test-threads=1 --nocapture || fail "the capture test"
fi
# After that test, which makes the camera anew.
show_square

"$tagalong" devices >"$work/devices"
cat "$work/devices"
for part in "$device" YUYV NV12 640x360; do
    grep -q "$part" "$work/devices" || fail "devices does not tell of $part"
done

# By its path, by the name that a link gives it, and found by itself.
mkdir -p /dev/v4l/by-id
ln -sf "../../${device#/dev/}" /dev/v4l/by-id/usb-virtual-video-index0
by=([UYVY]=/dev/v4l/by-id/usb-virtual-video-index0 [NV12]=auto)
for format in YUYV UYVY NV12 GREY RGB3; do
    start "$format"
    until_true 40 reports_above 1 || fail "$format: no frames"
    "$tagalong" status --json | grep -q "$format 640x360" || fail "$format: the device gave something else"
    "$tagalong" tag --camera vivid --box 240,100,160,160 --name square >"$work/tag" || fail "$format: not tagged"
    until_true 40 tracked || fail "$format: the square is not tracked: $("$tagalong" list)"
    ("$tagalong" watch --json || true) | head -n 3 >"$work/tracks"
    grep -q '"name": *"square"' "$work/tracks" || fail "$format: the track is not in the reports"
    stop
    echo "ok: $format 640x360 streamed, tagged, tracked"
done

start YUYV
until_true 40 reports_above 1 || fail "no frames before the unplugging"
"$tagalong" tag --camera vivid --box 240,100,160,160 --name square >/dev/null
until_true 40 tracked || fail "not tracked before the unplugging"
losses() { grep -c "it is tried again" "$log" || true; }
losses_are() { [ "$(losses)" = "$1" ]; }

# The driver ends the stream, and takes the device back as soon as nobody holds it open.
v4l2-ctl -d "$device" -c disconnect=1 >/dev/null 2>&1 || true
until_true 10 losses_are 1 || fail "the loss of the camera is not logged"
until_true 10 state_is streaming || fail "the camera is not opened again"
before=$(reports)
until_true 20 reports_above "$before" || fail "no reports after the disconnection"

# The device vanishes, and comes back a while later.
driver=/sys/bus/platform/drivers/vivid
name=$(basename "$(ls -d $driver/vivid.*)")
echo "$name" >$driver/unbind
until_true 10 state_is lost || fail "status does not tell that the camera is lost"
until_true 5 says_camera_lost || fail "the track does not say that the camera is lost: $("$tagalong" list)"
sleep 2
before=$(reports)
echo "$name" >$driver/bind
returned=$SECONDS
until_true 10 state_is streaming || fail "the returned camera is not opened again"
((SECONDS - returned <= 4)) || fail "it took $((SECONDS - returned)) s to open the returned camera"
show_square
until_true 20 reports_above "$before" || fail "no reports after the camera's return"
until_true 40 tracked || fail "the square is not tracked again: $("$tagalong" list)"
losses_are 2 || fail "each loss is logged once, and there were two: $(losses)"
stop
echo "ok: unplugged, returned, tracked again"
