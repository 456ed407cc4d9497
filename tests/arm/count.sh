#!/bin/bash
# Counts the instructions that a frame takes on each of ARM's kernels, in an emulator: `make count-arm`.
set -euo pipefail
cd "$(dirname "$0")/../.."

target=aarch64-unknown-linux-gnu
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
cargo build --release --locked --example frame --target $target --manifest-path tests/arm/Cargo.toml --target-dir target/arm
cc -shared -fPIC -O2 -o target/arm/count.so tests/arm/count.c

# count KERNEL HEIGHT WIDTH FRAMES: millions of instructions, in products and in all.
count() {
    TAGALONG_CPU=$1 qemu-aarch64 -cpu max -L /usr/aarch64-linux-gnu -plugin target/arm/count.so \
        target/arm/$target/release/examples/frame "$2" "$3" "$4" 2>&1 >/dev/null |
        awk '{ all += $1 } /kernels.*(neon|Neon|dotprod|i8mm).*(multiply|six_rows|four_rows|pair_rows|pair_columns|tile)/ { products += $1 }
            END { if (NR < 9) exit 1; print int(products / 1e6), int(all / 1e6) }'
}

echo "size     kernel    products  passes  (millions of instructions of one frame)"
for size in ${*:-224x224 336x448 518x518}; do
    height=${size%x*} width=${size#*x}
    # What making the network takes is counted away.
    read -r _ start < <(count neon "$height" "$width" 0)
    for kernel in neon dotprod i8mm; do
        read -r products all < <(count $kernel "$height" "$width" 1)
        printf '%-8s %-8s %9d %7d\n' "$size" $kernel "$products" $((all - start - products))
    done
done
