package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/bundle/notation"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/policy"
)

// notationOptions are what policy init needs to demand a signature of notation.
type notationOptions struct {
	ca, tsa, crls string // files
}

func (o *notationOptions) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.ca, "notation-ca", "", "`FILE` with the certificates (PEM) of the authority whose signatures of notation to demand")
	f.StringVar(&o.tsa, "notation-tsa", "", "with --notation-ca: `FILE` with the certificates (PEM) of timestamp authorities")
	f.StringVar(&o.crls, "notation-crls", "", "with --notation-ca: `FILE` with lists of revoked certificates (PEM)")
}

func (o *notationOptions) check() error {
	if o.ca == "" && o.tsa+o.crls != "" {
		return usageError("", "--notation-tsa and --notation-crls need --notation-ca")
	}
	return nil
}

// policies returns policies that demand the signers that an image names, under the authority of
// the user's. What the signatures say is only a guess, which the verdict confirms.
func (o *notationOptions) policies(found *inspection) (out []policy.Policy, err error) {
	var d policy.NotationDocument
	var store string
	for _, f := range []struct {
		file string
		text *string
	}{{o.ca, &store}, {o.tsa, &d.TrustStores.TSA}} {
		if f.file == "" {
			continue
		}
		raw, err := strict.ReadFile(f.file, limits.Request)
		if err != nil {
			return nil, usageError("", "%v", err)
		}
		*f.text = string(raw)
	}
	if o.crls != "" {
		raw, err := strict.ReadFile(o.crls, limits.Request)
		if err != nil {
			return nil, usageError("", "%v", err)
		}
		d.Revocation = &policy.RevocationDocument{CRLs: string(raw)}
	}
	for _, s := range found.notations() {
		if len(out) == signersTried {
			break
		}
		one := d
		if s.Scheme == notation.SigningAuthority {
			one.TrustStores.SigningAuthority, one.TrustStores.TSA = store, ""
		} else {
			one.TrustStores.CA = store
		}
		one.TrustedIdentities = identitiesLike(s)
		p, err := policy.AcceptDocument{Notation: &one}.Policy()
		if err == nil {
			err = p.Check()
		}
		if err != nil {
			return nil, usageError("", "%v", err)
		}
		out = append(out, p)
	}
	return out, nil
}

// identitiesLike returns a demand for the subject of the signer's certificate, or for anybody if a
// policy cannot name that subject.
func identitiesLike(s *notation.Signature) (d policy.IdentitiesDocument) {
	is := notation.SubjectOf(s.Chain[0])
	if is.Country == "" || is.Province == "" || is.Organization == "" {
		d.Anybody = &policy.NothingDocument{}
		return d
	}
	d.Subjects = []policy.SubjectDocument{{C: is.Country, ST: is.Province, L: is.Locality, O: is.Organization, OU: is.OrganizationalUnit, CN: is.CommonName}}
	return d
}

// notations returns the signatures of notation of an image.
func (in *inspection) notations() (all []*notation.Signature) {
	for i := range in.Attached {
		if s := in.Attached[i].notation; s != nil {
			all = append(all, s)
		}
	}
	return all
}

// notationHint says how to demand what an image has: signatures of notation.
func notationHint(found *inspection) string {
	all := found.notations()
	if len(all) == 0 {
		return ""
	}
	return fmt.Sprintf("notation signed it, under %q: if you trust that authority, name its certificate: --notation-ca FILE", printable.Text(all[0].Authority()))
}
