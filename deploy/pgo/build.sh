#!/bin/sh
# Builds the binary as it is published, optimised by a profile of its execution: builds an instrumented binary, sends it the traffic
# of gateways (train.py), and builds again with the profile that it wrote. The binary is pgo/keygate in the target folder.
#
# CARGO_BUILD is the command of the last build, by default `cargo build`. A profile is kept until the instrumented binary or the
# training changes.
set -eu
cd "$(dirname "$0")/../.."

# How often the counts of the run with common traffic are taken: what is not executed by most requests is not hot.
COMMON_WEIGHT=20

# Parts of functions that are not among those with 99 % of all executions are put into a section of their own, and so are whole functions
# that are rarely or never executed. The linker keeps these sections apart, so that what most requests execute lies close together.
LAYOUT="-Cllvm-args=-enable-split-machine-functions -Cllvm-args=-mfs-psi-cutoff=990000 -Clink-arg=-Wl,-z,keep-text-section-prefix"

say() { echo "pgo: $*" >&2; }
fail() {
    say "$*"
    exit 1
}

mkdir -p "${CARGO_TARGET_DIR:-target}/pgo"
pgo=$(cd "${CARGO_TARGET_DIR:-target}/pgo" && pwd)
profile=$pgo/keygate.profdata
host=$(rustc -vV | sed -n 's/^host: //p')
instrumented=$pgo/instrumented/$host/release/keygate
optimised=$pgo/optimised/$host/release/keygate

# `build NAME FLAG COMMAND...` builds in the folder NAME. The flag is added to RUSTFLAGS, which take the place of those in cargo's
# configuration files. --target keeps it away from build scripts and procedural macros.
build() {
    folder=$pgo/$1
    flags="${RUSTFLAGS:-} $2"
    shift 2
    CARGO_TARGET_DIR=$folder RUSTFLAGS=$flags "$@" --release --locked --bin keygate --target "$host"
}

is_profile_current() {
    [ -f "$profile" ] && [ -z "$(find "$instrumented" deploy/pgo/*.py -newer "$profile")" ]
}

train() {
    rm -rf "$pgo/profiles"
    python3 -B deploy/pgo/train.py "$instrumented" --profiles "$pgo/profiles"
    inputs=
    for file in "$pgo"/profiles/common/*.profraw; do
        inputs="$inputs -weighted-input=$COMMON_WEIGHT,$file"
    done
    # shellcheck disable=SC2086 # Several arguments; the path has no space.
    "$profdata" merge -o "$profile.new" $inputs "$pgo"/profiles/all/*.profraw ||
        fail "$profdata cannot read the profiles of $(rustc --version); run: rustup component add llvm-tools"
    # cargo does not notice that a file of its flags has changed.
    rm -rf "$pgo/optimised"
    mv "$profile.new" "$profile"
}

case $pgo in
*[[:space:]]*) fail "$pgo has a space, which flags of the compiler cannot have; set CARGO_TARGET_DIR to another folder" ;;
esac
[ -z "${CARGO_ENCODED_RUSTFLAGS:-}" ] || fail "CARGO_ENCODED_RUSTFLAGS takes precedence over RUSTFLAGS; unset it"
command -v python3 >/dev/null 2>&1 || fail "please install python3, which sends the traffic"
runtime=$(find "$(rustc --print sysroot)/lib/rustlib/$host/lib" -name 'libprofiler_builtins-*' 2>/dev/null || true)
[ -n "$runtime" ] || fail "$(rustc --version) is built without profiler_builtins; use a toolchain of rustup, see https://rustup.rs"
profdata=$(deploy/pgo/llvm-profdata.sh)

say "building the instrumented binary"
build instrumented "-Cprofile-generate=$pgo/profiles" cargo build
if is_profile_current; then
    say "the profile is of this binary already"
else
    say "recording what the binary executes"
    train
fi
say "building with the profile"
# shellcheck disable=SC2086 # A command with arguments.
build optimised "-Cprofile-use=$profile $LAYOUT" ${CARGO_BUILD:-cargo build}
install -m 755 "$optimised" "$pgo/keygate"
say "the binary is $pgo/keygate"
