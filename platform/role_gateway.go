package platform

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/colophon-build/colophon/internal/logs"
	"github.com/colophon-build/colophon/internal/peer"
	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/platform/builder/buildkit"
	"github.com/colophon-build/colophon/platform/builder/gateway"
	"github.com/colophon-build/colophon/platform/zone"
)

// gatewayMemory is the soft memory limit of a gateway, in bytes: a gateway only
// copies bytes.
const gatewayMemory = 48 << 20

// gatewayZone returns the zone of the gateways of this host's rooms.
func (p *platform) gatewayZone() (zone.Zone, error) {
	r, err := findRole(roleGateway)
	if err != nil {
		return zone.Zone{}, err
	}
	z := p.zone(r)
	z.Mounts = append(z.Mounts, p.mirror()...)
	return z, nil
}

// runGateway is the only way from one room to the network. The role rooms starts it
// and reads the record of its exchanges from its standard output.
func runGateway(ctx context.Context, c zone.Child[gateway.Settings]) error {
	debug.SetMemoryLimit(gatewayMemory)
	return gateway.Run(ctx, c.Listener, c.Settings, os.Stdout)
}

// gatewayProcess returns a function that starts a gateway as a process in z. The hasher
// tells it what the session needs to know of stored modules, and learns from its record.
func gatewayProcess(z zone.Zone, users peer.Users, how logs.Settings, h *hasher) func(net.Listener, gateway.Settings) (buildkit.Gateway, error) {
	return func(l net.Listener, s gateway.Settings) (buildkit.Gateway, error) {
		s.Mirror, s.Store = z.Path("mirror"), z.Path("gateway")
		demands := s.Session.Demands
		s.Sums = h.find(demands)
		if file := z.CAFile(); file != "" {
			s.Roots = file
		}
		file, err := l.(*net.TCPListener).File()
		if err != nil {
			return nil, err
		}
		defer file.Close()
		g := &gatewayChild{ca: make(chan []byte, 1), recorded: make(chan struct{}), learn: func(record []builder.Exchange) { h.learn(demands, record) }}
		if err := g.start(zone.Process{Name: roleGateway, Zone: z, Users: users, Settings: s, Listener: file, Logs: how}); err != nil {
			return nil, err
		}
		select {
		case g.cert = <-g.ca:
			return g, nil
		case <-g.recorded:
			return nil, fmt.Errorf("the gateway ended at start: %w", g.err)
		case <-time.After(10 * time.Second):
			g.End()
			return nil, errors.New("the gateway did not start within 10 s")
		}
	}
}

// gatewayChild is a running gateway.
type gatewayChild struct {
	pid  int
	ca   chan []byte
	cert []byte
	// learn is called with the record of a gateway that has ended.
	learn func([]builder.Exchange)

	recorded  chan struct{} // closed after the process has ended and its record is read
	exchanges []builder.Exchange
	err       error
}

func (g *gatewayChild) start(p zone.Process) error {
	out, in, err := os.Pipe()
	if err != nil {
		return err
	}
	started := make(chan error)
	go func() {
		defer close(g.recorded)
		defer out.Close()
		// The child dies with the thread that started it; see zone.Process.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		cmd, err := p.Command(context.Background())
		if err == nil {
			cmd.Stdout = in
			err = cmd.Start()
		}
		in.Close()
		if err != nil {
			g.err = err
			started <- err
			return
		}
		g.pid = cmd.Process.Pid
		started <- nil
		g.exchanges, g.err = gateway.ReadRecord(out, func(ca []byte) { g.ca <- ca })
		if g.err != nil { // the rest of its output is useless
			cmd.Process.Kill()
			io.Copy(io.Discard, out)
		}
		if err := cmd.Wait(); err != nil {
			g.err = errors.Join(g.err, fmt.Errorf("gateway: %w", err))
		}
	}()
	return <-started
}

// CA implements buildkit.Gateway.
func (g *gatewayChild) CA() []byte { return g.cert }

// End implements buildkit.Gateway.
func (g *gatewayChild) End() ([]builder.Exchange, error) {
	// Wait has not returned before recorded is closed, so no other process can have the pid.
	select {
	case <-g.recorded:
	default:
		syscall.Kill(g.pid, syscall.SIGTERM)
		select {
		case <-g.recorded:
		case <-time.After(30 * time.Second):
			syscall.Kill(g.pid, syscall.SIGKILL)
			<-g.recorded
		}
	}
	if g.err == nil {
		g.learn(g.exchanges)
	}
	return g.exchanges, g.err
}
