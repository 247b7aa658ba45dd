#!/bin/sh
# Brings jose, which signs the tokens (npm), and does nothing when it is there.
set -eu
cd "$(dirname "$0")"

# npm writes this file when it has installed the lock file; an older one is stale.
installed=node_modules/.package-lock.json
if [ ! -e "$installed" ] || [ package-lock.json -nt "$installed" ]; then npm ci --ignore-scripts; fi
