#!/bin/sh
# Makes `npm test` runnable: installs what is missing (Debian) and the locked npm packages, and does nothing when all is there.
set -eu
cd "$(dirname "$0")"

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

command -v npm >/dev/null 2>&1 || { echo "needed and not installed from here: Node.js 20 or newer, with npm" >&2; exit 1; }

missing=""
# program:package
for pair in chromium:chromium php:php-cli curl:curl python3:python3; do
    command -v "${pair%%:*}" >/dev/null 2>&1 || missing="$missing ${pair##*:}"
done
if [ -n "$missing" ]; then
    echo "installing:$missing"
    install="env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends"
    # The package lists may be absent or old: only then is it worth fetching them.
    # shellcheck disable=SC2086 # words on purpose
    as_root $install $missing || { as_root apt-get update && as_root $install $missing; }
fi

# npm writes this file when it has installed the lock file; an older one is stale.
installed=node_modules/.package-lock.json
if [ ! -e "$installed" ] || [ package-lock.json -nt "$installed" ] || [ package.json -nt "$installed" ]; then
    npm ci
fi
