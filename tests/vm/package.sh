#!/bin/bash
# Runs inside a VM with systemd as its first process and the kernel's virtual camera: installs the package, uses it as its first user
# would, upgrades it, removes it and purges it.
#
#   package.sh PACKAGE.deb NEWER.deb
set -euo pipefail
package=$1
newer=$2
export TAGALONG_SOCKET_DIR=/run/tagalong DEBIAN_FRONTEND=noninteractive

. "$(dirname "$0")/common.sh"

# An emulated daemon may be too busy to answer at once.
listed() { tagalong list --json >/tmp/list 2>/dev/null; }
ids() { until_true 60 listed && sed -n 's/.*"id": *\([0-9]*\).*/\1/p' /tmp/list; }

# Images of containers forbid packages to start services; what runs here is no container.
rm -f /usr/sbin/policy-rc.d
# An emulated processor takes minutes for the index of all manuals.
rm -f /var/lib/man-db/auto-update
dpkg --install "$package" >/tmp/installed 2>&1 || fail "not installed: $(cat /tmp/installed)"
until_true 60 reports_above 1 || fail "no reports after the installation: $(cat /tmp/installed)"
for unit in tagalong.service tagalong.socket tagalong-control.socket; do
    [ "$(systemctl is-enabled $unit)" = enabled ] || fail "$unit is not enabled"
    systemctl is-active --quiet $unit || fail "$unit is not active"
done
man -w tagalong >/dev/null 2>&1 || [ -e /usr/share/man/man1/tagalong.1.gz ] || fail "no manual"
[ "$(stat -c '%a %U %G' /run/tagalong/tracks.sock)" = "660 root tagalong" ] || fail "the readers' socket is $(stat -c '%a %U %G' /run/tagalong/tracks.sock)"
tagalong doctor >/tmp/doctor || fail "doctor finds: $(cat /tmp/doctor)"
grep -q '^good *camera' /tmp/doctor || fail "doctor says of the camera: $(cat /tmp/doctor)"
# The user's configuration, of what an emulated processor can do.
sed -i 's/^/# of the user: /; 1i [model]\ninput = "240x320"\n[presets.sharp]\nzoom = 1.0\ncontext_frames = 3\nradius = 5\n[[camera]]\nname = "front"\nheight = 360\nfps = 15' /etc/tagalong/tagalong.toml
systemctl restart tagalong || fail "not restarted with the user's configuration"
until_true 60 reports_above 1 || fail "no reports with the user's configuration"
show_square
sleep 2
tagalong tag --box 240,100,160,160 --name square --save >/tmp/tag || fail "not tagged: $(cat /tmp/tag)"
id=$(ids | head -n 1)
[ -n "$id" ] || fail "no id: $(tagalong list --json)"
echo "ok: installed, started, tagged with id $id"

# A reader that was connected connects again, and one that comes meanwhile waits.
before=$(main_pid)
dpkg --install "$newer" >/tmp/upgraded 2>&1 || fail "not upgraded: $(cat /tmp/upgraded)"
[ "$(main_pid)" != "$before" ] || fail "the old daemon runs on after the upgrade"
timeout 60 tagalong watch --json 2>/dev/null | head -n 1 >/tmp/watched || true
grep -q '"class": *"tracks"\|"tracks"' /tmp/watched || fail "no reader is served after the upgrade: $(cat /tmp/watched)"
grep -q 'of the user' /etc/tagalong/tagalong.toml || fail "the upgrade took the user's configuration away"
recognised() { ids | grep -qx "$id"; }
until_true 120 recognised || fail "what the gallery has is not recognised after the upgrade: $(tagalong list)"
tagalong tag --box 40,40,100,100 --name again >/dev/null || fail "not tagged after the upgrade"
((  $(ids | sort -n | tail -n 1) > id )) || fail "an id was used again: $(ids)"
echo "ok: upgraded, its configuration, ids and gallery kept"

dpkg --remove tagalong >/tmp/removed 2>&1 || fail "not removed: $(cat /tmp/removed)"
systemctl is-active --quiet tagalong && fail "the daemon runs on though it was removed"
systemctl is-active --quiet tagalong.socket && fail "the socket stays though it was removed"
[ ! -e /usr/bin/tagalong ] || fail "the program stays though it was removed"
[ -e /etc/tagalong/tagalong.toml ] && [ -e /var/lib/private/tagalong/next-track-id ] || fail "removing took configuration or state away"
dpkg --purge tagalong >/tmp/purged 2>&1 || fail "not purged: $(cat /tmp/purged)"
[ ! -e /etc/tagalong/tagalong.toml ] && [ ! -e /var/lib/private/tagalong ] && [ ! -e /var/lib/tagalong ] || fail "purging left something: $(ls /etc/tagalong /var/lib | grep tagalong)"
echo "ok: removed, and purged"
