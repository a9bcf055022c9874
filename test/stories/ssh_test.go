package stories

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/colophon-build/colophon/test/await"
	"github.com/colophon-build/colophon/test/freeport"
)

const sshd = "/usr/sbin/sshd" // it demands an absolute path

// openSSH runs the stock ssh server on loopback, at $SSH. Who has the private key of a file with public
// keys logs in as root. known_hosts gets the lines by which the server is known.
func (s *sabotage) openSSH(ts *testscript.TestScript, args []string) error {
	address := freeport.Address(s.T)
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	key, config := ts.MkAbs("sshd_host_key"), ts.MkAbs("sshd_config")
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", key).CombinedOutput(); err != nil {
		return fmt.Errorf("ssh-keygen: %w: %s", err, out)
	}
	public, err := os.ReadFile(key + ".pub")
	if err != nil {
		return err
	}
	text := fmt.Sprintf("ListenAddress %s\nHostKey %s\nAuthorizedKeysFile %s\nPidFile none\nStrictModes no\nUsePAM no\nPermitRootLogin prohibit-password\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n",
		address, key, ts.MkAbs(args[0]))
	for name, content := range map[string]string{config: text, ts.MkAbs("known_hosts"): fmt.Sprintf("[%s]:%s %s", host, port, public)} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			return err
		}
	}
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil { // sshd starts without it nowhere
		return err
	}
	log, err := os.Create(ts.MkAbs("sshd_log"))
	if err != nil {
		return err
	}
	defer log.Close()
	server := exec.Command(sshd, "-D", "-e", "-f", config)
	server.Stderr = log
	if err := server.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Wait() }()
	ts.Defer(func() {
		server.Process.Kill()
		<-ended
	})
	var gone error
	await.True(s.T, "the ssh server answers", func() bool {
		select {
		case gone = <-ended:
			ended <- gone
			gone = fmt.Errorf("sshd: %v: %s", gone, ts.ReadFile("sshd_log"))
			return true
		default:
		}
		c, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	ts.Setenv("SSH", address)
	return gone
}
