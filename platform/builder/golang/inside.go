package golang

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	ko "github.com/google/ko/pkg/build"

	"github.com/colophon-build/colophon/internal/confine"
	"github.com/colophon-build/colophon/platform/builder"
)

// baseName is the name of the built-in base. No registry can serve it (RFC 2606).
const baseName = "colophon.invalid/golang/base:v1"

// Init builds and exits if this process is the one inside a room; in all other
// processes it returns at once. A build executes its own program again inside the
// room, so a program that uses this package calls Init first in main, and first in
// TestMain of its tests.
func Init() {
	if len(os.Args) != 1 || os.Args[0] != roomArg0 {
		return
	}
	// Only messages may be written to standard output, which is the parent's pipe.
	out := json.NewEncoder(os.Stdout)
	last := inside(os.Stdin, func(e builder.Event) { out.Encode(message{Event: &e}) })
	if err := out.Encode(last); err != nil || !last.Done {
		os.Exit(1)
	}
	os.Exit(0)
}

func inside(in io.Reader, logf func(builder.Event)) message {
	var o order
	if err := json.NewDecoder(in).Decode(&o); err != nil {
		return message{Error: "reading the order: " + err.Error()}
	}
	// When memory runs out, the kernel kills builds before any role.
	if err := confine.KillEarlier(confine.KilledFirst); err != nil {
		return message{Error: "confining the room: " + err.Error()}
	}
	if o.Root != "" {
		if err := enter(o.Root, o.Binds, o.Cache); err != nil {
			return message{Error: "setting up the room: " + err.Error()}
		}
	}
	if err := confineRoom(o.Job.Memory); err != nil {
		return message{Error: "confining the room: " + err.Error()}
	}
	steps := &stepLog{logf: logf, step: "source"}
	log.SetFlags(0)
	log.SetOutput(steps)
	write, err := compileFiles(&o.Job, steps)
	if len(o.Job.Files) == 0 {
		write, err = compile(&o.Job)
	}
	without := leftOut(&o.Job)
	for _, line := range without {
		logf(builder.Event{Step: steps.step, Line: line})
	}
	if err != nil {
		text := strings.TrimSpace(err.Error())
		for line := range strings.Lines(text) {
			logf(builder.Event{Step: steps.step, Line: strings.TrimRight(line, "\n")})
		}
		const maxText = 4000
		if len(text) > maxText {
			text = text[:maxText] + " …"
		}
		if len(without) > 0 {
			text += "\n" + strings.Join(without, "\n") + "\nUse a Dockerfile for a program that needs cgo."
		}
		return message{Fail: text, Step: steps.step}
	}
	if err := write(o.Job.Layout); err != nil {
		return message{Error: "writing the layout: " + err.Error()}
	}
	return message{Done: true}
}

// compile builds the package with ko, for each platform. write writes the image as the only
// entry of a layout.
func compile(j *job) (write func(layout string) error, err error) {
	image, err := compileImage(j)
	return func(layout string) error { return writeLayout(layout, image) }, err
}

func compileImage(j *job) (ko.Result, error) {
	ctx := context.Background()
	base, err := newBase(j)
	if err != nil {
		return nil, err
	}
	ref, err := name.ParseReference(baseName)
	if err != nil {
		return nil, err
	}
	created := v1.Time{Time: time.Unix(j.Epoch, 0).UTC()}
	builder, err := ko.NewGo(ctx, filepath.Join(j.Tree, j.Module),
		ko.WithBaseImages(func(context.Context, string) (name.Reference, ko.Result, error) { return ref, base, nil }),
		ko.WithPlatforms("all"), // all platforms of the base, which has only the requested ones
		ko.WithCreationTime(created),
		ko.WithKoDataCreationTime(created),
		ko.WithTrimpath(false), // goFlags has -trimpath
		ko.WithDefaultFlags(goFlags),
		ko.WithDefaultLdflags([]string{goLDFlags}),
		ko.WithDisabledSBOM(),
		ko.WithUser(nonroot),
		ko.WithJobs(1), // ko's layer cache is not safe for parallel builds; the go command is parallel itself
		ko.WithAnnotation("org.opencontainers.image.created", created.Format(time.RFC3339)),
	)
	if err != nil {
		return nil, err
	}
	path, err := builder.QualifyImport(j.Package)
	if err != nil {
		return nil, err
	}
	if err := builder.IsSupportedReference(path); err != nil {
		return nil, fmt.Errorf("%s: %w (use --package to name the main package)", strings.TrimPrefix(path, ko.StrictScheme), err)
	}
	return builder.Build(ctx, path)
}

// writeLayout writes image as the layout's only entry.
func writeLayout(dir string, image ko.Result) error {
	l, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	switch i := image.(type) {
	case v1.ImageIndex:
		return l.AppendIndex(i)
	case v1.Image:
		return l.AppendImage(i)
	}
	return fmt.Errorf("ko built a %T, want an image or an index", image)
}

// stepLog turns ko's log into events. ko logs a line "Building …" when it starts with a
// platform.
type stepLog struct {
	logf func(builder.Event)
	step string
}

func (s *stepLog) Write(p []byte) (int, error) {
	line := strings.TrimRight(string(p), "\n")
	if what, ok := strings.CutPrefix(line, "Building "); ok {
		if s.step != "source" {
			s.logf(builder.Event{Step: s.step, Done: true})
		}
		s.step = "go build " + what
		s.logf(builder.Event{Step: s.step})
	}
	// Drop the other lines: they are about git metadata and caches, which the room lacks.
	return len(p), nil
}

// enter makes root the root directory of this process: a read-only tmpfs with the
// binds in it. There is no /proc: the toolchain does not need it, and on a host where
// the room's uid is root's, /proc would give access to the kernel's settings.
func enter(root string, binds []bind, cache *overlay) error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", err)
	}
	if err := syscall.Mount("tmpfs", root, "tmpfs", syscall.MS_NOSUID|syscall.MS_NODEV, "size=1m,mode=755"); err != nil {
		return fmt.Errorf("tmpfs on %s: %w", root, err)
	}
	for _, b := range binds {
		if err := b.mount(root); err != nil {
			return fmt.Errorf("%s on %s: %w", b.From, b.To, err)
		}
	}
	if cache != nil {
		if err := cache.mount(root); err != nil {
			return fmt.Errorf("build cache: %w", err)
		}
	}
	old := filepath.Join(root, ".old")
	if err := errors.Join(os.Mkdir(old, 0o700), os.Mkdir(filepath.Join(root, "tmp"), 0o1777)); err != nil {
		return err
	}
	if err := syscall.PivotRoot(root, old); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	if err := syscall.Unmount("/.old", syscall.MNT_DETACH); err != nil {
		return fmt.Errorf("leaving the old root: %w", err)
	}
	if err := os.Remove("/.old"); err != nil {
		return err
	}
	return syscall.Mount("", "/", "", syscall.MS_REMOUNT|syscall.MS_BIND|syscall.MS_RDONLY|syscall.MS_NOSUID|syscall.MS_NODEV, "")
}

func (b bind) mount(root string) error {
	to := filepath.Join(root, b.To)
	info, err := os.Stat(b.From)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	if info.IsDir() {
		err = os.Mkdir(to, 0o755)
	} else {
		err = os.WriteFile(to, nil, 0o444)
	}
	if err != nil {
		return err
	}
	if err := syscall.Mount(b.From, to, "", syscall.MS_BIND, ""); err != nil {
		return err
	}
	if b.Write {
		return nil
	}
	// A user namespace may not remove flags from an inherited mount, so keep them.
	var st syscall.Statfs_t
	if err := syscall.Statfs(to, &st); err != nil {
		return err
	}
	const kept = syscall.MS_NOSUID | syscall.MS_NODEV | syscall.MS_NOEXEC | syscall.MS_NOATIME | syscall.MS_NODIRATIME
	flags := uintptr(st.Flags) & kept
	const relatime = 4096 // ST_RELATIME; MS_RELATIME has another value
	if st.Flags&relatime != 0 {
		flags |= syscall.MS_RELATIME
	}
	return syscall.Mount("", to, "", flags|syscall.MS_REMOUNT|syscall.MS_BIND|syscall.MS_RDONLY, "")
}

// toolchain is the policy of the toolchain: it starts programs and downloads modules.
var toolchain = confine.Policy{Exec: true, Inet: true}

// confineRoom gives up the rights that the toolchain does not need, and limits the
// data size of each process to memory bytes; 0 means no limit.
func confineRoom(memory int64) error {
	const rlimitData = 2
	if err := confine.Role(toolchain); err != nil {
		return err
	}
	if err := confine.LimitData(0); err != nil { // the role's own limit
		return err
	}
	if memory > 0 {
		l := syscall.Rlimit{Cur: uint64(memory), Max: uint64(memory)}
		if err := syscall.Setrlimit(rlimitData, &l); err != nil {
			return fmt.Errorf("limiting memory to %d: %w", memory, err)
		}
	}
	return nil
}
