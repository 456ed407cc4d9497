#!/bin/bash
# Runs inside a VM that has the kernel's virtual camera (vivid) at /dev/video0: takes that camera from the daemon in every way that
# cameras go, and gives it back. Each time the daemon lives, tells what is wrong and since when, in one line of the log, says of the track
# that its camera is lost, streams again within 2 s, and goes on with the same identity.
#
#   faults.sh TAGALONG [LOOPBACK]     the daemon's binary, and the compiled module v4l2loopback
set -euo pipefail
tagalong=$1
loopback=${2:-}
device=/dev/video0
driver=/sys/bus/platform/drivers/vivid
unit=$(basename "$(ls -d $driver/vivid.*)")
work=$(mktemp -d)
chmod 755 "$work"
export TAGALONG_SOCKET_DIR=$work/sockets
log=$work/log
watched=$work/watched
daemon=
here=$(dirname "$0")
. "$here/common.sh"

# The log with the time, in milliseconds, at which each line came.
now() { echo $((${EPOCHREALTIME/[.,]/} / 1000)); }
stamp() { while IFS= read -r line; do echo "$(now) $line"; done; }
count() { grep -c -- "$1" "$log" || true; }
count_is() { [ "$(count "$1")" = "$2" ]; }
LOST='it is tried again until it gives frames'
STREAMS=' streams '
problem_is() { "$tagalong" status --json 2>/dev/null | grep -q "\"problem\": *\"[^\"]*$1"; }

config() { # DEVICE [WIDTH HEIGHT FPS [FORMAT]]
    cat >"$work/tagalong.toml" <<TOML
state_dir = "$work/state"
[serve]
directory = "$TAGALONG_SOCKET_DIR"
[model]
input = "240x320"
[presets.sharp]
zoom = 1.0
context_frames = 3
radius = 5
[[camera]]
name = "cam"
source = "v4l2"
device = "$1"
width = ${2:-640}
height = ${3:-360}
fps = ${4:-15}
format = "${5:-auto}"
timeout_ms = 1500
TOML
}

start() { # COMMAND...: the daemon, under it.
    rm -f "$work/pipe"
    mkfifo -m 666 "$work/pipe"
    : >"$log"
    stamp <"$work/pipe" >>"$log" &
    "$@" "$tagalong" run --config "$work/tagalong.toml" 2>"$work/pipe" &
    daemon=$!
}

stop() {
    kill "$daemon"
    wait "$daemon" || fail "the daemon ended with $?"
    daemon=
}

# What the readers were told from now on.
listen() {
    : >"$watched"
    "$tagalong" watch --wait 60 --json >>"$watched" 2>/dev/null &
    listener=$!
    until_true 60 test -s "$watched" || fail "no reports are read"
}

# lost BEFORE WHY: it is known to be lost, for this reason, by one line in the log; and the track says so.
lost() {
    until_true 30 count_is "$LOST" $(($1 + 1)) || fail "its loss is not logged: $(count "$LOST") lines"
    grep -- "$LOST" "$log" | tail -n 1 | grep -q -- "$2" || fail "the log does not say '$2'"
}

# waits WHY: it has run without its camera since its start, and says why, once.
waits() {
    until_true 60 state_is lost || fail "the daemon does not run without its camera"
    lost 0 "$1"
    problem_is "$1" || fail "status does not say '$1'"
    sleep 3
    count_is "$LOST" 1 || fail "a camera that stays away is told of more than once"
}

# returned SINCE STREAMED: it streamed again within 2 s of SINCE, by the log's STREAMED'th line of that kind, and one line tells it.
returned() {
    until_true 30 count_is "$STREAMS" $(($2 + 1)) || fail "it does not stream again: $(count "$STREAMS") lines"
    local at
    at=$(grep -- "$STREAMS" "$log" | tail -n 1 | cut -d ' ' -f 1)
    ((at - $1 <= 2000)) || fail "it took $((at - $1)) ms until it streamed again"
    echo "  streams again after $((at - $1)) ms"
}

has_track() { "$tagalong" list --json | grep -q "\"id\": *$1\b"; }

# goes_on ID: the square is tracked under that id.
goes_on() {
    until_true 60 tracked || fail "it is not tracked again: $("$tagalong" list)"
    until_true 20 has_track "$1" || fail "track $1 has gone: $("$tagalong" list --json)"
}

told_lost() { grep -q '"reason": *"camera_lost"' "$watched"; }

# --- No camera at the start; one that comes later.
echo "$unit" >$driver/unbind
config usb-virtual-video-index0
mkdir -p /dev/v4l/by-id
start env
waits "does not exist"
since=$("$tagalong" status --json | sed -n 's/.*"since_s": *\([0-9]*\).*/\1/p' | head -n 1)
((since >= 3)) || fail "status does not tell since when: $since"
echo "$unit" >$driver/bind
ln -sf ../../video0 /dev/v4l/by-id/usb-virtual-video-index0
returned "$(now)" 0
show_square
until_true 60 reports_above 1 || fail "no reports"
"$tagalong" tag --box 240,100,160,160 --name square --save >/dev/null || fail "not tagged"
until_true 60 tracked || fail "not tracked"
id=$("$tagalong" list --json | sed -n 's/.*"id": *\([0-9]*\).*/\1/p' | head -n 1)
listen
echo "ok: no camera at the start"

# --- It fails, and is opened again.
: >"$watched"
lost=$(count "$LOST") streams=$(count "$STREAMS")
v4l2-ctl -d $device -c inject_fatal_streaming_error=1 >/dev/null 2>&1
lost "$lost" "streaming"
returned "$(grep -- "$LOST" "$log" | tail -n 1 | cut -d ' ' -f 1)" "$streams"
until_true 10 told_lost || fail "no reader was told that the camera was lost"
goes_on "$id"
echo "ok: a fatal error of the driver"

# --- Damaged pictures and lost ones: no reason to do anything.
lost=$(count "$LOST") streams=$(count "$STREAMS")
v4l2-ctl -d $device -c inject_v4l2_buf_flag_error=1 >/dev/null 2>&1
v4l2-ctl -d $device -c percentage_of_dropped_buffers=30 >/dev/null 2>&1
before=$(reports)
until_true 60 reports_above $((before + 20)) || fail "no reports while 30% of the frames are lost"
v4l2-ctl -d $device -c percentage_of_dropped_buffers=0 >/dev/null 2>&1
count_is "$LOST" "$lost" && count_is "$STREAMS" "$streams" || fail "frames that are lost are told of as if the camera were"
"$tagalong" status --json | grep -q '"dropped": *[1-9]' || fail "lost frames are not counted"
goes_on "$id"
echo "ok: damaged frames, and 30% of them lost"

# --- The clock of the day steps, forth and back.
lost=$(count "$LOST") streams=$(count "$STREAMS")
for step in '+400 days' '-800 days' '+400 days'; do
    date -s "$step" >/dev/null
    before=$(reports)
    until_true 60 reports_above $((before + 5)) || fail "no reports after the clock was set by $step"
    goes_on "$id"
done
count_is "$LOST" "$lost" && count_is "$STREAMS" "$streams" || fail "a step of the clock is taken for a loss of the camera"
echo "ok: the clock of the day steps"

# --- It comes back under another number: its old node is still held.
: >"$watched"
lost=$(count "$LOST") streams=$(count "$STREAMS")
exec 9<$device
echo "$unit" >$driver/unbind
lost "$lost" "is gone"
until_true 10 told_lost || fail "no reader was told that the camera was lost"
rm -f /dev/v4l/by-id/*
echo "$unit" >$driver/bind
[ -e /dev/video1 ] && [ ! -e $device ] || fail "the camera did not get another number: $(ls /dev/video*)"
device=/dev/video1
ln -sf ../../video1 /dev/v4l/by-id/usb-virtual-video-index0
returned "$(now)" "$streams"
show_square
goes_on "$id"
echo "ok: another number"
exec 9<&-
lost=$(count "$LOST") streams=$(count "$STREAMS")
echo "$unit" >$driver/unbind
lost "$lost" "is gone"
echo "$unit" >$driver/bind
device=/dev/video0
ln -sf ../../video0 /dev/v4l/by-id/usb-virtual-video-index0
returned "$(now)" "$streams"
show_square
goes_on "$id"
echo "ok: and the first again"

kill "$listener" 2>/dev/null || true
stop

# --- Another size and rate. What is known is recognised after the restart, under its id.
config usb-virtual-video-index0 320 180 30
start env
until_true 60 count_is "$STREAMS" 1 || fail "it does not stream in another size"
"$tagalong" status --json | grep -q ' 320x180 at 30' || fail "the new size and rate are not taken: $("$tagalong" status)"
goes_on "$id"
stop
config usb-virtual-video-index0
echo "ok: another size and rate"

# --- Another program holds it.
v4l2-ctl -d $device --stream-mmap --stream-count=100000 >/dev/null 2>&1 &
holder=$!
sleep 1
start env
waits "in use by another program"
kill "$holder"
wait "$holder" || true
returned "$(now)" 0
show_square
goes_on "$id"
stop
echo "ok: in use by another program, and recognised by the gallery"

# --- No permission.
chmod 600 $device
chown -R nobody "$work/state"
rm -rf "$TAGALONG_SOCKET_DIR"
install -d -o nobody "$TAGALONG_SOCKET_DIR"
start setpriv --reuid=nobody --regid=nogroup --clear-groups
waits "may not be opened by this user"
chmod 666 $device
returned "$(now)" 0
goes_on "$id"
stop
echo "ok: no permission"

# --- A producer that dies without a word, and MJPG, by v4l2loopback.
if [ -z "$loopback" ]; then
    echo "SKIPPED: a producer that dies, and MJPG: there is no module v4l2loopback"
    exit 0
fi
insmod "$loopback" video_nr=7 card_label=loopback exclusive_caps=0 || fail "the module v4l2loopback does not load"
rm -rf "$work/state" "$TAGALONG_SOCKET_DIR"
config usb-virtual-video-index0
start env
until_true 60 reports_above 3 || fail "no reports"
"$tagalong" snapshot "$work/square.jpg" >/dev/null || fail "no picture"
stop
produce() {
    python3 "$here/producer.py" /dev/video7 640 360 15 "$work/square.jpg" &
    producer=$!
}
produce
config /dev/video7 640 360 15 MJPG
start env
until_true 60 reports_above 1 || fail "MJPG: no reports"
"$tagalong" status --json | grep -q 'MJPG 640x360' || fail "MJPG: the device gave something else"
"$tagalong" tag --box 240,100,160,160 --name square --save >/dev/null || fail "MJPG: not tagged"
until_true 60 tracked || fail "MJPG: not tracked"
id=$("$tagalong" list --json | sed -n 's/.*"id": *\([0-9]*\).*/\1/p' | head -n 1)
echo "ok: MJPG 640x360 streamed, tagged, tracked"
kill -9 "$producer"
wait "$producer" 2>/dev/null || true
lost 0 "no frame from /dev/video7 in time"
until_true 10 says_camera_lost || fail "the track does not say that the camera is lost"
sleep 3
count_is "$LOST" 1 || fail "a producer that stays away is told of more than once: $(count "$LOST")"
produce
returned "$(now)" 1
goes_on "$id"
stop
echo "ok: a producer that dies"
