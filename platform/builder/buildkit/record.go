package buildkit

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
)

// maxDependencies is the maximum number of dependencies of one build.
const maxDependencies = 100000

// maxIncomplete is the maximum number of reported requests that BuildKit could not hash.
const maxIncomplete = 1000

// capturedFetch is an incompleteFetch as BuildKit's provenance has it (solver/llbsolver/provenance/types,
// ProxyCaptureIncomplete).
type capturedFetch struct {
	URI    string `json:"uri"`
	Method string `json:"method"`
	Reason string `json:"reason"`
}

// incompleteFetch is a request that BuildKit saw but could not hash (BuildKit docs/proxy.md).
type incompleteFetch struct {
	URL    string `json:"url,omitempty"`
	Method string `json:"method,omitempty"`
	Reason string `json:"reason,omitempty"`
}

// dependencies merges BuildKit's provenance statements, one for each platform. It
// returns base images and fetched URLs by digest, sorted by URI, and the requests that
// BuildKit could not hash.
func dependencies(provenance [][]byte) ([]attest.ResourceDescriptor, []incompleteFetch, error) {
	if len(provenance) == 0 {
		return nil, nil, fmt.Errorf("there is no provenance (an image without layers has none)")
	}
	type key struct{ uri, digest string }
	seen := map[key]attest.ResourceDescriptor{}
	missing := map[incompleteFetch]bool{}
	for _, raw := range provenance {
		var s struct {
			PredicateType string `json:"predicateType"`
			Predicate     struct {
				BuildDefinition struct {
					ResolvedDependencies []attest.ResourceDescriptor `json:"resolvedDependencies"`
					InternalParameters   struct {
						BuildConfig struct {
							Definition []llbStep `json:"llbDefinition"`
						} `json:"buildConfig"`
					} `json:"internalParameters"`
				} `json:"buildDefinition"`
				RunDetails struct {
					Metadata struct {
						BuildKit struct {
							Network struct {
								Mode  string `json:"mode"`
								Proxy struct {
									Incomplete []capturedFetch `json:"incomplete"`
								} `json:"proxy"`
							} `json:"network"`
						} `json:"buildkit_metadata"`
					} `json:"metadata"`
				} `json:"runDetails"`
			} `json:"predicate"`
		}
		if err := strict.Unmarshal(raw, limits.Bundle, &s); err != nil {
			return nil, nil, err
		}
		if s.PredicateType != attest.PredicateSLSA1 {
			return nil, nil, fmt.Errorf("predicate type: got %q, want %q", s.PredicateType, attest.PredicateSLSA1)
		}
		network := s.Predicate.RunDetails.Metadata.BuildKit.Network
		if err := checkNetwork(s.Predicate.BuildDefinition.InternalParameters.BuildConfig.Definition, network.Mode); err != nil {
			return nil, nil, err
		}
		for _, d := range s.Predicate.BuildDefinition.ResolvedDependencies {
			if d.URI == "" || len(d.Digest) == 0 {
				return nil, nil, fmt.Errorf("dependency %q has no digest", d.URI)
			}
			seen[key{d.URI, fmt.Sprint(d.Digest)}] = attest.ResourceDescriptor{URI: d.URI, Digest: d.Digest}
		}
		for _, i := range network.Proxy.Incomplete {
			if i.URI == "" || i.Method == "" {
				return nil, nil, fmt.Errorf("a request without a digest: got method %q and address %q, want both", i.Method, i.URI)
			}
			missing[incompleteFetch{i.URI, i.Method, i.Reason}] = true
		}
	}
	if len(seen) > maxDependencies {
		return nil, nil, fmt.Errorf("dependencies: got %d, want at most %d", len(seen), maxDependencies)
	}
	keys := slices.SortedFunc(maps.Keys(seen), func(a, b key) int {
		return strings.Compare(a.uri+" "+a.digest, b.uri+" "+b.digest)
	})
	deps := make([]attest.ResourceDescriptor, 0, len(keys))
	for _, k := range keys {
		deps = append(deps, seen[k])
	}
	gaps := slices.SortedFunc(maps.Keys(missing), func(a, b incompleteFetch) int {
		return strings.Compare(a.URL+a.Method+a.Reason, b.URL+b.Method+b.Reason)
	})
	if more := len(gaps) - maxIncomplete; more > 0 {
		gaps = append(gaps[:maxIncomplete], incompleteFetch{Reason: fmt.Sprintf("and %d more", more)})
	}
	return deps, gaps, nil
}

// llbStep is one operation of a build; it has only the field that checkNetwork needs.
type llbStep struct {
	Op struct {
		Op struct {
			Exec *struct {
				Network int `json:"network"` // pb.NetMode: 0 default, 1 host, 2 none
			} `json:"exec"`
		} `json:"Op"`
	} `json:"op"`
}

// checkNetwork returns an error if a step had network access without the recording
// proxy: then the list of fetched URLs could be incomplete.
func checkNetwork(steps []llbStep, mode string) error {
	if len(steps) == 0 {
		return fmt.Errorf("the list of steps is missing")
	}
	for _, s := range steps {
		if e := s.Op.Op.Exec; e != nil && e.Network != 2 && mode != "proxy" {
			return fmt.Errorf("network of the steps: got %q, want %q", mode, "proxy")
		}
	}
	return nil
}
