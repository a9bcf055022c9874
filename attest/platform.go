package attest

import (
	"fmt"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// NormalPlatform returns the one spelling of a platform that every tool writes into
// images: OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT, in lower case, as
// containerd/platforms normalizes it. "linux/aarch64" and "linux/arm64/v8" are
// linux/arm64, "linux/x86_64" is linux/amd64, "linux/arm" is linux/arm/v7.
func NormalPlatform(name string) (string, error) {
	p, err := v1.ParsePlatform(strings.ToLower(name))
	if err != nil || p.OS == "" || p.Architecture == "" || p.OSVersion != "" {
		return "", fmt.Errorf("platform: got %q, want OS/ARCHITECTURE, such as linux/amd64", name)
	}
	if p.OS == "macos" {
		p.OS = "darwin"
	}
	p.Architecture, p.Variant = normalArchitecture(p.Architecture, p.Variant)
	return p.String(), nil
}

// normalArchitecture is normalizeArch of containerd/platforms. A test compares them.
func normalArchitecture(arch, variant string) (string, string) {
	switch arch {
	case "i386", "386":
		return "386", dropIf(arch == "i386", variant)
	case "x86_64", "x86-64", "amd64":
		return "amd64", dropIf(variant == "v1", variant)
	case "aarch64", "arm64":
		switch variant {
		case "8", "v8", "v8.0":
			return "arm64", ""
		case "9", "9.0", "v9.0":
			return "arm64", "v9"
		}
		return "arm64", variant
	case "armhf":
		return "arm", "v7"
	case "armel":
		return "arm", "v6"
	case "arm":
		switch variant {
		case "":
			return arch, "v7"
		case "5", "6", "7", "8":
			return arch, "v" + variant
		}
	}
	return arch, variant
}

func dropIf(drop bool, variant string) string {
	if drop {
		return ""
	}
	return variant
}
