#!/bin/sh
# Installs what reads the expressions for Prometheus in these pages (Debian). Does nothing when it is there.
set -eu
cd "$(dirname "$0")"
. ../tools/debian.sh

# No service is wanted. A machine that has one keeps it.
had_prometheus=$(command -v prometheus || true)
# shellcheck disable=SC2046 # words on purpose
install_packages $(missing_packages promtool:prometheus)
if [ -z "$had_prometheus" ] && command -v systemctl >/dev/null 2>&1; then
    as_root systemctl disable --now prometheus prometheus-node-exporter >/dev/null 2>&1 || true
fi
