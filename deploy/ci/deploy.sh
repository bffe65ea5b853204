#!/bin/sh
# Tests what is under deploy/: the image, the chart, the manifests, the unit, the rules and the dashboard. Arguments are names of tests, for
# example deploy.tests.test_helm. PROFILE=release builds the image as it is published, which takes many minutes. REUSE=1
# takes the image of the last run.
set -eu
cd "$(dirname "$0")/../.."

tools=$(realpath "${CARGO_TARGET_DIR:-target}/deploy-tools")
export PATH="$tools/bin:$PATH:/usr/sbin"
[ $# -gt 0 ] || set -- discover --start-directory deploy/tests --top-level-directory .

# The processes that the tests start listen on the ports of the examples, on a loopback interface of their own, and get files mounted.
[ "$(id -u)" -eq 0 ] || mapped=--map-root-user
export PYTHONDONTWRITEBYTECODE=1
exec unshare ${mapped:-} --net --mount python3 -m deploy.tests "$@"
