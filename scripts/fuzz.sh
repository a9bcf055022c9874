#!/bin/bash
# fuzz.sh [TIME] runs every fuzz target of the repository for TIME (default 30s), one after
# the other. A failing input becomes a seed in the package's testdata/fuzz, which every later
# go test repeats.
set -euo pipefail
cd "$(dirname "$0")/.."
time=${1:-30s}
found=0
targets=$(git grep -E '^func Fuzz' -- '*_test.go' | sed -E 's/:func (Fuzz[A-Za-z0-9]*).*/:\1/')
while IFS=: read -r file func; do
	dir=./$(dirname "$file")
	echo "== $dir $func"
	"${GO:-go}" test "$dir" -run '^$' -fuzz "^$func\$" -fuzztime "$time" -fuzzminimizetime 5s || found=1
done <<<"$targets"
exit $found
