#!/usr/bin/env bash
# Builds the programs that users get, for one system, into a directory. The same source gives
# the same bytes, on any machine and in any directory. Prints the names of the programs.
#
#   scripts/programs.sh OS/ARCH VERSION DIR [NAME...]     default: all programs
set -euo pipefail
system=$1 version=$2 dir=$(realpath -m "$3")
shift 3
only=" $* "
cd "$(dirname "$0")/.."
: "${GO:=go}"
export CGO_ENABLED=0 GOGC=400 GOFLAGS= GOWORK=off GOAMD64=v1 GOARM64=v8.0
export GOOS=${system%/*} GOARCH=${system#*/}
unset GOEXPERIMENT

# program NAME SYSTEMS MODULE PACKAGE: SYSTEMS is a pattern of GOOS. -trimpath and an empty
# build id leave out the machine.
program() {
  # shellcheck disable=SC2053 # a pattern
  [[ $GOOS = $2 ]] || return 0
  [[ $only = '  ' || $only = *" $1 "* ]] || return 0
  "$GO" -C "$3" build -buildvcs=false -trimpath -ldflags "-s -w -buildid= -X main.version=$version" -o "$dir/$1" "$4"
  echo "$1"
}

mkdir -p "$dir"
program colophon '*' . ./cmd/colophon
program colophon-keys '*' tools/keys .
program colophon-eval linux tools/eval .
program colophond linux . ./cmd/colophond
program colophon-scan linux cmd/colophon-scan .
program buildkitd linux tools/buildkit ./buildkitd
