package admission

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/colophon-build/colophon/platform/admission/kubeapi"
	"github.com/colophon-build/colophon/platform/verdicts"
)

// Times and sizes of what outlives all replicas.
const (
	knownFirst = 30 * time.Second // after the start, it is written
	knownEvery = 5 * time.Minute  // and then, if it has changed
	knownRead  = 10 * time.Second // how long a start waits for it
	maxKnown   = 900 << 10        // bytes; the API server takes Secrets of 1 MiB
)

// memberKnown is the member of the Secret colophon-admission-known that has what verdicts.Save returns.
const memberKnown = "known"

// known keeps which images were accepted in a Secret of admission's own namespace, so that a cluster whose
// registry is down gets its pods though all replicas have ended. The leader writes it, and each replica reads
// it once, before it is ready. It is a Secret, which nobody but admission needs to write, because whoever
// writes it has images accepted, as whoever writes admission's Deployment has.
type known struct {
	api   *kubeapi.Client
	path  string
	store *verdicts.Store
	log   *slog.Logger
	last  []byte // what was written
}

func newKnown(api *kubeapi.Client, namespace string, store *verdicts.Store, log *slog.Logger) *known {
	return &known{api: api, path: "/api/v1/namespaces/" + namespace + "/secrets/" + installed + "-known", store: store, log: log}
}

// restore reads the Secret. Without it, or if it is damaged, nothing is known: registries are asked.
func (k *known) restore(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, knownRead)
	defer cancel()
	var s keptSecret
	err := k.api.Get(ctx, k.path, &s)
	n := 0
	if raw := s.Data[memberKnown]; err == nil && len(raw) > 0 {
		n, err = k.store.Restore(raw)
	}
	if err != nil {
		k.log.Warn("what earlier replicas knew is not known", "error", err)
		return
	}
	k.log.Info("what earlier replicas knew counts, if nothing has changed since", "images", n)
}

// run writes the Secret now and then, until ctx ends, while this replica leads.
func (k *known) run(ctx context.Context, lead *lease) {
	wait, said := knownFirst, ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		wait = knownEvery
		if !lead.leads() {
			continue
		}
		err := k.write(ctx)
		switch {
		case err == nil, errors.Is(err, kubeapi.ErrConflict): // another replica leads, too, for a moment
			said = ""
		case err.Error() != said && ctx.Err() == nil: // a right that is missing is said once
			said = err.Error()
			k.log.Error("what this replica knows does not outlive it", "error", err)
		}
	}
}

func (k *known) write(ctx context.Context) error {
	raw, err := k.store.Save(maxKnown)
	if err != nil || len(raw) == 0 || bytes.Equal(raw, k.last) {
		return err
	}
	var s keptSecret
	if err := k.api.Get(ctx, k.path, &s); err != nil {
		return err
	}
	s.APIVersion, s.Kind, s.Data = "v1", "Secret", map[string][]byte{memberKnown: raw}
	if err := k.api.Update(ctx, k.path, s); err != nil {
		return err
	}
	k.last = raw
	return nil
}
