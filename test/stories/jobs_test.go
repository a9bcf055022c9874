package stories

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/colophon-build/colophon/test/freeport"
	"github.com/colophon-build/colophon/test/harness"
	"github.com/colophon-build/colophon/test/needs"
	"github.com/colophon-build/colophon/trust"
)

const softHSM = "/usr/lib/softhsm/libsofthsm2.so"

// TestJobStories runs the scripts in testdata/jobs on a platform that takes the tokens of jobs.
// They have five more commands, which change where the next commands run. Each place has trust
// roots of its own:
//
//	github     in a job of GitHub
//	thief      in another run of that job, which nobody of the team started
//	gitlab     in a job of GitLab
//	laptop     in neither
//	consumer   in neither
func TestJobStories(t *testing.T) {
	if _, err := os.Stat(softHSM); err != nil {
		needs.Missing(t, "there is no SoftHSM (the Debian package softhsm2): %v", err)
	}
	harness.Bin(t, "colophon-keys") // which colophon finds beside itself
	ci := harness.StartCI(t)
	p := harness.Start(t, "--config", harness.Config(t, ci.Config()))
	docker := p.DockerConfig()
	github, gitlab := ci.GitHub(), ci.GitLab(t)
	commands := commands(p)
	for place, job := range map[string]map[string]string{"github": github, "thief": ci.StolenGitHub(), "gitlab": gitlab, "laptop": nil, "consumer": nil} {
		commands[place] = func(ts *testscript.TestScript, _ bool, _ []string) {
			for _, all := range []map[string]string{github, gitlab} {
				for name := range all {
					ts.Setenv(name, job[name])
				}
			}
			ts.Setenv("COLOPHON_TRUST", filepath.Join(ts.Getenv("WORK"), "trust", place))
		}
	}
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "jobs"),
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			setup(t, p, env)
			env.Vars = append(env.Vars, "DOCKER="+docker, "FREE="+freeport.Address(t), "HEALTH="+freeport.Address(t), "MODULE="+softHSM, "SOFTHSM2_CONF="+filepath.Join(env.WorkDir, "softhsm2.conf"),
				"GITHUB_IDENTITY="+harness.GitHubIdentity, "GITHUB_ISSUER="+trust.GitHubIssuer,
				"GITLAB_IDENTITY="+harness.GitLabIdentity, "GITLAB_ISSUER="+trust.GitLabIssuer)
			return nil
		},
		Cmds: commands,
	})
}
