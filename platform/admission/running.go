package admission

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/oci/imagelist"
)

const (
	againEvery = 24 * time.Hour // running pods are verified, whatever happens
	againSoon  = time.Minute    // if they could not be listed
	atOnce     = 4              // pods that are verified
)

// watchRunning asks the policies about the images of all running pods: at the start, so that they
// are known before the next pod with them comes; when other policies or trust roots count; and
// once a day. It records each image that would be refused. Nothing is stopped.
// If the pods could not be listed, it tries again after the time failed.
func (h *Handler) watchRunning(ctx context.Context, rec *recorder, changed <-chan struct{}, failed time.Duration) {
	for wait := againEvery; ; {
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-time.After(wait):
		}
		pods, refused, err := h.verifyRunning(ctx, rec)
		if err != nil {
			wait = failed
			if ctx.Err() == nil {
				h.Log.Error("the running pods could not be listed", "error", err)
			}
			continue
		}
		wait = againEvery
		h.metrics.running.Set(float64(refused))
		h.Log.Info("running pods were verified", "pods", pods, "refused", refused)
	}
}

func (h *Handler) verifyRunning(ctx context.Context, rec *recorder) (pods, refused int, err error) {
	rec.findReporters(ctx)
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
	err = rec.api.Each(ctx, "/api/v1/pods", func(raw json.RawMessage) error {
		pods++
		g.Go(func() error {
			defer func() { // a pod that we cannot read does not end the process
				if fault := recover(); fault != nil {
					h.Log.Error("a running pod could not be verified", "fault", fmt.Sprint(fault))
				}
			}()
			counts <- h.verifyPod(ctx, rec, raw)
			return nil
		})
		return ctx.Err()
	})
	_ = g.Wait() // no task returns an error
	close(counts)
	return pods, <-total, err
}

// verifyPod returns the number of images of a pod that would be refused now. An image that the pod
// names by a tag is the one that the runtime pulled.
func (h *Handler) verifyPod(ctx context.Context, rec *recorder, raw json.RawMessage) (refused int) {
	var pod runningPod
	if json.Unmarshal(raw, &pod) != nil || slices.Contains(rec.exempt, pod.Metadata.Namespace) || pod.Status.Phase == "Succeeded" || pod.Status.Phase == "Failed" {
		return 0
	}
	a, err := h.read(ctx, &request{Operation: "CREATE", Kind: kind{Version: "v1", Kind: "Pod"}, Namespace: pod.Metadata.Namespace, Object: raw})
	if err != nil {
		h.Log.WarnContext(ctx, "a running pod cannot be read", "pod", pod.Metadata.Namespace+"/"+pod.Metadata.Name, "error", err)
		return 0
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	access := h.access(ctx, a)
	var found []outcome
	for _, i := range a.images {
		i, known := pod.pulled(i)
		if !known {
			continue
		}
		o := h.judge(ctx, a, i, access)
		if o.refused != "" {
			refused++
			h.Log.LogAttrs(ctx, slog.LevelWarn, "a running image would be refused", slog.String("object", a.describe()), slog.String("image", printable.Line(i.Name)), slog.String("reason", o.refused))
			found = append(found, o)
		}
	}
	rec.record(ctx, &pod, found)
	return refused
}

// runningPod is what is read of a pod that runs, besides its images.
type runningPod struct {
	Metadata struct {
		Name      string `json:"name"`
		Namespace string `json:"namespace"`
		UID       string `json:"uid"`
	} `json:"metadata"`
	Status struct {
		Phase                      string            `json:"phase"`
		ContainerStatuses          []containerStatus `json:"containerStatuses"`
		InitContainerStatuses      []containerStatus `json:"initContainerStatuses"`
		EphemeralContainerStatuses []containerStatus `json:"ephemeralContainerStatuses"`
	} `json:"status"`
}

type containerStatus struct {
	Image   string `json:"image"`
	ImageID string `json:"imageID"` // REPOSITORY@sha256:HEX, as the runtime pulled it
}

// pulled returns an image with the digest that the runtime pulled, if the pod names a tag: so it is
// for pods that are older than admission. known is false if that cannot be told.
func (p *runningPod) pulled(i imagelist.Image) (out imagelist.Image, known bool) {
	if i.Problem != "" || i.Reference.Digest != "" {
		return i, i.Problem == ""
	}
	var digests []string
	for _, s := range slices.Concat(p.Status.ContainerStatuses, p.Status.InitContainerStatuses, p.Status.EphemeralContainerStatuses) {
		if _, digest, ok := strings.Cut(s.ImageID, "@"); ok && s.Image == i.Name && !slices.Contains(digests, digest) {
			digests = append(digests, digest)
		}
	}
	if len(digests) != 1 { // none was pulled yet, or the tag led to several
		return i, false
	}
	ref, err := oci.ParseReference(i.Name + "@" + digests[0])
	if err != nil {
		return i, false
	}
	i.Name, i.Reference = i.Name+"@"+digests[0], ref
	return i, true
}
