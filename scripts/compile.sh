#!/usr/bin/env bash
# Downloads the modules that programs need, then compiles their packages into Go's build cache,
# and shows how far it is and how much time is left. It links nothing: make does.
#
#   scripts/compile.sh [DIR:]PACKAGE...     DIR is the module of the package, "." if not given
#
# On a terminal, one line changes; elsewhere a new line comes every 10 seconds.
set -euo pipefail
cd "$(dirname "$0")/.."
: "${GO:=go}"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

every=10 start="" end='\n'
if [ -t 2 ]; then
  every=1 start='\r\033[K' end=''
fi

duration() { # SECONDS
  if [ "$1" -ge 60 ]; then printf '%d min %d s' $(($1 / 60)) $(($1 % 60)); else printf '%d s' "$1"; fi
}

shown=0 # the second of the last line
show() { # TEXT
  # shellcheck disable=SC2059
  printf "$start%s$end" "$1" >&2
  shown=$SECONDS
}
due() { [ $((SECONDS - shown)) -ge "$every" ]; }

# downloads reads what go prints while it loads packages, shows the modules that it downloads,
# and prints all else.
downloads() { # MODULES
  local line count=0
  while IFS= read -r line; do
    case $line in
    'go: downloading '*)
      count=$((count + 1))
      ! due || show "downloading modules: $count of at most $1 ($(duration $SECONDS))"
      ;;
    *) printf '%s\n' "$line" >&2 ;;
    esac
  done
  [ "$count" -eq 0 ] || { show "downloaded $count modules in $(duration $SECONDS)" && [ -n "$end" ] || echo >&2; }
}

# compiled reads what go prints while it compiles, and shows how much of it is done by the size
# of the packages' source. It prints what is not the name of a package.
compiled() {
  local -A size=()
  local path bytes line total=0 todo=0 count=0 done=0 began=$SECONDS took left status
  while read -r path bytes; do
    size[$path]=$bytes
    total=$((total + bytes)) todo=$((todo + 1))
  done <"$work/sizes"
  while :; do
    status=0
    IFS= read -r -t "$every" line || status=$?
    if [ "$status" -gt 128 ]; then # nothing came in time
      line=
    elif [ "$status" -ne 0 ]; then
      break
    elif [ -n "${size[$line]:-}" ]; then
      count=$((count + 1)) done=$((done + size[$line]))
      unset "size[$line]"
    elif [[ $line == *[[:space:]:]* ]]; then
      printf '%s\n' "$line" >&2
    fi
    due || continue
    took=$((SECONDS - began)) left=
    if [ $((done * 20)) -gt "$total" ]; then
      left=", about $(duration $((took * (total - done) / done))) left"
    fi
    show "compiling: $count of $todo packages ($(duration $took)$left)"
  done
  [ "$count" -eq 0 ] || { show "compiled $count packages in $(duration $((SECONDS - began)))" && [ -n "$end" ] || echo >&2; }
}

declare -A packages=() # by directory of the module
for arg; do
  case $arg in
  *:*) packages[${arg%%:*}]+=" ${arg#*:}" ;;
  *) packages[.]+=" $arg" ;;
  esac
done

modules=0
for dir in "${!packages[@]}"; do
  modules=$((modules + $(grep -cE '^[[:space:]]*(require )?[^ ]+ v[0-9]' "$dir/go.mod")))
done

# Load the packages, which downloads their modules, and list the files that must be compiled.
: >"$work/loaded"
for dir in "${!packages[@]}"; do
  # shellcheck disable=SC2086
  "$GO" -C "$dir" list -buildvcs=false -deps \
    -f '{{if .Stale}}{{range .GoFiles}}{{$.ImportPath}}{{"\t"}}{{$.Dir}}/{{.}}{{"\n"}}{{end}}{{end}}' ${packages[$dir]} 2>&1 >>"$work/loaded"
done | downloads "$modules"
# A package of several modules is compiled once.
sort -u "$work/loaded" | sed '/^$/d' >"$work/files"
cut -f2 "$work/files" | tr '\n' '\0' | xargs -0 -r stat -L -c %s | paste "$work/files" - |
  awk -F '\t' '{ size[$1] += $3 } END { for (path in size) print path, size[path] }' >"$work/sizes"

for dir in "${!packages[@]}"; do
  # shellcheck disable=SC2086
  "$GO" -C "$dir" list -buildvcs=false -export -v -f '' ${packages[$dir]} 2>&1
done | compiled
