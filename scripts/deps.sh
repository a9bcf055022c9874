#!/usr/bin/env bash
# Installs the Debian packages of missing commands, and changes nothing else. EXTRA names further
# commands, with their packages if these have other names: COMMAND[:PACKAGE]…
set -euo pipefail

PATH=$PATH:/usr/sbin:/sbin
declare -A package=(
  [runc]=runc
  [mkfs.ext4]=e2fsprogs
  [mmdebstrap]=mmdebstrap
  [git]=git
  [ip]=iproute2
  [newuidmap]=uidmap
  [ssh-keygen]=openssh-client
  [gpg]=gnupg
  [jq]=jq
  [curl]=curl
)
for extra in ${EXTRA:-}; do
  package[${extra%%:*}]=${extra#*:}
done
missing=()
for command in "${!package[@]}"; do
  command -v "$command" >/dev/null || missing+=("${package[$command]}")
done
[ -e /etc/ssl/certs/ca-certificates.crt ] || missing+=(ca-certificates)
[ ${#missing[@]} -eq 0 ] && exit 0

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
  echo "deps: please install: ${missing[*]}" >&2
  exit 1
fi
echo "deps: installing ${missing[*]}" >&2
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -q -y --no-install-recommends "${missing[@]}"
