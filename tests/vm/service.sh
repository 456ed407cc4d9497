#!/bin/bash
# Runs inside a VM with systemd as its first process and the kernel's virtual camera: installs the service as
# `make install` does, starts it, tags, reads tracks as an unprivileged member of the group, reloads, and kills it.
#
#   service.sh TAGALONG     in the repository's root, after `make generate`
set -euo pipefail
export TAGALONG_SOCKET_DIR=/run/tagalong

. "$(dirname "$0")/common.sh"

logged() { journalctl -u tagalong --no-pager -o cat | grep -q -- "$1"; }

install_service "$1" <<'TOML'
[model]
input = "240x320"
[[camera]]
name = "front"
width = 640
height = 360
format = "YUYV"
fps = 15
TOML
[ "$(stat -c '%a %U %G' /run/tagalong/tracks.sock)" = "660 root tagalong" ] || fail "the readers' socket is $(stat -c '%a %U %G' /run/tagalong/tracks.sock)"
[ "$(stat -c '%a %U' /run/tagalong/control.sock)" = "600 root" ] || fail "the controllers' socket"

systemctl start tagalong || fail "it does not start" # Returns when the daemon says that it is ready.
until_true 60 reports_above 1 || fail "no reports"
tagalong tag --box 240,100,160,160 --name square >/tmp/tag || fail "not tagged"
id=$(tagalong list --json | sed -n 's/.*"id": *\([0-9]*\).*/\1/p' | head -n 1)
[ -n "$id" ] || fail "no id: $(tagalong list --json)"
tagalong status --json >/tmp/status
grep -o '"confined": *[a-z]*' /tmp/status | sort | uniq -c | grep -q '2 .*true' || fail "it does not confine itself: $(grep -A 8 sandbox /tmp/status)"
echo "ok: started by systemd, tagged with id $id, confined by $(grep -o 'Landlock [0-9]*\|seccomp' /tmp/status | sort -u | paste -sd' ')"

user=$(ps -o user= -p "$(main_pid)")
[ "$user" != root ] || fail "it runs as root"
useradd --system --groups tagalong robot
runuser -u robot -- env TAGALONG_SOCKET_DIR=/run/tagalong timeout 20 tagalong watch --json 2>/dev/null | head -n 2 >/tmp/watched || true
grep -q '"name": *"square"' /tmp/watched || fail "a member of the group does not read tracks: $(cat /tmp/watched)"
runuser -u robot -- env TAGALONG_SOCKET_DIR=/run/tagalong tagalong untag "$id" >/dev/null 2>&1 && fail "a reader can give commands"
runuser -u nobody -- env TAGALONG_SOCKET_DIR=/run/tagalong timeout 5 tagalong watch --json >/dev/null 2>&1 && fail "anyone can read tracks"
echo "ok: run as $user, read by the group alone"

sed -i 's/^fps = 15/fps = 15\n[track]\nlost_after_s = 7/' /etc/tagalong/tagalong.toml
systemctl reload tagalong || fail "it does not reload"
until_true 10 logged 'applied track.lost_after_s' || fail "the reload is not told"
echo 'nonsense = 1' >>/etc/tagalong/tagalong.toml
before=$(main_pid)
systemctl reload tagalong || true
until_true 10 logged "nonsense" || fail "the bad file is not told"
[ "$(main_pid)" = "$before" ] || fail "a bad file ended the daemon"
reports=$(reports)
until_true 20 reports_above "$reports" || fail "no reports after a bad file"
sed -i '/nonsense/d' /etc/tagalong/tagalong.toml
echo "ok: reloaded, and a bad file left it running"

# The sockets stay while the daemon restarts: nobody is refused, and who was connected needs to connect again and no more.
asked() { tagalong status >/dev/null 2>/tmp/refusal; }
for _ in 1 2 3; do
    systemctl restart tagalong &
    restart=$!
    answers=0
    while kill -0 "$restart" 2>/dev/null; do
        asked || asked || fail "a client was refused while the daemon restarts: $(cat /tmp/refusal)"
        ((answers += 1))
    done
    wait "$restart" || fail "it does not restart"
    ((answers)) || fail "nobody asked in time"
done
until_true 60 reports_above 1 || fail "no reports after restarts"
echo "ok: restarted with its sockets kept"

before=$(main_pid)
kill -9 "$before"
until_true 60 reports_above 1 || fail "not restarted after kill -9"
[ "$(main_pid)" != "$before" ] || fail "the killed process lives"
tagalong tag --box 240,100,160,160 --name again >/dev/null || fail "not tagged after the restart"
again=$(tagalong list --json | sed -n 's/.*"id": *\([0-9]*\).*/\1/p' | tail -n 1)
((again > id)) || fail "id $again was used before"
echo "ok: killed, restarted, a new id: $again"

stopped=$(main_pid)
kill -STOP "$stopped"
other_process() { [[ $(main_pid) != 0 && $(main_pid) != "$1" ]]; }
until_true 90 other_process "$stopped" || fail "the watchdog did not restart a hung daemon"
until_true 60 reports_above 1 || fail "no reports after the watchdog"
echo "ok: hung, restarted by the watchdog"

echo 'nonsense = 1' >>/etc/tagalong/tagalong.toml
systemctl restart tagalong 2>/dev/null && fail "it starts with a bad file"
sleep 5
[ "$(systemctl show -P ExecMainStatus tagalong)" = 78 ] || fail "exit code $(systemctl show -P ExecMainStatus tagalong)"
[ "$(systemctl show -P ActiveState tagalong)" = failed ] || fail "it is restarted with a bad file: $(systemctl show -P ActiveState tagalong)"
{ systemctl status --no-pager tagalong || true; } >/tmp/status
grep -q nonsense /tmp/status || fail "systemctl status does not tell the mistake"
sed -i '/nonsense/d' /etc/tagalong/tagalong.toml
systemctl start tagalong || fail "it does not start once the file is mended"
until_true 60 reports_above 1 || fail "no reports once the file is mended"
systemctl stop tagalong || fail "it does not stop"
[ "$(systemctl show -P Result tagalong)" = success ] || fail "stopped with $(systemctl show -P Result tagalong)"
[ -e /run/tagalong/tracks.sock ] || fail "stopping took the socket away"
echo "ok: a bad file ends it with 78 and no loop, and a good stop is a success"

getent group render >/dev/null || groupadd --system render
install -D -m 644 /usr/share/doc/tagalong/gpu.conf /etc/systemd/system/tagalong.service.d/gpu.conf
systemctl daemon-reload
systemctl start tagalong || fail "it does not start with the drop-in for graphics processors"
until_true 60 reports_above 1 || fail "no reports with the drop-in for graphics processors"
grep -qw "$(getent group render | cut -d: -f3)" <(sed -n 's/^Groups://p' "/proc/$(main_pid)/status") || fail "it is not in the group of render nodes"
tagalong status --json >/tmp/status
grep -o '"confined": *[a-z]*' /tmp/status | sort | uniq -c | grep -q '2 .*true' || fail "it does not confine itself with the drop-in"
echo "ok: it runs with the drop-in for graphics processors"

# A driver that is a program, where there is one: it is tried, and runs in the service's sandbox and in the daemon's own.
if tagalong devices | grep -q '^graphics processor'; then
    checkpoint=tests/fixtures/checkpoints/vit-timm.safetensors
    tagalong model import $checkpoint --heads 2 --layer 3 --input-sizes 96x144 --name small --out /etc/tagalong >/dev/null
    sed -i 's|^input = "240x320"|manifest = "/etc/tagalong/small.toml"\nruntime = "wgpu"\ngpu_patience_s = 150|' /etc/tagalong/tagalong.toml
    # An emulated processor compiles for minutes.
    printf '[Service]\nTimeoutStartSec=600\n' >/etc/systemd/system/tagalong.service.d/slow.conf
    systemctl daemon-reload
    systemctl restart tagalong || fail "it does not start on a graphics processor"
    until_true 90 reports_above 1 || fail "no reports on a graphics processor"
    tagalong status --json >/tmp/status
    grep -q '"runtime": *"wgpu"' /tmp/status || fail "the CPU computes: $(grep '"instead"' /tmp/status)"
    grep -o '"confined": *[a-z]*' /tmp/status | sort | uniq -c | grep -q '2 .*true' || fail "it does not confine itself on a graphics processor"
    rm /etc/systemd/system/tagalong.service.d/gpu.conf
    systemctl daemon-reload
    systemctl restart tagalong || fail "it does not start without the drop-in"
    until_true 90 reports_above 1 || fail "no reports without the drop-in"
    tagalong status --json >/tmp/status
    grep -q '"runtime": *"cpu"' /tmp/status || fail "without the drop-in, memory is written and run"
    echo "ok: it runs on $(tagalong devices | sed -n 's/^graphics processor *//p' | head -n 1), and without the drop-in on the CPU: $(sed -n 's/.*"instead": *//p' /tmp/status)"
else
    echo "SKIPPED: no graphics processor here, not even one that is a program"
fi
