#!/usr/bin/env bash
# Runs the main steps in out/quickstart: start a platform, release out/hello at v0.1.0, trust
# the platform, verify the image. A second run finds the release finished. KEEP=1 leaves the
# platform running.
#
#   scripts/quickstart.sh [images]     images: only make the base images, if it will need them
set -euo pipefail
cd "$(dirname "$0")/.."
work=$PWD/out/quickstart
data=$work/data
export COLOPHON_PLATFORM=$data/client.json COLOPHON_TRUST=$work/trust
mkdir -p "$work"

say() { printf '\n\033[1m%s\033[0m\n' "$*" >&2; }
[ -t 2 ] && [ -z "${NO_COLOR:-}" ] || say() { printf '\n%s\n' "$*" >&2; }
show() { printf '$ %s\n' "$*" >&2; "$@"; }

# The port is part of the platform's URL, so choose it once and keep it.
. scripts/port.sh
[ -s "$work/port" ] || free_port >"$work/port"
listen=127.0.0.1:$(cat "$work/port")
url=http://$listen

ready() { curl -fsS -o /dev/null --max-time 5 "$url/readyz" 2>/dev/null; }
reachable() { curl -sS -o /dev/null --max-time 5 "$1" 2>/dev/null; }
buildkit() { [ "$(id -u)" -eq 0 ] && PATH=$PATH:/usr/sbin command -v runc >/dev/null; }
# The real base images are used if they can be reached.
stand_ins() { ! reachable https://registry-1.docker.io/v2/ || ! reachable https://gcr.io/v2/; }
# out/hello needs only these; "make base-images" makes all.
base_images() { make -s base-images IMAGES='docker.io/library/golang:1.26 gcr.io/distroless/static-debian12:nonroot'; }
if [ "${1:-}" = images ]; then
  ! buildkit || ! stand_ins || base_images
  exit
fi

serve=(out/bin/colophond serve --data "$data" --listen "$listen")
recipe=() accept=() # what this machine needs beside the recipe of the commit, and how a consumer accepts it
if ! buildkit; then
  say "no root or no runc: using the golang builder, which needs no Dockerfile"
  recipe=(--builder golang) accept=(--package .)
elif stand_ins; then
  say "docker.io or gcr.io cannot be reached: making base images from Debian packages and this Go toolchain"
  base_images
  serve+=(--mirror out/base-images) more='   # make base-images makes Debian and more'
fi

platform=
stop() {
  [ -n "$platform" ] || return 0
  if [ -n "${KEEP:-}" ]; then
    say "the platform keeps running as process $platform; stop it with: kill $platform"
    return 0
  fi
  kill "$platform" 2>/dev/null || true
  wait "$platform" 2>/dev/null || true
}
trap stop EXIT

if ready; then
  say "the platform is running at $url"
else
  say "starting the platform"
  echo "\$ ${serve[*]}" >&2
  # Keep the platform's log across runs.
  "${serve[@]}" >>"$work/colophond.log" 2>&1 &
  platform=$!
  for _ in $(seq 300); do
    ready && break
    if ! kill -0 "$platform" 2>/dev/null; then
      platform=
      tail -n 20 "$work/colophond.log" >&2
      echo "quickstart: the platform did not start; its log is $work/colophond.log" >&2
      exit 1
    fi
    sleep 0.1
  done
  if ! ready; then
    tail -n 20 "$work/colophond.log" >&2
    echo "quickstart: the platform was not ready after 30 s; its log is $work/colophond.log" >&2
    exit 1
  fi
fi

image=$listen/examples/hello
say "releasing out/hello at v0.1.0"
show out/bin/colophon release out/hello --ref v0.1.0 --image "$image" "${recipe[@]}" \
  --allowed-signers out/cache/example/allowed_signers

say "trusting this platform (a real consumer compares the fingerprint first)"
show out/bin/colophon trust add --yes "$url"

say "verifying the image, as any consumer can"
show out/bin/colophon verify "$image:v0.1.0" --source "file://$PWD/out/hello" "${accept[@]}"

say "done: $image:v0.1.0, platform $url"
cat >&2 <<END
Try next (start the platform again with KEEP=1 make quickstart):
  export COLOPHON_PLATFORM=$COLOPHON_PLATFORM COLOPHON_TRUST=$COLOPHON_TRUST
  out/bin/colophon inspect $image:v0.1.0
  out/bin/colophon verify $image:v0.1.0 --source https://git.example.com/other     # rejected, exit 3
  out/bin/colophon release YOUR/REPOSITORY --ref TAG --image $listen/you/app${more:-}
  docs/README.md
END
