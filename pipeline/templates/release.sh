#!/bin/sh
# Written by "colophon init colophon". Asks the platform for a release of a commit, and verifies it.
#
#   COLOPHON_PLATFORM=client.json release.sh REPOSITORY REF
#
# The platform fetches the commit itself: nothing that this machine has is built or signed.
set -eu
here=$(dirname "$0")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
sh "$here/install.sh" --version "<% .Version %>" --sha256 "<% .Sums %>" --dir "$work"
COLOPHON_TRUST=$work/trust
export COLOPHON_TRUST
"$work/colophon" trust add "<% .Platform %>" --fingerprint "<% .Fingerprint %>"
released=$("$work/colophon" release "$1" --ref "$2" --image "<% .Image %>" -q)
"$work/colophon" verify "$released" --policy "$here/policy.yaml"
