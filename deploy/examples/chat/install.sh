#!/bin/sh
# Brings the SDK for the page (npm) and PyJWT for the back end (Python), and does nothing when they are there.
set -eu
cd "$(dirname "$0")"

# npm writes this file when it has installed the lock file; an older one is stale.
installed=node_modules/.package-lock.json
if [ ! -e "$installed" ] || [ package-lock.json -nt "$installed" ]; then npm ci --ignore-scripts; fi

# The copy in the environment says what it was made of.
if ! cmp -s requirements.txt .venv/requirements.txt; then
    python3 -m venv --clear .venv
    .venv/bin/pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: --requirement requirements.txt
    cp requirements.txt .venv/
fi
