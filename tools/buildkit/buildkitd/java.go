package main

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/buildkit/executor"
	"github.com/moby/buildkit/util/network"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"software.sslmate.com/src/go-pkcs12"
)

// javaStore is the path of Java's trust store in a step. /dev is a file system of the step's
// own, so nothing is left in the image.
const javaStore = "/dev/colophon-java.p12"

// forJava opens the network for Java too, which reads neither the variables of proxies nor the
// bundle of certificate authorities: it takes both from JAVA_TOOL_OPTIONS.
type forJava struct {
	network.ProxyProvider
	dir string // of the trust store
}

func (j forJava) NewProxy(ctx context.Context, cfg *network.ProxyConfig) (network.ProxyNamespace, error) {
	ns, err := j.ProxyProvider.NewProxy(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return &javaNamespace{ns, filepath.Join(j.dir, "java.p12")}, nil
}

type javaNamespace struct {
	network.ProxyNamespace
	store string // file on the host
}

// Set changes the specification of a step's container.
func (n *javaNamespace) Set(s *specs.Spec) error {
	if err := n.ProxyNamespace.Set(s); err != nil {
		return err
	}
	if err := n.write(); err != nil {
		return fmt.Errorf("trust store for Java: %w", err)
	}
	options, err := n.options()
	if err != nil {
		return err
	}
	s.Process.Env = withJavaOptions(s.Process.Env, options)
	s.Mounts = append(s.Mounts, specs.Mount{Destination: javaStore, Type: "bind", Source: n.store, Options: []string{"bind", "ro", "nosuid", "nodev", "noexec"}})
	return nil
}

// write writes the proxy's certificate authority, which is all that a step needs: its https ends
// at the proxy.
func (n *javaNamespace) write() error {
	block, _ := pem.Decode(n.ProxyCACert())
	if block == nil {
		return errors.New("the proxy has no certificate authority")
	}
	ca, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return err
	}
	store, err := pkcs12.Passwordless.EncodeTrustStore([]*x509.Certificate{ca}, "")
	if err != nil {
		return err
	}
	// All steps of this daemon have the same authority. A step that runs keeps the file that it has.
	f, err := os.CreateTemp(filepath.Dir(n.store), "java-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(store)
	if err = errors.Join(err, f.Chmod(0o444), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), n.store)
}

// options returns the properties that Java's own clients and Maven's read.
func (n *javaNamespace) options() (string, error) {
	options := "-Djavax.net.ssl.trustStore=" + javaStore + " -Djavax.net.ssl.trustStoreType=PKCS12"
	for _, e := range n.ProxyEnv() {
		value, ok := strings.CutPrefix(e, "https_proxy=")
		if !ok {
			continue
		}
		u, err := url.Parse(value)
		if err != nil {
			return "", err
		}
		for _, scheme := range []string{"http", "https"} {
			options += fmt.Sprintf(" -D%[1]s.proxyHost=%[2]s -D%[1]s.proxyPort=%[3]s", scheme, u.Hostname(), u.Port())
		}
		return options, nil
	}
	return "", errors.New("the proxy names no address")
}

// withJavaOptions puts the options before those of the Dockerfile, of which Java takes the last.
// An empty variable of the Dockerfile stays empty.
func withJavaOptions(env []string, options string) []string {
	const name = "JAVA_TOOL_OPTIONS="
	for _, e := range env {
		if own, ok := strings.CutPrefix(e, name); ok {
			if own == "" {
				return env
			}
			return executor.ReplaceEnv(env, []string{name + options + " " + own})
		}
	}
	return append(env, name+options)
}
