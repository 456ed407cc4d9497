#!/bin/bash
# The whole test suite, built for 64-bit ARM and run on emulated processors, but for what left_out.txt names and says why.
#
#   suite.sh [PROCESSOR...]     in the repository's root; QEMU's names
set -euo pipefail
target=aarch64-unknown-linux-gnu
processors=("$@")
((${#processors[@]})) || processors=(cortex-a57 cortex-a76 max)
binfmt=/proc/sys/fs/binfmt_misc

# Tests start the program, and programs start others: the kernel itself must hand them to the emulator.
runs_arm() { [ -n "$(grep -l '^interpreter.*qemu-aarch64' $binfmt/* 2>/dev/null)" ]; }
if ! runs_arm; then
    emulator=$(command -v qemu-aarch64-static)
    # The head of a 64-bit ELF file for little-endian ARM, and which of its bytes count. F: found now, and so in every mount namespace.
    magic='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
    counts='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
    { [ -e $binfmt/register ] || mount -t binfmt_misc binfmt_misc $binfmt; } 2>/dev/null &&
        echo ":qemu-aarch64:M::$magic:$counts:$emulator:F" 2>/dev/null >$binfmt/register || true
    runs_arm || {
        echo "This kernel does not hand programs for ARM to QEMU. Run this as root, or install binfmt-support." >&2
        exit 77
    }
fi
export QEMU_LD_PREFIX=/usr/aarch64-linux-gnu

skips=()
echo "Left out:"
while read -r name why; do
    case $name in '' | '#'*) continue ;; esac
    echo "  $name: $why"
    skips+=(--skip "$name")
done <tests/arm/left_out.txt

cargo test --locked --target $target --no-run
for processor in "${processors[@]}"; do
    echo "$processor:"
    QEMU_CPU=$processor cargo test --locked --target $target --no-fail-fast -- "${skips[@]}"
done
