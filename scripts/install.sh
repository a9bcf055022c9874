#!/bin/sh
# Installs the colophon command line tool, or another program, from a release, after it verified the file.
#
#   install.sh --version v1.2.0 --sha256 DIGEST [--dir /usr/local/bin] [--from URL] [--program NAME]
#
# NAME is another program of the release, for example colophon-scan, which makes SBOMs.
#
# DIGEST is the SHA-256 of the release's SHA256SUMS. Take it from a place that whoever serves
# the files cannot change: your own repository, or a signed announcement. It holds for the
# files of all systems. Without it, this script installs nothing: a checksum from the server
# that also serves the file proves nothing about the server.
#
# URL is the directory of the files, https:// or file://. Exit codes: 0 installed, 1 failed or
# not verified, 2 wrong command line. Whatever fails, an installed colophon stays as it was.
set -eu
umask 022

say() { printf 'install.sh: %s\n' "$*" >&2; }

fail() {
  say "$@"
  exit 1
}

usage() {
  say "$@"
  echo 'usage: install.sh --version v1.2.0 --sha256 DIGEST [--dir /usr/local/bin] [--from URL] [--program NAME]' >&2
  exit 2
}

# fetch FILE MAX-BYTES downloads FILE of the release to $work.
fetch() {
  curl --fail --silent --show-error --location --proto '=https,file' --proto-redir '=https' \
    --max-filesize "$2" --output "$work/$1" "$from/$1" || fail "cannot download $from/$1"
  [ "$(wc -c <"$work/$1")" -le "$2" ] || fail "$1 has more than $2 bytes"
}

# digest FILE prints the SHA-256 of a file.
digest() {
  if command -v sha256sum >/dev/null; then
    sha256sum <"$1"
  else
    shasum -a 256 <"$1"
  fi | cut -d ' ' -f 1
}

is_digest() {
  case $1 in
  *[!0-9a-f]*) return 1 ;;
  esac
  [ ${#1} -eq 64 ]
}

# check FILE WANT ends the script unless the file has the digest.
check() {
  got=$(digest "$work/$1")
  is_digest "$got" || fail "cannot compute the SHA-256 of $1"
  [ "$got" = "$2" ] || fail "$1: expected sha256 $2, found $got: not installed"
}

# The file's name ends with the system that it is for.
system() {
  case $(uname -s) in
  Linux) os=linux ;;
  Darwin) os=darwin ;;
  *) fail "no file for $(uname -s): download the one for your system, and compare it with SHA256SUMS" ;;
  esac
  case $(uname -m) in
  x86_64 | amd64) arch=amd64 ;;
  aarch64 | arm64) arch=arm64 ;;
  *) fail "no file for the processor $(uname -m)" ;;
  esac
}

main() {
  version= pinned= dir=/usr/local/bin from= program=colophon
  while [ $# -gt 0 ]; do
    [ $# -ge 2 ] || usage "$1 needs a value, or is unknown"
    case $1 in
    --version) version=$2 ;;
    --sha256) pinned=${2#sha256:} ;;
    --dir) dir=$2 ;;
    --from) from=$2 ;;
    --program) program=$2 ;;
    *) usage "unknown option $1" ;;
    esac
    shift 2
  done
  case $version in
  '') usage '--version is required' ;;
  *[!A-Za-z0-9.+-]*) usage "--version: found $version, expected one like v1.2.0" ;;
  esac
  case $program in
  colophon | colophon-scan | colophon-keys | colophon-eval) ;;
  *) usage "--program: found $program, expected colophon, colophon-scan, colophon-keys or colophon-eval" ;;
  esac
  [ -n "$pinned" ] || usage '--sha256 is required: the SHA-256 of SHA256SUMS, from a place that the server cannot change'
  is_digest "$pinned" || usage "--sha256: found $pinned, expected 64 hexadecimal digits in lower case"
  [ -d "$dir" ] || fail "--dir: $dir is no directory"
  [ ! -d "$dir/$program" ] || fail "$dir/$program is a directory: not installed"
  [ -n "$from" ] || from=https://github.com/colophon-build/colophon/releases/download/$version
  for tool in curl awk cut mktemp uname; do
    command -v "$tool" >/dev/null || fail "please install $tool"
  done
  command -v sha256sum >/dev/null || command -v shasum >/dev/null || fail 'please install sha256sum or shasum'

  system
  file=${program}_${version}_${os}_${arch}
  work=$(mktemp -d)
  new=$dir/.$program.$$
  trap 'rm -rf "$work" "$new"' EXIT
  trap 'exit 1' HUP INT TERM

  fetch SHA256SUMS 1048576
  check SHA256SUMS "$pinned"
  want=$(awk -v name="$file" '$2 == name || $2 == "*" name { print $1 }' "$work/SHA256SUMS")
  is_digest "$want" || fail "SHA256SUMS has no line, or several, for $file: not installed"
  fetch "$file" 536870912
  check "$file" "$want"

  # Write beside the target and rename, so that there is no moment with half a program.
  cp "$work/$file" "$new"
  chmod 755 "$new"
  mv -f "$new" "$dir/$program"
  say "installed $dir/$program, version $version, sha256 $want"
}

# The script does nothing before its last line, so that a part of it does nothing.
main "$@"
