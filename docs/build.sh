#!/bin/sh
# Builds the book: build.sh MDBOOK BOOK, where BOOK is the directory to make.
set -eu
mdbook=$1
book=$2
rm -rf "$book"
"$mdbook" build --dest-dir "$book" "$(dirname "$0")"
# Pages stay beside what tests them, which is no part of the book, and neither is what they say to the test.
rm -r "$book/test" "$book/book.toml" "$book/build.sh" "$book/install.sh"
find "$book" -name '*.html' -exec perl -0pi -e 's/<!-- test:.*?-->\n?//gs' {} +
