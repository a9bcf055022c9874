package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/internal/confine"
	"github.com/colophon-build/colophon/internal/keys"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/peer"
	"github.com/colophon-build/colophon/internal/strict"
)

// enrolled is how long a role on another host is believed.
const enrolled = 365 * 24 * time.Hour

// enrol makes credentials of roles for hosts (names or addresses, none for one
// that only asks), by the authority in dir, which is made at first use.
func enrol(dir string, roles, hosts []string) (*peer.Credentials, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	key, err := keys.Open(dir, "authority")
	if err != nil {
		return nil, err
	}
	authority, err := key.Certify(x509.Certificate{
		Subject: pkix.Name{CommonName: "Colophon enrolment"}, NotAfter: key.Created.AddDate(20, 0, 0),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
	}, nil)
	if err != nil {
		return nil, err
	}
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	leaf := x509.Certificate{
		Subject:   pkix.Name{CommonName: "Colophon " + roles[0]},
		NotBefore: time.Now().Add(-5 * time.Minute), NotAfter: time.Now().Add(enrolled),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	for _, role := range roles {
		leaf.URIs = append(leaf.URIs, peer.RoleURI(role))
	}
	for _, h := range hosts {
		leaf.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		if ip := net.ParseIP(h); ip != nil {
			leaf.IPAddresses = append(leaf.IPAddresses, ip)
		} else {
			leaf.DNSNames = append(leaf.DNSNames, h)
		}
	}
	if leaf.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)); err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, &leaf, authority.Cert, own.Public(), key.PrivateKey)
	if err != nil {
		return nil, err
	}
	raw, err := x509.MarshalPKCS8PrivateKey(own)
	if err != nil {
		return nil, err
	}
	block := func(kind string, b []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}) }
	return &peer.Credentials{
		CA: block("CERTIFICATE", authority.Cert.Raw), Cert: block("CERTIFICATE", der), Key: block("PRIVATE KEY", raw),
	}, nil
}

// enrolment is the file that a host needs to run a role of a platform.
type enrolment struct {
	Role        string           `json:"role"`
	Platform    string           `json:"platform"` // its origin, which builds may not reach
	Credentials peer.Credentials `json:"credentials"`
}

func newEnrolCommand() *cobra.Command {
	var data string
	var hosts []string
	cmd := &cobra.Command{
		Use:   "enrol ROLE --data DIR --host NAME",
		Short: "make the file with which a role runs on another host",
		Long: `Enrol prints a file that lets a role of this platform run on another host. It
holds a private key: hand it over in private, and keep it 0600 there. It is good
for a year; enrol again before. The role is "builder": the host that has the file
runs builds for the attestor here, and the attestor believes what that host's
rooms say of them.

On the other host, as root:   colophond builder --enrolment FILE --data DIR --listen :7443
In this platform's --config:  {"roles": {"builder": "NAME:7443"}}`,
		Example:           "  colophond enrol builder --data /var/lib/colophon --host build1.example.com > build1.json",
		Args:              cobra.ExactArgs(1),
		ValidArgs:         []string{roleBuilder},
		ValidArgsFunction: cobra.FixedCompletions([]string{roleBuilder}, cobra.ShellCompDirectiveNoFileComp),
		RunE: func(cmd *cobra.Command, args []string) error {
			if args[0] != roleBuilder {
				return fmt.Errorf("role %q: only %q runs on other hosts", args[0], roleBuilder)
			}
			client, err := readClient(filepath.Join(data, "client.json"))
			if err != nil {
				return err
			}
			if client.URL == "" {
				return fmt.Errorf("%s is no platform's data directory, or was never started: it has no client.json", data)
			}
			credentials, err := enrol(filepath.Join(data, "enrolment"), []string{roleBuilder, roleRooms}, hosts)
			if err != nil {
				return err
			}
			out, err := json.MarshalIndent(enrolment{Role: args[0], Platform: client.URL, Credentials: *credentials}, "", "  ")
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s\n", out)
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&data, "data", "", "the platform's data directory (required)")
	f.StringSliceVar(&hosts, "host", nil, "name or address that the platform reaches the other host by (required; may be given again)")
	cmd.MarkFlagRequired("data")
	cmd.MarkFlagRequired("host")
	return cmd
}

func readEnrolment(path string) (*enrolment, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s holds a key and can be read by others (chmod 600)", path)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var e enrolment
	if err := strict.UnmarshalKnown(data, limits.Request, &e); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &e, nil
}

// newBuilderCommand is the role, started by serve, or a whole build host.
func newBuilderCommand() *cobra.Command {
	cmd := newRoleCommand(roleBuilder, "drives builds", runBuilder)
	asRole := cmd.RunE
	var o serveOptions
	var file string
	cmd.Use, cmd.Short = "builder --enrolment FILE --data DIR", "run builds for a platform on another host"
	cmd.Hidden = false
	cmd.Long = `Builder makes this host the place where a platform's builds run: rooms, their
gateways and what drives them, as users of their own. The platform's attestor
reaches it over mutual TLS. It needs root, and a file of "colophond enrol".
(Without --enrolment it is the role that serve starts.)`
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if file == "" {
			return asRole(cmd, args)
		}
		if o.data == "" {
			return errors.New("--data is required")
		}
		return runBuildHost(cmd.Context(), file, o)
	}
	f := cmd.Flags()
	f.StringVar(&file, "enrolment", "", "file of colophond enrol")
	f.StringVar(&o.data, "data", "", "directory that holds everything")
	f.StringVar(&o.listen, "listen", ":7443", "address to listen on")
	f.StringVar(&o.mirror, "mirror", "", "OCI layout that answers builds' pulls of the images it names; the platform needs the same")
	f.StringVar(&o.config, "config", "", "configuration file, JSON (docs/configuration.md)")
	return cmd
}

func runBuildHost(ctx context.Context, file string, o serveOptions) error {
	e, err := readEnrolment(file)
	if err != nil {
		return err
	}
	if e.Role != roleBuilder {
		return fmt.Errorf("%s: got the role %q, want %q", file, e.Role, roleBuilder)
	}
	p := &platform{options: o, url: e.Platform, log: slog.New(slog.NewTextHandler(os.Stderr, nil))}
	if p.config, err = readConfig(o.config); err != nil {
		return err
	}
	if p.zones = newZones(p.config.Roles.UIDBase); !p.zones.separate {
		return fmt.Errorf("a build host needs users of their own for its roles: %s", p.zones.why)
	}
	listener, release, err := p.open()
	if err != nil {
		return err
	}
	defer release()
	roles, _ := p.buildRoles(false)
	if err := p.listen(roles); err != nil {
		return err
	}
	// To the roles here, whoever comes through the door is the attestor.
	z := p.zone(roleAttestor, confine.Policy{})
	settings := doorSettings{Credentials: &e.Credentials, From: roleAttestor, To: map[string]string{}}
	for _, r := range roles {
		settings.To[r.name] = z.socket(r.name)
	}
	if roles, err = p.withFront(roles, role{name: roleDoor, zone: z, settings: settings}, listener); err != nil {
		return err
	}
	p.url = "for " + e.Platform + " at " + listener.Addr().String()
	return p.run(ctx, roles, p.rolesReady)
}

// doorSettings is what a build host tells its door.
type doorSettings struct {
	Credentials *peer.Credentials `json:"credentials"`
	From        string            `json:"from"`
	To          map[string]string `json:"to"`
}

// runDoor lets the attestor of another host in.
func runDoor(ctx context.Context, s start[doorSettings]) error {
	return peer.Door{Credentials: s.settings.Credentials, From: s.settings.From, To: s.settings.To, Log: s.log}.Serve(ctx, s.listener)
}
