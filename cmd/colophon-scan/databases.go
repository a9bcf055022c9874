package main

import (
	"context"
	"strings"

	"github.com/anchore/syft/syft/artifact"
	"github.com/anchore/syft/syft/file"
	"github.com/anchore/syft/syft/pkg"
	"github.com/anchore/syft/syft/pkg/cataloger/debian"
)

// dpkgCataloger is the name of Syft's cataloger of dpkg's database.
const dpkgCataloger = "dpkg-db-cataloger"

// dpkgPackages is Syft's cataloger of dpkg's database. It keeps the packages that own no
// files and hands the others to Syft. Syft would copy each package nine times to look for
// files of one package that belong to another, and finds none for these.
type dpkgPackages struct {
	pkg.Cataloger
	kept []pkg.Package
}

func newDpkgPackages() *dpkgPackages { return &dpkgPackages{Cataloger: debian.NewDBCataloger()} }

// Catalog implements [pkg.Cataloger].
func (c *dpkgPackages) Catalog(ctx context.Context, resolver file.Resolver) ([]pkg.Package, []artifact.Relationship, error) {
	found, relations, err := c.Cataloger.Catalog(ctx, resolver)
	var others []pkg.Package
	for _, p := range found {
		if !alone(p) {
			others = append(others, p)
			continue
		}
		p.FoundBy = dpkgCataloger
		c.kept = append(c.kept, p)
	}
	return others, relations, err
}

// alone reports whether a package owns no files, is complete, and was found in dpkg's
// database only, which no other package can own.
func alone(p pkg.Package) bool {
	const database = "/var/lib/dpkg/status"
	owner, ok := p.Metadata.(pkg.FileOwner)
	at := p.Locations.ToSlice()
	return ok && len(owner.OwnedFiles()) == 0 && len(at) == 1 && p.Licenses.Empty() &&
		strings.TrimSpace(p.Name) != "" && strings.TrimSpace(p.Version) != "" &&
		strings.HasSuffix(at[0].RealPath, database) && strings.HasSuffix(at[0].AccessPath, database)
}

// stated returns the relations of packages that the documents state. They leave out that a
// file is the evidence of a package: its source information names the file. That the image
// contains each package is stated without them.
func stated(all []artifact.Relationship) []artifact.Relationship {
	var out []artifact.Relationship
	for _, r := range all {
		if _, ok := r.From.(pkg.Package); ok && r.Type != artifact.EvidentByRelationship {
			out = append(out, r)
		}
	}
	return out
}
