package attack

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/test/gittest"
	"github.com/colophon-build/colophon/test/harness"
	"github.com/colophon-build/colophon/test/needs"
)

// Settings of an attack on a platform that runs already; see docs/threats.md.
const (
	platformVar   = "COLOPHON_ATTACK_PLATFORM"   // its client.json
	sourceVar     = "COLOPHON_ATTACK_SOURCE"     // URI by which the platform reaches the repository; default: the directory, if the platform is on this host
	repositoryVar = "COLOPHON_ATTACK_REPOSITORY" // directory in which the suite writes the repository
	dataVar       = "COLOPHON_ATTACK_DATA"       // data directory of the platform on its host; default /var/lib/colophon
	jsonVar       = "COLOPHON_ATTACK_JSON"       // file for the scoreboard as JSON
)

// The one image of these attacks. Each attack that gets through changes only this one.
const runningImage = "colophon-attack"

// harmless lists the attacks from a step that change nothing on the host of a platform whose
// guard is missing, and need nothing beside the platform to see their success.
var harmless = []string{
	"read-keys", "inherited-files", "file-handles", "devices", "proc-and-sys", "user-namespaces", "kernel-doors", "kernel-calls",
	"environment", "core-dumps", "loopback", "platform", "metadata", "sockets",
}

// overTheNetwork has the attacks by the holder of a token. Each returns evidence of its
// success, or how it was stopped.
var overTheNetwork = map[string]func(r *running) (through, stopped string, err error){
	"overwrite-a-tag": (*running).overwriteTag,
	"delete-a-tag":    (*running).deleteTag,
	"swapped-ref":     (*running).swappedRef,
	"submit-a-digest": (*running).submitDigest,
}

// running is a platform that the suite did not start.
type running struct {
	*testing.T
	client *api.ClientConfig
	source string // empty: no repository for it is known
	data   string
	victim *api.Release // the released image; nil if it could not be released
	failed string       // why not
	noStep string       // why the step reported nothing
}

// A score is one line of the scoreboard of a running platform.
type score struct {
	Attack   string `json:"attack"`
	Tries    string `json:"tries"`
	Where    string `json:"where"`              // "step" or "network"; empty if it was not tried
	Result   string `json:"result"`             // "stopped", "succeeded", "undecided" or "not tried here"
	Evidence string `json:"evidence,omitempty"` // of success, or how it was stopped, or why it was not tried
}

type scores struct {
	Date     time.Time `json:"date"`
	Platform string    `json:"platform"`
	Version  string    `json:"version"` // as the platform says; empty if it does not
	Attacks  []score   `json:"attacks"`
}

// TestRunningPlatform attacks the platform whose client.json platformVar names, and prints
// a scoreboard. It fails if an attack got through, if one could not be tried although it has
// a repository, or if none could be tried.
func TestRunningPlatform(t *testing.T) {
	path := os.Getenv(platformVar)
	if path == "" {
		t.Skip("NOT ASKED FOR: runs only by make attack PLATFORM=client.json")
	}
	client, err := api.ReadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	r := &running{T: t, client: client, source: os.Getenv(sourceVar), data: cmp.Or(os.Getenv(dataVar), "/var/lib/colophon")}
	if dir := os.Getenv(repositoryVar); dir != "" {
		r.writeRepository(dir)
		if u, err := url.Parse(client.URL); err == nil && r.source == "" && slices.Contains([]string{"127.0.0.1", "::1", "localhost"}, u.Hostname()) {
			r.source = "file://" + dir
		}
	}
	s := r.attack()
	fmt.Print(s)
	if name := os.Getenv(jsonVar); name != "" {
		raw, err := json.MarshalIndent(s, "", "  ")
		if err == nil {
			err = os.WriteFile(name, append(raw, '\n'), 0o644)
		}
		if err != nil {
			t.Error(err)
		}
	}
	if s.count("stopped") == 0 || s.count("succeeded")+s.count("undecided") > 0 {
		t.Errorf("%d attacks succeeded, %d are undecided", s.count("succeeded"), s.count("undecided"))
	}
}

// attack releases the image, starts one build whose step is the intruder, and tries the
// attacks over the network on the image.
func (r *running) attack() scores {
	s := scores{Date: time.Now().UTC().Truncate(time.Second), Platform: r.client.URL, Version: r.version()}
	reports := map[string]report{}
	r.failed = "no repository: push the one that the suite wrote to where the platform can fetch it, and name it with SOURCE"
	if r.source != "" {
		var err error
		if r.victim, _, err = r.release("v1.0.0", ""); err != nil {
			r.failed = "the image could not be released: " + err.Error()
		}
		_, said, failure := r.release("attack", "")
		list, err := reportsIn(said)
		for _, rep := range list {
			reports[rep.Attack] = rep
		}
		if r.noStep = fmt.Sprint(failure); err != nil {
			r.noStep = err.Error()
		}
	}
	for _, a := range attacks {
		s.Attacks = append(s.Attacks, r.try(a, reports))
	}
	return s
}

func (r *running) try(a *attack, reports map[string]report) score {
	s := score{Attack: a.name, Tries: a.tries, Result: "not tried here", Evidence: a.elsewhere()}
	through, stopped := "", ""
	switch rep, reported := reports[a.name]; {
	case overTheNetwork[a.name] != nil:
		var err error
		if through, stopped, err = overTheNetwork[a.name](r); err != nil {
			return s.untried(r, err.Error())
		}
		s.Where = "network"
	case slices.Contains(harmless, a.name) && !reported:
		return s.untried(r, cmp.Or(r.noStep, r.failed))
	case slices.Contains(harmless, a.name):
		s.Where, through, stopped = "step", strings.Join(rep.Got, "; "), brief(rep.Not)
		if strings.Contains(through+strings.Join(rep.Not, "\n"), r.client.Token) {
			through = "it read the token of this client"
		}
	default:
		return s
	}
	if s.Result, s.Evidence = "stopped", clip(stopped, 200); through != "" {
		s.Result, s.Evidence = "succeeded", clip(through, 200)
	}
	return s
}

// untried returns the score of an attack that could not be tried. With a repository that is
// a failure of the suite or of the platform, and decides nothing.
func (s score) untried(r *running, why string) score {
	if s.Evidence = clip(why, 200); r.source != "" {
		s.Result = "undecided"
	}
	return s
}

// elsewhere says why an attack is not tried on a running platform.
func (a *attack) elsewhere() string {
	switch {
	case a.unit != "":
		return "it tries the code of one package"
	case slices.Contains(a.from, "step"):
		return "it needs canaries beside the platform, or would harm the host if its guard were missing"
	case len(a.from) > 0:
		return "it needs a process on the platform's host that an attacker has taken over"
	}
	return "it changes the host, the services or another repository, or denies service"
}

// release asks for a release of a ref of the suite's repository, and returns its log.
func (r *running) release(ref, commit string) (*api.Release, string, error) {
	ctx, cancel := context.WithTimeout(r.Context(), 10*time.Minute)
	defer cancel()
	var said strings.Builder
	got, err := r.client.Release(ctx, api.ReleaseRequest{Source: r.source, Ref: ref, Commit: commit, Image: r.image()}, func(e api.Event) { fmt.Fprintln(&said, e.Line) })
	return got, said.String(), err
}

func (r *running) image() string {
	u, _ := url.Parse(r.client.URL) // api.ReadConfig has parsed it
	return u.Host + "/" + runningImage
}

// do sends a request and returns status, digest and the first MiB of the body.
func (r *running) do(method, path, token, contentType string, body []byte) (code int, digest, answer string, err error) {
	req, err := http.NewRequestWithContext(r.Context(), method, strings.TrimSuffix(r.client.URL, "/")+path, bytes.NewReader(body))
	if err != nil {
		return 0, "", "", err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	c := http.Client{Timeout: time.Minute}
	resp, err := c.Do(req)
	if err != nil {
		return 0, "", "", err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return resp.StatusCode, resp.Header.Get("Docker-Content-Digest"), string(raw), err
}

func (r *running) version() string {
	_, _, page, err := r.do(http.MethodGet, "/", "", "", nil)
	if m := regexp.MustCompile(`Version ([^ <]+)\.?</p>`).FindStringSubmatch(page); err == nil && m != nil {
		return strings.TrimSuffix(m[1], ".")
	}
	return ""
}

func (r *running) overwriteTag() (through, stopped string, err error) {
	if r.victim == nil {
		return "", "", errors.New(r.failed)
	}
	const manifests = "/v2/" + runningImage + "/manifests/"
	got, before, raw, err := r.do(http.MethodGet, manifests+"v1.0.0", r.client.Token, "", nil)
	if err == nil && (got != http.StatusOK || before != r.victim.Digest) {
		err = fmt.Errorf("v1.0.0: got %d %s, want the image that was released", got, before)
	}
	if err != nil {
		return "", "", err
	}
	code, _, answer, err := r.do(http.MethodPut, manifests+"v1.0.0", r.client.Token, mediaTypeOf(raw), []byte(raw+"\n"))
	if err != nil {
		return "", "", err
	}
	_, after, _, err := r.do(http.MethodHead, manifests+"v1.0.0", r.client.Token, "", nil)
	if err != nil || after == before {
		return "", fmt.Sprintf("%d %s", code, answer), err
	}
	_, _, _, err = r.do(http.MethodPut, manifests+"v1.0.0", r.client.Token, mediaTypeOf(raw), []byte(raw)) // back again
	return "v1.0.0 was another image: " + after, "", err
}

func mediaTypeOf(manifest string) string {
	var m struct {
		MediaType string `json:"mediaType"`
	}
	_ = json.Unmarshal([]byte(manifest), &m)
	return m.MediaType
}

func (r *running) deleteTag() (through, stopped string, err error) {
	if r.victim == nil {
		return "", "", errors.New(r.failed)
	}
	for _, token := range []string{"", r.client.Token} {
		for _, ref := range []string{"manifests/v1.0.0", "manifests/" + r.victim.Digest, "referrers/" + r.victim.Digest} {
			code, _, _, err := r.do(http.MethodDelete, "/v2/"+runningImage+"/"+ref, token, "", nil)
			if err != nil {
				return "", "", err
			}
			if stopped = http.StatusText(code); code < 400 {
				return "deleting " + ref + ": " + stopped, "", nil
			}
		}
	}
	return "", stopped, nil
}

func (r *running) swappedRef() (through, stopped string, err error) {
	if r.victim == nil {
		return "", "", errors.New(r.failed)
	}
	got, _, err := r.release("v1.0.0", strings.Repeat("1", len(r.victim.Source.ID)))
	if err == nil {
		return fmt.Sprintf("released %s", got.Digest), "", nil
	}
	return "", err.Error(), nil
}

func (r *running) submitDigest() (through, stopped string, err error) {
	for _, c := range []struct{ token, member string }{
		{r.client.Token, `,"digest":"sha256:` + strings.Repeat("1", 64) + `"`}, {r.client.Token, `,"tree":"/etc"`}, {r.client.Token, `,"layout":"/tmp"`},
		{r.client.Token, `,"builder":"x"`}, {r.client.Token, `,"session":"x"`}, {"", ""}, {r.client.Token + "x", ""},
	} {
		body := fmt.Sprintf(`{"source":"https://source.invalid/attack","ref":"v1.0.0","image":%q,"recipe":{}%s}`, r.image(), c.member)
		code, _, answer, err := r.do(http.MethodPost, api.PathReleases, c.token, "application/json", []byte(body))
		if err != nil {
			return "", "", err
		}
		if code < 400 {
			return fmt.Sprintf("a request with %q and a token of %d bytes was accepted: %d %s", c.member, len(c.token), code, answer), "", nil
		}
		stopped = answer
	}
	return "", stopped, nil
}

// writeRepository writes the repository that the platform builds, unless it is there: the
// tag v1.0.0 is an image with one file, and the tag "attack" runs the intruder. Its build
// always fails, so that nothing is released.
func (r *running) writeRepository(dir string) {
	r.Helper()
	if _, err := os.Stat(dir); err == nil {
		return
	}
	u, err := url.Parse(r.client.URL)
	if err != nil {
		r.Fatal(err)
	}
	b := briefing{Only: harmless, Canary: filepath.Join(r.data, "client.json"), Platform: u.Host, Data: r.data, Keys: []string{"/etc/shadow"}}
	if u.Port() == "" {
		b.Platform += map[string]string{"http": ":80", "https": ":443"}[u.Scheme]
	}
	for _, k := range []string{"pull.json", "client.json", "admin.json", "attestor.json", "trust/issuer.key", "trust/root.key", "trust/intermediate.key", "trust/clock.key", "trust/ctlog.key", "trust/tuf-root.key", "trust/log.pem"} {
		b.Keys = append(b.Keys, filepath.Join(r.data, k))
	}
	for _, role := range []string{"trust", "attestor", "builder", "rooms", "registry"} {
		b.Sockets = append(b.Sockets, filepath.Join(r.data, "run", role+".sock"))
	}
	git := func(args ...string) {
		r.Helper()
		gittest.Git(r, dir, args...)
	}
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			r.Fatal(err)
		}
	}
	git("init", "-q", "-b", "main")
	write("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")
	git("add", ".")
	git("commit", "-q", "-m", "An image to attack")
	git("tag", "v1.0.0")
	write("Dockerfile", "FROM scratch\nCOPY intruder /intruder\nRUN [\"/intruder\"]\nRUN [\"/this-build-fails-so-that-nothing-is-released\"]\n")
	if err := equip(filepath.Join(dir, "intruder"), b); err != nil {
		r.Fatal(err)
	}
	git("add", ".")
	git("commit", "-q", "-m", "An attack from a step")
	git("tag", "attack")
}

func (s scores) count(result string) (n int) {
	for _, a := range s.Attacks {
		if a.Result == result {
			n++
		}
	}
	return n
}

func (s scores) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s  %s, version %s\n\n", s.Date.Format(time.RFC3339), s.Platform, cmp.Or(s.Version, "unknown"))
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ATTACK\tTRIED\tRESULT")
	for _, a := range s.Attacks {
		if a.Where != "" {
			fmt.Fprintf(w, "%s/%s\t%s\t%s: %s\n", a.Where, a.Attack, a.Tries, map[bool]string{true: "SUCCEEDED", false: "stopped"}[a.Result == "succeeded"], a.Evidence)
		}
	}
	w.Flush()
	fmt.Fprintln(&b, "\nNOT TRIED HERE (make attack tries them on platforms of its own)")
	for _, a := range s.Attacks {
		if a.Where == "" {
			fmt.Fprintf(w, "%s\t%s\n", a.Attack, map[bool]string{true: "UNDECIDED: "}[a.Result == "undecided"]+a.Evidence)
		}
	}
	w.Flush()
	fmt.Fprintf(&b, "\n%d attacks tried, %d stopped, %d succeeded; %d undecided, %d not tried here\n",
		s.count("stopped")+s.count("succeeded"), s.count("stopped"), s.count("succeeded"), s.count("undecided"), s.count("not tried here"))
	return b.String()
}

// TestScoreboardOfARunningPlatform attacks a platform of the suite as an operator would
// attack one that runs: with its client.json and a repository. Then it attacks one with a
// guard off: tags of the image may move.
func TestScoreboardOfARunningPlatform(t *testing.T) {
	needs.Long(t)
	need(t)
	needWorld(t)
	build := map[string]any{"stdCache": harness.StdCache(t)}
	for _, tt := range []struct {
		name      string
		config    map[string]any
		succeeded []string
	}{
		{"all guards", map[string]any{"build": build}, nil},
		{"tags may move", map[string]any{"build": build, "registry": map[string]any{"mutable": []string{runningImage}}}, []string{"overwrite-a-tag"}},
	} {
		p := harness.Start(t, "--config", harness.Config(t, tt.config), "--mirror", harness.BaseImages(t))
		client, err := api.ReadConfig(filepath.Join(p.Data, "client.json"))
		if err != nil {
			t.Fatal(err)
		}
		dir := filepath.Join(t.TempDir(), "repository")
		r := &running{T: t, client: client, source: "file://" + dir, data: p.Data}
		r.writeRepository(dir)
		s := r.attack()
		t.Logf("%s:\n%s", tt.name, s)
		var succeeded []string
		for _, a := range s.Attacks {
			if a.Result == "succeeded" {
				succeeded = append(succeeded, a.Attack)
			}
			if wanted := overTheNetwork[a.Attack] != nil || slices.Contains(harmless, a.Attack); wanted != (a.Where != "") {
				t.Errorf("%s: %s: %s, %s", tt.name, a.Attack, a.Result, a.Evidence)
			}
		}
		if !slices.Equal(succeeded, tt.succeeded) {
			t.Errorf("%s: succeeded: got %q, want %q", tt.name, succeeded, tt.succeeded)
		}
		if len(s.Attacks) != len(attacks) || s.count("stopped") != len(harmless)+len(overTheNetwork)-len(tt.succeeded) {
			t.Errorf("%s: %d attacks of %d, %d stopped", tt.name, len(s.Attacks), len(attacks), s.count("stopped"))
		}
	}
	for name := range overTheNetwork {
		named(name) // panics if there is no such attack
	}
	for _, name := range harmless {
		if a := named(name); !slices.Contains(a.from, "step") {
			t.Errorf("%s is not an attack from a step", name)
		}
	}
	// A platform that does not build decides nothing.
	r := &running{T: t, client: &api.ClientConfig{URL: "http://127.0.0.1:1", Token: "nobody"}, source: "https://source.invalid/attack"}
	if s := r.attack(); s.count("undecided") != len(harmless)+len(overTheNetwork) || s.count("stopped") != 0 {
		t.Errorf("without a platform:\n%s", s)
	}
	// Without a repository, and with a token that is worth nothing, little can be tried, and the scoreboard says so.
	p := harness.Start(t)
	r = &running{T: t, client: &api.ClientConfig{URL: p.URL, Token: "nobody"}}
	s := r.attack()
	if s.count("stopped") != 1 || s.count("succeeded") != 0 || !strings.Contains(s.String(), "1 attacks tried, 1 stopped, 0 succeeded; ") {
		t.Errorf("without a repository:\n%s", s)
	}
}
