package attack

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const gatewayFile = "platform/builder/gateway/policy.go"

var (
	// cutNetwork leaves a room in the host's network namespace. The room then needs the
	// host's /sys, because only the owner of the network namespace can mount sysfs.
	cutNetwork = []cut{{sandboxFile, `syscall.CLONE_NEWUTS | syscall.CLONE_NEWNET,`, `syscall.CLONE_NEWUTS,`}, cutOpener,
		{"platform/builder/sandbox/init.go", `unix.Mount("sysfs", root+"/sys", "sysfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC|unix.MS_RDONLY, "")`, `unix.Mount("/sys", root+"/sys", "", unix.MS_BIND|unix.MS_REC, "")`}}
	cutAddresses = cut{gatewayFile, `	a := target.Addr()
`, `	return nil
	a := target.Addr()
`}
	cutPorts = cut{gatewayFile, `if !slices.Contains(p.Ports, e.port) {`, `if false {`}
)

// get fetches a URL, directly or through the room's proxy, and returns the body.
func (i *intruder) get(proxied bool, rawURL string) (string, error) {
	t := &http.Transport{DisableKeepAlives: true, DialContext: (&net.Dialer{Timeout: 2 * time.Second}).DialContext}
	if proxied {
		t.Proxy = func(*http.Request) (*url.URL, error) { return proxyOf() }
	}
	c := http.Client{Transport: t, Timeout: 8 * time.Second}
	resp, err := c.Get(rawURL)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if resp.StatusCode >= 400 {
		return "", fmt.Errorf("%s: %s", resp.Status, body)
	}
	return string(body), nil
}

func proxyOf() (*url.URL, error) {
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY"} {
		if p := os.Getenv(name); p != "" {
			return url.Parse(p)
		}
	}
	return nil, errors.New("no proxy in the environment")
}

// connect makes the proxy open a tunnel, and requests / through it.
func (i *intruder) connect(target, attack string) (string, error) {
	u, err := proxyOf()
	if err != nil {
		return "", err
	}
	c, err := net.DialTimeout("tcp", u.Host, 2*time.Second)
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(8 * time.Second))
	fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: world.test\r\n\r\n", target)
	r := bufio.NewReader(c)
	status, err := r.ReadString('\n')
	if err != nil || !strings.Contains(status, " 200 ") {
		return "", errors.Join(fmt.Errorf("CONNECT: %s", strings.TrimSpace(status)), err)
	}
	for line := ""; line != "\r\n"; {
		if line, err = r.ReadString('\n'); err != nil {
			return "", err
		}
	}
	fmt.Fprintf(c, "GET /?attack=%s HTTP/1.0\r\n\r\n", attack)
	body, err := io.ReadAll(io.LimitReader(r, 4096))
	if len(body) > 0 && strings.Contains(string(body), " 200 ") {
		return string(body), nil
	}
	return "", errors.Join(fmt.Errorf("tunnel: %q", body), err)
}

// knock tries to reach a host in every way. The suite's canaries record who connects.
func (i *intruder) knock(hosts ...string) {
	attack := i.said.Attack
	for _, host := range hosts {
		u := "http://" + host + "/?attack=" + attack
		for _, proxied := range []bool{false, true} {
			body, err := i.get(proxied, u)
			if err == nil && body == "the world" {
				err = errors.New("the answer is the internet's")
			}
			i.try(fmt.Sprintf("%s (proxied: %v) answered %q", u, proxied, body), err)
		}
		target := host
		if _, _, err := net.SplitHostPort(host); err != nil {
			target = net.JoinHostPort(strings.Trim(host, "[]"), "443")
		}
		body, err := i.connect(target, attack)
		i.try(fmt.Sprintf("a tunnel to %s answered %q", target, body), err)
	}
}

// This attack also proves that the intruder can reach the internet, without which the
// other results would mean nothing.
var _ = register(attack{
	name: "unrecorded-exit", tries: "bypass the gateway to reach the internet unrecorded",
	guard: "the room's network namespace has only a loopback device and one listener: platform/builder/sandbox Cloneflags, listenIn",
	cuts:  cutNetwork,
	from:  []string{"step", "room"},
	probe: func(i *intruder) {
		if _, err := i.get(true, "http://world.test/"); err != nil {
			i.got("the suite is broken: the gateway does not lead out: %v", err)
		}
		for _, to := range []string{worldAddress + ":80", worldAddress + ":53", worldAddress + ":22"} {
			for _, network := range []string{"tcp", "udp"} {
				c, err := net.DialTimeout(network, to, 2*time.Second)
				if err == nil {
					c.SetDeadline(time.Now().Add(2 * time.Second))
					fmt.Fprint(c, "GET / HTTP/1.0\r\n\r\n")
					if _, err = io.ReadFull(c, make([]byte, 8)); err == nil {
						i.got("%s %s answers", network, to)
					}
					c.Close()
				}
				i.not("%s %s: %v", network, to, err)
			}
		}
		r := &net.Resolver{PreferGo: true}
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		_, err := r.LookupHost(ctx, "world.test")
		i.try("a name was resolved: a way out by questions", err)
	},
})

var _ = register(attack{
	name: "loopback", tries: "reach services on the host's loopback by every spelling of its address",
	guard: "each room has a network namespace; the gateway refuses addresses that are not public: platform/builder/gateway check",
	cuts:  []cut{cutAddresses, cutPorts},
	from:  []string{"step", "room"},
	probe: func(i *intruder) {
		i.knock("127.0.0.1", "127.1", "127.0.0.2", "2130706433", "0x7f000001", "0177.0.0.1", "0.0.0.0", "0", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]",
			"[::127.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "localhost", "localhost.", "LOCALHOST", "loopback.test", "127.0.0.1.", "user@127.0.0.1", "①②⑦.⓪.⓪.①")
	},
})

var _ = register(attack{
	name: "platform", tries: "talk to the platform's own log, registry and API",
	guard: "each room has a network namespace; the gateway refuses the platform's addresses and ports: platform/builder/gateway dial",
	cuts:  []cut{cutAddresses, cutPorts},
	from:  []string{"step", "room"},
	probe: func(i *intruder) {
		_, port, _ := net.SplitHostPort(i.Platform)
		for _, host := range []string{"127.0.0.1", "[::1]", "localhost", "loopback.test", lanAddress, "198.18.0.1"} {
			for _, path := range []string{"/healthz", "/v2/", "/api/v2/checkpoint"} {
				for _, proxied := range []bool{false, true} {
					u := "http://" + host + ":" + port + path
					body, err := i.get(proxied, u)
					i.try(fmt.Sprintf("%s answered %q", u, body), err)
				}
			}
		}
		body, err := i.connect(i.Platform, "platform")
		i.try("a tunnel to the platform answered "+body, err)
	},
})

var _ = register(attack{
	name: "allowed-loopback", tries: "reach services on the host's addresses, on a platform that allows every address",
	guard: "the gateway refuses the host's own addresses before it looks at the settings: platform/builder/gateway check",
	cuts:  []cut{{gatewayFile, `	} else if own {`, `	} else if own && len(p.Allow) == 0 {`}},
	unit:  "platform/builder/gateway: TestHostIsNeverAllowed",
})

var _ = register(attack{
	name: "more-than-pulls", tries: "use the way to the platform's own base images to reach its API, uploads, lists, or another host",
	guard: "the gateway makes a request of its own, for one manifest or blob of the platform's registry: platform/builder/gateway ownRegistry",
	cuts: []cut{{"platform/builder/gateway/own.go", `	if p == nil || strings.Contains(p[1], "..") || p[2] == "blobs" && !digest.MatchString(p[3]) || len(r.URL.Query()) > 1 {
		return none, nil
	}
	out, err := http.NewRequestWithContext(ctx, r.Method, s.origin.JoinPath("v2", p[1], p[2], p[3]).String(), nil)`, `	out, err := http.NewRequestWithContext(ctx, r.Method, s.origin.Scheme+"://"+s.origin.Host+r.URL.Path+strings.Join(p, "")[:0], nil)`}},
	unit: "platform/builder/gateway: TestOnlyPullsFromThePlatform",
})

var _ = register(attack{
	name: "base-on-loopback", tries: "make the attestor contact a service on its loopback as the registry of a base image, by a lock that claims it",
	guard: "of loopback, the attestor asks the platform's own registry alone: platform/release openBase",
	cuts:  []cut{{"platform/release/dependencies.go", `	if host != j.RegistryHost && loopback.Possible(host) {`, `	if host != j.RegistryHost && loopback.Possible(host) && host == "" {`}},
	unit:  "platform/release: TestBaseOnLoopback",
})

var _ = register(attack{
	name: "special-ranges", tries: "reach addresses that are in no private range and still not public: a cloud's host service, benchmarks, embedded IPv4",
	guard: "the gateway allows what is public: 2000::/3 and IPv4 without IANA's special ranges: internal/reach NotPublic",
	cuts:  []cut{{"internal/reach/public.go", `		if r.prefix.Contains(a) {`, `		if a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() {`}},
	unit:  "platform/builder/gateway: TestNotPublic",
})

var _ = register(attack{
	name: "neighbours", tries: "reach private networks and the host's own addresses",
	guard: "the gateway refuses private addresses and the host's networks: platform/builder/gateway check",
	cuts:  []cut{cutAddresses},
	from:  []string{"step", "room"},
	probe: func(i *intruder) {
		i.knock(lanAddress, "lan.test", "198.18.0.1", "168.63.129.16", "[::ffff:10.99.0.1]", "0xa630001", "174260225")
	},
})

var _ = register(attack{
	name: "metadata", tries: "ask a cloud's metadata service for credentials",
	guard: "the gateway refuses link-local and unique local addresses: platform/builder/gateway check",
	cuts:  []cut{cutAddresses},
	from:  []string{"step", "room"},
	probe: func(i *intruder) {
		i.knock("169.254.169.254", "metadata.google.internal", "[fd00:ec2::254]", "[::ffff:169.254.169.254]", "2852039166", "169.254.169.254.nip.io")
	},
})

var _ = register(attack{
	name: "rebinding", tries: "reach loopback by a name that resolves to a public address only when it is checked",
	guard: "the gateway connects to the address that it checked: platform/builder/gateway dial",
	cuts:  []cut{{gatewayFile, `d.connect(ctx, "tcp", to.String())`, `d.connect(ctx, "tcp", target)`}},
	from:  []string{"step", "room"},
	probe: func(i *intruder) {
		for range 6 {
			i.knock("rebind.test", "both.test")
		}
	},
})

var _ = register(attack{
	name: "redirect", tries: "follow a redirect of a public server to loopback",
	guard: "the gateway checks each redirected request again: platform/builder/gateway dial",
	cuts:  []cut{cutAddresses},
	from:  []string{"step", "room"},
	probe: func(i *intruder) {
		for _, to := range []string{"http://127.0.0.1/?attack=redirect", "http://loopback.test/?attack=redirect", "http://169.254.169.254/?attack=redirect", "//localhost/?attack=redirect"} {
			body, err := i.get(true, "http://world.test/redirect?to="+url.QueryEscape(to))
			i.try("a redirect to "+to+" answered "+body, err)
		}
	},
})

var _ = register(attack{
	name: "host-header", tries: "make the gateway connect to another host than it checked",
	guard: "the gateway uses the request target, ignores the Host header, and checks the address again when it connects: platform/builder/gateway serve, dial",
	cuts: []cut{{"platform/builder/gateway/gateway.go", `u.Scheme, u.Host = "http", MirrorHost`, `u.Scheme, u.Host = "http", r.Host`},
		{gatewayFile, `if err := d.policy.admit(e); err != nil {`, `if err != nil {`},
		{gatewayFile, `if err := d.policy.check(to); err != nil {`, `if false {`}},
	from: []string{"step", "room"},
	probe: func(i *intruder) {
		u, err := proxyOf()
		if err != nil {
			i.not("proxy: %v", err)
			return
		}
		for _, head := range []string{
			"GET http://world.test/?attack=host-header HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
			"GET /?attack=host-header HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
			"GET http://127.0.0.1/?attack=host-header HTTP/1.1\r\nHost: world.test\r\nConnection: close\r\n\r\n",
			"GET http://world.test@127.0.0.1/?attack=host-header HTTP/1.1\r\nHost: world.test\r\nConnection: close\r\n\r\n",
			"GET http://world.test:80:127.0.0.1/?attack=host-header HTTP/1.1\r\nHost: world.test\r\nConnection: close\r\n\r\n",
			"POST http://world.test/ HTTP/1.1\r\nHost: world.test\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET http://127.0.0.1/?attack=host-header HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
		} {
			c, err := net.DialTimeout("tcp", u.Host, 2*time.Second)
			if err != nil {
				i.not("proxy: %v", err)
				continue
			}
			c.SetDeadline(time.Now().Add(3 * time.Second))
			fmt.Fprint(c, head)
			answer, _ := io.ReadAll(io.LimitReader(c, 4096))
			c.Close()
			if strings.Contains(string(answer), "canary") {
				i.got("%q", answer)
			}
			status, _, _ := strings.Cut(string(answer), "\r\n")
			i.not("answer: %s", status)
		}
	},
})

var _ = register(attack{
	name: "sockets", tries: "connect to the Unix sockets of attestor, builder and trust services, and to an abstract one",
	guard: "each room has a network namespace and a root directory: platform/builder/sandbox Cloneflags, makeRoot",
	cuts:  cutNetwork,
	from:  []string{"step", "room"},
	probe: func(i *intruder) {
		paths := []string{"@" + abstractCanary}
		for _, s := range i.Sockets {
			paths = append(paths, everywhere(s)...)
		}
		filepath.WalkDir("/", func(path string, d os.DirEntry, err error) error {
			if err != nil || path == "/proc" || path == "/sys" {
				return filepath.SkipDir
			}
			if d.Type()&os.ModeSocket != 0 {
				paths = append(paths, path)
			}
			return nil
		})
		for _, path := range paths {
			c, err := net.DialTimeout("unix", path, time.Second)
			if err == nil {
				fmt.Fprintf(c, "GET /?attack=sockets HTTP/1.0\r\n\r\n")
				c.Close()
			}
			i.try("connected to "+path, err)
		}
	},
})

var _ = register(attack{
	name: "other-networks", tries: "get out through other kinds of socket (raw, packet, vsock, netlink, Bluetooth) or new network devices",
	guard: "each room has a network namespace: platform/builder/sandbox Cloneflags; unusual kinds of socket are refused: internal/confine Room",
	cuts:  slices.Concat(cutNetwork, cutUserNamespace, cutFilter[:1]),
	from:  []string{"step", "room"},
	probe: func(i *intruder) {
		if fd, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM, 0); err != nil {
			i.not("vsock: %v", err)
		} else {
			i.not("vsock: %v", unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &unix.Timeval{Sec: 1}))
			for _, cid := range []uint32{unix.VMADDR_CID_HOST, unix.VMADDR_CID_HYPERVISOR, unix.VMADDR_CID_LOCAL} {
				i.try(fmt.Sprintf("connected to vsock %d", cid), unix.Connect(fd, &unix.SockaddrVM{CID: cid, Port: 22}))
			}
			unix.Close(fd)
		}
		// A raw socket alone is harmless: loopback is the only device.
		for what, family := range map[string]int{"packet": unix.AF_PACKET, "raw": unix.AF_INET} {
			fd, err := unix.Socket(family, unix.SOCK_RAW, unix.IPPROTO_ICMP)
			if err != nil {
				i.not("%s: %v", what, err)
				continue
			}
			err = unix.Sendto(fd, []byte{8, 0, 0xf7, 0xff, 0, 0, 0, 0}, 0, &unix.SockaddrInet4{Addr: [4]byte{203, 0, 114, 10}})
			i.try("sent a "+what+" datagram to the internet", err)
			unix.Close(fd)
		}
		ifs, err := net.Interfaces()
		for _, n := range ifs {
			if n.Flags&net.FlagLoopback == 0 && n.Flags&net.FlagUp != 0 {
				if i.where == "room" {
					i.got("there is a network device %s", n.Name)
				}
			}
		}
		i.not("devices: %v, %v", ifs, err)
	},
})
