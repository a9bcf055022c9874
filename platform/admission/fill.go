package admission

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/colophon-build/colophon/internal/every"
	"github.com/colophon-build/colophon/oci/imagelist"
	"github.com/colophon-build/colophon/platform/verdicts"
	"github.com/colophon-build/colophon/verify"
)

// Limits on reading ahead. Package verdicts reads 64 images at once, and 16 of one registry: most of
// that is left to the pods that wait.
const (
	maxAhead       = 50_000 // images, for different readers, that are kept in view
	maxNamed       = 10_000 // images of releases and of lists
	maxAheadAtOnce = 16
	maxAheadOfHost = 4
	aheadTick      = 50 * time.Millisecond // one reading of each registry begins in it
	lookAhead      = time.Second           // changes of the cluster, and of policies, are seen
	aheadAgain     = time.Hour             // an image is looked at, so that what is known stays known
	aheadFailed    = 5 * time.Minute       // after a failure
)

// filler reads images before pods ask for them: those that workloads and pods name, with their own
// pull secrets, and those that releases and lists name. It decides nothing: what it reads is kept
// as the answer to the same question by a pod.
type filler struct {
	h    *Handler
	seen *inventory

	mu    sync.Mutex
	wants map[wantKey]*want
	named map[string][]imagelist.Image // by source: a list, the platform
	fresh bool                         // named has changed

	queues  map[string][]wantKey // by registry: what is due
	running map[string]int       // readings by registry
	atOnce  int
	under   string    // id of the policies of the last look
	looked  time.Time // when wants were compared with the cluster last
	left    int       // images that maxAhead leaves out

	results *prometheus.CounterVec
}

// wantKey is one question about one image.
type wantKey struct{ namespace, account, secrets, image string }

// want is how far the reading of an image is.
type want struct {
	image  imagelist.Image
	at     string    // the repository that it is read from, as judge says
	for_   *admitted // whose pull secrets read it; nil: nobody's
	under  string    // id of the policies that it was read for
	next   time.Time // when it is due
	queued bool
}

func newFiller(h *Handler, seen *inventory, r prometheus.Registerer) *filler {
	f := &filler{h: h, seen: seen, wants: map[wantKey]*want{}, named: map[string][]imagelist.Image{}, queues: map[string][]wantKey{}, running: map[string]int{}}
	f.results = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "colophon_admission_ahead_total", Help: "Images that were read before a pod asked: known, or failed."}, []string{"result"})
	r.MustRegister(f.results,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "colophon_admission_ahead_waiting", Help: "Images that wait to be read before a pod asks."}, func() float64 {
			f.mu.Lock()
			defer f.mu.Unlock()
			n := 0
			for _, q := range f.queues {
				n += len(q)
			}
			return float64(n)
		}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "colophon_admission_ahead_left_out", Help: "Images that are too many to be read before a pod asks."}, func() float64 {
			f.mu.Lock()
			defer f.mu.Unlock()
			return float64(f.left)
		}))
	return f
}

// name takes the images that a source names now. Those without a digest, and
// layouts, are left out.
func (f *filler) name(source string, images []imagelist.Image) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []imagelist.Image
	for _, i := range images {
		if i.Problem == "" && i.Reference.Dir == "" && i.Reference.Digest != "" && len(out) < maxNamed {
			out = append(out, i)
		}
	}
	f.named[source], f.fresh = out, true
}

// run reads ahead until ctx ends.
func (f *filler) run(ctx context.Context) {
	var look time.Time
	for now := range every.Period(ctx, aheadTick) {
		if now.Sub(look) >= lookAhead {
			look = now
			f.look(now)
		}
		f.start(ctx)
	}
}

// look finds what is due.
func (f *filler) look(now time.Time) {
	news := f.seen.changed()
	f.mu.Lock()
	defer f.mu.Unlock()
	under := f.h.Verdicts.Policies()
	if under == "" || !news && !f.fresh && under == f.under && now.Sub(f.looked) < time.Minute {
		return
	}
	f.fresh, f.under, f.looked = false, under, now
	var wanted map[wantKey]*want
	wanted, f.left = f.collect()
	for key := range f.wants {
		if wanted[key] == nil && !f.wants[key].queued {
			delete(f.wants, key)
		}
	}
	for key, w := range wanted {
		have := f.wants[key]
		if have == nil {
			have = w
			f.wants[key] = have
		}
		if !have.queued && (have.under != under || !now.Before(have.next)) {
			have.queued, have.under = true, under
			host, _, _ := strings.Cut(have.at, "/")
			f.queues[host] = append(f.queues[host], key)
		}
	}
}

// collect returns the images that the cluster, releases and lists name. An image of a release or
// list is read for all who name another image of its repository, and for those without pull secrets.
// Of those that are not in view yet, at most as many are returned as maxAhead has room for: there are
// as many combinations of a list and readers as their numbers multiplied. left counts the others.
func (f *filler) collect() (out map[wantKey]*want, left int) {
	out = map[wantKey]*want{}
	room := maxAhead - len(f.wants)
	readers := map[string]map[wantKey]*admitted{} // by repository
	add := func(key wantKey, i imagelist.Image, a *admitted) {
		key.image = i.Name
		if out[key] != nil {
			return
		}
		if f.wants[key] == nil {
			if room <= 0 {
				left++
				return
			}
			room--
		}
		at, err := f.h.Mirrors.Repository(i.Reference.Repository)
		if err != nil {
			at = i.Reference.Repository // it is no name of an image: read finds that, too
		}
		out[key] = &want{image: i, at: at, for_: a}
	}
	objects, _ := f.seen.all(false)
	for _, o := range objects {
		_, spec := o.object.pod()
		key := wantKey{namespace: o.Namespace, account: spec.ServiceAccountName}
		for _, s := range spec.ImagePullSecrets {
			key.secrets += s.Name + "/"
		}
		for _, i := range o.images {
			if readers[i.Reference.Repository] == nil {
				readers[i.Reference.Repository] = map[wantKey]*admitted{}
			}
			readers[i.Reference.Repository][key] = o.admitted
			add(key, i, o.admitted)
		}
	}
	for _, images := range f.named {
		for _, i := range images {
			add(wantKey{}, i, nil)
			for key, a := range readers[i.Reference.Repository] {
				add(key, i, a)
			}
		}
	}
	return out, left
}

// start begins one reading of each registry, as far as the limits allow.
func (f *filler) start(ctx context.Context) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for host, queue := range f.queues {
		if f.atOnce >= maxAheadAtOnce || f.running[host] >= maxAheadOfHost {
			continue
		}
		key := queue[0]
		if f.queues[host] = queue[1:]; len(queue) == 1 {
			delete(f.queues, host)
		}
		f.atOnce++
		f.running[host]++
		w := f.wants[key]
		go func() {
			known := f.read(ctx, w)
			f.mu.Lock()
			defer f.mu.Unlock()
			f.atOnce--
			if f.running[host]--; f.running[host] == 0 {
				delete(f.running, host)
			}
			wait := aheadAgain
			if w.queued = false; !known {
				wait = aheadFailed
			}
			w.next = time.Now().Add(jitter(wait))
		}()
	}
}

// read reads one image. known is false if that failed.
func (f *filler) read(ctx context.Context, w *want) (known bool) {
	defer func() {
		if fault := recover(); fault != nil { // the pods themselves ask again
			f.h.Log.Error("an image could not be read ahead", "image", w.image.Name, "fault", fault)
		}
		result := "failed"
		if known {
			result = "known"
		}
		f.results.WithLabelValues(result).Inc()
	}()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	image, err := f.h.Names.Image(w.image.Name)
	if err != nil {
		return true // nothing changes that
	}
	q := verdicts.Question{Image: image, Repository: w.at, Ahead: true}
	if w.for_ != nil {
		q.Namespace, q.Workload, q.Logins = w.for_.Namespace, w.for_.runs, f.h.access(ctx, w.for_).logins(q.Repository)
	}
	return f.h.Verdicts.Ask(ctx, q).Decision.Outcome != verify.Undecided
}
