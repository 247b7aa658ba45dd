#!/bin/sh
# Everything that proves the chart: unit tests of templates, lint, renderings for every Kubernetes and Helm, refusals, drift.
# The last line is `N passed, 0 failed`; exit code 1 if it is another.
set -eu
cd "$(dirname "$0")"
sh ./install.sh
tools=$(cd "${CARGO_TARGET_DIR:-../target}/tools" && pwd)
TOOLS=$tools exec checks/.venv/bin/python -B -m checks
