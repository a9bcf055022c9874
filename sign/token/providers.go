package token

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
)

// github asks the runner of GitHub Actions (docs.github.com, "OpenID Connect reference",
// "Methods for requesting the OIDC token").
func github(ctx context.Context) (string, error) {
	from, secret := variable("ACTIONS_ID_TOKEN_REQUEST_URL"), variable("ACTIONS_ID_TOKEN_REQUEST_TOKEN")
	if from == "" || secret == "" {
		return "", errors.New("the job may not have one: add \"permissions: {id-token: write}\" to it; a pull request from a fork never has one")
	}
	u, err := private("ACTIONS_ID_TOKEN_REQUEST_URL", from)
	if err != nil {
		return "", err
	}
	query := u.Query()
	query.Set("audience", Audience)
	u.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("Authorization", "Bearer "+secret)
	var answer struct {
		Value string `json:"value"`
	}
	err = ask(req, &answer)
	return answer.Value, err
}

// gitlab reads the variable that a job of GitLab gets from its "id_tokens"
// (docs.gitlab.com, "Use Sigstore for keyless signing and verification").
func gitlab(context.Context) (string, error) {
	token := variable("SIGSTORE_ID_TOKEN")
	if token == "" {
		return "", errors.New("the job has none: add \"id_tokens: {SIGSTORE_ID_TOKEN: {aud: sigstore}}\" to it")
	}
	return token, nil
}

// buildkite asks the API of Buildkite's agent (buildkite.com/docs, "buildkite-agent oidc").
func buildkite(ctx context.Context) (string, error) {
	secret, job := variable("BUILDKITE_AGENT_ACCESS_TOKEN"), os.Getenv("BUILDKITE_JOB_ID")
	endpoint := os.Getenv("BUILDKITE_AGENT_ENDPOINT")
	if endpoint == "" {
		endpoint = "https://agent.buildkite.com/v3"
	}
	if secret == "" || job == "" {
		return "", errors.New("the job has no BUILDKITE_AGENT_ACCESS_TOKEN or no BUILDKITE_JOB_ID")
	}
	u, err := private("BUILDKITE_AGENT_ENDPOINT", endpoint)
	if err != nil {
		return "", err
	}
	body, err := json.Marshal(map[string]string{"audience": Audience})
	if err != nil {
		return "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.JoinPath("jobs", url.PathEscape(job), "oidc", "tokens").String(), bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	req.Header.Set("Authorization", "Token "+secret)
	req.Header.Set("Content-Type", "application/json")
	var answer struct {
		Token string `json:"token"`
	}
	err = ask(req, &answer)
	return answer.Token, err
}

// circleci runs CircleCI's own program (circleci.com/docs, "OpenID Connect tokens with
// custom claims").
func circleci(ctx context.Context) (string, error) {
	raw, err := run(ctx, Without(os.Environ()), "circleci", "run", "oidc", "get", "--claims", `{"aud":"`+Audience+`"}`)
	return string(raw), err
}

// projected is where Kubernetes projects a token of a service account for cosign; ours is
// the same, so that pods need no change.
const projected = "/var/run/sigstore/cosign/oidc-token"

func kubernetes(context.Context) (string, error) { return File(projected) }

// spiffe runs the client of SPIRE, which asks the Workload API at SPIFFE_ENDPOINT_SOCKET
// for a JWT-SVID. The API itself is gRPC, which would double the size of this program.
func spiffe(ctx context.Context) (string, error) {
	socket := strings.TrimPrefix(os.Getenv("SPIFFE_ENDPOINT_SOCKET"), "unix://")
	raw, err := run(ctx, Without(os.Environ()), "spire-agent", "api", "fetch", "jwt", "-audience", Audience, "-socketPath", socket, "-output", "json")
	if err != nil {
		return "", err
	}
	var answers []struct {
		SVIDs []struct {
			SVID string `json:"svid"`
		} `json:"svids"`
	}
	if json.Unmarshal(raw, &answers) == nil {
		for _, a := range answers {
			if len(a.SVIDs) > 0 {
				return a.SVIDs[0].SVID, nil
			}
		}
	}
	return "", errors.New("spire-agent: got no JWT-SVID")
}

// onGoogle reports whether this is a machine of Google Cloud, without asking the network.
func onGoogle() bool {
	if os.Getenv("GCE_METADATA_HOST") != "" {
		return true
	}
	name, err := os.ReadFile("/sys/class/dmi/id/product_name")
	return err == nil && strings.HasPrefix(string(name), "Google")
}

// google asks the metadata server for a token of the service account of this machine
// (cloud.google.com, "Verifying the identity of instances"). It is reached over the
// machine's own link, and speaks plain HTTP.
func google(ctx context.Context) (string, error) {
	host := os.Getenv("GCE_METADATA_HOST")
	if host == "" {
		host = "metadata.google.internal"
	}
	u := url.URL{
		Scheme: "http", Host: host, Path: "/computeMetadata/v1/instance/service-accounts/default/identity",
		RawQuery: url.Values{"audience": {Audience}, "format": {"full"}}.Encode(),
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("Metadata-Flavor", "Google")
	var token string
	if err := ask(req, &token); err != nil {
		return "", fmt.Errorf("metadata server: %w", err)
	}
	return token, nil
}
