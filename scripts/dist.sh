#!/usr/bin/env bash
# Builds what users install, in out/dist: static programs, Debian packages, install.sh, and
# SHA256SUMS of all. The same commit is to give the same bytes, on any machine and in any directory.
#
#   scripts/dist.sh [OS/ARCH...]     default: every system that we build for
#
# SHA256SUMS.sha256 is what users pin: publish it where the server of the files cannot change it.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
: "${GO:=go}"
export CGO_ENABLED=0 GOGC=400 GOFLAGS= GOWORK=off GOAMD64=v1 GOARM64=v8.0 TZ=UTC LC_ALL=C
unset GOEXPERIMENT GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE
umask 022

if [ -n "$(git status --porcelain)" ]; then
  echo 'dist: the working directory differs from HEAD: commit first, so that a commit names what is built' >&2
  exit 1
fi
version=$(git describe --tags --always)
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH

systems=("$@")
[ $# -gt 0 ] || systems=(linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64 windows/arm64)

dist=$root/out/dist.new
rm -rf "$dist"
mkdir -p "$dist"
trap 'rm -rf "$dist"' EXIT

# program NAME OS ARCH DIR PACKAGE: -trimpath and an empty build id leave out the machine.
program() {
  local out=$dist/$1_${version}_$2_$3
  [ "$2" != windows ] || out=$out.exe
  echo "dist: ${out##*/}" >&2
  GOOS=$2 GOARCH=$3 "$GO" -C "$4" build -buildvcs=false -trimpath -ldflags "-s -w -buildid= -X main.version=$version" -o "$out" "$5"
}

for system in "${systems[@]}"; do
  os=${system%/*} arch=${system#*/}
  program colophon "$os" "$arch" . ./cmd/colophon
  if [ "$os" = linux ]; then
    program colophond "$os" "$arch" . ./cmd/colophond
    program colophon-scan "$os" "$arch" cmd/colophon-scan .
    program buildkitd "$os" "$arch" tools/buildkit ./buildkitd
    scripts/packages.sh "$version" "$arch" "$dist"
  fi
done
cp scripts/install.sh "$dist/"

cd "$dist"
files=(*)
sha256sum "${files[@]}" >SHA256SUMS
sha256sum SHA256SUMS >SHA256SUMS.sha256
cd "$root"
rm -rf out/dist
mv "$dist" out/dist
echo "dist: out/dist has version $version; sha256 of SHA256SUMS: $(cut -d ' ' -f 1 out/dist/SHA256SUMS.sha256)" >&2
