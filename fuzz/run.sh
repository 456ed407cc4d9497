#!/bin/bash
# Runs targets for so many seconds each, from their seeds on, and says how it went. Fails where one found something; what found it
# lies in fuzz/artifacts.
#
#   fuzz/run.sh SECONDS [TARGET...]
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=$1
shift
targets=("$@")
((${#targets[@]})) || mapfile -t targets < <(sed -n 's/^name = "\([a-z]*\)"$/\1/p' fuzz/Cargo.toml)
# The instruments are flags that only a nightly compiler takes, or one that is told that it may.
export RUSTC_BOOTSTRAP=1
host=$(rustc -vV | sed -n 's/^host: //p')
for target in "${targets[@]}"; do
    cargo fuzz build --dev "$target" 2>/dev/null || cargo fuzz build --dev "$target"
done
failed=()
for target in "${targets[@]}"; do
    mkdir -p "fuzz/corpus/$target" "fuzz/artifacts/$target"
    if "fuzz/target/$host/debug/$target" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=4096 -max_len=65536 \
        -artifact_prefix="fuzz/artifacts/$target/" "fuzz/corpus/$target" "fuzz/seeds/$target" >"fuzz/artifacts/$target.log" 2>&1; then
        echo "ok: $target, $(grep -o 'Done [0-9]* runs' "fuzz/artifacts/$target.log" | tail -n 1), $(grep -o 'cov: [0-9]*' "fuzz/artifacts/$target.log" | tail -n 1)"
    else
        echo "FAILED: $target"
        tail -n 30 "fuzz/artifacts/$target.log"
        failed+=("$target")
    fi
done
((${#failed[@]} == 0)) || { echo "FAILED: ${failed[*]}"; exit 1; }
