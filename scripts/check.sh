#!/usr/bin/env bash
# Runs the checks that need no test data: format, vet, staticcheck, import rules, links and lists in the pages, known vulnerabilities.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=$PWD/out/bin
failed=0

unformatted=$(git ls-files -z '*.go' | xargs -0 gofmt -l)
if [ -n "$unformatted" ]; then
  printf 'check: run gofmt on these files:\n%s\n' "$unformatted" >&2
  failed=1
fi
go test -run "TestImports|TestThreats|TestLinks|TestDependencies" ./test || failed=1

for module in . cmd/colophon-scan tools/buildkit; do # those of the programs of users
  (cd "$module" && go vet ./... && "$bin/staticcheck" ./...) || failed=1
  # govulncheck exits with 3 if it found a vulnerability, and with another code if it could not look.
  status=0
  report=$("$bin/govulncheck" -C "$module" ./... 2>&1) || status=$?
  case $status in
    0) ;;
    3) printf '%s\n' "$report" >&2; failed=1 ;;
    *) printf 'check: known vulnerabilities in %s were NOT looked up: %s\n' "$module" "$(tail -n 1 <<<"$report")" >&2 ;;
  esac
done
exit $failed
