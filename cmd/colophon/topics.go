package main

import (
	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/internal/usage"
)

// The tasks by which help groups the commands.
const (
	groupRelease = "release"
	groupSign    = "sign"
	groupDecide  = "decide"
	groupTrust   = "trust"
	groupOther   = "other"
)

// newTopics returns pages of help that are no commands.
func newTopics() []*cobra.Command {
	return []*cobra.Command{
		usage.NewExitCodes(),
		{Use: "environment", Short: "which environment variables are read", Long: `  COLOPHON_PLATFORM  client.json of the platform to use for this command, in place of
                     that of "colophon login"
  COLOPHON_TRUST     directory of the trust roots
  SOURCE_DATE_EPOCH  time in the SBOM that "colophon sbom" writes, in seconds since 1970
  NO_COLOR           if set, no colours
  TERM               with "dumb", progress is not redrawn
  DOCKER_CONFIG      directory of the credentials for registries
  REGISTRY_AUTH_FILE the same, of podman
  SSL_CERT_FILE      file with certificate authorities for https, and SSL_CERT_DIR
  HTTPS_PROXY        proxy for https, and HTTP_PROXY, NO_PROXY`},
	}
}

// policyMembers describes the members of examplePolicy for the help.
const policyMembers = `
All members are optional, but one of source, anySource, signer and verifiers must
say who may have made the image. The most used are:

  source        the repository that the image must come from
  ref           the branch or tag; or version, the beginning of a tag's version
  builders      builder ids to accept, in place of those of the trust roots
  minLevel      the SLSA Build level that must follow from the evidence
  recipe        what the requester of the build may have chosen: context,
                dockerfile, target, buildArgs, package, lock, hermetic
  signer        who must have signed, in place of a trusted builder
  attestations  other attestations that must be there, and what they must say
  contents      the SBOMs must agree with what is installed in the image
  requireSource the repository must answer, and still have the commit

A member that does not exist is an error, and so is one that is there twice. The
whole format is in spec/policy. An editor checks the file as you type if it has

  "$schema": "https://PLATFORM/schemas/policy.json"`

// examplePolicy is the policy in the help.
const examplePolicy = `  {
    "source": "git.example.com/team/app",
    "version": "v1",
    "minLevel": 3
  }
`
