#!/usr/bin/env bash
# Builds the shipped processes: NAME.c -> NAME.wasm (committed; the same bytes from the same compiler, Debian's clang 14).
set -euo pipefail
cd "$(dirname "$0")"
stack_bytes=65536 # a message and its environment must fit in it, as JSON
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
target=(--target=wasm32-unknown-unknown -mcpu=mvp)
clang "${target[@]}" -c stack.s -o "$work/stack.o"
[ $# -gt 0 ] || set -- counter.c token.c miner.c miner-array.c pricing.c matvec.c nbody.c
for file in "$@"; do
  name=${file%.c}
  clang "${target[@]}" -std=c11 -Os -ffreestanding -fno-builtin -fno-math-errno -nostdlib -Wall -Wextra -Werror -Wno-unused-function \
    -DSTACK_BYTES=$stack_bytes -DSTACK_KEPT=4096 -c "$file" -o "$work/$name.o"
  wasm-ld "$work/$name.o" "$work/stack.o" -o "$name.wasm" --no-entry --export=__wasm_call_ctors --export-table --strip-all \
    -z stack-size=$stack_bytes --initial-memory=131072 --max-memory=131072
  chmod 644 "$name.wasm"
  echo "$name.wasm $(stat -c %s "$name.wasm") bytes"
done
