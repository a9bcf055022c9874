#!/usr/bin/env bash
# Releases Colophon from the HEAD of this repository on two new platforms in out/self, which
# share no keys, log, registry or module cache. Exits with 0 only if both releases verify and
# have the same digest.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
work=$root/out/self
unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE COLOPHON_PLATFORM COLOPHON_TRUST
export GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null

# Clone the repository, so that the state of the working directory does not matter.
rm -rf "$work"
mkdir -p "$work"
repo=$work/colophon
git clone -q --no-hardlinks "file://$root" "$repo"
git -C "$repo" checkout -q --detach "$(git rev-parse HEAD)"
tag=$(git -C "$repo" tag --points-at HEAD | head -n 1)
if [ -z "$tag" ]; then
  tag=v0.0.0-self
  git -C "$repo" tag "$tag"
fi
commit=$(git -C "$repo" rev-parse HEAD)

platform=
stop() {
  [ -n "$platform" ] || return 0
  kill "$platform" 2>/dev/null || true
  wait "$platform" 2>/dev/null || true
  platform=
}
trap stop EXIT

free_port() {
  local port
  for port in $(shuf -i 20000-29999 -n 50); do
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; return; }
  done
  return 1
}

# release NAME starts a platform, makes a release on it, and writes the digest to NAME.digest.
release() {
  local name=$1 listen
  listen=127.0.0.1:$(free_port)
  export COLOPHON_PLATFORM=$work/$name/client.json COLOPHON_TRUST=$work/$name.trust
  printf 'self: releasing %s on platform %s at %s\n' "${commit:0:12}" "$name" "$listen" >&2
  out/bin/colophond serve --data "$work/$name" --listen "$listen" 2>"$work/$name.log" >"$work/$name.ready" &
  platform=$!
  for _ in $(seq 300); do
    [ -s "$work/$name.ready" ] && break
    if ! kill -0 "$platform" 2>/dev/null; then
      platform=
      break
    fi
    sleep 0.1
  done
  if [ ! -s "$work/$name.ready" ]; then
    tail -n 20 "$work/$name.log" >&2
    echo "self: the platform did not start; its log is $work/$name.log" >&2
    exit 1
  fi
  out/bin/colophon release "$repo" --ref "$tag" --image "$listen/colophon-build/colophon" --json >"$work/$name.json"
  out/bin/colophon trust add --yes "http://$listen"
  out/bin/colophon verify "$listen/colophon-build/colophon:$tag" --source "file://$repo" --commit "$commit"
  jq -er .digest "$work/$name.json" >"$work/$name.digest"
  stop
}

release first
release second
first=$(cat "$work/first.digest") second=$(cat "$work/second.digest")
printf '%s  first\n%s  second\n' "$first" "$second"
if [ "$first" != "$second" ]; then
  echo "self: two releases of $commit differ" >&2
  exit 1
fi
echo "self: two releases of $commit agree" >&2
