package platform

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"reflect"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/colophon-build/colophon/platform/zone"
)

// reloads reads the configuration again at each SIGHUP, until ctx is done.
func (p *platform) reloads(ctx context.Context, hup <-chan os.Signal, list []zone.Process, anew []chan zone.Next) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-hup:
		}
		p.notify(fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d", monotonic()))
		names, err := p.reload(ctx, list, anew)
		if err != nil {
			p.log.Error("the configuration was not read again; the old one stays in use", "error", err)
		} else {
			p.log.Info("the configuration was read again", "restarted", names)
		}
		p.notify(stateReady)
	}
}

// reload reads the configuration file again. The roles whose settings it changes start anew
// with the new ones, which requests to them wait for. If anything is wrong, nothing changes.
// It returns the names of these roles.
func (p *platform) reload(ctx context.Context, list []zone.Process, anew []chan zone.Next) (names []string, err error) {
	fresh := *p
	if fresh.file, err = readConfig(p.config.File); err != nil {
		return nil, err
	}
	if fresh.outside, err = readOutside(fresh.file); err != nil {
		return nil, err
	}
	if err := errors.Join(fresh.checkIssuers(), fresh.checkOutside()); err != nil {
		return nil, err
	}
	documents, err := fresh.checkGate()
	if err != nil {
		return nil, err
	}
	if err := p.checkChange(&fresh); err != nil {
		return nil, fmt.Errorf("%s: %w", p.config.File, err)
	}
	changed := make([]*zone.Process, len(list))
	for i, old := range list {
		r, err := findRole(old.Name)
		if err != nil {
			return nil, err
		}
		if r.name == roleDoor { // of roles.door alone
			continue
		}
		process := zone.Process{Name: old.Name, Zone: fresh.zone(r), Users: old.Users, Log: old.Log, Logs: old.Logs}
		if err := r.prepare(&fresh, &process); err != nil {
			return nil, err
		}
		if process.Listener != nil { // another descriptor of the same port
			process.Listener.Close()
		}
		process.Listener = old.Listener
		same, err := sameProcess(process, old)
		if err != nil {
			return nil, err
		}
		if !same {
			changed[i] = &process
		}
	}
	if err := p.changes.configure(ctx, &fresh, p.file.raw); err != nil {
		return nil, err
	}
	p.file, p.outside = fresh.file, fresh.outside
	if err := p.gate.use(p.gateHere(), documents); err != nil {
		return nil, err
	}
	// In the order of roles: one that starts asks those before it.
	for i, process := range changed {
		if process == nil {
			continue
		}
		list[i] = *process
		names = append(names, process.Name)
		ended := make(chan struct{})
		select {
		case anew[i] <- zone.Next{Process: *process, Ended: ended}:
			<-ended
		case <-ctx.Done():
			return names, ctx.Err()
		}
	}
	readers := []string{roleTrust, roleAttestor, roleAPI} // of what decides what the trust document says
	if p.host == roleServe && slices.ContainsFunc(readers, func(name string) bool { return slices.Contains(names, name) }) {
		ctx, cancel := context.WithTimeout(ctx, startTimeout)
		defer cancel()
		if err := p.tellTrust(ctx); err != nil {
			p.log.Error("client.json may not have the fingerprint of the platform; restart it", "error", err)
		}
	}
	return names, nil
}

// checkChange returns an error if the configuration of fresh cannot count without a restart. It creates the directory
// that the role builder gets.
func (p *platform) checkChange(fresh *platform) error {
	was, now := p.file, fresh.file
	if !reflect.DeepEqual(now.Roles, was.Roles) || now.Build.UIDBase != was.Build.UIDBase || now.Mirror != was.Mirror || !reflect.DeepEqual(now.TLS, was.TLS) {
		return errors.New("roles, tls, mirror and build.uidBase cannot change while the platform runs; restart it")
	}
	if (fresh.outside == nil) != (p.outside == nil) { // other roles run then
		return errors.New("trustedRoot and signingConfig cannot be set or removed while the platform runs; restart it")
	}
	return errors.Join(fresh.users.checkRooms(now.Build), fresh.giveStd())
}

// sameProcess reports whether two processes have the same zone and settings.
func sameProcess(a, b zone.Process) (bool, error) {
	x, errA := json.Marshal([]any{a.Zone, a.Settings})
	y, errB := json.Marshal([]any{b.Zone, b.Settings})
	if errA != nil || errB != nil {
		return false, fmt.Errorf("settings of %s: %v, %v", a.Name, errA, errB)
	}
	return bytes.Equal(x, y), nil
}

// States of the service, as sd_notify(3) names them.
const (
	stateReady    = "READY=1"
	stateStopping = "STOPPING=1"
)

// notify tells the service manager about the service (sd_notify(3)): a datagram to the
// socket that NOTIFY_SOCKET names, if it is set.
func (p *platform) notify(state string) {
	address := os.Getenv("NOTIFY_SOCKET")
	if address == "" {
		return
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: address, Net: "unixgram"}) // "@" begins an abstract name, in Go as there
	if err == nil {
		conn.SetWriteDeadline(time.Now().Add(time.Second))
		_, err = conn.Write([]byte(state + "\nMAINPID=" + strconv.Itoa(os.Getpid())))
		conn.Close()
	}
	if err != nil {
		p.log.Warn("cannot notify the service manager", "error", err)
	}
}

// monotonic returns the time of CLOCK_MONOTONIC in microseconds.
func monotonic() int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		return 0
	}
	return t.Nano() / 1000
}
