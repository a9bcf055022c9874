package attest

import "testing"

// TestFileNameFrom: each name ends with the platform that the file was built for, whatever the
// build calls it.
func TestFileNameFrom(t *testing.T) {
	for _, tt := range []struct{ name, platform, want string }{
		{"app", "linux/amd64", "app-linux-amd64"},
		{"app.exe", "windows/arm64", "app-windows-arm64.exe"},
		{"app", "windows/arm64", "app-windows-arm64"},
		{"app", "linux/arm/v7", "app-linux-arm-v7"},
		{"app-linux-arm-v7.tar.gz", "linux/arm/v7", "app-linux-arm-v7.tar.gz"},
		{"app-linux-amd64", "linux/amd64", "app-linux-amd64"},
		{"app-linux-amd64.tar.gz", "linux/amd64", "app-linux-amd64.tar.gz"},
		{"app-linux-amd64", "darwin/arm64", "app-linux-amd64-darwin-arm64"},
		{"app-linux-amd64.exe", "windows/amd64", "app-linux-amd64-windows-amd64.exe"},
		{"app-linux-amd64.x-darwin-arm64", "linux/amd64", "app-linux-amd64.x-darwin-arm64-linux-amd64"},
		{"app-linux-amd64-darwin-arm64", "linux/amd64", "app-linux-amd64-darwin-arm64-linux-amd64"},
		{"app-linux-amd64v2", "linux/amd64", "app-linux-amd64v2-linux-amd64"},
		{"-linux-amd64", "linux/amd64", "-linux-amd64-linux-amd64"},
	} {
		if got := FileNameFrom(tt.name, tt.platform); got != tt.want {
			t.Errorf("%s for %s: got %q, want %q", tt.name, tt.platform, got, tt.want)
		}
	}
}
