package cluster

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	cip "github.com/colophon-build/colophon/policy/clusterimagepolicy"
	"github.com/colophon-build/colophon/trust"
)

// defaultLog is the log of a ctlog that names none.
const defaultLog = "https://rekor.sigstore.dev"

// rootsOf makes trust roots of TrustRoots. Each counts only where an authority names it.
func rootsOf(all []*cip.TrustRoot, opts Options) *roots {
	r := &roots{machine: opts.Trust, named: map[string]*trust.Root{}, missing: map[string]string{}}
	for _, t := range all {
		root, err := rootOf(t, opts.Trust)
		switch {
		case err != nil:
			r.missing[t.Metadata.Name] = err.Error()
		default:
			r.named[t.Metadata.Name] = root
		}
	}
	return r
}

func rootOf(t *cip.TrustRoot, machine []*trust.Root) (*trust.Root, error) {
	switch s := t.Spec; {
	case s.SigstoreKeys != nil:
		k := s.SigstoreKeys
		return trust.FromKeys(trust.Instance{Authorities: chains(k.CertificateAuthorities), Stampers: chains(k.TimestampAuthorities), Logs: logs(k.TLogs), CTLogs: logs(k.CTLogs)})
	case s.Repository != nil:
		r := s.Repository
		root, err := trust.FromArchive(r.Root, r.MirrorFS, r.Targets, cmp.Or(r.TrustedRootTarget, "trusted_root.json"))
		if err != nil {
			return nil, err
		}
		return root.ForEveryIssuer(), nil
	}
	// Somebody on this machine decides which servers are asked for keys, and for which target.
	if target := t.Spec.Remote.TrustedRootTarget; target != "" && !slices.Contains(trust.Targets(), target) {
		return nil, fmt.Errorf("trustedRootTarget: expected %s, found %q: trust roots on this machine are read from no other target", strings.Join(trust.Targets(), " or "), target)
	}
	for _, root := range machine {
		if repo := root.Repository; repo != nil && strings.TrimSuffix(repo.URL, "/") == strings.TrimSuffix(t.Spec.Remote.Mirror, "/") &&
			slices.ContainsFunc(repo.Roots, func(known []byte) bool { return bytes.Equal(known, t.Spec.Remote.Root) }) {
			return root.ForEveryIssuer(), nil
		}
	}
	return nil, fmt.Errorf("no trust root on this machine is from %s and its root.json: see colophon trust add", t.Spec.Remote.Mirror)
}

func chains(all []cip.CertificateAuthority) (out []trust.Part) {
	for _, a := range all {
		out = append(out, trust.Part{URL: a.URI, PEM: a.CertChain})
	}
	return out
}

func logs(all []cip.LogInstance) (out []trust.Part) {
	for _, l := range all {
		out = append(out, trust.Part{URL: l.BaseURL, PEM: l.PublicKey})
	}
	return out
}

// forCertificates returns the trust roots under which a certificate may have signed.
func (r *roots) forCertificates(a *cip.Authority) ([]*trust.Root, error) {
	k := a.Keyless
	var base []*trust.Root
	if k.TrustRootRef != "" {
		named, err := r.get(k.TrustRootRef)
		if err != nil {
			return nil, err
		}
		base = []*trust.Root{named}
	} else if base = r.withCA(k.CA()); len(base) == 0 {
		return nil, fmt.Errorf("keyless: no trust root on this machine has the certificate authority %s: see colophon trust add", k.CA())
	}
	if l := a.CTLog; l != nil && l.TrustRootRef == "" && l.URL != "" {
		url := strings.TrimSuffix(l.URL, "/")
		if base = with(base, func(root *trust.Root) bool { return hasLog(root, url) }); len(base) == 0 {
			return nil, fmt.Errorf("ctlog: no trust root with the certificate authority has the log %s", url)
		}
	}
	var out []*trust.Root
	for _, b := range base {
		choice := trust.Choice{Authorities: b, Logs: b, Stampers: b, WithoutSCT: k.InsecureIgnoreSCT}
		if err := r.choose(a, &choice); err != nil {
			return nil, err
		}
		if !k.InsecureIgnoreSCT && len(b.Material.CTLogs()) == 0 {
			continue
		}
		if choice == (trust.Choice{Authorities: b, Logs: b, Stampers: b}) {
			out = append(out, b)
			continue
		}
		out = append(out, trust.Compose(choice))
	}
	if len(out) == 0 {
		return nil, errors.New("keyless: the trust root has no certificate transparency log, so that no certificate can prove that it is in one: see ctLogs and insecureIgnoreSCT")
	}
	return out, nil
}

// forKey returns the trust roots under which a key must have signed: none if the authority names
// neither a log nor a timestamp authority.
func (r *roots) forKey(a *cip.Authority) ([]*trust.Root, error) {
	if a.CTLog == nil && a.RFC3161Timestamp == nil {
		return nil, nil
	}
	if l := a.CTLog; l != nil && l.TrustRootRef == "" {
		url := cmp.Or(strings.TrimSuffix(l.URL, "/"), defaultLog)
		under := r.withLog(url)
		if len(under) == 0 {
			return nil, fmt.Errorf("ctlog: no trust root on this machine has the log %s: see colophon trust add", url)
		}
		var out []*trust.Root
		for _, b := range under {
			choice := trust.Choice{Logs: b}
			if err := r.choose(a, &choice); err != nil {
				return nil, err
			}
			out = append(out, trust.Compose(choice))
		}
		return out, nil
	}
	var choice trust.Choice
	if err := r.choose(a, &choice); err != nil {
		return nil, err
	}
	return []*trust.Root{trust.Compose(choice)}, nil
}

// choose replaces in a choice what ctlog and rfc3161timestamp name.
func (r *roots) choose(a *cip.Authority, choice *trust.Choice) error {
	var err error
	if l := a.CTLog; l != nil && l.TrustRootRef != "" {
		if choice.Logs, err = r.get(l.TrustRootRef); err != nil {
			return err
		}
		if len(choice.Logs.Material.RekorLogs()) == 0 {
			return fmt.Errorf("ctlog: the TrustRoot %q has no log", l.TrustRootRef)
		}
	}
	if t := a.RFC3161Timestamp; t != nil && t.TrustRootRef != "" {
		if choice.Stampers, err = r.get(t.TrustRootRef); err != nil {
			return err
		}
	}
	return nil
}

func (r *roots) withCA(url string) []*trust.Root {
	return with(r.machine, func(root *trust.Root) bool {
		for _, ca := range trust.Authorities(root.Material) {
			if strings.TrimSuffix(ca.URI, "/") == url {
				return true
			}
		}
		return false
	})
}

func (r *roots) withLog(url string) []*trust.Root {
	return with(r.machine, func(root *trust.Root) bool { return hasLog(root, url) })
}

func hasLog(root *trust.Root, url string) bool {
	for _, l := range root.Material.RekorLogs() {
		if strings.TrimSuffix(l.BaseURL, "/") == url {
			return true
		}
	}
	return false
}

func with(all []*trust.Root, has func(*trust.Root) bool) (out []*trust.Root) {
	for _, root := range all {
		if has(root) {
			out = append(out, root)
		}
	}
	return out
}
