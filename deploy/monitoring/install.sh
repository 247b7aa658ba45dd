#!/bin/sh
# Makes the test of metrics, rules and dashboard runnable: Prometheus, Redis and a browser (Debian), and a Python with what
# requirements.txt locks. Does nothing when all is there.
set -eu
cd "$(dirname "$0")"

. ../../tools/debian.sh

# No services are wanted: the test starts servers of its own. A machine that has them keeps them.
had_redis=$(command -v redis-server || true)
had_prometheus=$(command -v prometheus || true)
missing=$(missing_packages redis-server prometheus promtool:prometheus python3)
# Debian's Python makes no virtual environments without this.
python3 -c 'import ensurepip' >/dev/null 2>&1 || missing="$missing python3-venv"
# shellcheck disable=SC2086 # words on purpose
install_packages $missing
if command -v systemctl >/dev/null 2>&1; then
    [ -n "$had_redis" ] || as_root systemctl disable --now redis-server >/dev/null 2>&1 || true
    [ -n "$had_prometheus" ] || as_root systemctl disable --now prometheus prometheus-node-exporter >/dev/null 2>&1 || true
fi
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || needed "Python 3.11 or newer"

# The copy in the environment says what it was made of.
venv=test/.venv
if ! cmp -s test/requirements.txt "$venv/requirements.txt"; then
    python3 -m venv --clear "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes --only-binary :all: \
        --requirement test/requirements.txt
    cp test/requirements.txt "$venv/"
fi
