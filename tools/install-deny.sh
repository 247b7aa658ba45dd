#!/usr/bin/env bash
# Installs cargo-deny, in the version that deny.toml is written for, below the folder that is given.
set -euo pipefail

version=0.20.2
folder=$1
if [[ "$("$folder/bin/cargo-deny" --version 2>/dev/null)" != "cargo-deny $version" ]]; then
  # Not into the target folder of the project: its options are others.
  CARGO_TARGET_DIR="$folder/build-deny" cargo install --locked --root "$folder" "cargo-deny@$version"
  rm -rf "$folder/build-deny"
fi
