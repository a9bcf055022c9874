// Package admission answers the API server of Kubernetes: which objects may name which images
// (admission.k8s.io/v1, "Dynamic Admission Control" of Kubernetes). One handler changes tags into
// digests, the other one asks the policies about each digest (package verdicts). Both fail
// closed: whatever is not known, too much, or no request of Kubernetes is refused with a reason.
package admission

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/oci/imagelist"
	"github.com/colophon-build/colophon/platform/verdicts"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/policy/clusterimagepolicy"
	"github.com/colophon-build/colophon/verify"
)

// Paths of the two webhooks.
const (
	PathMutate   = "/mutate"   // tags become digests
	PathValidate = "/validate" // policies decide about digests
)

// Cluster is what must be asked of the cluster. Its methods may be called at the same time.
type Cluster interface {
	// PullSecrets returns the content of the Secrets that a pod of the ServiceAccount may pull
	// images with: those of the names, and those of the ServiceAccount. notes says which of
	// them cannot be read.
	PullSecrets(ctx context.Context, namespace, serviceAccount string, names []string) (secrets []PullSecret, notes []string)
	// MayBreakGlass reports whether RBAC lets a user break the glass in a namespace: the verb
	// "breakglass" on imagepolicies of colophon.build.
	MayBreakGlass(ctx context.Context, user User, namespace string) (bool, error)
}

// Config says how a Handler decides.
type Config struct {
	Verdicts   *verdicts.Store       // required
	Cluster    Cluster               // required
	Fields     imagelist.Fields      // of custom kinds
	Names      policy.Names          // names that rules see of images that were copied to mirrors
	Mirrors    policy.Names          // where images are read, by the beginning of what pods call them
	DryRun     bool                  // decisions are recorded, and nothing is refused or changed
	Log        *slog.Logger          // gets a line for each decision; required
	Registerer prometheus.Registerer // required
	Now        func() time.Time      // nil: time.Now

	Recorder Recorder // brings decisions to an audit ledger; nil: nobody does
	Name     string   // of the cluster, in the ledger
}

// Handler answers the API server.
type Handler struct {
	Config
	metrics *metrics
	mux     *http.ServeMux
	parsing *semaphore.Weighted // bytes of objects that are parsed at once: some take 20 times their size
}

// New returns a Handler of PathMutate and PathValidate.
func New(c Config) *Handler {
	if c.Now == nil {
		c.Now = time.Now
	}
	h := &Handler{Config: c, metrics: newMetrics(c.Registerer, c.Verdicts), mux: http.NewServeMux(), parsing: semaphore.NewWeighted(maxReview)}
	h.mux.Handle(PathMutate, h.hook("mutate", h.mutate))
	h.mux.Handle(PathValidate, h.hook("validate", h.validate))
	return h
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) { h.mux.ServeHTTP(w, r) }

// hook returns the handler of one webhook.
func (h *Handler) hook(name string, decide func(context.Context, *admitted) *response) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := h.Now()
		req, code, err := readReview(w, r)
		if err != nil {
			h.metrics.requests.WithLabelValues(name, "no request").Inc()
			h.Log.Warn("not an admission request", "hook", name, "error", err)
			http.Error(w, err.Error(), code)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), budget(r))
		defer cancel()
		out := h.answer(ctx, req, decide)
		out.UID = req.UID
		answer := "refused"
		if out.Allowed {
			answer = "admitted"
		}
		if h.DryRun {
			out = &response{UID: req.UID, Allowed: true}
		}
		h.metrics.requests.WithLabelValues(name, answer).Inc()
		h.metrics.seconds.WithLabelValues(name).Observe(h.Now().Sub(start).Seconds())
		writeReview(w, out)
	})
}

func (h *Handler) answer(ctx context.Context, req *request, decide func(context.Context, *admitted) *response) (out *response) {
	defer func() { // a fault of ours is a refusal as well
		if fault := recover(); fault != nil {
			h.Log.Error("a decision ended with a fault", "uid", req.UID, "fault", fmt.Sprint(fault))
			out = denied("admission failed: see its log")
		}
	}()
	a, err := h.read(ctx, req)
	if err != nil {
		return h.refuse(ctx, &admitted{request: req}, err.Error())
	}
	return decide(ctx, a)
}

// refuse refuses an object about whose images nothing was decided.
func (h *Handler) refuse(ctx context.Context, a *admitted, why string) *response {
	o := outcome{refused: why}
	h.record(ctx, a, o)
	_ = h.keep(ctx, a, []outcome{o}, false, false) // refused in any case
	return denied(why)
}

// admitted is an object that somebody wants to create or change.
type admitted struct {
	*request
	object objectHead
	runs   *clusterimagepolicy.Workload // the object, for ClusterImagePolicies
	before objectHead                   // zero when it is created
	images []imagelist.Image            // that are new at one of their places
	old    map[string]string            // the image at each place of the old object, by JSON pointer

	running bool // it is in the cluster already, and nobody waits for the answer
}

// change reports whether an image is not the one that the old object has at a place.
func (a *admitted) change(i imagelist.Image, p imagelist.Place) bool {
	return a.old[p.Pointer] != reference(i)
}

func reference(i imagelist.Image) string {
	return cmp.Or(i.Reference.String(), i.Name+"\x00"+i.Problem)
}

// read finds the images that the request adds.
func (h *Handler) read(ctx context.Context, req *request) (*admitted, error) {
	a := &admitted{request: req, old: map[string]string{}}
	size := min(int64(len(req.Object)+len(req.OldObject)), maxReview)
	if h.parsing.Acquire(ctx, size) != nil {
		return nil, errors.New("too many large objects are read at once; try again")
	}
	defer h.parsing.Release(size)
	if req.Operation != "CREATE" && req.Operation != "UPDATE" {
		return nil, fmt.Errorf("operation: expected CREATE or UPDATE, found %q: mend the webhook's configuration", req.Operation)
	}
	if err := readHead(req.Object, &a.object); err != nil {
		return nil, fmt.Errorf("object: %w", err)
	}
	if a.object.Kind != req.Kind.Kind || a.object.APIVersion != req.Kind.apiVersion() {
		return nil, fmt.Errorf("object: expected a %s of %s, found %q of %q", req.Kind.Kind, req.Kind.apiVersion(), a.object.Kind, a.object.APIVersion)
	}
	update := req.Operation == "UPDATE"
	if update {
		if err := readHead(req.OldObject, &a.before); err != nil {
			return nil, fmt.Errorf("old object: %w", err)
		}
	}
	all, err := h.imagesOf(req.Kind, req.Object)
	if err != nil && update && unchanged(req.Object, req.OldObject) {
		return a, nil // whatever its images are, none is new
	}
	if err != nil {
		return nil, err
	}
	if update {
		// Of an old object that cannot be read, nothing is known: all images are new.
		before, _ := h.imagesOf(req.Kind, req.OldObject)
		for _, i := range before {
			for _, p := range i.Places {
				a.old[p.Pointer] = reference(i)
			}
		}
	}
	for _, i := range all {
		if o := i.Places[0].Object; o != nil {
			a.runs = clusterimagepolicy.WorkloadOf(o.APIVersion, o.Kind, o.Content)
		}
		if slices.ContainsFunc(i.Places, func(p imagelist.Place) bool { return a.change(i, p) }) {
			a.images = append(a.images, i)
		}
	}
	return a, nil
}

// workloads are the kinds of Kubernetes itself that have images.
var workloads = map[string][]string{
	"":      {"Pod", "PodTemplate", "ReplicationController"},
	"apps":  {"DaemonSet", "Deployment", "ReplicaSet", "StatefulSet"},
	"batch": {"CronJob", "Job"},
}

// imagesOf returns the images that an object names. An annotation that makes another webhook add
// a container is none: the container is in the pod when the pod is validated.
func (h *Handler) imagesOf(k kind, object json.RawMessage) ([]imagelist.Image, error) {
	list := imagelist.List{Fields: h.Fields}
	if err := list.Document(object); err != nil {
		return nil, fmt.Errorf("%s: %w", k, err)
	}
	if list.Named > maxImages {
		return nil, fmt.Errorf("%s: expected at most %d images, found %d", k, maxImages, list.Named)
	}
	images := slices.DeleteFunc(list.Images, func(i imagelist.Image) bool {
		// In a pointer, the "/" of a name is written otherwise: no name looks like this.
		return i.Problem != "" && strings.HasSuffix(path.Dir(i.Places[0].Pointer), "/metadata/annotations")
	})
	if known := slices.Contains(workloads[k.Group], k.Kind); !known && len(images) == 0 && !h.Fields.Has(k.Kind, k.Group) {
		return nil, fmt.Errorf("nothing says which fields of a %s name images: name them in the member images of admission's configuration, or take the kind out of the webhook's rules", k)
	}
	return images, nil
}

// mutate changes tags into digests.
func (h *Handler) mutate(ctx context.Context, a *admitted) *response {
	type operation struct {
		Op    string `json:"op"`
		Path  string `json:"path"`
		Value string `json:"value"`
	}
	if h.mirrors(a) { // the kubelet runs what its file names, whatever stands here
		return &response{Allowed: true}
	}
	glass, access := h.askGlass(ctx, a), h.access(ctx, a)
	digests, errs := make([]string, len(a.images)), make([]error, len(a.images))
	each(a.images, func(n int, i imagelist.Image) {
		if i.Problem == "" && i.Reference.Digest == "" {
			if at, err := h.Mirrors.Repository(i.Reference.Repository); err != nil {
				errs[n] = err
			} else {
				digests[n], errs[n] = h.Verdicts.Resolve(ctx, at, i.Reference.Identifier(), a.Namespace, access.logins(at))
			}
		}
	})
	out, patch, refusals, refused := &response{}, []operation{}, []string{}, []outcome{}
	for n, i := range a.images {
		if errs[n] != nil {
			o := h.unpinned(a, i, fmt.Sprintf("its tag could not be resolved: %v%s", errs[n], access.said()))
			h.record(ctx, a, o)
			out.warn(o.warnings...)
			if o.refused != "" {
				refusals, refused = append(refusals, o.refused), append(refused, o)
			}
			continue
		}
		if digests[n] == "" {
			continue
		}
		pinned := i.Name + "@" + digests[n]
		if i.Reference.Tag == "" {
			pinned = i.Name + ":" + i.Reference.Identifier() + "@" + digests[n]
		}
		for _, p := range i.Places {
			if op := (operation{"replace", p.Pointer, pinned}); a.change(i, p) && !slices.Contains(patch, op) {
				patch = append(patch, op)
			}
		}
	}
	if len(refusals) > 0 && !h.breaksGlass(ctx, a, glass, out) {
		_ = h.keep(ctx, a, refused, false, false) // refused in any case
		return out.denied(refusals)
	}
	out.Allowed = true
	if len(patch) > 0 {
		raw, err := json.Marshal(patch)
		if err != nil {
			return denied(fmt.Sprintf("the images could not be named by digest: %v", err))
		}
		out.Patch, out.PatchType = raw, "JSONPatch"
	}
	return out
}

// validate asks the policies about each image.
func (h *Handler) validate(ctx context.Context, a *admitted) *response {
	glass, access := h.askGlass(ctx, a), h.access(ctx, a)
	outcomes := make([]outcome, len(a.images))
	each(a.images, func(n int, i imagelist.Image) { outcomes[n] = h.judge(ctx, a, i, access) })
	out, refusals, broke := &response{Audit: map[string]string{}}, []string{}, false
	if err := a.checkGlass(glass); err != nil {
		return h.refuse(ctx, a, err.Error())
	}
	for _, o := range outcomes {
		out.warn(o.warnings...)
		if o.refused != "" {
			refusals = append(refusals, o.refused)
		}
	}
	switch {
	case len(refusals) == 0:
		out.Allowed = true
	case h.mirrors(a): // the kubelet runs it already
		out.Allowed = true
		out.warn(refusals...)
	case h.breaksGlass(ctx, a, glass, out):
		out.Allowed, broke = true, true
	default:
		out = out.denied(refusals)
	}
	for _, o := range outcomes {
		o.admitted = out.Allowed
		h.record(ctx, a, o)
	}
	if err := h.keep(ctx, a, outcomes, out.Allowed, broke); err != nil {
		return denied(err.Error())
	}
	return out
}

// outcome is what is decided about one image.
type outcome struct {
	image    string // as the object names it
	digest   string // of the image, or ""
	place    imagelist.Place
	answer   verdicts.Answer
	refused  string // why; empty if the image may run
	warnings []string
	took     time.Duration
	admitted bool // the whole object is
}

// judge asks the policies about an image.
func (h *Handler) judge(ctx context.Context, a *admitted, i imagelist.Image, access *access) (o outcome) {
	start := h.Now()
	defer func() { o.took = h.Now().Sub(start) }()
	o = outcome{image: i.Name, digest: i.Reference.Digest, place: i.Places[0]}
	refuse := func(why string) outcome {
		o.refused = fmt.Sprintf("image %s of %s: %s", printable.Text(i.Name), o.place.Path, printable.Line(why))
		return o
	}
	if i.Parameters { // the API server asks about the pods, which name the image
		o.warnings = []string{fmt.Sprintf("image %s of %s: %s", printable.Text(i.Name), o.place.Path, printable.Line(i.Problem))}
		return o
	}
	if i.Problem != "" {
		return refuse(i.Problem)
	}
	if i.Reference.Digest == "" {
		return h.unpinned(a, i, "it is named by a tag, which may lead to another image when it is pulled; the mutating webhook adds the digest")
	}
	image, err := h.Names.Image(i.Name)
	if err != nil {
		return refuse(err.Error())
	}
	at, err := h.Mirrors.Repository(i.Reference.Repository)
	if err != nil {
		return refuse(err.Error())
	}
	o.answer = h.Verdicts.Ask(ctx, verdicts.Question{Image: image, Repository: at, Namespace: a.Namespace, Workload: a.runs, Logins: access.logins(at), Ahead: a.running})
	d := o.answer.Decision
	for _, w := range d.Warnings {
		if !onlyRecorded(d, w) {
			o.warnings = append(o.warnings, fmt.Sprintf("image %s: %s", printable.Text(i.Name), printable.Line(w)))
		}
	}
	switch d.Outcome {
	case verify.Accepted:
		return o
	case verify.Rejected:
		return refuse(d.Reason)
	}
	return refuse("nobody knows whether it may run: " + d.Reason + access.said())
}

// onlyRecorded reports whether a warning is of a rule in the mode audit, which warns nobody.
func onlyRecorded(d *verify.Decision, warning string) bool {
	return slices.ContainsFunc(d.Rules, func(r verify.RuleDecision) bool {
		return r.Mode == policy.Audit && strings.HasPrefix(warning, fmt.Sprintf("rule %q of policy %q: ", r.Rule, r.Policy))
	})
}

// unpinned returns what is decided about an image without a digest: it is refused if a rule that
// enforces may be about it.
func (h *Handler) unpinned(a *admitted, i imagelist.Image, why string) outcome {
	o := outcome{image: i.Name, place: i.Places[0]}
	text := fmt.Sprintf("image %s of %s: %s", printable.Text(i.Name), o.place.Path, printable.Line(why))
	image, err := h.Names.Image(i.Name)
	if err == nil && !h.Verdicts.Enforced(a.Namespace, image) {
		o.warnings = []string{text}
		return o
	}
	o.refused = text
	return o
}

// each calls do for all images, several at once.
func each(images []imagelist.Image, do func(int, imagelist.Image)) {
	if len(images) == 1 {
		do(0, images[0])
		return
	}
	var g errgroup.Group
	g.SetLimit(16)
	for n, i := range images {
		g.Go(func() (err error) {
			defer func() {
				if fault := recover(); fault != nil {
					err = fmt.Errorf("%v", fault)
				}
			}()
			do(n, i)
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		panic(err) // answer refuses
	}
}

// Limits on the warnings of one answer: kubectl shows them all, and the API server cuts long ones.
const (
	maxWarnings = 20
	maxWarning  = 600 // bytes
)

func (r *response) warn(warnings ...string) {
	for _, w := range warnings {
		if len(r.Warnings) < maxWarnings {
			r.Warnings = append(r.Warnings, printable.Cut(w, maxWarning))
		}
	}
}

var errNull = errors.New("expected an object, found none")
