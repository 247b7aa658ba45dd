#!/bin/sh
# Makes the tests of this directory runnable: installs what is missing (Debian) and the locked packages of npm, Python
# and Go, and does nothing when all is there.
set -eu
cd "$(dirname "$0")"

. ../../../tools/debian.sh

command -v npm >/dev/null 2>&1 || needed "Node.js 20 or newer, with npm"

# What the module asks for, as in 1.25.0. The package of Debian 12 is older than that, so there is no use in installing it.
go_needed=$(sed -n 's/^go //p' go/go.mod)
go_found=$(cd go && go env GOVERSION 2>/dev/null | sed 's/^go//')
# The smaller of the two in the order of versions must be the one needed.
[ "$(printf '%s\n' "$go_needed" "$go_found" | sort -V | head -n 1)" = "$go_needed" ] ||
    needed "Go $go_needed or newer (found: ${go_found:-none})"

missing=$(missing_packages chromium php:php-cli curl python3)
# Debian's Python makes no virtual environments without this.
python3 -c 'import ensurepip' >/dev/null 2>&1 || missing="$missing python3-venv"
# shellcheck disable=SC2086 # words on purpose
install_packages $missing
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || needed "Python 3.11 or newer"

# npm writes this file when it has installed the lock file; an older one is stale.
installed=node_modules/.package-lock.json
if [ ! -e "$installed" ] || [ package-lock.json -nt "$installed" ] || [ package.json -nt "$installed" ]; then
    npm ci
fi

# The copy in the environment says what it was made of.
venv=python/.venv
if ! cmp -s python/requirements.txt "$venv/requirements.txt"; then
    python3 -m venv --clear "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes --only-binary :all: \
        --requirement python/requirements.txt
    cp python/requirements.txt "$venv/"
fi

# From the module cache of the user when it is there.
(cd go && go mod download)
