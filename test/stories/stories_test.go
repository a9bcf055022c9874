// Package stories runs commands that users type, as scripts (testdata/*.txtar), on a
// real platform that all scripts share. Each script uses its own repositories. The
// tests also run the commands in README.md and docs/.
package stories

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/colophon-build/colophon/test/freeport"
	"github.com/colophon-build/colophon/test/harness"
	"github.com/colophon-build/colophon/test/needs"
)

func TestStories(t *testing.T) {
	p := harness.Start(t, "--mirror", harness.BaseImages(t), "--config", harness.Config(t, map[string]any{
		"build": map[string]any{"stdCache": harness.StdCache(t), "cacheMounts": map[string]any{"size": 64 << 20}},
	}))
	repo := harness.GoRepo(t)
	docker := p.DockerConfig()
	t.Run("pages", func(t *testing.T) {
		t.Parallel()
		runPages(t, p)
	})
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			source, err := filepath.EvalSymlinks(repo)
			if err != nil {
				return err
			}
			setup(t, p, env)
			env.Values[hostKey{}] = &privateHost{}
			env.Vars = append(env.Vars,
				"FREE="+freeport.Address(t),
				"STD="+harness.StdCache(t), // build.stdCache for a platform of the script's own
				"DOCKER="+docker,           // value of DOCKER_CONFIG for who may push
				"REPO="+repo,               // a Go main package with the tag v1.0.0
				"SOURCE=file://"+source,    // value of --source
				"GIT_CONFIG_GLOBAL="+filepath.Join(env.WorkDir, "gitconfig"),
			)
			return os.WriteFile(filepath.Join(env.WorkDir, "gitconfig"),
				[]byte("[user]\nname=Ada\nemail=ada@example.com\n[init]\ndefaultBranch=main\n"), 0o600)
		},
		Cmds: commands(p),
		Condition: func(name string) (bool, error) {
			switch name {
			case "root":
				return os.Getuid() == 0, nil
			case "long":
				return needs.AskedForLong(), nil
			default:
				return false, fmt.Errorf("unknown condition %q", name)
			}
		},
	})
}

// setup lets a script find the programs and the platform.
func setup(t *testing.T, p *harness.Platform, env *testscript.Env) {
	root := harness.Root(t)
	env.Vars = append(env.Vars,
		"PATH="+filepath.Join(root, "out/bin")+":"+os.Getenv("PATH"),
		"ROOT="+root,
		"ADDR="+p.Addr,
		"URL="+p.URL,
		"COLOPHON_PLATFORM="+filepath.Join(p.Data, "client.json"),
		"ADMIN="+filepath.Join(p.Data, "admin.json"), // value of COLOPHON_PLATFORM for an administrator
		"COLOPHON_TRUST="+filepath.Join(env.WorkDir, "trust"),
		"NO_COLOR=1",
	)
}
