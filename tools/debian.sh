# Sourced by the scripts that install what tests need.
# shellcheck shell=sh

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

needed() {
    echo "needed and not installed from here: $1" >&2
    exit 1
}

# The packages of those programs that are missing. Arguments: program:package, or program for both.
missing_packages() {
    for pair in "$@"; do
        # Daemons and administration are in directories that are not in everybody's path.
        PATH="$PATH:/usr/sbin:/sbin" command -v "${pair%%:*}" >/dev/null 2>&1 || echo "${pair##*:}"
    done
}

# Installs packages of Debian, if there are any to install.
install_packages() {
    [ $# -gt 0 ] || return 0
    echo "installing: $*"
    set -- env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"
    # The package lists may be absent or old: only then is it worth fetching them.
    as_root "$@" || { as_root apt-get update && as_root "$@"; }
}
