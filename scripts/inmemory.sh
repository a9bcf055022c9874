#!/usr/bin/env bash
# Runs tests with their temporary files in memory, where there is enough: they write many small files,
# and wait for the disk. The long tests, which also write large ones, keep the disk.
# It takes root: the file system is one that only the tests see, and ends with them. The directory has the
# same name each time, because Go's test cache sees TMPDIR. If TMPDIR is set, it stays.
#
#   scripts/inmemory.sh COMMAND...
set -euo pipefail
dir=/tmp/colophon-tests
most=4 # GiB; a run of all tests used 1.1
options=mode=1777,size=${most}g,huge=within_size # roles try often whether they could write 16 MiB: in small pages, that costs 7 ms each time

enough() {
  [ -z "${TMPDIR:-}${COLOPHON_LONG:-}" ] && [ "$(id -u)" -eq 0 ] &&
    [ "$(awk '/^MemAvailable:/ { print $2 }' /proc/meminfo)" -ge $((2 * most << 20)) ] &&
    { mkdir "$dir" 2>/dev/null || [ "$(stat -c '%u %F' "$dir")" = '0 directory' ]; } &&
    unshare --mount mount -t tmpfs -o "$options" tmpfs "$dir" 2>/dev/null # not in every container, and not with every kernel
}

enough || exec "$@"
export TMPDIR=$dir
exec unshare --mount bash -euc 'mount -t tmpfs -o '$options' tmpfs "$TMPDIR" && exec "$@"' bash "$@"
