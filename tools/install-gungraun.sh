#!/usr/bin/env bash
# Installs valgrind, and below the folder that is given the program that runs it for the benches of gungraun.
set -euo pipefail
# shellcheck source=tools/debian.sh
source "$(dirname "${BASH_SOURCE[0]}")/debian.sh"

version=0.20.0
folder=$1
mapfile -t packages < <(missing_packages valgrind)
install_packages "${packages[@]}"
if [[ "$("$folder/bin/gungraun-runner" --version 2>/dev/null)" != "gungraun-runner $version" ]]; then
  # Not into the target folder of the project: its options are others.
  CARGO_TARGET_DIR="$folder/build-gungraun" cargo install --locked --root "$folder" "gungraun-runner@$version"
  rm -rf "$folder/build-gungraun"
fi
