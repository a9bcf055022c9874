package admission

import (
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/platform/verdicts"
)

// maxLogins limits the credentials that one pod has for one image.
const maxLogins = 16

// PullSecret is a Secret of one of the types kubernetes.io/dockerconfigjson and
// kubernetes.io/dockercfg.
type PullSecret struct {
	Name   string
	Config []byte // content of .dockerconfigjson, or else of .dockercfg
	Legacy bool   // it is of .dockercfg
}

// dockerAuth is one entry of Docker's configuration.
type dockerAuth struct {
	Username      string `json:"username"`
	Password      string `json:"password"`
	Auth          string `json:"auth"` // base64 of USERNAME:PASSWORD
	Email         string `json:"email"`
	IdentityToken string `json:"identitytoken"`
	RegistryToken string `json:"registrytoken"`
}

// grant is the credentials for one part of a registry.
type grant struct {
	host, path string
	login      authn.AuthConfig
}

// parseGrants parses a Secret. Errors never quote it.
func parseGrants(s PullSecret) ([]grant, error) {
	var auths map[string]dockerAuth
	var err error
	if s.Legacy {
		err = strict.Unmarshal(s.Config, limits.Request, &auths)
	} else {
		var config struct {
			Auths map[string]dockerAuth `json:"auths"`
		}
		err = strict.Unmarshal(s.Config, limits.Request, &config)
		auths = config.Auths
	}
	if err != nil {
		return nil, fmt.Errorf("secret %s: it is no configuration of Docker", s.Name)
	}
	var out []grant
	for where, a := range auths {
		g := grant{login: authn.AuthConfig{Username: a.Username, Password: a.Password, IdentityToken: a.IdentityToken, RegistryToken: a.RegistryToken}}
		if a.Auth != "" {
			raw, err := base64.StdEncoding.DecodeString(a.Auth)
			user, password, ok := strings.Cut(string(raw), ":")
			if err != nil || !ok {
				return nil, fmt.Errorf("secret %s: auth: expected base64 of USERNAME:PASSWORD", s.Name)
			}
			g.login.Username, g.login.Password = user, strings.TrimRight(password, "\x00")
		}
		where = strings.TrimPrefix(strings.TrimPrefix(where, "https://"), "http://")
		host, rest, _ := strings.Cut(where, "/")
		rest = strings.Trim(rest, "/")
		if rest == "v1" || rest == "v2" { // the API's, as in https://index.docker.io/v1/
			rest = ""
		}
		if host == "" || len(host) > 253 {
			return nil, fmt.Errorf("secret %s: expected HOST or HOST/PATH, found an empty or long one", s.Name)
		}
		g.host, g.path = strings.ToLower(host), rest
		out = append(out, g)
	}
	// The longest path first, as the kubelet does; then in an order that does not change.
	slices.SortFunc(out, func(a, b grant) int {
		if n := len(b.path) - len(a.path); n != 0 {
			return n
		}
		return strings.Compare(a.host+"/"+a.path, b.host+"/"+b.path)
	})
	return out, nil
}

// covers reports whether the credentials are for a repository, HOST/NAME: the same host and port,
// in which * stands for a part of the name between dots, and a path that the name begins with.
func (g grant) covers(repository string) bool {
	host, name, _ := strings.Cut(repository, "/")
	if hub(g.host) && hub(host) {
		return g.path == "" || name == g.path || strings.HasPrefix(name, g.path+"/")
	}
	return verdicts.MatchHost(g.host, host) && (g.path == "" || name == g.path || strings.HasPrefix(name, g.path+"/"))
}

func hub(host string) bool {
	return host == "docker.io" || host == "index.docker.io" || host == "registry-1.docker.io"
}

// access is what the pods of an object may read registries with.
type access struct {
	grants []grant
	notes  []string // what could not be read, for people
}

// access reads the pull secrets of the pods of an object. What cannot be read is a note: the image
// may be public.
func (h *Handler) access(ctx context.Context, a *admitted) *access {
	out := &access{}
	if len(a.images) == 0 {
		return out
	}
	_, spec := a.object.pod()
	var names []string
	for _, s := range spec.ImagePullSecrets {
		if s.Name != "" && !slices.Contains(names, s.Name) && len(names) < maxLogins {
			names = append(names, s.Name)
		}
	}
	account := spec.ServiceAccountName
	if account == "" {
		account = "default"
	}
	secrets, notes := h.Cluster.PullSecrets(ctx, a.Namespace, account, names)
	out.notes = notes
	for _, s := range secrets {
		grants, err := parseGrants(s)
		if err != nil {
			out.notes = append(out.notes, err.Error())
			continue
		}
		out.grants = append(out.grants, grants...)
	}
	return out
}

// logins returns the credentials for a repository, HOST/NAME.
func (a *access) logins(repository string) (out []authn.AuthConfig) {
	for _, g := range a.grants {
		if g.covers(repository) && len(out) < maxLogins {
			out = append(out, g.login)
		}
	}
	return out
}

// said returns the notes for an error's text.
func (a *access) said() string {
	if len(a.notes) == 0 {
		return ""
	}
	return " (" + printable.Cut(printable.Line(strings.Join(a.notes, "; ")), maxWarning) + ")"
}
