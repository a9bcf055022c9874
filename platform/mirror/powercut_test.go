package mirror

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/colophon-build/colophon/test/logtest"
	"github.com/colophon-build/colophon/test/powercut"
	"github.com/colophon-build/colophon/tlog"
	"github.com/colophon-build/colophon/tlog/witness"
)

// powercutDir is the environment variable with the directory of a mirror. If it is set, TestPushPowerCut
// pushes to it, and prints what the mirror acknowledges.
const powercutDir = "MIRROR_POWERCUT_DIR"

var powercutSizes = []int64{200, 300, 600}

// pushSome pushes the entries of a log package by package.
func pushSome(t *testing.T, dir string) {
	p := &pusher{t: t, log: logtest.New(origin, 600), dir: filepath.Join(dir, "m")}
	p.restart()
	old := int64(0)
	for _, size := range powercutSizes {
		if w := p.checkpoint(p.log, old, size); w.Code != 200 {
			t.Fatalf("got %d %s", w.Code, w.Body)
		}
		fmt.Println("pending", size)
		for next := old; ; {
			w := p.upload(next, size, 1)
			if w.Code == 200 {
				break
			}
			_, next = p.info(w, 202)
			fmt.Println("next", next)
		}
		fmt.Println("copied", size)
		old = size
	}
}

// TestPushPowerCut: if the power is cut at any moment, and any of what was not synced is lost, the mirror
// starts, has what it acknowledged, and the log can go on.
func TestPushPowerCut(t *testing.T) {
	if dir := os.Getenv(powercutDir); dir != "" {
		pushSome(t, dir)
		return
	}
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run=^TestPushPowerCut$")
	cmd.Env = append(os.Environ(), powercutDir+"="+dir)
	tr := powercut.Record(t, dir, cmd)
	tr.Cuts(t, dir, 45, rand.New(rand.NewPCG(16, 6)), func(left string, acknowledged []string) error {
		var pending, next, copied int64
		for _, line := range acknowledged {
			for what, n := range map[string]*int64{"pending": &pending, "next": &next, "copied": &copied} {
				_, _ = fmt.Sscanf(line, what+" %d", n)
			}
		}
		p := &pusher{t: t, log: logtest.New(origin, 600), dir: filepath.Join(left, "m")}
		p.restart()
		c := p.m.copies[witness.OriginHash(origin)]
		last, has := c.inbox.newest()
		if last.Size < pending || has < max(next, copied) {
			return fmt.Errorf("got the checkpoint of %d and %d entries, want at least %d and %d", last.Size, has, pending, max(next, copied))
		}
		if copied > 0 {
			signed, err := c.Checkpoint(t.Context())
			if err != nil {
				return err
			}
			cp, err := tlog.OpenCheckpoint(signed, p.log.Verifier())
			if err != nil || cp.Size < copied {
				return fmt.Errorf("got %v, %v, want at least %d", cp, err, copied)
			}
			p.whole(cp.Size)
		}
		if last.Size < 600 {
			if w := p.checkpoint(p.log, last.Size, 600); w.Code != 200 {
				return fmt.Errorf("got %d %s", w.Code, w.Body)
			}
		}
		if w := p.upload(has, 600, 9); w.Code != 200 {
			return fmt.Errorf("going on from %d: got %d %s", has, w.Code, w.Body)
		}
		p.whole(600)
		_ = p.m.Close()
		return nil
	})
}
