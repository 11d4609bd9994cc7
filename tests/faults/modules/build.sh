#!/usr/bin/env bash
# Builds the modules of the fault tests: NAME.c -> NAME.wasm (committed; Debian's clang 14).
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
target=(--target=wasm32-unknown-unknown -mcpu=mvp)
clang "${target[@]}" -c ../../processes/stack.s -o "$work/stack.o"
build() { # NAME MEMORY_BYTES
  clang "${target[@]}" -std=c11 -Os -ffreestanding -fno-builtin -nostdlib -Wall -Wextra -Werror -Wno-unused-function -Wno-infinite-recursion \
    -DSTACK_BYTES=1048576 -DSTACK_KEPT=4096 -c "$1.c" -o "$work/$1.o"
  wasm-ld "$work/$1.o" "$work/stack.o" -o "$1.wasm" --no-entry --export=__wasm_call_ctors --export-table --strip-all --allow-undefined \
    -z stack-size=1048576 --initial-memory="$2" --max-memory="$2"
  chmod 644 "$1.wasm"
  echo "$1.wasm $(stat -c %s "$1.wasm") bytes"
}
build probe 4194304
build boot_spins 2097152
build unknown_import 2097152
build whole_memory 4294967296
