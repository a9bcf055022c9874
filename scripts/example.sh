#!/usr/bin/env bash
# Makes a git repository, out/hello, from examples/hello. Its annotated tag v0.1.0 is signed
# by a new key. The commit is the same on every machine.
#
#   out/hello                            the repository
#   out/cache/example/key                the signing key
#   out/cache/example/allowed_signers    the file for --allowed-signers
set -euo pipefail
cd "$(dirname "$0")/.."
repo=$PWD/out/hello
keys=$PWD/out/cache/example
tag=v0.1.0
signer=release@example.com

# Ignore the user's git configuration, so that the commit is reproducible.
export GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null TZ=UTC LC_ALL=C
export GIT_AUTHOR_NAME='Hello Release' GIT_AUTHOR_EMAIL=$signer GIT_AUTHOR_DATE='2026-11-02T09:00:00Z'
export GIT_COMMITTER_NAME=$GIT_AUTHOR_NAME GIT_COMMITTER_EMAIL=$signer GIT_COMMITTER_DATE=$GIT_AUTHOR_DATE
unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE
umask 022

mkdir -p "$keys"
if [ ! -e "$keys/key" ]; then
  ssh-keygen -q -t ed25519 -N '' -C "$signer" -f "$keys/key"
fi
allowed="$signer namespaces=\"git\" $(cat "$keys/key.pub")"
[ "$(cat "$keys/allowed_signers" 2>/dev/null)" = "$allowed" ] || echo "$allowed" >"$keys/allowed_signers"

# Make the repository elsewhere and rename it, so that an interrupted run leaves no incomplete one.
new=$(mktemp -d "$PWD/out/cache/hello.XXXXXX")
trap 'rm -rf "$new"' EXIT
cp -R examples/hello/. "$new/"
git -C "$new" -c init.defaultBranch=main init -q
git -C "$new" add -A
git -C "$new" commit -q -m 'hello: a web service that greets'
git -C "$new" -c gpg.format=ssh -c user.signingKey="$keys/key" tag -s -m "hello $tag" "$tag"
git -C "$new" -c gpg.ssh.allowedSignersFile="$keys/allowed_signers" verify-tag "$tag" 2>/dev/null

id() { git -C "$1" rev-parse -q --verify "refs/tags/$tag" 2>/dev/null || true; }
if [ "$(id "$repo")" = "$(id "$new")" ] && [ -z "$(git -C "$repo" status --porcelain)" ]; then
  echo "out/hello exists: $tag is $(git -C "$repo" rev-parse --short "$tag^{commit}")" >&2
  exit 0
fi
rm -rf "$repo"
chmod 755 "$new"
mv "$new" "$repo"
echo "out/hello: $tag is $(git -C "$repo" rev-parse --short "$tag^{commit}"), signed by $signer" >&2
