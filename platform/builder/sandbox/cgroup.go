package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/cgroups/v3"
	"github.com/containerd/cgroups/v3/cgroup1"
	"github.com/containerd/cgroups/v3/cgroup2"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/colophon-build/colophon/platform/builder"
)

const (
	cgroupRoot   = "/sys/fs/cgroup"
	cgroupParent = "/colophon"
	cpuPeriod    = 100000 // microseconds
)

// controllers are the cgroup controllers that rooms need, by their directory of
// cgroup v1. (Version 1 limits input and output elsewhere: see throttleDevice.)
var controllers = []string{"memory", "cpu", "pids"}

// cgroup limits one room, by cgroup version 1 or 2, whichever the machine has.
type cgroup struct {
	name   string
	device string // the device of the IO limit, see newCgroup
	none   bool   // there is no cgroup: see nested.go
	limits builder.Limits
	v1     cgroup1.Cgroup
	v2     *cgroup2.Manager
}

func unified() bool { return cgroups.Mode() == cgroups.Unified }

// newCgroup creates a room's cgroup. Its IO limit applies to device, a number such
// as "7:3"; if device is empty there is no IO limit.
func newCgroup(name, device string, l builder.Limits) (*cgroup, error) {
	if nested() {
		return &cgroup{none: true, limits: builder.Limits{PIDs: l.PIDs}}, nil
	}
	res := &specs.LinuxResources{Memory: &specs.LinuxMemory{}, CPU: &specs.LinuxCPU{}, Pids: &specs.LinuxPids{}}
	if l.Memory > 0 {
		res.Memory.Limit = &l.Memory
	}
	if l.CPUs > 0 {
		period, quota := uint64(cpuPeriod), int64(l.CPUs*cpuPeriod)
		res.CPU.Period, res.CPU.Quota = &period, &quota
	}
	if l.PIDs > 0 {
		res.Pids.Limit = &l.PIDs
	}
	if device != "" && l.IO > 0 && unified() {
		d := specs.LinuxThrottleDevice{Rate: uint64(l.IO)}
		if _, err := fmt.Sscanf(device, "%d:%d", &d.Major, &d.Minor); err != nil {
			return nil, err
		}
		both := []specs.LinuxThrottleDevice{d}
		res.BlockIO = &specs.LinuxBlockIO{ThrottleReadBpsDevice: both, ThrottleWriteBpsDevice: both}
	}
	c := &cgroup{name: name, device: device, limits: l}
	path := filepath.Join(cgroupParent, name)
	var err error
	if unified() {
		c.v2, err = cgroup2.NewManager(cgroupRoot, path, cgroup2.ToResources(res))
	} else {
		c.v1, err = cgroup1.New(cgroup1.StaticPath(path), res, cgroup1.WithHierarchy(hierarchy))
	}
	if err != nil {
		return nil, fmt.Errorf("%w: creating the cgroup %s: %w", ErrUnsupported, path, err)
	}
	if c.v2 != nil {
		// If the kernel kills one process of the room for memory, it kills all of them;
		// otherwise the build could continue and make a different image. Version 1 has
		// no such setting: there the builder checks Exceeded after the build.
		if err := os.WriteFile(c.file("", "", "memory.oom.group"), []byte("1"), 0); err != nil {
			c.delete()
			return nil, fmt.Errorf("setting memory.oom.group: %w", err)
		}
	}
	if c.v2 == nil {
		// Version 2 counts the buffers of sockets as memory of the group.
		if err := os.WriteFile(c.file("memory", "memory.kmem.tcp.limit_in_bytes", ""), fmt.Append(nil, socketMemory), 0); err != nil {
			c.delete()
			return nil, fmt.Errorf("limiting the memory of sockets: %w", err)
		}
	}
	if device != "" && c.v2 == nil {
		if err := throttleDevice(device, l.IO); err != nil {
			c.delete()
			return nil, fmt.Errorf("limiting input and output: %w", err)
		}
	}
	// Check that the kernel applied the limits.
	if l.Memory > 0 {
		got, err := readInt(c.file("memory", "memory.limit_in_bytes", "memory.max"))
		if err != nil || got > l.Memory {
			c.delete()
			return nil, fmt.Errorf("memory limit: got %d bytes, want %d (%v)", got, l.Memory, err)
		}
	}
	if l.PIDs > 0 {
		got, err := readInt(c.file("pids", "pids.max", "pids.max"))
		if err != nil || got > l.PIDs {
			c.delete()
			return nil, fmt.Errorf("process limit: got %d, want %d (%v)", got, l.PIDs, err)
		}
	}
	return c, nil
}

// deviceLimits are version 1's files of device limits. They apply to the whole
// machine; a line is "7:3 1048576".
var deviceLimits = []string{cgroupRoot + "/blkio/blkio.throttle.read_bps_device", cgroupRoot + "/blkio/blkio.throttle.write_bps_device"}

// throttleDevice limits reads and writes of a device to rate bytes per second each;
// 0 removes the limit. Version 1 cannot attribute buffered writes to a cgroup, so
// its cgroups do not limit them. throttleDevice limits the device for the whole
// machine instead, which is the same, because only one room uses the device.
func throttleDevice(device string, rate int64) error {
	for _, path := range deviceLimits {
		err := os.WriteFile(path, fmt.Appendf(nil, "%s %d", device, rate), 0)
		if err != nil && (rate > 0 || !errors.Is(err, os.ErrNotExist)) {
			return err
		}
	}
	return nil
}

// sweepThrottles removes the limits of loop devices that are no longer in use, such
// as those of rooms that ended in a crash.
func sweepThrottles() error {
	if nested() {
		return nil
	}
	const loopMajor = "7:"
	var errs []error
	for _, path := range deviceLimits {
		data, err := os.ReadFile(path)
		if err != nil {
			continue // version 2: a limit is removed with its cgroup
		}
		for line := range strings.Lines(string(data)) {
			device, _, _ := strings.Cut(line, " ")
			if strings.HasPrefix(device, loopMajor) && backingFile(device) == "" {
				errs = append(errs, throttleDevice(device, 0))
			}
		}
	}
	return errors.Join(errs...)
}

// hierarchy returns the version 1 controllers of a room; it is an error if one is
// not mounted.
func hierarchy() ([]cgroup1.Subsystem, error) {
	all, err := cgroup1.Default()
	if err != nil {
		return nil, err
	}
	var out []cgroup1.Subsystem
	for _, want := range controllers {
		found := false
		for _, s := range all {
			if string(s.Name()) == want {
				out, found = append(out, s), true
			}
		}
		if !found {
			return nil, fmt.Errorf("the cgroup controller %s is not mounted", want)
		}
	}
	return out, nil
}

// file returns the path of a control file, whose name differs between the versions.
func (c *cgroup) file(controller, v1, v2 string) string {
	if unified() {
		return filepath.Join(cgroupRoot, cgroupParent, c.name, v2)
	}
	return filepath.Join(cgroupRoot, controller, cgroupParent, c.name, v1)
}

func (c *cgroup) add(pid int) error {
	if c.none {
		return nil
	}
	if c.v2 != nil {
		return c.v2.AddProc(uint64(pid))
	}
	return c.v1.AddProc(uint64(pid))
}

// exceeded returns an error if the kernel killed a process of the room for memory or
// refused it a new process, by the kernel's own counters.
func (c *cgroup) exceeded() error {
	if c.none {
		return nil
	}
	if n := readKey(c.file("memory", "memory.oom_control", "memory.events"), "oom_kill"); n > 0 && c.limits.Memory > 0 {
		return fmt.Errorf("out of memory: the limit is %d bytes", c.limits.Memory)
	}
	if n := readKey(c.file("pids", "pids.events", "pids.events"), "max"); n > 0 && c.limits.PIDs > 0 {
		return fmt.Errorf("too many processes: the limit is %d", c.limits.PIDs)
	}
	return nil
}

func (c *cgroup) delete() error {
	if c.none {
		return nil
	}
	var err error
	if c.device != "" && c.v2 == nil && c.limits.IO > 0 {
		err = throttleDevice(c.device, 0)
	}
	return errors.Join(err, sweepCgroup(c.name))
}

// sweepCgroup kills the processes in the cgroups of that name and removes the cgroups.
func sweepCgroup(name string) error {
	var errs []error
	dirs := []string{filepath.Join(cgroupRoot, cgroupParent, name)}
	if !unified() {
		dirs = nil
		for _, c := range controllers {
			dirs = append(dirs, filepath.Join(cgroupRoot, c, cgroupParent, name))
		}
	}
	for _, dir := range dirs {
		errs = append(errs, removeCgroup(dir))
	}
	return errors.Join(errs...)
}

// removeCgroup kills the processes in dir and removes it. It retries for 10 seconds,
// because a killed process leaves its cgroup only after some time.
func removeCgroup(dir string) error {
	deadline := time.Now().Add(10 * time.Second)
	for {
		var last error
		// Children first. Only rmdir works, because the files in a cgroup are the
		// kernel's and cannot be removed.
		filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if err == nil && d.IsDir() && path != dir {
				killCgroup(path)
				defer os.Remove(path)
			}
			return nil
		})
		killCgroup(dir)
		if last = unix.Rmdir(dir); last == nil || errors.Is(last, unix.ENOENT) {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("removing the cgroup %s: %w", dir, last)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func killCgroup(dir string) {
	// cgroup v2 kills all processes at once. On version 1, killing each listed process
	// is enough: those in a pid namespace die with its first process, so the list only
	// serves processes that have not entered one yet.
	if os.WriteFile(filepath.Join(dir, "cgroup.kill"), []byte("1"), 0) == nil {
		return
	}
	data, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return
	}
	for f := range strings.FieldsSeq(string(data)) {
		if pid, err := strconv.Atoi(f); err == nil && pid > 1 {
			unix.Kill(pid, unix.SIGKILL)
		}
	}
}

func readInt(path string) (int64, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
}

func readKey(path, key string) int64 {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(data)) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), " "); ok && k == key {
			n, _ := strconv.ParseInt(v, 10, 64)
			return n
		}
	}
	return 0
}
