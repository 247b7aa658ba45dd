#!/usr/bin/env bash
# Installs mdbook, which makes the book of docs/, below the folder that is given.
set -euo pipefail

# Debian, npm and PyPI have no package of it. Its live server is left out, and so is optimisation: that is most of the time
# to build it, and this book takes a second all the same.
version=0.5.4
folder=$1
if [[ "$("$folder/bin/mdbook" --version 2>/dev/null)" != "mdbook v$version" ]]; then
  CARGO_TARGET_DIR="$folder/build-mdbook" cargo install --locked --debug --no-default-features --features search --root "$folder" "mdbook@$version"
  rm -rf "$folder/build-mdbook"
fi
