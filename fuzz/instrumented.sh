#!/bin/bash
# The compiler, with what leads a fuzzer: counters of branches, and what is compared with what. What is built for the build itself goes
# without, and so does the runtime of networks.
case " $* " in
*" --crate-name tract_"*) exec "$@" ;;
*" --target "*) ;;
*) exec "$@" ;;
esac
exec "$@" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares
