package admission

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/loopback"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/policy"
)

// Hosts are the files with which containerd on the nodes finds mirrors (containerd, docs/hosts.md): by
// the registry, the text of certs.d/REGISTRY/hosts.toml, or the path of the file.
type Hosts map[string]string

// mirrors returns the first place of each registry from which nodes pull.
func (h Hosts) mirrors() (policy.Names, error) {
	out := policy.Names{}
	for registry, text := range h {
		if strings.HasPrefix(text, "/") {
			raw, err := strict.ReadFile(text, limits.Request)
			if err != nil {
				return nil, fmt.Errorf("hosts: %q: %w", registry, err)
			}
			text = string(raw)
		}
		at, err := firstHost(registry, text)
		if err != nil {
			return nil, fmt.Errorf("hosts: %q: %w", registry, err)
		}
		if at != "" {
			out[registry+"/"] = at
		}
	}
	return out, nil
}

// firstHost returns the beginning of the names of a registry's images where containerd pulls them first,
// or "" if that is the registry itself.
func firstHost(registry, text string) (string, error) {
	if registry == "_default" {
		return "", fmt.Errorf("expected one registry: what stands for all of them is not read")
	}
	type host struct {
		Capabilities []string `toml:"capabilities"`
		OverridePath bool     `toml:"override_path"`

		// How nodes connect. Admission trusts the authorities of its own machine.
		CA          any `toml:"ca"`
		Client      any `toml:"client"`
		SkipVerify  any `toml:"skip_verify"`
		DialTimeout any `toml:"dial_timeout"`
	}
	var file struct {
		Server string `toml:"server"`
		host
		Host map[string]host `toml:"host"`
	}
	if len(text) > limits.Request {
		return "", fmt.Errorf("expected at most %d bytes", limits.Request)
	}
	read, err := toml.Decode(text, &file)
	if err != nil {
		return "", err
	}
	if unknown := read.Undecoded(); len(unknown) > 0 {
		return "", fmt.Errorf("%s is not supported", unknown[0])
	}
	for _, key := range read.Keys() { // in the order of the file
		if len(key) != 2 || key[0] != "host" {
			continue
		}
		if one := file.Host[key[1]]; one.Capabilities == nil || slices.Contains(one.Capabilities, "pull") {
			return hostPrefix(key[1], one.OverridePath)
		}
	}
	if file.Server == "" {
		return "", nil
	}
	at, err := hostPrefix(file.Server, file.OverridePath)
	if err != nil || at == registry+"/" || registry == "docker.io" && at == "registry-1.docker.io/" {
		return "", err
	}
	return at, nil
}

// hostPrefix returns the beginning of the names of images under a URL of a hosts.toml.
func hostPrefix(address string, whole bool) (string, error) {
	if !strings.Contains(address, "://") {
		address = "https://" + address // as containerd reads it
	}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", fmt.Errorf("expected the URL of a host, found %q", address)
	}
	if u.Scheme != "https" && !(u.Scheme == "http" && loopback.Is(u.Hostname())) {
		return "", fmt.Errorf("%s: expected https", address)
	}
	path := strings.Trim(u.Path, "/")
	switch inside, ok := strings.CutPrefix(path+"/", "v2/"); {
	case path == "":
		return u.Host + "/", nil
	case ok && (whole || inside == ""):
		return u.Host + "/" + inside, nil
	}
	return "", fmt.Errorf("%s: expected no path, or /v2/… with override_path = true", address)
}
