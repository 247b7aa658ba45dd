#!/bin/sh
# Makes the book buildable: installs mdbook into the directory of the first argument, and does nothing when it is there.
set -eu

# No package has it: neither Debian's, nor npm's, nor PyPI's. Its live server is left out, and so is optimisation: a
# book of this size is built in a second all the same, and mdbook itself in a quarter of the time.
version=0.5.4
tools=$1
if [ "$("$tools/bin/mdbook" --version 2>/dev/null)" != "mdbook v$version" ]; then
    cargo install mdbook --version "$version" --locked --debug --no-default-features --features search --root "$tools"
fi
