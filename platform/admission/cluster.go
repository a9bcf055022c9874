package admission

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/colophon-build/colophon/internal/lazyregexp"
	"github.com/colophon-build/colophon/platform/admission/kubeapi"
)

const (
	secretsFor = 30 * time.Second // a Secret or ServiceAccount is an answer for this long
	absentFor  = 2 * time.Second  // and that there is none, or that it may not be read
	maxKept    = 4096             // Secrets and ServiceAccounts
)

// KubeCluster is the Cluster behind an API server. It reads Secrets by their names when a pod
// names them, and keeps them for half a minute: it never lists the Secrets of a cluster. Failures of
// the API server are not kept.
type KubeCluster struct {
	client *kubeapi.Client

	mu       sync.Mutex
	kept     map[string]keptObject // by path
	accounts map[string][]string   // pull secrets of ServiceAccounts, by NAMESPACE/NAME; nil: they are not followed
}

type keptObject struct {
	value any
	err   error
	at    time.Time
}

// NewKubeCluster returns the Cluster.
func NewKubeCluster(c *kubeapi.Client) *KubeCluster {
	return &KubeCluster{client: c, kept: map[string]keptObject{}}
}

var objectName = lazyregexp.New(`^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$`)

// read returns the object of a kind ("secrets") in a namespace.
func read[V any](ctx context.Context, k *KubeCluster, kind, namespace, name string) (v V, err error) {
	for _, n := range []string{namespace, name} {
		if !objectName.MatchString(n) {
			return v, fmt.Errorf("%s: %q is no name of Kubernetes", kind, n)
		}
	}
	path := "/api/v1/namespaces/" + namespace + "/" + kind + "/" + name
	k.mu.Lock()
	o, ok := k.kept[path]
	k.mu.Unlock()
	if age := time.Since(o.at); ok && (age < absentFor || o.err == nil && age < secretsFor) {
		v, _ = o.value.(V)
		return v, o.err
	}
	err = k.client.Get(ctx, path, &v)
	if err != nil && !errors.Is(err, kubeapi.ErrNotFound) && !errors.Is(err, kubeapi.ErrDenied) {
		return v, err // nothing is known
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.kept) >= maxKept {
		clear(k.kept)
	}
	k.kept[path] = keptObject{v, err, time.Now()}
	return v, err
}

// secret is what is read of a Secret.
type secret struct {
	Type string            `json:"type"`
	Data map[string][]byte `json:"data"`
}

type serviceAccount struct {
	ImagePullSecrets []struct {
		Name string `json:"name"`
	} `json:"imagePullSecrets"`
}

// followAccounts follows the ServiceAccounts of the cluster until ctx ends, so that none is asked for
// while a pod waits.
func (k *KubeCluster) followAccounts(ctx context.Context, log *slog.Logger) {
	told, said := map[string][]string{}, ""
	k.client.Watch(ctx, "/api/v1/serviceaccounts", kubeapi.Watcher{
		Set: func(key string, raw json.RawMessage) {
			var a serviceAccount
			k.mu.Lock()
			defer k.mu.Unlock()
			if json.Unmarshal(raw, &a) != nil {
				delete(told, key) // it is asked for, and the error is told then
				return
			}
			told[key] = a.names()
		},
		Gone: func(key string) {
			k.mu.Lock()
			defer k.mu.Unlock()
			delete(told, key)
		},
		Settled: func() {
			k.mu.Lock()
			defer k.mu.Unlock()
			k.accounts, said = told, ""
		},
		Failed: func(err error) {
			k.mu.Lock()
			k.accounts = nil // what is known may be old
			k.mu.Unlock()
			if text := err.Error(); text != said {
				said = text
				log.Error("cannot follow the ServiceAccounts of the cluster; each is asked for", "error", err)
			}
		},
	})
}

// pullSecretsOf returns the pull secrets that a ServiceAccount names.
func (k *KubeCluster) pullSecretsOf(ctx context.Context, namespace, account string) ([]string, error) {
	k.mu.Lock()
	names, known := k.accounts[namespace+"/"+account]
	k.mu.Unlock()
	if known {
		return names, nil
	}
	a, err := read[serviceAccount](ctx, k, "serviceaccounts", namespace, account)
	return a.names(), err
}

func (a serviceAccount) names() []string {
	out := []string{}
	for _, s := range a.ImagePullSecrets {
		if len(out) < 2*maxLogins {
			out = append(out, s.Name)
		}
	}
	return out
}

// PullSecrets implements Cluster.
func (k *KubeCluster) PullSecrets(ctx context.Context, namespace, account string, names []string) (out []PullSecret, notes []string) {
	names = slices.Clone(names)
	more, err := k.pullSecretsOf(ctx, namespace, account)
	if err != nil {
		notes = append(notes, err.Error())
	}
	for _, name := range more {
		if !slices.Contains(names, name) && len(names) < 2*maxLogins {
			names = append(names, name)
		}
	}
	for _, name := range names {
		s, err := read[secret](ctx, k, "secrets", namespace, name)
		switch {
		case err != nil:
			notes = append(notes, err.Error())
		case s.Type == "kubernetes.io/dockerconfigjson":
			out = append(out, PullSecret{Name: name, Config: s.Data[".dockerconfigjson"]})
		case s.Type == "kubernetes.io/dockercfg":
			out = append(out, PullSecret{Name: name, Config: s.Data[".dockercfg"], Legacy: true})
		default:
			notes = append(notes, fmt.Sprintf("secret %s has no credentials for registries", name))
		}
	}
	return out, notes
}

// MayBreakGlass implements Cluster.
func (k *KubeCluster) MayBreakGlass(ctx context.Context, user User, namespace string) (bool, error) {
	type attributes struct {
		Namespace string `json:"namespace"`
		Verb      string `json:"verb"`
		Group     string `json:"group"`
		Resource  string `json:"resource"`
	}
	var review struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Spec       struct {
			User       string              `json:"user"`
			UID        string              `json:"uid,omitempty"`
			Groups     []string            `json:"groups,omitempty"`
			Extra      map[string][]string `json:"extra,omitempty"`
			Attributes attributes          `json:"resourceAttributes"`
		} `json:"spec"`
	}
	review.APIVersion, review.Kind = "authorization.k8s.io/v1", "SubjectAccessReview"
	review.Spec.User, review.Spec.UID, review.Spec.Groups, review.Spec.Extra = user.Username, user.UID, user.Groups, user.Extra
	review.Spec.Attributes = attributes{namespace, "breakglass", "colophon.build", "imagepolicies"}
	var answer struct {
		Status *struct {
			Allowed bool   `json:"allowed"`
			Denied  bool   `json:"denied"`
			Error   string `json:"evaluationError"`
		} `json:"status"`
	}
	err := k.client.Create(ctx, "/apis/authorization.k8s.io/v1/subjectaccessreviews", review, &answer)
	switch {
	case err != nil:
		return false, err
	case answer.Status == nil:
		return false, fmt.Errorf("the API server did not answer the question")
	case !answer.Status.Allowed && answer.Status.Error != "":
		return false, fmt.Errorf("%s", answer.Status.Error)
	}
	return answer.Status.Allowed && !answer.Status.Denied, nil
}
