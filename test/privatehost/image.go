package privatehost

import (
	"bytes"
	"fmt"
	"io"
	"net/http/httptest"
	"os/exec"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/match"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// files writes a tar file of this machine's files in "$@", which are paths or patterns of Debian packages,
// and of the libraries that their programs need, to add to a Debian image of the same release.
const files = `set -eu
{ for what; do
  case $what in
  /*) if [ -e "$what" ]; then find "$what"; fi;;
  *) dpkg-query -W -f '${db:Status-Status} ${Package}\n' "$what" | sed -n 's/^installed //p' | xargs -r dpkg -L;;
  esac
done; echo /etc/ssl/certs/ca-certificates.crt; } | grep -v -e /include/ -e /share/doc/ -e /share/man/ -e /share/locale/ -e __pycache__ | sort -u | while IFS= read -r f; do
  if [ -d "$f" ] && [ ! -L "$f" ] || [ ! -e "$f" ]; then continue; fi
  echo "$f"
  case $f in */bin/*|*.so) ldd "$f" 2>/dev/null | sed -n 's/.*=> \(\/[^ ]*\).*/\1/p' | while read -r l; do realpath -s "$l"; readlink -f "$l"; done;; esac
done | sed 's,^/\(lib\|bin\|sbin\)/,/usr/\1/,' | sort -u | tar -c -C / --no-recursion --hard-dereference --owner=0 --group=0 --numeric-owner --mtime=@0 --transform='s,^/,,S' -P --verbatim-files-from --files-from=-
`

// PutImage makes the image https://NAME/v2/REPOSITORY, with the tag latest: that with the name base in the
// layout, and this machine's Debian packages.
func (h *Host) PutImage(repository, dir, base string, packages ...string) error {
	cmd := exec.Command("sh", append([]string{"-c", files, "files"}, packages...)...)
	var said bytes.Buffer
	cmd.Stderr = &said
	tar, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("the files of %v: %w: %s", packages, err, said.Bytes())
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(tar)), nil })
	if err != nil {
		return err
	}
	img, err := named(dir, base)
	if err != nil {
		return err
	}
	if img, err = mutate.AppendLayers(img, layer); err != nil {
		return err
	}
	srv := httptest.NewServer(h.images)
	defer srv.Close()
	ref, err := name.ParseReference(strings.TrimPrefix(srv.URL, "http://") + "/" + repository)
	if err != nil {
		return err
	}
	return remote.Write(ref, img)
}

// named returns the image with a name in a layout.
func named(dir, ref string) (v1.Image, error) {
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return nil, err
	}
	found, err := partial.FindImages(index, match.Name(ref))
	if err == nil && len(found) != 1 {
		err = fmt.Errorf("%s: found %d images %s, expected one", dir, len(found), ref)
	}
	if err != nil {
		return nil, err
	}
	return found[0], nil
}
