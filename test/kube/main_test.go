// Package kube tests admission in a real Kubernetes cluster.
package kube

import (
	"os"
	"testing"

	"github.com/colophon-build/colophon/test/kubetest"
)

func TestMain(m *testing.M) { os.Exit(kubetest.Main(m)) }
