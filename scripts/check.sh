#!/usr/bin/env bash
# Runs the checks that need no test data: format, vet, staticcheck, import rules, links and lists in the pages, known vulnerabilities.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=$PWD/out/bin
failed=0
unknown=()

unformatted=$(git ls-files -z '*.go' | xargs -0 gofmt -l)
if [ -n "$unformatted" ]; then
  printf 'check: run gofmt on these files:\n%s\n' "$unformatted" >&2
  failed=1
fi
go test -run "TestImports|TestThreats|TestLinks|TestDependencies" ./test || failed=1

for module in . cmd/colophon-scan tools/buildkit tools/keys tools/eval; do # those of the programs of users
  (cd "$module" && go vet ./... && "$bin/staticcheck" ./...) || failed=1
  # govulncheck exits with 3 if it found a vulnerability, and with another code if it could not look: its list is on the network.
  status=0
  report=$(timeout 10m "$bin/govulncheck" -C "$module" ./... 2>&1) || status=$?
  case $status in
    0) ;;
    3) printf '%s\n' "$report" >&2; failed=1 ;;
    124) unknown+=("$module: no answer within 10 minutes") ;;
    *) unknown+=("$module: $(tail -n 1 <<<"$report")") ;;
  esac
done
if [ ${#unknown[@]} -gt 0 ]; then # the last lines, where nobody misses them
  printf 'check: known vulnerabilities were NOT LOOKED UP in %s\n' "${unknown[@]}" >&2
fi
exit $failed
