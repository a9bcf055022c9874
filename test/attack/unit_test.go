package attack

// These attacks are unit tests of the packages.
func init() {
	for _, a := range []attack{
		{name: "fallback-tag-race", tries: "lose an attestation by a concurrent write of the fallback tag",
			guard: "every writer reads the tag again, and restores lost entries: oci attachByTag", unit: "oci: TestParallelAttachLosesNothing",
			cuts: []cut{{"oci/referrers.go", `if wrote || complete.IsZero() {`, `if wrote {
			return nil
		} else if complete.IsZero() {`}}},
		{name: "log-forked", tries: "make the log serve a tree that does not extend an earlier one",
			guard: "the log never serves a checkpoint that does not extend the last one: platform/authority/log follow", unit: "platform/authority/log: TestForkIsNotServed",
			cuts: []cut{{"platform/authority/log/published.go", `if err := tlog.Extends(ctx, source{next}, last.Checkpoint, cp); err != nil {`, `if err := error(nil); err != nil {`}}},
		{name: "replayed-token", tries: "get a certificate with an expired, altered or foreign token",
			guard: "tokens are short-lived, and the CA accepts only its own issuer's: platform/authority/ca issuers", unit: "platform/authority/ca: TestBadOwnTokensAreRefused",
			cuts: []cut{{"platform/authority/ca/issuers.go", `SupportedSigningAlgs: []string{oidc.ES256}}`, `SupportedSigningAlgs: []string{oidc.ES256}, SkipExpiryCheck: true, InsecureSkipSignatureCheck: true}`}}},
		{name: "rewritten-tree", tries: "prove consistency of a tree that lost an entry",
			guard: "clients check the consistency proof: tlog Extends", unit: "tlog: TestForksAreRefused",
			cuts: []cut{{"tlog/proof.go", `	return VerifyConsistency(older, newer, proof)`, `	return VerifyConsistency(newer, newer, proof[:0])`}}},
		{name: "hostile-git", tries: "run code from a repository when it is inspected or fetched: hooks, filters, configuration",
			guard: "git runs with these features disabled: source settings, disarm", unit: "source: TestNothingOfTheRepositoryRuns",
			cuts: []cut{{"source/git.go", `	{"core.fsmonitor", "false"},
`, ``}, {"source/clean.go", `	return off
`, `	return nil
`}}},
		{name: "scanner-bomb", tries: "use up the attestor's memory with a package database of 150 kB in the image",
			guard: "the scanner runs in a process with limits: platform/zone Limits", unit: "platform/release: TestImageThatKillsTheScanner",
			cuts: []cut{{"platform/zone/apart_inside.go", `if err := a.Limits.apply(); err != nil {`, `if err := error(nil); err != nil {`}}},
		{name: "reader-sees-keys", tries: "read the attestor's files, sockets and memory from the process that reads a repository or an image",
			guard: "it has namespaces of its own, in which they are hidden: platform/zone Hide", unit: "platform/zone: TestApartSeesItsItemAlone",
			cuts: []cut{{"platform/zone/apart_inside.go", `append([]string{"/proc"}, a.Hide...)`, `[]string{}`}}},
		{name: "release-kills-every-start", tries: "kill the attestor again after each restart, by a release that it resumes",
			guard: "tries are counted on disk, and the third death parks the release: platform/release park", unit: "platform/release: TestParked",
			cuts: []cut{{"platform/release/queue.go", ` && p.Tries >= maxTries {`, ` && false {`}}},
		{name: "tampered-git-object", tries: "serve a git object that does not match its id",
			guard: "each object is hashed again: source objects.copy", unit: "source: TestTamperedObject",
			cuts: []cut{{"source/object.go", "; got != id {\n\t\treturn fail(", "; false && got != id {\n\t\treturn fail("}}},
		{name: "evicts-without-record", tries: "make a pod go by a verdict that the audit ledger, which is required, does not have",
			guard: "the ledger has the verdict before the API server is asked: platform/admission recordBefore", unit: "platform/admission: TestNoEvictionWithoutRecord",
			cuts: []cut{{"platform/admission/evict.go", `if err := v.recordBefore(ctx, o); err != nil {`, `if err := error(nil); err != nil {`}}},
	} {
		register(a)
	}
}
