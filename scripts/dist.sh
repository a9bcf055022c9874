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
export GO TZ=UTC LC_ALL=C
unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE
umask 022

if [ -n "$(git status --porcelain)" ]; then
  echo 'dist: the working directory differs from HEAD: commit first, so that a commit names what is built' >&2
  exit 1
fi
version=$(git describe --tags --always --abbrev=12) # without a number, as many digits as the clone needs
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH

systems=("$@")
[ $# -gt 0 ] || systems=(linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64 windows/arm64)

dist=$root/out/dist.new programs=$(mktemp -d)
rm -rf "$dist"
mkdir -p "$dist"
trap 'rm -rf "$dist" "$programs"' EXIT

for system in "${systems[@]}"; do
  echo "dist: programs for $system" >&2
  dir=$programs/$system suffix=_${version}_${system/\//_}
  [ "${system%/*}" != windows ] || suffix=$suffix.exe
  built=$(scripts/programs.sh "$system" "$version" "$dir") # in the line of for, bash would go on after a failure
  for program in $built; do
    cp "$dir/$program" "$dist/$program$suffix"
  done
done

# Programs of this machine write the completions and manual pages of the packages, which do not
# depend on the architecture.
here=linux/$("$GO" env GOHOSTARCH)
for system in "${systems[@]}"; do
  case $system in
  linux/*)
    [ -d "$programs/$here" ] || scripts/programs.sh "$here" "$version" "$programs/$here" >/dev/null
    scripts/packages.sh "$version" "${system#*/}" "$programs/$system" "$programs/$here" "$dist"
    ;;
  esac
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
