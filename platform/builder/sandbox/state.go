package sandbox

import (
	"archive/tar"
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"syscall"
	"time"
)

// Pack ends the room's program, and writes the directory dir of StateTarget to w, for
// Config.State of a later room. A hostile program may have made what is there, so a
// process in the namespaces, the cgroup and behind the filter of the room reads it, and
// another one in the later room unpacks it. This process only copies bytes.
//
// Pack keeps directories, regular files, hard and symbolic links with their owners, modes
// and times. It leaves out devices, fifos, sockets and extended attributes. If ctx or the
// room ends, or w returns an error, Pack ends with an error.
func (r *Room) Pack(ctx context.Context, dir string, w io.Writer) error {
	r.packing.Lock()
	defer r.packing.Unlock()
	r.Kill()
	if err := errors.Join(ctx.Err(), r.life.Err()); err != nil {
		return err
	}
	out, packed, err := os.Pipe()
	if err != nil {
		return err
	}
	defer out.Close()
	ended, kill, err := r.startPacking(order{Pack: dir, OpenFiles: uint64(r.openFiles)}, packed)
	packed.Close()
	if err != nil {
		return err
	}
	for _, c := range []context.Context{ctx, r.life} {
		defer context.AfterFunc(c, kill)()
	}
	_, err = io.Copy(w, out)
	if err != nil {
		kill()
	}
	// A process that was killed wrote a part only, which looks complete to io.Copy.
	return errors.Join(err, ctx.Err(), r.life.Err(), <-ended)
}

// startPacking starts the process that packs. ended receives its error.
func (r *Room) startPacking(o order, to *os.File) (ended <-chan error, kill func(), err error) {
	orderR, orderW, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer orderR.Close()
	defer orderW.Close()
	reportR, reportW, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	mounts, err := openMounts(&o, nil, nil)
	defer closeAll(mounts)
	if err != nil {
		closeAll([]*os.File{reportR, reportW})
		return nil, nil, err
	}
	// It needs no socket; the order takes that place, so that the others keep theirs. The
	// mount of the state ended with the program's namespaces and cannot be mounted again,
	// but its root directory can still be read.
	cmd := r.command(append(append([]*os.File{orderR, reportW, orderR}, mounts...), to, r.disk.root), nil)
	exited, err := r.runAs(cmd)
	reportW.Close()
	if err != nil {
		reportR.Close()
		return nil, nil, fmt.Errorf("starting the process that packs a room's state: %w", err)
	}
	kill = func() { cmd.Process.Kill() }
	if err := errors.Join(r.cgroup.add(cmd.Process.Pid), json.NewEncoder(orderW).Encode(o)); err != nil {
		kill()
		<-exited
		reportR.Close()
		return nil, nil, err
	}
	result := make(chan error, 1)
	go func() {
		defer reportR.Close()
		result <- errors.Join(readReport(reportR), <-exited)
	}()
	return result, kill, nil
}

// feed returns a pipe from which the room's first process reads state.
func (r *Room) feed(state io.Reader) (*os.File, error) {
	out, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	r.fed = make(chan struct{})
	go func() {
		_, err := io.Copy(in, state)
		r.feedErr = errors.Join(err, in.Close())
		close(r.fed)
	}()
	return out, nil
}

// moveState does what an order says about the room's state. It runs in the room. done
// reports that this process has no program to execute.
func moveState(o order) (done bool, err error) {
	if !o.Unpack && o.Pack == "" {
		return false, nil
	}
	last := fdMounts + len(o.Mounts)
	f := os.NewFile(uintptr(last), "state")
	defer f.Close()
	dir := StateTarget
	if o.Pack != "" {
		dir = fmt.Sprintf("/proc/self/fd/%d", last+1)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return false, err
	}
	defer root.Close()
	if o.Pack != "" {
		out := bufio.NewWriterSize(f, 1<<20)
		if err := packState(root, o.Pack, out); err != nil {
			return true, fmt.Errorf("packing %s: %w", o.Pack, err)
		}
		return true, out.Flush()
	}
	if err := unpackState(root, bufio.NewReaderSize(f, 1<<20)); err != nil {
		return false, fmt.Errorf("unpacking the state of an earlier room: %w", err)
	}
	return false, nil
}

// packState writes dir, a directory of root, as a tar.
func packState(root *os.Root, dir string, w io.Writer) error {
	out := tar.NewWriter(w)
	p := packer{out: out, linked: map[uint64]string{}}
	return errors.Join(p.add(root, dir, dir), out.Close())
}

type packer struct {
	out    *tar.Writer
	linked map[uint64]string // first name of each file that has several, by inode
}

// add adds base, which is in parent, and what is in it if it is a directory. name is its
// name in the tar.
func (p *packer) add(parent *os.Root, base, name string) error {
	info, err := parent.Lstat(base)
	if err != nil {
		return err
	}
	st := info.Sys().(*syscall.Stat_t)
	h := &tar.Header{
		Name: name, Mode: int64(st.Mode & 0o7777), Uid: int(st.Uid), Gid: int(st.Gid), ModTime: info.ModTime(), Format: tar.FormatPAX,
	}
	first, again := p.linked[st.Ino]
	switch info.Mode().Type() {
	case fs.ModeDir:
		h.Typeflag, h.Name = tar.TypeDir, name+"/"
		return errors.Join(p.out.WriteHeader(h), p.addEntries(parent, base, name))
	case fs.ModeSymlink:
		h.Typeflag = tar.TypeSymlink
		if h.Linkname, err = parent.Readlink(base); err != nil {
			return err
		}
		return p.out.WriteHeader(h)
	case 0:
		if again {
			h.Typeflag, h.Linkname = tar.TypeLink, first
			return p.out.WriteHeader(h)
		}
		if st.Nlink > 1 {
			p.linked[st.Ino] = name
		}
		h.Typeflag, h.Size = tar.TypeReg, info.Size()
		return p.addFile(parent, base, h)
	}
	return nil
}

func (p *packer) addEntries(parent *os.Root, base, name string) error {
	dir, err := parent.OpenRoot(base)
	if err != nil {
		return err
	}
	defer dir.Close()
	f, err := dir.Open(".")
	if err != nil {
		return err
	}
	entries, err := f.Readdirnames(-1)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	slices.Sort(entries)
	for _, e := range entries {
		if err := p.add(dir, e, name+"/"+e); err != nil {
			return err
		}
	}
	return nil
}

func (p *packer) addFile(parent *os.Root, base string, h *tar.Header) error {
	f, err := parent.Open(base)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := p.out.WriteHeader(h); err != nil {
		return err
	}
	_, err = io.Copy(p.out, f)
	return err
}

// unpackState makes the files of a tar that packState wrote. It reads r to its end.
func unpackState(root *os.Root, r io.Reader) error {
	in := tar.NewReader(r)
	var dirs []*tar.Header
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return err
		}
		if h.Name = path.Clean(h.Name); h.Typeflag == tar.TypeDir {
			dirs = append(dirs, h)
		}
		if err := unpackEntry(root, h, in); err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
	}
	// The times of directories come last, because each new file changes them.
	for _, h := range dirs {
		if err := root.Chtimes(h.Name, time.Time{}, h.ModTime); err != nil {
			return err
		}
	}
	_, err := io.Copy(io.Discard, r)
	return err
}

func unpackEntry(root *os.Root, h *tar.Header, in io.Reader) error {
	mode := fs.FileMode(h.Mode & 0o777)
	for bit, m := range map[int64]fs.FileMode{syscall.S_ISUID: fs.ModeSetuid, syscall.S_ISGID: fs.ModeSetgid, syscall.S_ISVTX: fs.ModeSticky} {
		if h.Mode&bit != 0 {
			mode |= m
		}
	}
	switch h.Typeflag {
	case tar.TypeDir:
		// Owner before mode: chown(2) clears setuid and setgid.
		return errors.Join(root.Mkdir(h.Name, 0o700), root.Lchown(h.Name, h.Uid, h.Gid), root.Chmod(h.Name, mode))
	case tar.TypeSymlink:
		return errors.Join(root.Symlink(h.Linkname, h.Name), root.Lchown(h.Name, h.Uid, h.Gid))
	case tar.TypeLink:
		return root.Link(h.Linkname, h.Name)
	case tar.TypeReg:
		f, err := root.OpenFile(h.Name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, in)
		return errors.Join(err, f.Chown(h.Uid, h.Gid), f.Chmod(mode), f.Close(), root.Chtimes(h.Name, time.Time{}, h.ModTime))
	}
	return fmt.Errorf("got type %q, want a directory, file or link", h.Typeflag)
}
