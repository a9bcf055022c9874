#!/usr/bin/env bash
# Makes Debian packages of the programs in DIR, which scripts/dist.sh built, in DIR:
#
#   colophon     the command line tool, with completions
#   colophond    the platform: colophond, its scanner and buildkitd, and the systemd unit
#
#   scripts/packages.sh VERSION ARCH DIR
#
# Times are SOURCE_DATE_EPOCH, so that the same programs give the same packages.
set -euo pipefail
version=$1 arch=$2 dir=$(realpath "$3")
cd "$(dirname "$0")/.."
: "${SOURCE_DATE_EPOCH:?}"
umask 022

# dpkg's order: v1.2.0-rc.1 is before v1.2.0, and 3 commits after a tag are after it.
debian=$(sed -E 's/-([0-9]+)-g([0-9a-f]+)$/+\1.\2/; s/-/~/g' <<<"${version#v}")
[[ $debian =~ ^[0-9] ]] || debian=0~$debian # a commit before the first tag

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# package NAME writes $work/NAME as a package; its description is on standard input.
package() {
  local tree=$work/$1 out=$dir/$1_${debian}_$arch.deb
  install -D -m 644 LICENSE "$tree/usr/share/doc/$1/copyright"
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

cli=$work/colophon
mkdir -p "$cli/DEBIAN"
install -D -m 755 "$dir/colophon_${version}_linux_$arch" "$cli/usr/bin/colophon"
# The completions do not depend on the architecture: a program that runs here writes them.
here=$dir/colophon_${version}_linux_$("${GO:-go}" env GOHOSTARCH)
for target in bash:bash-completion/completions/colophon zsh:zsh/vendor-completions/_colophon fish:fish/vendor_completions.d/colophon.fish; do
  file=$cli/usr/share/${target#*:}
  mkdir -p "${file%/*}"
  "$here" completion "${target%%:*}" >"$file"
done
package colophon <<'END'
Recommends: git
Description: prove which git commit a container image came from
 Colophon verifies that an image was built from a commit of a repository, and
 rejects images that cannot prove it.
END

platform=$work/colophond
mkdir -p "$platform/DEBIAN" "$platform/usr/bin"
# colophond uses the scanner and the buildkitd beside itself; /usr/bin may have another buildkitd.
install -D -m 755 "$dir/colophond_${version}_linux_$arch" "$platform/usr/lib/colophon/colophond"
install -D -m 755 "$dir/colophon-scan_${version}_linux_$arch" "$platform/usr/lib/colophon/colophon-scan"
install -D -m 755 "$dir/buildkitd_${version}_linux_$arch" "$platform/usr/lib/colophon/buildkitd"
ln -s ../lib/colophon/colophond "$platform/usr/bin/colophond"
install -D -m 644 deploy/systemd/colophond.service "$platform/usr/lib/systemd/system/colophond.service"
install -d -m 755 "$platform/etc/colophon"
echo '{}' >"$platform/etc/colophon/colophond.json"
echo /etc/colophon/colophond.json >"$platform/DEBIAN/conffiles"
install -m 755 deploy/debian/postinst deploy/debian/prerm deploy/debian/postrm "$platform/DEBIAN/"
package colophond <<'END'
Depends: ca-certificates, e2fsprogs, git, runc
Recommends: colophon, openssh-client
Description: platform that builds and releases images with proof of their source
 Colophond builds images from git commits in sealed rooms, signs what it saw,
 and serves the images. Installing starts nothing: see
 /usr/lib/systemd/system/colophond.service.
END
