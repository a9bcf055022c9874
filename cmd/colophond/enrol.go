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

	"github.com/colophon-build/colophon/internal/keys"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/peer"
	"github.com/colophon-build/colophon/internal/strict"
)

// enrolled is how long a role on another host is believed.
const enrolled = 365 * 24 * time.Hour

// enrol makes credentials by the authority in dir, which is made at first use:
// with hosts (names or addresses) those of a door that leads to the roles, else
// those of a role that asks others.
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
	Role     string            `json:"role"`
	Platform string            `json:"platform"`        // its origin
	Door     *peer.Credentials `json:"door,omitempty"`  // of a role that others ask
	Asker    *peer.Credentials `json:"asker,omitempty"` // of a role that asks others
	Known    tokens            `json:"known,omitempty"` // hashes of the tokens, for the roles that check them
	Push     string            `json:"push,omitempty"`  // the attestor's token
}

func newEnrolCommand() *cobra.Command {
	var data, url string
	var hosts []string
	cmd := &cobra.Command{
		Use:   "enrol ROLE --data DIR [--host NAME]",
		Short: "make the file with which a role runs on another host",
		Long: `Enrol prints a file that lets a role of this platform run on another host:
trust, registry, attestor, builder or api. It holds private keys: hand it over in
private, and keep it 0600 there. It is good for a year; enrol again before. Hosts
talk to each other over mutual TLS, and believe what a role's certificate is for.

On the other host, as root:  colophond ROLE --enrolment FILE --data DIR --config FILE
In the --config of all:      {"roles": {"ROLE": "NAME:7443"}}`,
		Example:   "  colophond enrol builder --data /var/lib/colophon --host build1.example.com > build1.json",
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		ValidArgs: remote,
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := newEnrolment(args[0], data, url, hosts)
			if err != nil {
				return err
			}
			out, err := json.MarshalIndent(e, "", "  ")
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s\n", out)
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&data, "data", "", "the platform's data directory (required)")
	f.StringVar(&url, "url", "", "the platform's public origin; needed where it was never started")
	f.StringSliceVar(&hosts, "host", nil, "name or address by which the other host is reached (required but for api; may be given again)")
	cmd.MarkFlagRequired("data")
	return cmd
}

func newEnrolment(role, data, url string, hosts []string) (*enrolment, error) {
	client, err := readClient(filepath.Join(data, "client.json"))
	if err != nil {
		return nil, err
	}
	e := &enrolment{Role: role, Platform: client.URL}
	switch {
	case e.Platform == "" && url == "":
		return nil, fmt.Errorf("%s is no platform's data directory, or was never started: it has no client.json; --url says which platform it will be", data)
	case e.Platform == "":
		if e.Platform, err = parseOrigin(url); err != nil {
			return nil, err
		}
	case url != "" && url != e.Platform:
		return nil, fmt.Errorf("--url: got %s, but %s is %s", url, data, e.Platform)
	}
	if err := os.MkdirAll(data, 0o700); err != nil {
		return nil, err
	}
	known, push, err := openTokens(data)
	if err != nil {
		return nil, err
	}
	switch role {
	case roleRegistry, roleAPI:
		e.Known = known
	case roleAttestor:
		e.Push = push
	}
	dir := filepath.Join(data, "enrolment")
	if asks[role] != nil {
		if e.Asker, err = enrol(dir, []string{role}, nil); err != nil {
			return nil, err
		}
	}
	if role == roleAPI {
		return e, nil
	}
	if len(hosts) == 0 {
		return nil, errors.New("--host is required: the name by which the other host is reached")
	}
	behind := []string{role}
	if role == roleBuilder {
		behind = append(behind, roleRooms)
	}
	e.Door, err = enrol(dir, behind, hosts)
	return e, err
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

// newHostCommand is a role, started by serve, or a host of its own for it.
func newHostCommand[S any](name, does string, run func(context.Context, start[S]) error) *cobra.Command {
	cmd := newRoleCommand(name, does, run)
	asRole := cmd.RunE
	var o serveOptions
	var file string
	cmd.Use, cmd.Short = name+" --enrolment FILE --data DIR", "role: "+does
	cmd.Hidden = false
	cmd.Long = "Role: " + does + `.

With --enrolment this host runs the role for a platform whose serve is on another
one. Roles of the platform alone are let in, over mutual TLS. It needs root, and a
file of "colophond enrol". (Without --enrolment it is the process that serve starts.)`
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if file == "" {
			return asRole(cmd, args)
		}
		if o.data == "" {
			return errors.New("--data is required")
		}
		return runHost(cmd.Context(), name, file, o)
	}
	f := cmd.Flags()
	f.StringVar(&file, "enrolment", "", "file of colophond enrol")
	f.StringVar(&o.data, "data", "", "directory that holds everything of this role")
	f.StringVar(&o.config, "config", "", "configuration file, JSON (docs/configuration.md); the same on all hosts")
	switch name {
	case roleBuilder, roleAttestor:
		f.StringVar(&o.mirror, "mirror", "", "OCI layout that answers pulls of the images it names; attestor and builder need the same")
	case roleAPI:
		f.StringVar(&o.tlsCert, "tls-cert", "", "PEM certificate chain; needed on any address but loopback")
		f.StringVar(&o.tlsKey, "tls-key", "", "PEM key of --tls-cert")
		cmd.MarkFlagsRequiredTogether("tls-cert", "tls-key")
	}
	listen := ":7443"
	if name == roleAPI {
		listen = "127.0.0.1:8080"
	}
	f.StringVar(&o.listen, "listen", listen, "address to listen on")
	return cmd
}

func runHost(ctx context.Context, role, file string, o serveOptions) error {
	e, err := readEnrolment(file)
	if err != nil {
		return err
	}
	if e.Role != role {
		return fmt.Errorf("%s: got the role %q, want %q", file, e.Role, role)
	}
	p := &platform{options: o, host: role, enrolment: e, url: e.Platform, log: slog.New(slog.NewTextHandler(os.Stderr, nil))}
	if role == roleAPI {
		if _, err := origin(o.listen, e.Platform, o.tlsCert != ""); err != nil {
			return err
		}
	}
	if p.config, err = readConfig(o.config); err != nil {
		return err
	}
	if p.zones = newZones(p.config.Roles.UIDBase); !p.zones.separate {
		return fmt.Errorf("a host of a role needs users of their own for its processes: %s", p.zones.why)
	}
	if err := p.settle(); err != nil {
		return err
	}
	listener, release, err := p.open()
	if err != nil {
		return err
	}
	defer release()
	roles, err := p.roles(e.Known, e.Push, listener)
	if err != nil {
		return err
	}
	where := fmt.Sprintf("%s for %s at %s", role, e.Platform, listener.Addr())
	return p.run(ctx, roles, where, func(ctx context.Context) error {
		if err := p.rolesReady(ctx); err != nil {
			return err
		}
		return p.frontReady(ctx, listener)
	})
}

// doorSettings is what a host tells its door.
type doorSettings struct {
	Credentials *peer.Credentials `json:"credentials"`
	From        []string          `json:"from"`
	To          map[string]string `json:"to"`
}

// runDoor lets roles of other hosts in.
func runDoor(ctx context.Context, s start[doorSettings]) error {
	return peer.Door{Credentials: s.settings.Credentials, From: s.settings.From, To: s.settings.To, Log: s.log}.Serve(ctx, s.listener)
}
