#!/bin/bash
# Runs inside a VM with systemd as its first process: a camera that is a stream from the network, by a pipeline of GStreamer. The unit
# denies it, its drop-in allows it, and its server dies and returns.
#
#   gstreamer.sh TAGALONG     in the repository's root, after `make generate`; built with the feature `gstreamer`
set -euo pipefail
export TAGALONG_SOCKET_DIR=/run/tagalong

. "$(dirname "$0")/common.sh"

serve() { systemd-run --quiet --collect --unit=stream /usr/bin/python3 "$PWD/tests/rtsp_server.py" 8554; }
status_has() { tagalong status | grep -q -- "$1"; }

install_service "$1" <<'TOML'
[model]
input = "240x320"
[[camera]]
name = "gate"
source = "gstreamer"
pipeline = "rtspsrc location=rtsp://127.0.0.1:8554/scene protocols=tcp latency=0 ! rtpjpegdepay ! jpegdec ! videoconvert ! appsink"
timeout_ms = 5000
TOML
serve
systemctl start tagalong || fail "it does not start"
until_true 60 status_has 'camera gate: lost' || fail "the unit lets it reach a network: $(tagalong status)"
status_has 'problem *rtspsrc: rtspsrc: ' || fail "the reason is not told: $(tagalong status)"
echo "ok: without the drop-in: $(tagalong status | grep -A 1 'camera gate')"

install -D -m 644 /usr/share/doc/tagalong/gstreamer.conf /etc/systemd/system/tagalong.service.d/gstreamer.conf
systemctl daemon-reload
systemctl restart tagalong || fail "it does not start with the drop-in"
until_true 90 reports_above 5 || fail "no reports: $(tagalong status)"
[ -s /var/lib/tagalong/gstreamer-registry.bin ] || fail "the plugins are looked up at each start"
[ "$(ps -o user= -p "$(main_pid)")" != root ] || fail "it runs as root"
echo "ok: with it: $(tagalong status | grep 'camera gate'); $(systemd-analyze security --no-pager tagalong | tail -n 1 | tr -s ' ')"

for _ in 1 2; do
    systemctl kill --signal=KILL stream
    until_true 20 status_has 'camera gate: lost' || fail "its loss is not told: $(tagalong status)"
    serve
    until_true 30 status_has 'camera gate: streaming' || fail "it does not come back: $(tagalong status)"
done
reports=$(reports)
until_true 30 reports_above "$reports" || fail "no reports after its return"
[ "$(systemctl show -P NRestarts tagalong)" = 0 ] || fail "the daemon died with the stream"
echo "ok: the server died twice and came back"
