#!/bin/bash
# Runs targets for so many seconds each, as many at once as there are processors, from their seeds on, and says how it went. Fails where
# one found something; what found it lies in fuzz/artifacts.
#
#   fuzz/run.sh SECONDS [TARGET...]     FUZZ_SANITIZER=address for AddressSanitizer
set -euo pipefail
cd "$(dirname "$0")/.."
export SECONDS_EACH=$1 BUILT
shift
targets=("$@")
((${#targets[@]})) || mapfile -t targets < <(sed -n 's/^name = "\([a-z]*\)"$/\1/p' fuzz/Cargo.toml)
host=$(rustc -vV | sed -n 's/^host: //p')
build=(cargo build --locked --manifest-path fuzz/Cargo.toml --target "$host" "${targets[@]/#/--bin=}")
export RUSTC_WRAPPER=$PWD/fuzz/instrumented.sh
if [ -z "${FUZZ_SANITIZER:-}" ]; then
    "${build[@]}" --target-dir target/fuzz
    BUILT=target/fuzz/$host/debug
else
    # A flag that only a nightly compiler takes, or one that is told that it may.
    RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=$FUZZ_SANITIZER "${build[@]}" --target-dir "target/fuzz-$FUZZ_SANITIZER"
    BUILT=target/fuzz-$FUZZ_SANITIZER/$host/debug
fi

fuzz() {
    local target=$1 log=fuzz/artifacts/$1.log
    mkdir -p "fuzz/corpus/$target" "fuzz/artifacts/$target"
    # Without `cov` it ran blind.
    if "$BUILT/$target" -max_total_time="$SECONDS_EACH" -timeout=20 -rss_limit_mb=4096 -max_len=65536 \
        -artifact_prefix="fuzz/artifacts/$target/" "fuzz/corpus/$target" "fuzz/seeds/$target" >"$log" 2>&1 && grep -q 'cov: ' "$log"; then
        echo "ok: $target, $(grep -o 'Done [0-9]* runs' "$log" | tail -n 1), $(grep -o 'cov: [0-9]*' "$log" | tail -n 1)"
    else
        echo "FAILED: $target"
        tail -n 30 "$log"
        return 1
    fi
}
export -f fuzz
printf '%s\n' "${targets[@]}" | xargs -P "$(nproc)" -I{} bash -c 'fuzz {}' || { echo "FAILED: what is told above"; exit 1; }
