#!/bin/sh
# Installs what these tests play with (Debian): a Redis of our own, the packet filter, clocks that are wrong. Does nothing when it is there.
set -eu
cd "$(dirname "$0")"
. ../../../tools/debian.sh

[ "$(id -u)" -eq 0 ] || needed "root: faults are made with the packet filter"

# No service is wanted: the tests start servers of their own. A machine that has one keeps it.
had_redis=$(command -v redis-server || true)
# shellcheck disable=SC2046 # words on purpose
install_packages $(missing_packages redis-server iptables openssl taskset:util-linux faketime)
if [ -z "$had_redis" ] && command -v systemctl >/dev/null 2>&1; then
    as_root systemctl disable --now redis-server >/dev/null 2>&1 || true
fi

redis_found=$(redis-server --version | sed 's/.* v=\([0-9]*\).*/\1/')
[ "$redis_found" -ge 7 ] || needed "Redis 7.0 or newer (found: $redis_found)"
