package main

import (
	"context"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/audit"
	"github.com/colophon-build/colophon/distrust"
	"github.com/colophon-build/colophon/internal/lazyregexp"
	"github.com/colophon-build/colophon/lint/report"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/policy/convert"
	"github.com/colophon-build/colophon/sbom"
	"github.com/colophon-build/colophon/sign/token"
	"github.com/colophon-build/colophon/source/recipes"
	"github.com/colophon-build/colophon/trust"
)

// Completion waits so long, and then offers nothing: a shell must not hang.
const (
	networkPatience = 300 * time.Millisecond
	gitPatience     = 200 * time.Millisecond
)

// harmless matches what is offered. Names of tags, images and repositories are other
// people's text, and a shell may expand what it completes: a git tag can be named
// $(command).
var harmless = lazyregexp.New(`^[A-Za-z0-9][A-Za-z0-9._/@+:,-]*$`)

type completion = func(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective)

// offer returns the candidates that begin as the word does. With none, the shell offers files.
func offer(begun string, candidates []string) []string {
	return slices.DeleteFunc(slices.Clone(candidates), func(c string) bool { return !strings.HasPrefix(c, begun) || !harmless.MatchString(c) })
}

// completed says how the arguments and flags of one command are completed.
type completed struct {
	command   []string
	arguments completion
	flags     map[string]completion // by name
}

// addCompletion makes the commands below root complete values: arguments, and flags by name.
func addCompletion(root *cobra.Command) {
	for _, c := range slices.Concat(completedImages(), completedRules(), completedRecords()) {
		cmd, _, err := root.Find(c.command)
		if err != nil {
			continue
		}
		cmd.ValidArgsFunction = c.arguments
		for name, f := range c.flags {
			if cmd.Flags().Lookup(name) != nil {
				_ = cmd.RegisterFlagCompletionFunc(name, f) // fails only for a flag that does not exist
			}
		}
	}
}

// flagsOfSigners returns the flags that the commands that sign share.
func flagsOfSigners() map[string]completion {
	return map[string]completion{
		"trust-root": completeTrust, "signing-config": completeServices, "predicate": filesNamed("json"), "schema": filesNamed("json"),
		"identity-token-from": oneOf(append(token.Providers(), fromBrowser)...), "type": oneOf(append(predicateNames(), kindOfJob)...),
	}
}

// completedImages returns the commands that make, sign or check images.
func completedImages() []completed {
	image := map[string]completion{
		"policy": filesNamed("yaml", "yml", "json"), "platform": platformNames, "trust-root": completeTrust,
		"sbom": oneOf("spdx", "cyclonedx"), "min-level": oneOf("0", "1", "2", "3"), "forge": oneOf("github", "gitlab", "gitea"),
	}
	signing := flagsOfSigners()
	return []completed{
		{[]string{"release"}, cobra.FixedCompletions(nil, cobra.ShellCompDirectiveFilterDirs), map[string]completion{
			"ref": completeRef, "image": completeReleaseImage, "builder": oneOf("buildkit", "golang"), "platform": platformNames,
			"save": cobra.FixedCompletions(nil, cobra.ShellCompDirectiveFilterDirs), "declare": filesNamed("yaml", "yml", "json"), "progress": oneOf(progressModes...)}},
		{[]string{"lint"}, cobra.FixedCompletions(nil, cobra.ShellCompDirectiveFilterDirs), map[string]completion{
			"resolutions": filesNamed("json"), "format": oneOf(report.Names()...), "fail-on": oneOf("note", "warning", "error")}},
		{[]string{"pin"}, cobra.FixedCompletions(nil, cobra.ShellCompDirectiveFilterDirs), map[string]completion{"resolutions": filesNamed("json")}},
		{[]string{"sign"}, completeImage, signing},
		{[]string{"attest"}, completeAttested, signing},
		{[]string{"level"}, firstImage, map[string]completion{
			"image": completeImage, "policy": filesNamed("json", "yaml", "yml"), "min-build-level": oneOf("1", "2", "3"),
			"forge": oneOf("github", "gitlab", "gitea"), "min-source-level": oneOf("1", "2", "3", "4"), "signing-config": completeServices, "trust-root": completeTrust,
			"identity-token-from": oneOf(append(token.Providers(), fromBrowser)...)}},
		{[]string{"verify"}, completeImage, image},
		{[]string{"why"}, firstImage, image},
		{[]string{"inspect"}, firstImage, image},
		{[]string{"copy"}, completeImage, image},
	}
}

// completedRules returns the commands about what is trusted: policies and lists of distrust.
func completedRules() []completed {
	signing := flagsOfSigners()
	return []completed{
		{[]string{"policy", "init"}, firstImage, map[string]completion{
			"mode": oneOf("audit", "warn", "enforce"), "notation-ca": filesNamed("pem", "crt", "cer"), "notation-tsa": filesNamed("pem", "crt", "cer"), "notation-crls": filesNamed("pem", "crl")}},
		{[]string{"policy", "check"}, filesNamed("yaml", "yml", "json"), nil},
		{[]string{"policy", "test"}, policyThenImages(1), nil},
		{[]string{"policy", "explain"}, firstImage, map[string]completion{"policy": filesNamed("yaml", "yml", "json")}},
		{[]string{"policy", "diff"}, policyThenImages(2), nil},
		{[]string{"policy", "sign"}, filesNamed("yaml", "yml", "json"), signing},
		{[]string{"policy", "trust", "add"}, cobra.NoFileCompletions, map[string]completion{"trust-root": completeTrust, "key": filesNamed("pem", "pub")}},
		{[]string{"policy", "trust", "remove"}, completeAuthor, nil},
		{[]string{"distrust", "add"}, completeImage, map[string]completion{"key": filesNamed("pem", "key"), "key-digest": filesNamed("pem", "pub"), "vex": filesNamed("json"), "policy": filesNamed("yaml", "yml", "json")}},
		{[]string{"distrust", "list"}, completeIssuer, nil},
		{[]string{"distrust", "show"}, completeIssuer, nil},
		{[]string{"distrust", "export"}, completeIssuer, nil},
		{[]string{"distrust", "issuer", "add"}, cobra.NoFileCompletions, map[string]completion{"trust-root": completeTrust, "key": filesNamed("pem", "pub"), "only": oneOf(kindNames()...)}},
		{[]string{"distrust", "issuer", "remove"}, completeIssuer, nil},
		{[]string{"policy", "convert"}, filesNamed("yaml", "yml", "json"), map[string]completion{"to": oneOf(convert.Formats()...)}},
	}
}

// completedRecords returns the commands about what is known of images: documents, clusters,
// cases, logs and trust roots.
func completedRecords() []completed {
	recorded := map[string]completion{"kind": oneOf(kindsOfRecords()...), "outcome": oneOf(audit.Outcomes()...), "effect": oneOf(audit.Allowed, audit.Refused, audit.Nothing)}
	return []completed{
		{[]string{"sbom"}, firstImage, map[string]completion{"format": oneOf("spdx", "cyclonedx"), "platform": platformNames}},
		{[]string{"sbom", "diff"}, completeImage, nil},
		{[]string{"sbom", "merge"}, completeImage, map[string]completion{"image": completeImage}},
		{[]string{"sbom", "check"}, firstImage, map[string]completion{"against": oneOf(sbom.Lists()...)}},
		{[]string{"kube", "status"}, cobra.NoFileCompletions, map[string]completion{"context": kubectlNames("config", "get-contexts", "-o", "name")}},
		{[]string{"kube", "why"}, kubectlNames("get", "pods", "-o", "name"), map[string]completion{"context": kubectlNames("config", "get-contexts", "-o", "name")}},
		{[]string{"kube", "vsa"}, kubectlNames("get", "pods", "-o", "name"), map[string]completion{"context": kubectlNames("config", "get-contexts", "-o", "name")}},
		{[]string{"investigate"}, firstImage, map[string]completion{
			"policy": filesNamed("yaml", "yml", "json"), "refetch": oneOf("public", "private"), "forge": oneOf("github", "gitlab", "gitea"),
			"case": filesNamed("zip"), "signing-config": completeServices, "trust-root": completeTrust, "identity-token-from": oneOf(append(token.Providers(), fromBrowser)...),
			"context": kubectlNames("config", "get-contexts", "-o", "name")}},
		{[]string{"case", "verify"}, filesNamed("zip"), map[string]completion{"key": filesNamed("pem", "pub"), "trust-root": filesNamed("json")}},
		{[]string{"case", "show"}, filesNamed("zip"), nil},
		{[]string{"case", "report"}, filesNamed("zip"), map[string]completion{"kind": oneOf("early", "72h", "final")}},
		{[]string{"log", "checkpoint"}, cobra.NoFileCompletions, nil},
		{[]string{"log", "search"}, cobra.NoFileCompletions, map[string]completion{"image": completeImage, "predicate": oneOf(attest.PredicateSLSA1, attest.PredicateSLSA02, attest.PredicateSPDX, attest.PredicateCDX, attest.PredicateVSA, attest.PredicateSign)}},
		{[]string{"log", "audit"}, cobra.NoFileCompletions, nil},
		{[]string{"log", "watch"}, cobra.NoFileCompletions, nil},
		{[]string{"audit", "list"}, cobra.NoFileCompletions, recorded},
		{[]string{"audit", "watch"}, cobra.NoFileCompletions, recorded},
		{[]string{"audit", "get"}, cobra.NoFileCompletions, nil},
		{[]string{"audit", "prove"}, cobra.NoFileCompletions, nil},
		{[]string{"login"}, filesNamed("json"), nil},
		{[]string{"trust", "show"}, completePinned, nil},
		{[]string{"trust", "refresh"}, completePinned, nil},
		{[]string{"trust", "remove"}, completePinned, nil},
	}
}

func oneOf(words ...string) completion {
	return func(_ *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
		return offer(begun, words), cobra.ShellCompDirectiveNoFileComp
	}
}

// filesNamed completes the names of files that end in one of the extensions.
func filesNamed(extensions ...string) completion {
	return cobra.FixedCompletions(extensions, cobra.ShellCompDirectiveFilterFileExt)
}

// policyThenImages completes the names of n policy files, and then images.
func policyThenImages(n int) completion {
	return func(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
		if len(args) < n {
			return filesNamed("yaml", "yml", "json")(cmd, args, begun)
		}
		return completeImage(cmd, args, begun)
	}
}

// kubectlNames completes names that kubectl prints, one on a line.
func kubectlNames(args ...string) completion {
	return func(cmd *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
		c := kubernetes{timeout: networkPatience}
		args := slices.Clone(args)
		for _, name := range []string{"kubeconfig", "context", "namespace"} {
			if f := cmd.Flags().Lookup(name); f != nil && f.Changed && args[0] == "get" {
				args = append(args, "--"+name+"="+f.Value.String())
			}
		}
		out, err := c.run(cmd.Context(), args...)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return offer(begun, strings.Fields(string(out))), cobra.ShellCompDirectiveNoFileComp
	}
}

var platformNames = oneOf("linux/amd64", "linux/arm64", "linux/arm/v7", "linux/amd64,linux/arm64")

// completeRef completes a tag or branch of the repository that is released.
func completeRef(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
	dir := "."
	if len(args) > 0 {
		dir = args[0]
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), gitPatience)
	defer cancel()
	out, err := gitOutput(ctx, dir, "for-each-ref", "--sort=-version:refname", "--format=%(refname)", "refs/tags", "refs/heads")
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var refs []string
	for line := range strings.Lines(out) {
		name := strings.TrimPrefix(strings.TrimPrefix(strings.TrimSpace(line), "refs/tags/"), "refs/heads/")
		refs = append(refs, name)
	}
	return offer(begun, refs), cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
}

// completeReleaseImage completes an image that .colophon.yaml declares, or one that the
// platform has.
func completeReleaseImage(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
	dir := "."
	if len(args) > 0 {
		dir = args[0]
	}
	names, _ := recipes.Names(dir)
	offered := offer(begun, names)
	if len(offered) == 0 || begun == "" {
		ctx, cancel := context.WithTimeout(cmd.Context(), networkPatience)
		defer cancel()
		offered = append(offered, offer(begun, platformImages(ctx))...)
	}
	return offered, cobra.ShellCompDirectiveNoFileComp
}

// completeAttested offers images or, with --files, the shell's files.
func completeAttested(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
	if files, err := cmd.Flags().GetBool("files"); err == nil && files {
		return nil, cobra.ShellCompDirectiveDefault
	}
	return completeImage(cmd, args, begun)
}

// completeImage completes an image of the platform: first its repository, and after the
// colon its tag. Whatever else it is, it may be a file.
func completeImage(cmd *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(cmd.Context(), networkPatience)
	defer cancel()
	platform := platformHere()
	if platform == nil || strings.HasPrefix(begun, ".") || strings.HasPrefix(begun, "/") {
		return nil, cobra.ShellCompDirectiveDefault
	}
	host := hostOf(platform)
	name, rest, _ := strings.Cut(begun, "/")
	repository, _, hasTag := strings.Cut(rest, ":")
	if name != host {
		if !strings.HasPrefix(host, begun) {
			return nil, cobra.ShellCompDirectiveDefault
		}
	} else if hasTag {
		tags, _ := platform.Tags(ctx, repository)
		for i, tag := range tags {
			tags[i] = host + "/" + repository + ":" + tag
		}
		return offer(begun, tags), cobra.ShellCompDirectiveNoFileComp
	}
	images := platformImages(ctx)
	for i := range images {
		images[i] += ":"
	}
	return offer(begun, images), cobra.ShellCompDirectiveNoSpace
}

// platformImages returns the full names of the images on the platform, or nothing.
func platformImages(ctx context.Context) []string {
	platform := platformHere()
	if platform == nil {
		return nil
	}
	images, _ := platform.Images(ctx)
	for i, name := range images {
		images[i] = hostOf(platform) + "/" + name
	}
	return images
}

// platformHere returns the platform that release would use, or nil. It starts none.
func platformHere() *api.ClientConfig {
	platform, err := api.LoadConfig()
	if err == nil {
		return platform
	}
	dir, err := dataDir()
	if err != nil {
		return nil
	}
	if platform, err = api.ReadConfig(filepath.Join(dir, "client.json")); err != nil {
		return nil
	}
	return platform
}

func hostOf(platform *api.ClientConfig) string {
	u, err := url.Parse(platform.URL)
	if err != nil {
		return ""
	}
	return u.Host
}

// firstImage completes an image as the first argument, and files as others.
func firstImage(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return completeImage(cmd, args, begun)
}

// completeServices completes a trust root on this machine that says where to sign, or a file.
func completeServices(_ *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
	store, err := openTrust()
	if err != nil {
		return nil, cobra.ShellCompDirectiveDefault
	}
	roots, _ := store.List()
	var names []string
	for _, r := range roots {
		if p, public := publicOf(r); public {
			names = append(names, p.Name)
		} else if r.Repository != nil && len(r.Repository.SigningConfig) > 0 {
			names = append(names, r.Repository.URL)
		}
	}
	return offer(begun, names), cobra.ShellCompDirectiveDefault
}

// completeTrust completes a trust root on this machine, as a demand names it.
func completeTrust(_ *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
	return completeRoot(args, begun, func(*trust.Root) string { return "" })
}

// completePinned completes a trust root on this machine, which may have a built-in name.
func completePinned(_ *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
	return completeRoot(args, begun, func(r *trust.Root) string {
		p, _ := publicOf(r)
		return p.Name
	})
}

func completeRoot(args []string, begun string, name func(*trust.Root) string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	store, err := openTrust()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	roots, _ := store.List()
	var names []string
	for _, r := range roots {
		switch {
		case name(r) != "":
			names = append(names, name(r))
		case r.URL != "":
			names = append(names, r.URL)
		case r.Repository != nil:
			names = append(names, r.Repository.URL)
		default:
			names = append(names, r.Pin())
		}
	}
	return offer(begun, names), cobra.ShellCompDirectiveNoFileComp
}

// completeAuthor completes the names of authors of policies.
func completeAuthor(_ *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
	authors, err := loadAuthors()
	return firstName(args, begun, authors, err, func(a policy.Author) string { return a.Name })
}

// completeIssuer completes the names of issuers of lists of distrust.
func completeIssuer(_ *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
	issuers, _, err := loadIssuers()
	return firstName(args, begun, issuers, err, func(i distrust.Issuer) string { return i.Name })
}

// firstName completes the first argument, the name of one of all.
func firstName[T any](args []string, begun string, all []T, err error, name func(T) string) ([]string, cobra.ShellCompDirective) {
	if err != nil || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, v := range all {
		names = append(names, name(v))
	}
	return offer(begun, names), cobra.ShellCompDirectiveNoFileComp
}
