package admission

import (
	"context"
	"encoding/json"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/platform/admission/kubeapi"
)

const (
	againEvery = 24 * time.Hour // running pods are verified, whatever happens
	atOnce     = 4              // pods that are verified
)

// watchRunning asks the policies about the images of all running pods: at the start, so that they
// are known before the next pod with them comes; when other policies or trust roots count; and
// once a day. It writes a line for each image that would be refused. Nothing is stopped.
func (h *Handler) watchRunning(ctx context.Context, api *kubeapi.Client, changed <-chan struct{}) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-time.After(againEvery):
		}
		pods, refused, err := h.verifyRunning(ctx, api)
		h.metrics.running.Set(float64(refused))
		if err != nil && ctx.Err() == nil {
			h.Log.Error("the running pods could not be listed", "error", err)
			continue
		}
		h.Log.Info("running pods were verified", "pods", pods, "refused", refused)
	}
}

func (h *Handler) verifyRunning(ctx context.Context, api *kubeapi.Client) (pods, refused int, err error) {
	var g errgroup.Group
	g.SetLimit(atOnce)
	counts := make(chan int, atOnce)
	total := make(chan int)
	go func() {
		n := 0
		for c := range counts {
			n += c
		}
		total <- n
	}()
	err = api.Each(ctx, "/api/v1/pods", func(raw json.RawMessage) error {
		pods++
		g.Go(func() error {
			counts <- h.verifyPod(ctx, raw)
			return nil
		})
		return ctx.Err()
	})
	_ = g.Wait() // no task returns an error
	close(counts)
	return pods, <-total, err
}

// verifyPod returns the number of images of a pod that would be refused now. Images that are
// named by a tag are left out: nobody knows what runs.
func (h *Handler) verifyPod(ctx context.Context, raw json.RawMessage) (refused int) {
	var pod struct {
		Metadata struct {
			Namespace string `json:"namespace"`
			Name      string `json:"name"`
		} `json:"metadata"`
	}
	if json.Unmarshal(raw, &pod) != nil {
		return 0
	}
	a, err := h.read(&request{Operation: "CREATE", Kind: kind{Version: "v1", Kind: "Pod"}, Namespace: pod.Metadata.Namespace, Object: raw})
	if err != nil {
		h.Log.WarnContext(ctx, "a running pod cannot be read", "pod", pod.Metadata.Namespace+"/"+pod.Metadata.Name, "error", err)
		return 0
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	access := h.access(ctx, a)
	for _, i := range a.images {
		if i.Problem != "" || i.Reference.Digest == "" {
			continue
		}
		if o := h.judge(ctx, a, i, access); o.refused != "" {
			refused++
			h.Log.LogAttrs(ctx, slog.LevelWarn, "a running image would be refused", slog.String("object", a.describe()), slog.String("image", printable.Line(i.Name)), slog.String("reason", o.refused))
		}
	}
	return refused
}
