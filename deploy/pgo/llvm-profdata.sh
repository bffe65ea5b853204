#!/bin/sh
# Prints the path of llvm-profdata, which merges the profiles that the compiler's instrumentation writes. That of the Rust toolchain
# is installed by rustup if it is missing. Otherwise one on the PATH is taken, which must not be older than LLVM 19.
set -eu

say() { echo "llvm-profdata: $*" >&2; }

host=$(rustc -vV | sed -n 's/^host: //p')
tool=$(rustc --print sysroot)/lib/rustlib/$host/bin/llvm-profdata
if [ ! -x "$tool" ] && command -v rustup >/dev/null 2>&1; then
    say "installing llvm-tools"
    rustup component add llvm-tools >&2 || say "rustup cannot install llvm-tools"
fi
if [ -x "$tool" ]; then
    echo "$tool"
    exit
fi

# Debian's packages have the version in the name of the program.
for number in $(seq 30 -1 19); do
    if command -v "llvm-profdata-$number"; then
        exit
    fi
done
if command -v llvm-profdata; then
    exit
fi
say "please install it: rustup component add llvm-tools, or a package such as llvm-19 or newer"
exit 1
