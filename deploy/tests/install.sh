#!/bin/sh
# Installs what the tests of this directory play with: engines for containers and Prometheus (Debian), the loader of
# compose files (Go), and what the examples need (npm, Python). Does nothing when all is there.
set -eu
cd "$(dirname "$0")"
. ../../tools/debian.sh

# Real clients, a browser, Redis and HAProxy are shared with other tests.
../../gateway/tests/clients/install.sh
../../loadtest/install.sh

# Prometheus comes with a service, which is not wanted: the tests start servers of their own.
had_prometheus=$(command -v prometheus || true)
missing=$(missing_packages podman buildah runc promtool:prometheus openssl readelf:binutils)
# What the image needs of a distribution.
[ -d /usr/share/ca-certificates/mozilla ] || missing="$missing ca-certificates"
# shellcheck disable=SC2086 # words on purpose
install_packages $missing
if [ -z "$had_prometheus" ] && command -v systemctl >/dev/null 2>&1; then
    as_root systemctl disable --now prometheus >/dev/null 2>&1 || true
fi

# Docker's loader of compose files.
(cd compose && go build -o ../.tools/compose .)

for example in chat notify; do
    (cd "../examples/$example" && ./install.sh)
done
