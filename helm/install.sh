#!/bin/sh
# Makes the tests of the chart runnable: Helm 3 and 4, helm-unittest, promtool, the schemas of what Kubernetes itself does
# not have, and a virtual environment of Python. Each of an exact version; does nothing when all is there.
set -eu
cd "$(dirname "$0")"
. ../tools/debian.sh

helm3=v3.22.0
helm4=v4.3.1
gateway_api=v1.6.3
keda=v2.21.0
prometheus_operator=v0.85.0

# Beside what cargo builds, outside of what is committed.
tools=${CARGO_TARGET_DIR:-../target}/tools
mkdir -p "$tools/bin" "$tools/crds"
tools=$(cd "$tools" && pwd)

go_needed=$(sed -n 's/^go //p' tools/go.mod)
go_found=$(cd tools && go env GOVERSION 2>/dev/null | sed 's/^go//')
# The smaller of the two in the order of versions must be the one needed.
[ "$(printf '%s\n' "$go_needed" "$go_found" | sort -V | head -n 1)" = "$go_needed" ] ||
    needed "Go $go_needed or newer (found: ${go_found:-none})"

# Whether a program is there and made of that version. Arguments: program, module, version.
is_made_of() {
    [ -x "$tools/bin/$1" ] && go version -m "$tools/bin/$1" | grep -q "[[:space:]]$2[[:space:]]$3\([[:space:]]\|\$\)"
}

# Both are called helm. Arguments: program, module, version.
install_helm() {
    is_made_of "$@" && return
    echo "building: $1 $3"
    GOBIN=$tools/bin/$1.new CGO_ENABLED=0 go install "$2/cmd/helm@$3"
    mv "$tools/bin/$1.new/helm" "$tools/bin/$1"
    rmdir "$tools/bin/$1.new"
}

# Copies a file of a module. Arguments: module, version, file in it, and its name here.
fetch_crd() {
    stamp="$tools/crds/$4-$2.yaml"
    [ -e "$stamp" ] && return
    rm -f "$tools/crds/$4-"*.yaml
    dir=$(cd "$tools" && go mod download -json "$1@$2" | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
    cp "$dir/$3" "$stamp.new"
    chmod u+w "$stamp.new"
    mv "$stamp.new" "$stamp"
}

install_helm helm3 helm.sh/helm/v3 "$helm3"
install_helm helm4 helm.sh/helm/v4 "$helm4"

unittest=github.com/helm-unittest/helm-unittest
is_made_of helm-unittest "$unittest" "$(cd tools && go list -m -f "{{.Version}}" "$unittest")" || {
    echo "building: helm-unittest"
    (cd tools && CGO_ENABLED=0 go build -o "$tools/bin/helm-unittest" "$unittest/cmd/helm-unittest")
}

fetch_crd sigs.k8s.io/gateway-api "$gateway_api" config/crd/standard/gateway.networking.k8s.io_httproutes.yaml HTTPRoute
fetch_crd github.com/kedacore/keda/v2 "$keda" config/crd/bases/keda.sh_scaledobjects.yaml ScaledObject
for kind in ServiceMonitor PrometheusRule; do
    file=example/prometheus-operator-crd/monitoring.coreos.com_$(echo "$kind" | tr '[:upper:]' '[:lower:]')s.yaml
    fetch_crd github.com/prometheus-operator/prometheus-operator "$prometheus_operator" "$file" "$kind"
done

# Of the package only this program is wanted, and not the service that comes with it.
if ! command -v promtool >/dev/null 2>&1 && [ ! -x "$tools/bin/promtool" ]; then
    unpacked=$(mktemp -d)
    (
        cd "$unpacked"
        chmod 755 .
        apt-get download prometheus >/dev/null 2>&1 || { as_root apt-get update && apt-get download prometheus; }
        dpkg -x prometheus_*.deb .
        cp usr/bin/promtool "$tools/bin/promtool"
    )
    rm -rf "$unpacked"
fi

python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || needed "Python 3.11 or newer"
# shellcheck disable=SC2046 # words on purpose
install_packages $(missing_packages openssl)
python3 -c 'import ensurepip' >/dev/null 2>&1 || install_packages python3-venv
# The copy in the environment says what it was made of.
venv=checks/.venv
if ! cmp -s checks/requirements.txt "$venv/requirements.txt"; then
    python3 -m venv --clear "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes --only-binary :all: \
        --requirement checks/requirements.txt
    cp checks/requirements.txt "$venv/"
fi
