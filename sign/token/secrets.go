package token

import (
	"cmp"
	"os"
	"slices"
	"strings"
	"sync"
)

// secrets are the variables of the providers that are, or give, a token.
var secrets = []string{
	"ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN",
	"SIGSTORE_ID_TOKEN",
	"BUILDKITE_AGENT_ACCESS_TOKEN",
}

// hidden has the variables that Hide took, by name.
var hidden sync.Map

// Hide takes the variables that hold a token, or what a job gets its token with, out of the
// environment of this process. Programs that it starts later, such as a helper for the
// credentials of a registry, do not inherit them. It is no wall: a program of the same user that
// looks for them finds them in /proc/PID/environ, which the kernel has as it was at the start.
// PR_SET_DUMPABLE would hide that file, but then nobody but root could start colophon-scan in a
// user namespace. The functions of this package know them still, and a command that prints a
// token gets them.
func Hide() {
	for _, name := range secrets {
		if value, ok := os.LookupEnv(name); ok {
			hidden.Store(name, value)
			os.Unsetenv(name)
		}
	}
}

// variable returns the value of one of the secrets.
func variable(name string) string {
	value, _ := hidden.Load(name)
	text, _ := value.(string)
	return cmp.Or(os.Getenv(name), text)
}

// environ returns the environment with the secrets that Hide took.
func environ() []string {
	all := os.Environ()
	hidden.Range(func(name, value any) bool {
		all = append(all, name.(string)+"="+value.(string))
		return true
	})
	return all
}

// Without returns an environment without the secrets: what is run with that environment does not
// inherit what signs in the job's name.
func Without(environ []string) []string {
	return slices.DeleteFunc(slices.Clone(environ), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return slices.Contains(secrets, name)
	})
}
