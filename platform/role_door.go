package platform

import (
	"context"
	"fmt"
	"net"

	"github.com/colophon-build/colophon/internal/peer"
	"github.com/colophon-build/colophon/platform/zone"
)

// doorSettings are the settings that a host passes to its door; see peer.Door.
type doorSettings struct {
	Credentials *peer.Credentials `json:"credentials"`
	From        []string          `json:"from"`
	To          map[string]string `json:"to"`
}

// prepareDoor makes a door to all roles of this host that listen on a socket.
func prepareDoor(p *platform, process *zone.Process) (err error) {
	s := doorSettings{From: p.visitors, To: map[string]string{}}
	for _, role := range p.sockets {
		s.To[role] = socket(process.Zone.Path("run"), role)
	}
	l := p.port
	if p.enrolment != nil {
		s.Credentials = p.enrolment.Door
	} else {
		address := p.file.Roles.Hosts[roleDoor]
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return fmt.Errorf("roles.door: %w", err)
		}
		if s.Credentials, err = certify(p.dir("enrolment"), p.sockets, []string{host}); err != nil {
			return err
		}
		if l, err = listenOn(address); err != nil {
			return fmt.Errorf("roles.door: %w", err)
		}
		defer l.Close() // File returns a duplicate, which stays open
	}
	process.Settings = s
	process.Listener, err = l.(*net.TCPListener).File()
	return err
}

// runDoor accepts connections from roles of other hosts.
func runDoor(ctx context.Context, c zone.Child[doorSettings]) error {
	s := c.Settings
	return peer.Door{Credentials: s.Credentials, From: s.From, To: s.To, Log: c.Log}.Serve(ctx, c.Listener)
}
