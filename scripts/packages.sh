#!/usr/bin/env bash
# Makes Debian packages of the programs in PROGRAMS, which scripts/programs.sh built, in DIR:
#
#   colophon       the command line tool
#   colophon-keys  what colophon needs for keys of PKCS #11 tokens and cloud services
#   colophon-eval  what colophon needs for policies in CUE and Rego
#   colophond      the platform: all other programs, and the systemd unit
#
#   scripts/packages.sh VERSION ARCH PROGRAMS HERE DIR
#
# The programs in HERE run on this machine; they write completions and manual pages. Times are
# SOURCE_DATE_EPOCH, so that the same programs give the same packages.
set -euo pipefail
version=$1 arch=$2 programs=$(realpath "$3") here=$(realpath "$4") dir=$(realpath "$5")
cd "$(dirname "$0")/.."
: "${SOURCE_DATE_EPOCH:?}"
umask 022

# dpkg's order: v1.2.0-rc.1 is before v1.2.0, and 3 commits after a tag are after it. A commit
# without a tag is before every tag; without the time, one that begins with 8 would be after v7.
debian=$(sed -E 's/-([0-9]+)-g([0-9a-f]+)$/+\1.\2/; s/-/~/g' <<<"${version#v}")
[[ $version =~ ^v[0-9] ]] || debian=0~$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y%m%d%H%M%S).$debian

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# package NAME writes $work/NAME as a package; its description is on standard input.
package() {
  local tree=$work/$1 out=$dir/$1_${debian}_$arch.deb
  mkdir -p "$tree/usr/share/doc/$1"
  cat >"$tree/usr/share/doc/$1/copyright" <<'END'
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Source: https://github.com/colophon-build/colophon

Files: *
Copyright: the Colophon authors
License: Apache-2.0
 On Debian systems, the text of the license is in /usr/share/common-licenses/Apache-2.0.
END
  cat >"$tree/DEBIAN/control" <<END
Package: $1
Version: $debian
Architecture: $arch
Maintainer: Colophon <https://github.com/colophon-build/colophon>
Section: utils
Priority: optional
Homepage: https://github.com/colophon-build/colophon
Installed-Size: $(find "$tree" -type f -printf '%s\n' | awk '{ kib += int(($1 + 1023) / 1024) } END { print kib }')
$(cat)
END
  (cd "$tree" && find . -type f ! -path './DEBIAN/*' -printf '%P\0' | sort -z | xargs -0 md5sum) >"$work/md5sums"
  mv "$work/md5sums" "$tree/DEBIAN/md5sums"
  find "$tree" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
  # More threads cut the compressed stream in other places; xz is what every dpkg reads.
  dpkg-deb --root-owner-group --threads-max=1 -Zxz -z6 --build "$tree" "$out" >&2
}

# manual NAME adds the completions and manual pages of a program to $work/NAME.
manual() {
  local tree=$work/$1 target file
  for target in bash:bash-completion/completions/$1 zsh:zsh/vendor-completions/_$1 fish:fish/vendor_completions.d/$1.fish; do
    file=$tree/usr/share/${target#*:}
    mkdir -p "${file%/*}"
    "$here/$1" completion "${target%%:*}" >"$file"
  done
  mkdir -p "$tree/usr/share/man/man1"
  "$here/$1" man "$tree/usr/share/man/man1"
  gzip -9n "$tree"/usr/share/man/man1/*
}

cli=$work/colophon
mkdir -p "$cli/DEBIAN"
install -D -m 755 "$programs/colophon" "$cli/usr/bin/colophon"
manual colophon
package colophon <<'END'
Recommends: git
Description: prove which git commit a container image came from
 Colophon verifies that an image was built from a commit of a repository, and
 rejects images that cannot prove it.
END

keys=$work/colophon-keys
mkdir -p "$keys/DEBIAN"
install -D -m 755 -t "$keys/usr/bin" "$programs/colophon-keys"
package colophon-keys <<'END'
Depends: libc6, ca-certificates
Recommends: colophon
Description: keys of PKCS #11 tokens and key management services, for colophon
 With this program, "colophon sign" signs with a key of a hardware token, of
 AWS, Azure or Google Cloud, of Vault or of OpenBao.
END

evaluator=$work/colophon-eval
mkdir -p "$evaluator/DEBIAN"
install -D -m 755 -t "$evaluator/usr/bin" "$programs/colophon-eval"
package colophon-eval <<'END'
Recommends: colophon
Description: policies in CUE and Rego, for colophon
 With this program, colophon evaluates what a ClusterImagePolicy of sigstore's
 policy-controller says in CUE and Rego.
END

platform=$work/colophond
mkdir -p "$platform/DEBIAN" "$platform/usr/bin"
# colophond uses the programs beside itself; /usr/bin may have another buildkitd.
for program in "$programs"/*; do
  case ${program##*/} in
  colophon | colophon-keys | colophon-eval) ;;
  *) install -D -m 755 -t "$platform/usr/lib/colophon" "$program" ;;
  esac
done
ln -s ../lib/colophon/colophond "$platform/usr/bin/colophond"
install -D -m 644 deploy/systemd/colophond.service "$platform/usr/lib/systemd/system/colophond.service"
manual colophond
install -d -m 755 "$platform/etc/colophon"
echo '{}' >"$platform/etc/colophon/colophond.json"
echo /etc/colophon/colophond.json >"$platform/DEBIAN/conffiles"
install -m 755 deploy/debian/postinst deploy/debian/prerm deploy/debian/postrm "$platform/DEBIAN/"
package colophond <<'END'
Depends: ca-certificates, e2fsprogs, git, runc
Recommends: colophon, openssh-client, uidmap
Description: platform that builds and releases images with proof of their source
 Colophond builds images from git commits in sealed rooms, signs what it saw,
 and serves the images. Installing starts nothing: see
 /usr/lib/systemd/system/colophond.service.
END
