#!/usr/bin/env bash
# Runs a command that writes files. Those that it leaves as they were keep their times: go build
# sets the time of a program that is up to date, and Go's test cache takes that for another program.
#
#   scripts/untouched.sh FILE... -- COMMAND...
set -euo pipefail
files=()
while [ "$1" != -- ]; do
  files+=("$1")
  shift
done
shift
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for n in "${!files[@]}"; do
  [ ! -e "${files[n]}" ] || { sha256sum "${files[n]}" >"$work/$n" && touch -r "${files[n]}" "$work/$n"; }
done
"$@"
for n in "${!files[@]}"; do
  if [ -e "$work/$n" ] && sha256sum --status --check "$work/$n"; then
    touch -r "$work/$n" "${files[n]}"
  fi
done
