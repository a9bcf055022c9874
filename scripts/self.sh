#!/usr/bin/env bash
# Releases the images of Colophon, which .colophon.yaml names, from the HEAD of this repository
# on two new platforms in out/self, which share no keys, log, registry or module cache. Exits
# with 0 only if all releases verify and both platforms give the same digests. Then
# out/self/images has the images of the second one, with all their proof.
#
# The image of the platform needs root, because it is built from a Dockerfile.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
work=$root/out/self
unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE COLOPHON_PLATFORM COLOPHON_TRUST
export GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null

# Clone the repository, so that the state of the working directory does not matter.
rm -rf "$work"
mkdir -p "$work/images"
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

. scripts/port.sh

images=(colophon colophond)
if [ "$(id -u)" -ne 0 ]; then
  echo 'self: NOT RELEASED: the image colophond, which needs root' >&2
  images=(colophon)
fi

# release NAME starts a platform, releases the images on it, and writes their digests to
# NAME.digests.
release() {
  local name=$1 listen registry image digest
  listen=127.0.0.1:$(free_port)
  export COLOPHON_PLATFORM=$work/$name/client.json COLOPHON_TRUST=$work/$name.trust
  registry=$listen/colophon-build
  printf 'self: releasing %s on platform %s at %s\n' "${commit:0:12}" "$name" "$listen" >&2
  out/bin/colophond serve --data "$work/$name" --listen "$listen" --mirror out/base-images 2>"$work/$name.log" >"$work/$name.ready" &
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
  out/bin/colophon trust add --yes "http://$listen"
  for image in "${images[@]}"; do
    out/bin/colophon release "$repo" --ref "$tag" --image "$registry/$image" --json >"$work/$name.$image.json"
    out/bin/colophon verify "$registry/$image:$tag" --source "file://$repo" --commit "$commit"
    digest=$(jq -r .digest "$work/$name.$image.json")
    if [[ $digest != sha256:* ]]; then
      echo "self: the release of $image says no digest: $work/$name.$image.json" >&2
      exit 1
    fi
    printf '%s  %s\n' "$digest" "$image" >>"$work/$name.digests"
    [ "$name" = first ] || out/bin/colophon copy -q "$registry/$image:$tag" "$work/images/$image.tar"
  done
  stop
}

release first
release second
cat "$work/second.digests"
if ! diff "$work/first.digests" "$work/second.digests" >&2; then
  echo "self: two releases of $commit differ" >&2
  exit 1
fi
echo "self: two releases of $commit agree; out/self/images has them" >&2
