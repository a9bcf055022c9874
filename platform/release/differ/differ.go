// Package differ describes how two images differ that should be equal: in which
// setting of the configuration, or in which file of which layer. Both images are
// untrusted, but oci.MeasureLayout has measured them.
package differ

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/oci"
)

// Limits of one comparison. Differences beyond them are not reported.
const (
	maxNamed   = 10        // reported differences
	maxValue   = 200       // bytes of a reported value
	maxEntries = 1_000_000 // entries of one layer
	maxNames   = 256 << 20 // bytes of these entries' names
)

// Image is a measured layout.
type Image struct {
	Dir      string
	Measured *oci.Measured
}

// Describe lists the first differences between two images, one in each line, and says in a
// last line if there may be more. The caller knows that the images differ; Describe never
// returns an empty list.
func Describe(a, b Image) ([]string, error) {
	d := &report{}
	if !slices.EqualFunc(a.Measured.Platforms, b.Measured.Platforms, func(x, y oci.MeasuredPlatform) bool { return x.Platform.Equals(y.Platform) }) {
		d.add("platforms: %s; %s", platforms(a), platforms(b))
		return d.lines, nil
	}
	for i, p := range a.Measured.Platforms {
		d.where = p.Platform.String()
		if err := d.platform(a, b, p, b.Measured.Platforms[i]); err != nil {
			return nil, fmt.Errorf("comparing the images for %s: %w", d.where, err)
		}
	}
	if len(d.lines) == 0 {
		d.where = ""
		d.add("only the manifests differ, not the configuration or the layers")
	}
	if d.more {
		d.lines = append(d.lines, fmt.Sprintf("at most %d differences are listed", maxNamed))
	}
	return d.lines, nil
}

func platforms(i Image) string {
	var names []string
	for _, p := range i.Measured.Platforms {
		names = append(names, p.Platform.String())
	}
	return strings.Join(names, ", ")
}

// report collects at most maxNamed differences.
type report struct {
	where string // prefix of each line
	lines []string
	more  bool // some differences may have been left out
}

func (d *report) full() bool { return len(d.lines) >= maxNamed }

func (d *report) add(format string, args ...any) {
	if d.full() {
		d.more = true
		return
	}
	line := fmt.Sprintf(format, args...)
	if d.where != "" {
		line = d.where + ": " + line
	}
	d.lines = append(d.lines, line)
}

func (d *report) platform(a, b Image, p, q oci.MeasuredPlatform) error {
	if p.Manifest.Digest == q.Manifest.Digest {
		return nil
	}
	if p.Config.Digest != q.Config.Digest {
		if err := d.configuration(p.ConfigRaw, q.ConfigRaw); err != nil {
			return err
		}
	}
	if len(p.Layers) != len(q.Layers) {
		d.add("number of layers: %d; %d", len(p.Layers), len(q.Layers))
	}
	for i := range min(len(p.Layers), len(q.Layers)) {
		x, y := p.Layers[i], q.Layers[i]
		switch {
		case d.full():
			d.more = true
			return nil
		case x.DiffID != y.DiffID:
			if err := d.layer(fmt.Sprintf("layer %d", i+1), a, b, x, y); err != nil {
				return err
			}
		case x.Descriptor.Digest != y.Descriptor.Digest:
			d.add("layer %d: the same files, compressed differently: %s; %s", i+1, x.Descriptor.Digest, y.Descriptor.Digest)
		}
	}
	return nil
}

// configuration compares settings by their path, such as config.Env.0. It skips the
// layers' digests, because comparing the layers' files tells more.
func (d *report) configuration(a, b []byte) error {
	x, err := settings(a)
	if err != nil {
		return err
	}
	y, err := settings(b)
	if err != nil {
		return err
	}
	all := maps.Clone(x)
	maps.Copy(all, y)
	for _, path := range slices.Sorted(maps.Keys(all)) {
		if v, w := x[path], y[path]; v != w && !strings.HasPrefix(path, "rootfs.diff_ids.") {
			d.add("configuration, %s: %s; %s", path, orNothing(v), orNothing(w))
		}
	}
	return nil
}

func orNothing(s string) string {
	if s == "" {
		return "nothing"
	}
	return bounded(s)
}

func bounded(s string) string { return printable.Cut(s, maxValue) }

func settings(raw []byte) (map[string]string, error) {
	var v any
	if err := strict.Unmarshal(raw, limits.Config, &v); err != nil {
		return nil, err
	}
	out := map[string]string{}
	flatten(out, "", v)
	return out, nil
}

func flatten(out map[string]string, path string, v any) {
	switch v := v.(type) {
	case map[string]any:
		for k, w := range v {
			flatten(out, strings.TrimPrefix(path+"."+k, "."), w)
		}
	case []any:
		for i, w := range v {
			flatten(out, fmt.Sprintf("%s.%d", path, i), w)
		}
	default:
		raw, err := json.Marshal(v)
		if err != nil {
			raw = []byte("?")
		}
		out[path] = string(raw)
	}
}

// entry has the compared properties of one file in a layer.
type entry struct {
	kind       byte
	mode       int64
	uid, gid   int
	size, time int64 // time in Unix nanoseconds
	link       string
	records    string // PAX records, including extended attributes
	sum        [sha256.Size]byte
}

func (d *report) layer(name string, a, b Image, x, y oci.MeasuredLayer) error {
	first := map[string]entry{}
	var order []string
	names := 0
	err := walk(a.Dir, x, func(path string, e entry) error {
		if names += len(path); len(first) >= maxEntries || names > maxNames {
			return errTooMany
		}
		first[path] = e
		order = append(order, path)
		return nil
	})
	if errors.Is(err, errTooMany) {
		d.add("%s: %s; %s (too many files to compare)", name, x.DiffID, y.DiffID)
		return nil
	} else if err != nil {
		return err
	}
	before := len(d.lines)
	n, sameOrder := 0, true
	err = walk(b.Dir, y, func(path string, e entry) error {
		if n >= len(order) || order[n] != path {
			sameOrder = false
		}
		n++
		old, ok := first[path]
		if !ok {
			d.add("%s, %s: only in the second image", name, bounded(path))
		} else {
			delete(first, path)
			for _, line := range compare(old, e) {
				d.add("%s, %s: %s", name, bounded(path), line)
			}
		}
		if d.full() {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		d.more = true
		return nil
	} else if err != nil {
		return err
	}
	for _, path := range slices.Sorted(maps.Keys(first)) {
		d.add("%s, %s: only in the first image", name, bounded(path))
	}
	if len(d.lines) == before && !d.more {
		what := "the same files, in a different tar encoding"
		if !sameOrder {
			what = "the same files, in a different order"
		}
		d.add("%s: %s: %s; %s", name, what, x.DiffID, y.DiffID)
	}
	return nil
}

var (
	errTooMany = errors.New("too many entries to compare")
	errEnough  = errors.New("enough differences")
)

// walk calls each for the entries of a layer. It appends a number to the path of a
// duplicate entry.
func walk(dir string, m oci.MeasuredLayer, each func(path string, e entry) error) error {
	l, err := oci.OpenLayout(dir)
	if err != nil {
		return err
	}
	defer l.Close()
	times := map[string]int{}
	return oci.LayerEntries(context.Background(), l, m.Descriptor, func(h *tar.Header, file io.Reader) error {
		sum := sha256.New()
		if _, err := io.Copy(sum, file); err != nil {
			return err
		}
		path := "/" + strings.Trim(h.Name, "/")
		if len(times) >= maxEntries {
			return errTooMany
		}
		if times[path]++; times[path] > 1 {
			path = fmt.Sprintf("%s (%d)", path, times[path])
		}
		e := entry{kind: h.Typeflag, mode: h.Mode, uid: h.Uid, gid: h.Gid, size: h.Size, time: h.ModTime.UnixNano(), link: h.Linkname, records: records(h)}
		sum.Sum(e.sum[:0])
		return each(path, e)
	})
}

func records(h *tar.Header) string {
	var out []string
	for k, v := range h.PAXRecords {
		if k != "mtime" && k != "path" && k != "linkpath" && k != "size" { // these have fields in tar.Header
			out = append(out, k+"="+fmt.Sprintf("%q", bounded(v)))
		}
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func compare(a, b entry) (lines []string) {
	add := func(what string, x, y any) { lines = append(lines, fmt.Sprintf("%s: %v; %v", what, x, y)) }
	if a.kind != b.kind {
		add("type", string(a.kind), string(b.kind))
	}
	if a.sum != b.sum || a.size != b.size {
		add("content", content(a), content(b))
	}
	if a.mode != b.mode {
		add("mode", fmt.Sprintf("%04o", a.mode), fmt.Sprintf("%04o", b.mode))
	}
	if a.uid != b.uid || a.gid != b.gid {
		add("owner", fmt.Sprintf("%d:%d", a.uid, a.gid), fmt.Sprintf("%d:%d", b.uid, b.gid))
	}
	if a.time != b.time {
		add("time", stamp(a.time), stamp(b.time))
	}
	if a.link != b.link {
		add("link", bounded(a.link), bounded(b.link))
	}
	if a.records != b.records {
		add("attributes", orNothing(a.records), orNothing(b.records))
	}
	return lines
}

func content(e entry) string {
	return fmt.Sprintf("sha256:%s of %d bytes", hex.EncodeToString(e.sum[:]), e.size)
}

func stamp(ns int64) string { return time.Unix(0, ns).UTC().Format(time.RFC3339Nano) }
