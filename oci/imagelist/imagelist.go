// Package imagelist finds the images that a document makes a runtime run: a list, a
// Kubernetes manifest (as kubectl and Helm print it) or a compose file. It is the one
// place that knows the ways in which they name an image:
//
//	list        a line
//	Kubernetes  containers[].image, initContainers[].image and ephemeralContainers[].image,
//	            volumes[].image.reference, and volumeAttributes.image of CSI drivers, in any
//	            object and at any depth: Pod, PodTemplate, Deployment, ReplicaSet,
//	            StatefulSet, DaemonSet, Job, CronJob, ReplicationController, Knative
//	            services, Argo rollouts, KEDA scaled jobs, and lists of them. In an object
//	            of a custom kind also any "image", as Tekton's steps have it, and the
//	            fields that Fields names
//	compose     services.*.image, services.*.volumes[].source of type image,
//	            services.*.build, models.*.model
//
// What is named and cannot be looked up is in the result with the problem: it is not
// verified, and must not be taken for verified. So is what may be an image, as far as its
// field's name tells ("runtimeImage" of a custom kind that Fields says nothing about), and
// an annotation that makes an injector run an image. A document whose images depend on other
// files or on variables (compose: include, extends, $) is an error, and so is one of an
// unknown kind, and one that two readers may understand differently.
package imagelist

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/oci"
)

// Image is one image that documents name.
type Image struct {
	Name      string        // as the document wrote it, or the place that should name one
	Reference oci.Reference // empty if there is a problem
	Problem   string        // why the image cannot be looked up
	// Parameters means that the Problem is parameters in the name: which image it is, the pods say that
	// the controller of a known kind makes.
	Parameters bool
	Places     []Place // where it is named; none if no document names it
}

// List collects images without duplicates, at most limits.Images (10,000).
type List struct {
	Fields Fields // of custom kinds, in addition to those known here
	Images []Image
	Named  int // images named so far, duplicates included
	// Partial is for readers that look at one document by itself: in a compose file, what depends on
	// variables is an Image with a Problem, and what other files have is left out. Nobody may take
	// such a list for complete.
	Partial bool

	at map[string]int // index in Images
}

// Add adds an image. An image that is in the list already gets the further places.
func (l *List) Add(i Image) error {
	l.Named++
	key := i.Reference.String()
	if i.Problem != "" {
		key = "\x00" + i.Name + "\x00" + i.Problem
	}
	if at, ok := l.at[key]; ok {
		l.Images[at].Places = append(l.Images[at].Places, i.Places...)
		return nil
	}
	if len(l.Images) == limits.Images {
		return fmt.Errorf("more than %d images", limits.Images)
	}
	if l.at == nil {
		l.at = map[string]int{}
	}
	l.at[key] = len(l.Images)
	l.Images = append(l.Images, i)
	return nil
}

// Document adds the images of a document. It tells the format by the content:
//
//	JSON     begins with "{"
//	YAML     the first line that is neither blank nor a comment begins with "---"
//	         or "%", contains white space, or ends in ":"
//	a list   anything else: image names have none of these
func (l *List) Document(raw []byte) error {
	if !utf8.Valid(raw) || bytes.IndexByte(raw, 0) >= 0 {
		return errors.New("expected UTF-8 text")
	}
	if bytes.HasPrefix(bytes.TrimSpace(raw), []byte("{")) {
		var doc any
		if err := strict.Unmarshal(raw, limits.ImageList, &doc); err != nil {
			return err
		}
		d := document{fields: l.Fields}
		if err := d.object(doc); err != nil {
			return err
		}
		d.linesOfJSON(raw, d.spots())
		return d.addTo(l)
	}
	for line := range bytes.Lines(raw) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		if bytes.HasPrefix(line, []byte("---")) || line[0] == '%' || bytes.HasSuffix(line, []byte(":")) || bytes.ContainsAny(uncomment(line), " \t") {
			return l.yaml(raw)
		}
		break
	}
	return l.lines(raw)
}

// lines reads a list. The grammar of a line, with white space around it:
//
//	[IMAGE] [SPACE "#" COMMENT]
//
// A layout must begin with "./", "../", "/" or "oci:". A name without a registry
// host is therefore an error, and is not taken for a directory.
func (l *List) lines(raw []byte) error {
	n := 0
	for line := range bytes.Lines(raw) {
		n++
		name := string(uncomment(bytes.TrimSpace(line)))
		if name == "" {
			continue
		}
		ref, err := oci.ParseReference(name)
		switch {
		case err != nil:
		case strings.ContainsAny(name, " \t"):
			err = fmt.Errorf("expected one image per line, found %q", name)
		case ref.Dir != "" && !isPath(name):
			err = fmt.Errorf("expected HOST/NAME or ./LAYOUT, found %q", name)
		default:
			err = l.Add(Image{Name: name, Reference: ref, Places: []Place{{Line: n}}})
		}
		if err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
	}
	return nil
}

func uncomment(line []byte) []byte {
	if bytes.HasPrefix(line, []byte("#")) {
		return nil
	}
	for _, mark := range []string{" #", "\t#"} {
		if i := bytes.Index(line, []byte(mark)); i >= 0 {
			line = line[:i]
		}
	}
	return bytes.TrimSpace(line)
}

func isPath(name string) bool {
	for _, prefix := range []string{"./", "../", "/", "oci:"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// Reference parses an image name as container runtimes do: a name without
// a registry host is on Docker Hub. It never names a directory.
func Reference(s string) (oci.Reference, error) {
	host, _, slash := strings.Cut(s, "/")
	full := s
	switch {
	case !slash:
		full = "docker.io/library/" + s
	case host != "localhost" && !strings.ContainsAny(host, ".:"):
		full = "docker.io/" + s
	}
	ref, err := oci.ParseReference(full)
	if err == nil && ref.Repository == "" {
		err = fmt.Errorf("image %q is not in a registry", s)
	}
	return ref, err
}
