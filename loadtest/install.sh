#!/bin/sh
# Installs what the load generator starts beside the gateway (Debian): Redis and HAProxy. Does nothing when they are there.
set -eu
cd "$(dirname "$0")"
. ../tools/debian.sh

# No service is wanted: a run starts servers of its own. A machine that has one keeps it.
had_redis=$(command -v redis-server || true)
had_haproxy=$(PATH="$PATH:/usr/sbin:/sbin" command -v haproxy || true)
# shellcheck disable=SC2046 # words on purpose
install_packages $(missing_packages redis-server haproxy)
if command -v systemctl >/dev/null 2>&1; then
    [ -n "$had_redis" ] || as_root systemctl disable --now redis-server >/dev/null 2>&1 || true
    [ -n "$had_haproxy" ] || as_root systemctl disable --now haproxy >/dev/null 2>&1 || true
fi

redis_found=$(redis-server --version | sed 's/.* v=\([0-9]*\).*/\1/')
[ "$redis_found" -ge 7 ] || needed "Redis 7.0 or newer (found: $redis_found)"
