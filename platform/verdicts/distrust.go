package verdicts

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/colophon-build/colophon/distrust"
	"github.com/colophon-build/colophon/distrust/follow"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/verify"
)

// Distrusted is in the settings of whoever decides: whose lists of what is no longer trusted count.
type Distrusted struct {
	Issuers string `json:"issuers"`       // file with the issuers, as "colophon distrust issuer add" writes it: distrust/issuers.json
	Dir     string `json:"dir,omitempty"` // directory in which the lists are kept, so that a restart does not forget what each had; absent: they are not kept
}

// Check returns an error if the settings say nothing. It accepts nil.
func (d *Distrusted) Check() error {
	if d != nil && (d.Issuers == "" || d.Dir != "" && !filepath.IsAbs(d.Dir)) {
		return errors.New("distrust: expected issuers, a file, and an absolute path for dir if it is there")
	}
	return nil
}

// listsEvery is how often lists are read: an entry counts within five seconds.
const listsEvery = 2 * time.Second

// FollowLists begins to read the lists of what is no longer trusted, again and again until ctx ends, and makes
// them count. Nobody gets an answer before the first time. Issuers that are wrong change nothing: those before count, until the file is mended. It does nothing for nil.
func (l *Loader) FollowLists(ctx context.Context, d *Distrusted) {
	if d == nil {
		return
	}
	l.store.ExpectDistrust()
	go l.followLists(ctx, d, listsEvery)
}

func (l *Loader) followLists(ctx context.Context, d *Distrusted, every time.Duration) {
	f := &listFollower{l: l, d: d}
	for ctx.Err() == nil {
		f.round(ctx)
		select {
		case <-ctx.Done():
		case <-time.After(every):
		}
	}
}

// listFollower reads the lists of the issuers in a file.
type listFollower struct {
	l *Loader
	d *Distrusted

	sum    [sha256.Size]byte // of the file
	reader *follow.Reader    // nil: the file was never good
	said   string
}

func (f *listFollower) round(ctx context.Context) {
	roots := f.l.store.Roots()
	if roots == nil {
		return // not read yet: nobody gets an answer
	}
	problem := f.issuers()
	if f.reader == nil {
		f.l.store.Distrust(distrust.Lists{{Issuer: distrust.Issuer{Name: f.d.Issuers}, Problem: problem}})
	} else {
		lists := f.reader.Refresh(ctx, f.l.store.config.Now(), roots)
		if ctx.Err() != nil {
			return
		}
		for _, k := range lists {
			if k.Problem != "" && problem == "" {
				problem = fmt.Sprintf("the list of %s: %s", k.Issuer.Name, k.Problem)
			}
		}
		if f.l.store.Distrust(lists) {
			f.l.log.Info("other entries of lists of what is no longer trusted count", "lists", len(lists), "id", f.l.store.Policies())
			f.l.used()
		}
	}
	if problem != "" && problem != f.said {
		f.l.log.Error("a list of what is no longer trusted cannot be read; what it said before still counts", "problem", problem)
	}
	f.said = problem
}

// issuers reads the file again. It returns what is wrong with it.
func (f *listFollower) issuers() string {
	raw, err := strict.ReadFile(f.d.Issuers, limits.Request)
	if err != nil {
		return err.Error()
	}
	sum := sha256.Sum256(raw)
	if f.reader != nil && sum == f.sum {
		return ""
	}
	issuers, err := distrust.ParseIssuers(raw)
	if err != nil {
		return strict.In(f.d.Issuers, err).Error()
	}
	if f.sum = sum; f.reader != nil {
		f.reader = f.reader.With(issuers)
	} else {
		f.reader = follow.New(f.d.Dir, issuers)
	}
	return ""
}

// TellList makes the platform's own list of what is no longer trusted count: its bytes, and the key that signs
// it (PEM). name is that of the issuer. A list that is wrong changes nothing of what was said before.
func (l *Loader) TellList(name string, raw, key []byte) {
	now := l.store.config.Now()
	known := distrust.Known{Issuer: distrust.Issuer{Name: name, Wide: true}}
	var before *distrust.Head
	for _, k := range l.store.distrust() {
		if k.Issuer.Name == name && k.List != nil {
			known.List, before = k.List, &k.List.Head
		}
	}
	public, err := policy.ParseKey(string(key))
	if err == nil {
		public.InsecureNoLog = true
		known.Issuer.Signer = public
		var list *distrust.List
		if list, err = verify.SignedList(context.Background(), known.Issuer, raw, before, now, nil); err == nil {
			known.List = list
		}
	}
	if err != nil {
		known.Problem = err.Error()
		l.log.Error("the platform's list of what is no longer trusted cannot be used; what it said before still counts", "problem", err)
	}
	if l.store.Distrust(distrust.Lists{known}) {
		l.log.Info("other entries of the list of what is no longer trusted count", "id", l.store.Policies())
		l.used()
	}
}
