#!/usr/bin/env bash
# Downloads the modules that programs need, compiles their packages into Go's build cache, and
# shows how far it is and how much time is left. It links nothing: make does.
#
#   scripts/compile.sh [[-ldflags FLAGS] [DIR:]PACKAGE]...
#
# DIR is the module of the package, "." if not given. FLAGS are those with which make links this and
# the following programs: main packages contain them, and would be compiled again with others.
#
# It compiles the first program while it downloads the modules of the others and runs $FIRST, if
# that is set. Then it runs $MEANWHILE beside the rest. What these print is shown if they fail. On
# a terminal, one line changes; elsewhere a new line comes every 10 seconds.
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
due() {
  [ ! -e "$work/other" ] || other_failed
  [ $((SECONDS - shown)) -ge "$every" ]
}

# beside runs a command in the background; joined waits for it.
beside() { # COMMAND...
  { "$@" >"$work/printed" 2>&1 || mv "$work/printed" "$work/other"; } &
  other=$!
}
joined() {
  wait "$other"
  [ ! -e "$work/other" ] || other_failed
}
other_failed() {
  cat "$work/other" >&2
  exit 1
}

# load loads a program's packages, which downloads their modules, and lists the files in
# $work/NUMBER that must be compiled: PACKAGE FILE. It counts the modules in $work/downloaded.
load() { # NUMBER
  local dir=${dirs[$1]} line
  "$GO" -C "$dir" list -buildvcs=false -ldflags "${ldflags[$1]}" -deps \
    -f '{{if .Stale}}{{range .GoFiles}}{{$.ImportPath}}{{"\t"}}{{$.Dir}}/{{.}}{{"\n"}}{{end}}{{end}}' "${packages[$1]}" 2>&1 >"$work/$1" |
    while IFS= read -r line; do
      case $line in
      'go: downloading '*)
        printf '%s\n' "$line" >>"$work/downloaded"
        [ "$1" -ne 0 ] || ! due || show "downloading modules: $(downloaded) ($(duration $SECONDS))"
        ;;
      *) printf '%s\n' "$line" >&2 ;;
      esac
    done
}

# Programs that are loaded together both name a module that one of them waits for.
downloaded() { sort -u "$work/downloaded" | wc -l; }

# left prints the size of each package that programs still need: PACKAGE BYTES.
left() { # NUMBER...
  (cd "$work" && sed '/^$/d' "$@") | sort -u | awk -F '\t' 'FILENAME != "-" { done[$1]; next } !($1 in done)' "$work/compiled" - >"$work/files"
  cut -f2 "$work/files" | tr '\n' '\0' | xargs -0 -r stat -L -c %s | paste "$work/files" - |
    awk -F '\t' '{ size[$1] += $3 } END { for (path in size) print path, size[path] }'
}

# compile compiles the packages of programs, and shows how much of it is done by the size of the
# packages' source. It prints what go prints, except for the names of packages.
compile() { # NUMBER...
  local -A size=()
  local path bytes line n total=0 todo=0 count=0 done=0 began=$SECONDS took text status
  while read -r path bytes; do
    size[$path]=$bytes
    total=$((total + bytes)) todo=$((todo + 1))
  done < <(left "$@")
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
    took=$((SECONDS - began)) text=
    if [ -e "$work/downloading" ]; then
      text=", downloaded $(downloaded) modules"
    elif [ $((done * 20)) -gt "$total" ]; then
      text=", about $(duration $((took * (total - done) / done))) left"
    fi
    show "compiling: $count of $todo packages ($(duration $took)$text)"
  done < <(for n; do "$GO" -C "${dirs[$n]}" list -buildvcs=false -ldflags "${ldflags[$n]}" -export -v -f '' "${packages[$n]}" 2>&1 || touch "$work/failed" 2>/dev/null; done)
  (cd "$work" && cut -f1 "$@") >>"$work/compiled"
  [ ! -e "$work/failed" ] || exit 1
  [ "$count" -eq 0 ] || line_of "compiled $count packages in $(duration $((SECONDS - began)))"
}

line_of() { # TEXT
  show "$1"
  [ -n "$end" ] || echo >&2
}

dirs=() packages=() ldflags=() flags=
while [ $# -gt 0 ]; do
  case $1 in
  -ldflags)
    flags=$2
    shift 2
    continue
    ;;
  *:*) dirs+=("${1%%:*}") packages+=("${1#*:}") ;;
  *) dirs+=(.) packages+=("$1") ;;
  esac
  ldflags+=("$flags")
  shift
done
rest=()
for ((n = 1; n < ${#dirs[@]}; n++)); do rest+=("$n"); done

: >"$work/downloaded" >"$work/compiled"
# shellcheck disable=SC2086 # a command with arguments
beside ${FIRST:-true}
load 0
touch "$work/downloading"
(
  trap - EXIT
  started=()
  for n in "${rest[@]}"; do
    load "$n" &
    started+=("$!")
  done
  for pid in "${started[@]}"; do wait "$pid"; done
  duration $SECONDS >"$work/downloads"
  rm "$work/downloading"
) &
loads=$!
compile 0
while kill -0 "$loads" 2>/dev/null; do
  sleep 0.1
  ! due || show "downloading modules: $(downloaded) ($(duration $SECONDS))"
done
wait "$loads"
[ "$(downloaded)" -eq 0 ] || line_of "downloaded $(downloaded) modules in $(<"$work/downloads")"

joined
# shellcheck disable=SC2086
beside ${MEANWHILE:-true}
[ ${#rest[@]} -eq 0 ] || compile "${rest[@]}"
joined
