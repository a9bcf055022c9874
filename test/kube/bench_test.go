package kube

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"

	"github.com/colophon-build/colophon/test/harness"
	"github.com/colophon-build/colophon/test/kubetest"
)

// BenchmarkAdmission compares what admission costs with a cluster without it and with a peer, in one
// run: times of requests to create a pod (a dry run), by medians. make bench-kube runs it. It never
// fails because of a slow result: a busy machine is not a bug.
func BenchmarkAdmission(b *testing.B) {
	if os.Getenv("COLOPHON_BENCH") == "" {
		b.Skip("SKIPPED: make bench-kube sets COLOPHON_BENCH")
	}
	s := open(b, "exemptNamespaces={kube-system,bare,peer,cosign-system}")
	s.Namespace(b, "bare")
	p := s.startPeer(b)
	c := s.Client(b)
	post := func(namespace, image string) time.Duration {
		start := time.Now()
		if _, err := c.Do(b.Context(), http.MethodPost, "/api/v1/namespaces/"+namespace+"/pods?dryRun=All", podJSON(image)); err != nil {
			b.Fatal(err)
		}
		return time.Since(start)
	}
	var bare, known, tagged, theirs, theirsByTag []time.Duration
	for i := range 220 { // by turns, so that all see the same machine
		times := []time.Duration{post("bare", s.signed), post("shop", s.signed), post("shop", signedTag)}
		if i >= 20 { // warm
			bare, known, tagged = append(bare, times[0]), append(known, times[1]), append(tagged, times[2])
		}
		if i >= 20 && i < 100 && p {
			theirs = append(theirs, post("peer", s.signed))
			time.Sleep(120 * time.Millisecond) // it answers 20 a second
			theirsByTag = append(theirsByTag, post("peer", signedTag))
			time.Sleep(120 * time.Millisecond)
		}
	}
	none := median(bare)
	handler := func(hook string) string {
		var sum, n float64
		for _, r := range s.replicas(b) {
			sum += metric(b, r, `colophon_admission_seconds_sum{hook="`+hook+`"}`)
			n += metric(b, r, `colophon_admission_seconds_count{hook="`+hook+`"}`)
		}
		return fmt.Sprintf("%.2f ms in %s", 1000*sum/max(n, 1), hook)
	}
	fmt.Println("mean time in the webhooks, from request to answer:", handler("mutate")+",", handler("validate"))
	line("no webhook", none, "")
	line("colophon, known digest", median(known), over(median(known)-none)+"aim 1.5 ms over no webhook")
	line("colophon, a tag that leads to it", median(tagged), over(median(tagged)-none))
	if p {
		line("policy-controller, digest", median(theirs), over(median(theirs)-none))
		line("policy-controller, tag", median(theirsByTag), over(median(theirsByTag)-none))
	}

	var images []string
	for i := range 30 {
		images = append(images, s.pushSigned(b, i))
	}
	s.RegistryDelay(b, 20*time.Millisecond)
	var unknown []time.Duration
	theirs = nil
	for _, image := range images {
		unknown = append(unknown, post("shop", image))
		if p {
			theirs = append(theirs, post("peer", image))
			time.Sleep(120 * time.Millisecond)
		}
	}
	s.RegistryDelay(b, 0)
	line("colophon, unknown digest, registry of 20 ms", median(unknown), over(median(unknown)-none))
	if p {
		line("policy-controller, the same", median(theirs), over(median(theirs)-none))
		fmt.Printf("%-58s %8.2f      aim 0.50\n", "  colophon over it", float64(median(unknown))/float64(median(theirs)))
	}

	s.rates(b)
	s.memory(b)
}

// rates measures known digests through the API server, and at one replica without it.
func (s *shop) rates(b *testing.B) {
	const clients, length = 16, 8 * time.Second
	rate := func(do func(client int) error) float64 {
		ctx, cancel := context.WithTimeout(b.Context(), length)
		defer cancel()
		var n atomic.Int64
		var all sync.WaitGroup
		for i := range clients {
			all.Go(func() {
				for ctx.Err() == nil {
					if err := do(i); err != nil {
						b.Error(err)
						return
					}
					n.Add(1)
				}
			})
		}
		all.Wait()
		return float64(n.Load()) / length.Seconds()
	}
	var to []*kubetest.Client
	for range clients {
		to = append(to, s.Client(b))
	}
	for _, namespace := range []string{"bare", "shop"} {
		got := rate(func(i int) error {
			_, err := to[i].Do(b.Context(), http.MethodPost, "/api/v1/namespaces/"+namespace+"/pods?dryRun=All", podJSON(s.signed))
			return err
		})
		fmt.Printf("%-58s %8.0f /s\n", "pods through the API server, namespace "+namespace, got)
	}
	address := s.replicas(b)[0]
	got := rate(func(int) error {
		for _, path := range []string{"/mutate", "/validate"} {
			if err := direct(webhooks, address, path, s.signed); err != nil {
				return err
			}
		}
		return nil
	})
	fmt.Printf("%-58s %8.0f /s    aim 1000\n", "pods at both webhooks of one replica", got)
}

// webhooks is a client of webhooks themselves.
var webhooks = &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, MaxIdleConnsPerHost: 64}}

// memory makes one replica know 10,000 images.
func (s *shop) memory(b *testing.B) {
	const n = 10_000
	address := s.replicas(b)[0]
	resident := func() float64 { return metric(b, address, "process_resident_memory_bytes") / (1 << 20) }
	before, start := resident(), time.Now()
	var all sync.WaitGroup
	jobs := make(chan int)
	for range 16 {
		all.Go(func() {
			for i := range jobs {
				if err := direct(webhooks, address, "/validate", s.pushSigned(b, 100+i)); err != nil {
					b.Error(err)
				}
			}
		})
	}
	for i := range n {
		jobs <- i
	}
	close(jobs)
	all.Wait()
	fmt.Printf("%-58s %8.0f MiB  aim 200; %.0f before, %.0f known, %s to push and read them\n", "memory of a replica that knows 10,000 images", resident(), before, metric(b, address, "colophon_verdicts_images"), time.Since(start).Round(time.Second))
}

// pushSigned pushes an image that differs from others by its number, and its signature as cosign
// makes it, and returns it by digest.
func (s *shop) pushSigned(b testing.TB, number int) string {
	s.base.Do(func() { s.image = kubetest.Busybox(b, "true") })
	image, ok := mutate.Annotations(s.image, map[string]string{"number": fmt.Sprint(number)}).(v1.Image)
	if !ok {
		b.Fatal("not an image")
	}
	ref := s.Push(b, fmt.Sprintf("team/bench:v%d", number), image)
	repository, digest, _ := strings.Cut(ref, "@")
	payload := fmt.Appendf(nil, `{"critical":{"identity":{"docker-reference":%q},"image":{"docker-manifest-digest":%q},"type":"cosign container image signature"},"optional":null}`, repository, digest)
	sum := sha256.Sum256(payload)
	sig, err := ecdsa.SignASN1(rand.Reader, s.signer, sum[:])
	if err != nil {
		b.Fatal(err)
	}
	signature, err := mutate.Append(empty.Image, mutate.Addendum{Layer: static.NewLayer(payload, "application/vnd.dev.cosign.simplesigning.v1+json"), Annotations: map[string]string{"dev.cosignproject.cosign/signature": base64.StdEncoding.EncodeToString(sig)}})
	if err != nil {
		b.Fatal(err)
	}
	s.Push(b, "team/bench:"+strings.Replace(digest, ":", "-", 1)+".sig", signature)
	return ref
}

// startPeer runs policy-controller beside the cluster, for pods of the namespace "peer", with the same
// demand. It reports false if its program was not built.
func (s *shop) startPeer(b *testing.B) bool {
	program := filepath.Join(harness.Root(b), "out/bin/policy-webhook")
	if _, err := os.Stat(program); err != nil {
		fmt.Println("policy-controller was not built: make bench-kube builds it")
		return false
	}
	config := filepath.Join(s.module(b, "github.com/sigstore/policy-controller@v0.14.0"), "config")
	for _, pattern := range []string{"100-*.yaml", "300-*.yaml", "500-*.yaml", "501-*.yaml", "config-*.yaml"} {
		files, _ := filepath.Glob(filepath.Join(config, pattern)) // the pattern is good
		for _, file := range files {
			s.Kubectl(b, "apply", "--server-side", "-f", file)
		}
	}
	// It runs outside of the node, where the API server is.
	s.Apply(b, `apiVersion: v1
kind: Service
metadata: {name: webhook, namespace: cosign-system}
spec: {ports: [{name: https, port: 443, targetPort: 8443}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: webhook, namespace: cosign-system, labels: {kubernetes.io/service-name: webhook}}
addressType: IPv4
ports: [{name: https, port: 8443, protocol: TCP}]
endpoints: [{addresses: [`+strings.Split(kubetest.Registry, ":")[0]+`], conditions: {ready: true}}]
`)
	cmd := exec.Command(program, "--disable-tuf", "--secure-port=8443")
	cmd.Env = append(os.Environ(), "KUBECONFIG="+s.Kubeconfig, "SYSTEM_NAMESPACE=cosign-system", "CONFIG_LOGGING_NAME=config-logging", "METRICS_DOMAIN=sigstore.dev/policy", "WEBHOOK_NAME=webhook", "HOME="+s.Dir(b), "SSL_CERT_FILE="+s.CertificateAuthority)
	var log harness.Log
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		s.Kubectl(b, "delete", "--ignore-not-found", "validatingwebhookconfigurations/policy.sigstore.dev", "validatingwebhookconfigurations/validating.clusterimagepolicy.sigstore.dev", "mutatingwebhookconfigurations/policy.sigstore.dev", "mutatingwebhookconfigurations/defaulting.clusterimagepolicy.sigstore.dev")
		if b.Failed() {
			text := log.String()
			b.Logf("policy-controller: %s", text[max(0, len(text)-3000):])
		}
	})
	s.Namespace(b, "peer", "policy.sigstore.dev/include=true")
	demand := "apiVersion: policy.sigstore.dev/v1beta1\nkind: ClusterImagePolicy\nmetadata: {name: team}\nspec:\n  images: [{glob: '" + kubetest.Registry + "/team/**'}]\n  authorities:\n  - key:\n      data: |\n        " +
		strings.ReplaceAll(strings.TrimSpace(read(b, s.key+".pub")), "\n", "\n        ") + "\n"
	s.Eventually(b, "policy-controller takes a policy", func() bool {
		_, err := s.TryInput(demand, "apply", "-f", "-")
		return err == nil
	})
	create := func(image string) error {
		_, err := s.TryInput(strings.Replace(pod("probe", image), "namespace: shop", "namespace: peer", 1), "create", "--dry-run=server", "-f", "-")
		return err
	}
	s.Eventually(b, "policy-controller refuses an unsigned image and admits a signed one", func() bool { return create(s.unsigned) != nil && create(s.signed) == nil })
	return true
}

func median(d []time.Duration) time.Duration {
	d = slices.Sorted(slices.Values(d))
	return d[len(d)/2]
}

func line(what string, d time.Duration, note string) {
	fmt.Printf("%-58s %8.2f ms   %s\n", what, float64(d.Microseconds())/1000, note)
}

func over(d time.Duration) string { return fmt.Sprintf("%+.2f ms  ", float64(d.Microseconds())/1000) }
