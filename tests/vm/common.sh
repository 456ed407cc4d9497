# What the scripts of this folder have in common that play a camera to a daemon of their own.
#
# They set: tagalong, the program; device, the camera's node; work, a folder; log, the daemon's log.

fail() {
    echo "FAIL: $*"
    tail -n 20 "$log" 2>/dev/null || true
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
