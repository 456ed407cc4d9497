# What the scripts of this folder have in common.
#
# They may set: tagalong, the program; log, the log of a daemon of their own, where it is not the service's; device, the camera's node.
tagalong=${tagalong:-tagalong}
log=${log:-}
device=${device:-/dev/video0}

fail() {
    echo "FAIL: $*"
    if [ -n "$log" ]; then
        tail -n 20 "$log" 2>/dev/null || true
    else
        journalctl -u tagalong -u tagalong.socket --no-pager -n 40 -o short-monotonic || true
    fi
    exit 1
}

# until_true SECONDS COMMAND...: tries the command until it succeeds.
until_true() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        ((SECONDS < deadline)) || return 1
        sleep 0.2
    done
}

state_is() { "$tagalong" status --json 2>/dev/null | grep -q "\"state\": *\"$1\""; }
reports() { "$tagalong" status --json 2>/dev/null | sed -n 's/.*"reported": *\([0-9]*\).*/\1/p' | head -n 1; }
reports_above() { (($(reports || echo 0) > $1)); }
tracked() { "$tagalong" list --json | grep -q '"state": *"tracked"'; }
says_camera_lost() { "$tagalong" list --json | grep -q camera_lost; }
show_square() { v4l2-ctl -d "$device" -c show_square=1 -c osd_text_mode=2 >/dev/null 2>&1 || true; }

# install_service PROGRAM <TOML: installs the service as `make install` does, with this configuration, and has systemd listen for it.
install_service() {
    make --no-print-directory install PREFIX=/usr PROGRAM="$1" >/dev/null
    cat >/etc/tagalong/tagalong.toml
    systemd-sysusers /usr/lib/sysusers.d/tagalong.conf
    systemctl daemon-reload
    systemctl start tagalong.socket tagalong-control.socket
}
main_pid() { systemctl show -P MainPID tagalong; }
