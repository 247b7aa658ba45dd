#!/bin/sh
# Builds the container image with whichever of podman, buildah and docker is there. No other image is needed for it.
#
#   IMAGE          its name: clarion; it gets the tags VERSION and `latest`
#   ENGINE         podman, buildah or docker
#   ENGINE_FLAGS   global flags of that, such as --storage-driver vfs
#   ARCHIVE        1: also write target/image/clarion-VERSION.oci.tar (podman and buildah)
#   PROFILE        of Cargo: release
#   CA_BUNDLE      the certificates to trust (PEM); by default those of Debian's package, which are Mozilla's
#   SOURCE         where its source is, for the label; by default the origin of this clone, if that is on the web
#   SOURCE_DATE_EPOCH   when it was made; by default the time of the commit
set -eu
cd "$(dirname "$0")/.."

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")/image
profile=${PROFILE:-release}
image=${IMAGE:-clarion}
context=$target/context-$profile

die() {
    echo "image.sh: $1" >&2
    exit 1
}

# The first of the engines that is there.
find_engine() {
    for candidate in podman buildah docker; do
        if command -v "$candidate" >/dev/null 2>&1; then echo "$candidate" && return; fi
    done
    die "one of podman, buildah and docker is needed"
}

# Links everything into the binary. A target of its own: the flags are then for the program and not for build scripts,
# and the other builds keep what they have compiled.
build_binary() {
    triple=$(rustc --print host-tuple)
    case $triple in *-linux-gnu) ;; *) die "the static binary is built on Linux with glibc, not on $triple" ;; esac
    RUSTFLAGS="${RUSTFLAGS:-} -C target-feature=+crt-static" CARGO_TARGET_DIR=$target \
        cargo build --locked --package clarion --profile "$profile" --target "$triple"
    binary=$target/$triple/$profile/clarion
}

# Mozilla's as Debian packages them, and not what this machine trusts: that may have certificates of its own in it.
trusted() {
    if [ -n "${CA_BUNDLE:-}" ]; then cat "$CA_BUNDLE" && return; fi
    [ -d /usr/share/ca-certificates/mozilla ] || die "install ca-certificates, or name a file in CA_BUNDLE"
    cat /usr/share/ca-certificates/mozilla/*.crt
}

# The address of the clone, without the user and password that may be in it.
origin() {
    git remote get-url origin 2>/dev/null | sed -nE 's#^(https://)([^/@]*@)?(.*)$#\1\3#p'
}

# The commit, and whether something was changed since.
revision() {
    commit=$(git rev-parse HEAD 2>/dev/null) || { echo unknown && return; }
    git diff --quiet HEAD 2>/dev/null || commit=$commit-dirty
    echo "$commit"
}

engine=${ENGINE:-$(find_engine)}
command -v "$engine" >/dev/null 2>&1 || die "$engine is not there"
[ "${ARCHIVE:-}/$engine" != 1/docker ] || die "an archive of the OCI is written by podman or buildah"
build_binary

rm -rf "$context"
mkdir -p "$context"
install -m 755 "$binary" "$context/clarion"
trusted > "$context/ca-certificates.crt"
chmod 644 "$context/ca-certificates.crt"

version=$("$binary" --version | sed 's/.* //')
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH # Docker reads it there.

set -- --file deploy/Containerfile --tag "$image:$version" --tag "$image:latest" \
    --build-arg "VERSION=$version" --build-arg "REVISION=$(revision)" \
    --build-arg "CREATED=$(date --utc --date "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)"
source=${SOURCE:-$(origin)}
[ -z "$source" ] || set -- "$@" --label "org.opencontainers.image.source=$source"
# Docker's format, because that of the OCI has no health check; both run everywhere.
[ "$engine" = docker ] || set -- "$@" --format docker --layers=false --timestamp "$SOURCE_DATE_EPOCH"
# shellcheck disable=SC2086 # words on purpose
"$engine" ${ENGINE_FLAGS:-} build "$@" "$context"

if [ "${ARCHIVE:-}" = 1 ]; then
    # One that is not to be shipped says so.
    [ "$profile" = release ] && archive=$target/clarion-$version.oci.tar || archive=$target/clarion-$version-$profile.oci.tar
    rm -f "$archive"
    # shellcheck disable=SC2086 # words on purpose
    "$engine" ${ENGINE_FLAGS:-} push --quiet "$image:$version" "oci-archive:$archive:$image:$version"
    echo "wrote $archive"
fi
echo "$image:$version: $(stat -c %s "$binary") bytes of binary, built by $engine"
