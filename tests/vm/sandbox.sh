#!/bin/bash
# Runs inside a VM with systemd as its first process: each line of the service's sandbox is tried by what it forbids. A probe is
# run three times: as root without any of the lines, where it must succeed, or it proves nothing; as root with that line alone, and
# with all of them as the service's user, where it must fail. The service itself is started under all of them by service.sh.
#
#   sandbox.sh      in the repository's root
set -euo pipefail
. "$(dirname "$0")/common.sh"
unit=systemd/tagalong.service
work=/var/lib/sandbox-probes
mkdir -p "$work"

# Lines of the unit that confine.
mapfile -t lines < <(sed -n '/^# Who it is/,/^\[Install\]/p' "$unit" | grep -E '^[A-Za-z]+=')
all=("${lines[@]}")

probes=0
under() { # under LINES... -- PROBE: runs it in a service of its own with these lines, for its exit code.
    local name=probe-$((probes += 1)).service
    {
        printf '[Service]\nType=oneshot\nTimeoutStartSec=60\nStandardError=null\n'
        while [ "$1" != -- ]; do
            echo "$1"
            shift
        done
        echo "ExecStart=/bin/bash /usr/local/lib/$name"
    } >"/run/systemd/system/$name"
    printf '%s\n' "$2" >"/usr/local/lib/$name"
    systemctl start "$name" 2>/dev/null
}

tried=()
# forbids LINE PROBE [LINE...]: LINE alone keeps the probe, which root could otherwise do, from succeeding; further lines go with it.
forbids() {
    local line=$1 probe=$2
    shift 2
    local with=("$line" "$@")
    grep -qxF -- "$line" <(printf '%s\n' "${lines[@]}") || fail "the unit has no line $line"
    under -- "$probe" || fail "$line: what it forbids does not work without it either: $probe"
    under "${with[@]}" -- "$probe" && fail "$line does not forbid it: $probe"
    under "${all[@]}" -- "$probe" && fail "the unit does not forbid it: $probe"
    tried+=("$line")
    echo "ok: $line"
}
# gives LINE PROBE: under all lines the probe, which tells of the line, succeeds, and without them it does not.
gives() {
    grep -qxF -- "$1" <(printf '%s\n' "${lines[@]}") || fail "the unit has no line $1"
    under -- "$2" && fail "$1: without it, it is the same: $2"
    under "$1" -- "$2" || fail "$1 alone does not give it: $2"
    under "${all[@]}" -- "$2" || fail "the unit does not give it: $2"
    tried+=("$1")
    echo "ok: $1"
}

# Who it is.
gives DynamicUser=yes '[ "$(id -u)" -ge 61184 ] && [ "$(id -u)" -le 65519 ]'
under "${all[@]}" -- '[ "$(id -un)" = tagalong-daemon ]' || fail "the user has another name"
tried+=(User=tagalong-daemon)
under DynamicUser=yes SupplementaryGroups=video -- 'id -Gn | grep -qw video' || fail "SupplementaryGroups= gives no group"
under "${all[@]}" -- 'id -Gn | grep -qw video' || fail "the unit gives no group"
tried+=(SupplementaryGroups=video)
gives UMask=0077 '[ "$(umask)" = 0077 ]'
install -m 4755 "$(command -v id)" /usr/local/bin/id-as-root
forbids NoNewPrivileges=yes 'setpriv --reuid=nobody --clear-groups /usr/local/bin/id-as-root -u | grep -qx 0'
gives CapabilityBoundingSet= '[ "$(sed -n "s/^CapBnd:\t//p" /proc/self/status)" = 0000000000000000 ]'
under "${all[@]}" -- 'grep -q "^CapAmb:.0000000000000000" /proc/self/status' || fail "the unit gives ambient capabilities"
tried+=(AmbientCapabilities=)

# What it sees. The node of a device that anyone may open, and which is no camera.
device=$(cat /sys/class/misc/cpu_dma_latency/dev)
mknod -m 666 /dev/probe c "${device%:*}" "${device#*:}"
forbids DevicePolicy=closed 'exec 3</dev/probe'
under DevicePolicy=closed -- 'exec 3</dev/video0' && fail "DevicePolicy=closed lets cameras through by itself"
under "${all[@]}" -- 'exec 3</dev/video0' || fail "the unit lets no camera through"
tried+=('DeviceAllow=char-video4linux rw')
mkdir -p -m 777 /usr/local/probe /home/probe /sys/fs/cgroup/probe
chmod 777 /usr/local/probe /home/probe /sys/fs/cgroup/probe
forbids ProtectSystem=strict 'touch /usr/local/probe/file'
echo secret >/home/probe/secret
chmod 644 /home/probe/secret
forbids ProtectHome=yes 'cat /home/probe/secret'
echo secret >/tmp/secret
chmod 644 /tmp/secret
forbids PrivateTmp=yes 'cat /tmp/secret'
cat >"$work/listen.pl" <<'PERL'
use IO::Socket::INET;
my $s = IO::Socket::INET->new(LocalAddr => "127.0.0.1", LocalPort => 7777, Listen => 9, ReuseAddr => 1) or die $!;
while (my $c = $s->accept) { close $c }
PERL
ip link set lo up 2>/dev/null || true
perl "$work/listen.pl" &
listener=$!
connect='exec 3<>/dev/tcp/127.0.0.1/7777'
until_true 20 bash -c "$connect" 2>/dev/null || fail "nobody listens"
forbids PrivateNetwork=yes "$connect"
forbids IPAddressDeny=any "$connect"
forbids RestrictAddressFamilies=AF_UNIX "$connect"
kill "$listener"
segment=$(ipcmk -M 4096 -p 0666 | sed 's/.*: //')
forbids PrivateIPC=yes "ipcs -m -i $segment | grep -q bytes"
forbids ProtectClock=yes 'date --set="@$(date +%s)"'
forbids ProtectControlGroups=yes 'mkdir /sys/fs/cgroup/probe/$$ && rmdir /sys/fs/cgroup/probe/$$'
forbids ProtectHostname=yes 'hostname probe && hostname'
forbids ProtectKernelLogs=yes 'dmesg | grep -q .'
forbids ProtectKernelModules=yes 'modprobe --first-time dummy && rmmod dummy'
forbids ProtectKernelTunables=yes 'echo 1 >/proc/sys/kernel/sysrq'
under User=nobody -- 'test -d /proc/1' || fail "ProtectProc=: process 1 is hidden anyway"
under User=nobody ProtectProc=invisible -- 'test -d /proc/1' && fail "ProtectProc=invisible hides nothing"
under "${all[@]}" -- 'test -d /proc/1' && fail "the unit shows other processes"
under "${all[@]}" -- 'grep -q processor /proc/cpuinfo' || fail "the unit hides the processor"
tried+=(ProtectProc=invisible)
left() { ipcs -m | awk '$5 == 8191' | grep -q .; }
useradd --system probe
under User=probe -- 'ipcmk -M 8191' && left || fail "RemoveIPC=: nothing is left without it either"
ipcs -m | awk '$5 == 8191 {print $2}' | xargs -n1 ipcrm -m
under User=probe RemoveIPC=yes -- 'ipcmk -M 8191' || fail "RemoveIPC=: no memory to share"
left && fail "RemoveIPC=yes leaves memory behind"
under "${all[@]}" -- 'ipcmk -M 8191' || fail "the unit gives no memory to share"
left && fail "the unit leaves memory behind"
tried+=(RemoveIPC=yes)

# What it does.
forbids LockPersonality=yes 'setarch --addr-no-randomize true'
forbids MemoryDenyWriteExecute=yes 'perl -e "exit(syscall(9, 0, 4096, 7, 0x22, -1, 0) == -1)"'
forbids RestrictNamespaces=yes 'unshare --uts true'
forbids RestrictRealtime=yes 'chrt --fifo 1 true'
forbids RestrictSUIDSGID=yes 'f=$(mktemp -p /var/tmp) && chmod u+s $f && rm $f'
# A program of another architecture: the smallest of 32 bits, which ends with 0.
perl -e 'print "\x7fELF\1\1\1", "\0" x 9, pack("SSLLLLLSSSSSS", 2, 3, 1, 0x8054, 52, 0, 0, 52, 32, 1, 0, 0, 0),
    pack("LLLLLLLL", 1, 0, 0x8000, 0x8000, 96, 96, 5, 4096), "\x31\xdb\x31\xc0\x40\xcd\x80"' >/usr/local/bin/of-32-bits
chmod 755 /usr/local/bin/of-32-bits
if under -- /usr/local/bin/of-32-bits; then
    forbids SystemCallArchitectures=native /usr/local/bin/of-32-bits
else
    echo "SKIPPED: SystemCallArchitectures=native: this kernel runs no program of 32 bits"
    tried+=(SystemCallArchitectures=native)
fi
forbids SystemCallFilter=@system-service 'swapoff /nowhere; [ $? = 255 ] || umount --fake /proc; mount -t tmpfs none /mnt && umount /mnt' SystemCallErrorNumber=EPERM
forbids 'SystemCallFilter=~@privileged @resources' 'chroot / true' SystemCallErrorNumber=EPERM
forbids 'SystemCallFilter=~@privileged @resources' 'renice 5 $$' SystemCallErrorNumber=EPERM
own=SystemCallFilter='landlock_create_ruleset landlock_add_rule landlock_restrict_self seccomp'
without=()
for line in "${lines[@]}"; do [ "$line" = "$own" ] || without+=("$line"); done
((${#without[@]} == ${#lines[@]} - 1)) || fail "the unit has no line $own"
landlock='perl -e "exit(syscall(444, 0, 0, 1) <= 0)"'
under "${all[@]}" -- "$landlock" || fail "the daemon cannot confine itself under the unit"
under "${without[@]}" -- "$landlock" && fail "$own is not needed"
tried+=("$own")
under "${all[@]}" -- 'perl -e "exit(!(syscall(155, 0, 0) == -1 && \$!{EPERM}))"' || fail "a denied call does not say EPERM"
tried+=(SystemCallErrorNumber=EPERM)

# What it may use up.
in_group='g=/sys/fs/cgroup$(sed -n "s/^0:://p" /proc/self/cgroup)'
gives CPUWeight=200 "$in_group; [ \"\$(cat \$g/cpu.weight)\" = 200 ]"
gives MemoryMax=2G "$in_group; [ \"\$(cat \$g/memory.max)\" = 2147483648 ]"
gives TasksMax=512 "$in_group; [ \"\$(cat \$g/pids.max)\" = 512 ]"
gives LimitNOFILE=16384 '[ "$(ulimit -n)" = 16384 ]'
under "${all[@]}" -- '[ "$(ulimit -c)" = 0 ] && [ "$(ulimit -H -c)" = 0 ]' || fail "the unit lets cores be dumped"
tried+=(LimitCORE=0)

for line in "${lines[@]}"; do
    grep -qxF -- "$line" <(printf '%s\n' "${tried[@]}") || fail "no probe for $line"
done
echo "ok: all ${#lines[@]} lines of the sandbox were tried"

# With the drop-in for graphics processors: a device of that kind which computes nothing, and code made at run time. All else stays.
mapfile -t lines < <(grep -E '^[A-Za-z]+=' systemd/gpu.conf)
with_gpu=("${all[@]}" "${lines[@]}")
getent group render >/dev/null || groupadd --system render
modprobe vgem
node=$(ls /dev/dri/renderD* | head -n 1)
chgrp render "$node" && chmod 660 "$node"
for probe in "exec 3<>$node" 'perl -e "exit(syscall(9, 0, 4096, 7, 0x22, -1, 0) == -1)"'; do
    under "${all[@]}" -- "$probe" && fail "the unit does without the drop-in: $probe"
    under "${with_gpu[@]}" -- "$probe" || fail "the drop-in does not give it: $probe"
done
under "${with_gpu[@]}" -- 'exec 3</dev/video0' || fail "the drop-in takes cameras away"
under "${with_gpu[@]}" -- 'exec 3</dev/probe' && fail "the drop-in opens other devices"
echo "ok: the drop-in for graphics processors gives $node and what its driver compiles, and no other device"

exposure=$(systemd-analyze security --no-pager --offline=true "$unit" 2>/dev/null | sed -n 's/.*exposure level for [^:]*: \([0-9.]*\).*/\1/p')
awk "BEGIN {exit !(${exposure:-9} <= 1.0)}" || fail "exposure ${exposure:-unknown}"
echo "ok: exposure $exposure"
