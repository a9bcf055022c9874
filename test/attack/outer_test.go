package attack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The outer limit keeps the suite from exhausting the machine, whatever guard is
// missing. It applies to the suite, its platforms, and their rooms, whose cgroups are
// below the suite's.
const (
	outerMemory = 8 << 30  // bytes
	outerPIDs   = 6000     // processes and threads
	outerDisk   = 12 << 30 // bytes of the file system for data, sparse
	outerTime   = 40 * time.Minute

	insideVar = "COLOPHON_ATTACK_INSIDE" // set for the process under the limit
	cgroupDir = "/sys/fs/cgroup"
)

// outside runs this program again under the outer limit, in new mount, pid, ipc and
// network namespaces, and removes everything afterwards.
func outside() int {
	code, err := limited()
	if err != nil {
		fmt.Fprintln(os.Stderr, "attack:", err)
		return 1
	}
	return code
}

func limited() (code int, err error) {
	dir, err := os.MkdirTemp("", "attack-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	disk, mount := filepath.Join(dir, "disk"), filepath.Join(dir, "d")
	if err := errors.Join(os.WriteFile(disk, nil, 0o600), os.Truncate(disk, outerDisk), os.Mkdir(mount, 0o755), os.Chmod(dir, 0o755)); err != nil {
		return 0, err
	}
	if out, err := exec.Command("mkfs.ext4", "-q", "-O", "^has_journal", "-E", "lazy_itable_init=1,nodiscard", disk).CombinedOutput(); err != nil {
		return 0, fmt.Errorf("mkfs.ext4: %w: %s", err, out)
	}
	groups, err := makeGroups(fmt.Sprintf("colophon-attack-%d", os.Getpid()))
	defer func() { err = errors.Join(err, groups.remove()) }()
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), outerTime)
	defer cancel()
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	cmd := exec.CommandContext(ctx, "/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), insideVar+"="+mount, "TMPDIR="+mount)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	// Start the platforms in a session with a keyring, as on a person's machine. A
	// process inherits the keyring of the thread that starts it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if _, err := unix.KeyctlInt(unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0); err != nil {
		return 0, fmt.Errorf("session keyring: %w", err)
	}
	gate, open, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	cmd.ExtraFiles = []*os.File{gate}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC | syscall.CLONE_NEWNET,
		Pdeathsig:  syscall.SIGKILL,
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	gate.Close()
	if err := groups.add(cmd.Process.Pid); err != nil {
		cmd.Process.Kill()
		return 0, errors.Join(err, cmd.Wait())
	}
	open.Close() // the limits are set
	err = cmd.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && ctx.Err() == nil {
		return exit.ExitCode(), nil
	}
	return 0, err
}

// groups are the suite's cgroups, by the directory of their hierarchy.
type groups map[string]string

func makeGroups(name string) (groups, error) {
	g := groups{}
	if _, err := os.Stat(filepath.Join(cgroupDir, "cgroup.controllers")); err == nil {
		return g, g.make2(name)
	}
	for _, c := range []string{"memory", "pids", "cpu", "blkio"} {
		dir := filepath.Join(cgroupDir, c, name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			return g, err
		}
		g[filepath.Dir(dir)] = dir
	}
	return g, errors.Join(
		os.WriteFile(filepath.Join(cgroupDir, "memory", name, "memory.use_hierarchy"), []byte("1"), 0o644),
		os.WriteFile(filepath.Join(cgroupDir, "memory", name, "memory.limit_in_bytes"), []byte(strconv.Itoa(outerMemory)), 0o644),
		os.WriteFile(filepath.Join(cgroupDir, "pids", name, "pids.max"), []byte(strconv.Itoa(outerPIDs)), 0o644))
}

// make2 creates the groups in cgroup version 2, where a group cannot have both processes and children.
func (g groups) make2(name string) error {
	dir := filepath.Join(cgroupDir, name)
	controllers := []byte("+memory +pids +cpu +io")
	err := errors.Join(os.WriteFile(filepath.Join(cgroupDir, "cgroup.subtree_control"), controllers, 0o644), os.MkdirAll(filepath.Join(dir, "suite"), 0o755))
	g[cgroupDir] = dir
	return errors.Join(err,
		os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), controllers, 0o644),
		os.WriteFile(filepath.Join(dir, "memory.max"), []byte(strconv.Itoa(outerMemory)), 0o644),
		os.WriteFile(filepath.Join(dir, "pids.max"), []byte(strconv.Itoa(outerPIDs)), 0o644))
}

func (g groups) add(pid int) error {
	for _, dir := range g {
		if _, err := os.Stat(filepath.Join(dir, "suite")); err == nil {
			dir = filepath.Join(dir, "suite")
		}
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// remove retries, because killed processes leave their cgroups with a delay.
func (g groups) remove() (err error) {
	for _, dir := range g {
		for range 500 {
			filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
				if err == nil && d.IsDir() && path != dir {
					defer os.Remove(path)
				}
				return nil
			})
			if err = unix.Rmdir(dir); err == nil || errors.Is(err, unix.ENOENT) {
				err = nil
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	return err
}

// inside sets up the namespaces and runs the tests.
func inside(m *testing.M) int {
	gate := os.NewFile(3, "gate")
	gate.Read(make([]byte, 1)) // wait until the limits are set
	gate.Close()
	mount := os.Getenv(insideVar)
	if err := furnish(mount); err != nil {
		fmt.Fprintln(os.Stderr, "attack:", err)
		return 1
	}
	defer unix.Unmount(mount, unix.MNT_DETACH)
	return m.Run()
}

func furnish(mount string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return err
	}
	if out, err := exec.Command("mount", "-o", "loop,noatime", filepath.Join(filepath.Dir(mount), "disk"), mount).CombinedOutput(); err != nil {
		return fmt.Errorf("mounting the suite's file system: %w: %s", err, out)
	}
	// Mount the suite's cgroup where the platform expects the root cgroup.
	own, err := ownGroups()
	if err != nil {
		return err
	}
	for top, dir := range own {
		if err := unix.Mount(dir, top, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("cgroup %s: %w", dir, err)
		}
	}
	return nil
}

// ownGroups returns the cgroups of this process.
func ownGroups() (groups, error) {
	data, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	g := groups{}
	for line := range strings.Lines(string(data)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if !strings.HasPrefix(f[2], "/colophon-attack-") {
			continue
		}
		top := filepath.Join(cgroupDir, f[1])
		g[top] = filepath.Join(top, strings.TrimSuffix(f[2], "/suite"))
	}
	if len(g) == 0 {
		return nil, errors.New("this process is in no cgroup of the suite's")
	}
	return g, nil
}
