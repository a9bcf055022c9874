package attack

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/colophon-build/colophon/test/await"
)

// A briefing tells an intruder more than a stranger could know. It is appended to the
// intruder's program.
type briefing struct {
	Only      []string // attacks to try; empty means all
	Canary    string   // a world-readable file of the host
	Keys      []string // files with keys and tokens
	Sockets   []string // of the platform
	Platform  string   // host:port
	Bystander int      // pid of a process on the host, with a secret in its memory
	Device    uint64   // number of the host's block device
	Write     []string // files of the host to change
	Data      string   // the platform's directory

	Private []string       // for an intruder in a role: files of other roles
	Roles   map[string]int // and their pids
}

const (
	briefingMark   = "\n-- briefing --\n"
	abstractCanary = "colophon-canary" // an abstract Unix socket of the host
	shmKey         = 0xC0105EC         // of a world-readable System V segment of the host
	keyName        = "colophon-canary" // of a key in the session keyring of the platform
	memoryMark     = "colophon-secret-in-memory-"
	reportMark     = "colophon-attack "
	leftOpen       = 100 // first descriptor to use for the host's root directory, which the platform inherits
)

// equip writes a copy of this program with a briefing at its end.
func equip(path string, b briefing) error {
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return err
	}
	raw, err := json.Marshal(b)
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(append(self, briefingMark...), raw...), 0o755)
}

func ownBriefing() (b briefing, err error) {
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return b, err
	}
	_, raw, found := bytes.Cut(self[len(self)-min(len(self), 64<<10):], []byte(briefingMark))
	if !found {
		return b, errors.New("no briefing")
	}
	return b, json.Unmarshal(raw, &b)
}

// intruder tries one attack from inside. It reports successes with got and failures
// with not. The suite searches all that it reports for secrets.
type intruder struct {
	briefing
	where string // step, room, or the role that it has taken over
	said  report
}

// report is the result of one attack, as the intruder sees it.
type report struct {
	Attack string
	Where  string
	Got    []string
	Not    []string
}

const maxSaid = 12 << 10 // bytes in one list of a report

func (i *intruder) got(format string, args ...any) {
	i.said.Got = say(i.said.Got, format, args)
}
func (i *intruder) not(format string, args ...any) {
	i.said.Not = say(i.said.Not, format, args)
}

func say(list []string, format string, args []any) []string {
	size := 0
	for _, s := range list {
		size += len(s)
	}
	s := strings.ToValidUTF8(fmt.Sprintf(format, args...), "?")
	if size+len(s) > maxSaid {
		s = s[:max(0, maxSaid-size)]
	}
	return append(list, s)
}

// try records err as a failure of the attack, and nil as its success.
func (i *intruder) try(what string, err error) {
	if err == nil {
		i.got("%s", what)
	} else {
		i.not("%s: %v", what, err)
	}
}

// outside asks the suite to look at the host at once, and returns what it saw.
func (i *intruder) outside(question string) {
	resp, err := http.Get("http://" + worldAddress + "/ask/" + question)
	if err != nil {
		i.not("asking outside: %v", err)
		return
	}
	defer resp.Body.Close()
	if answer, _ := io.ReadAll(resp.Body); len(answer) > 0 {
		i.got("%s", answer)
	}
}

// takenOver runs in place of a buildkitd that an attacker has taken over. It tries
// everything that the room allows.
func takenOver() {
	if len(os.Args) == 2 && os.Args[1] == "--version" {
		fmt.Println("buildkitd is taken over")
		os.Exit(0)
	}
	intrude("room")
}

// intrude tries every attack for this place, each in its own process.
func intrude(where string) {
	b, err := ownBriefing()
	if err != nil {
		fmt.Println(reportMark+"no briefing:", err)
		os.Exit(1)
	}
	if len(os.Args) == 3 && os.Args[1] == "role" {
		where = os.Args[2]
	}
	if len(os.Args) == 4 && os.Args[1] == "try" {
		i := intruder{briefing: b, where: os.Args[3], said: report{Attack: os.Args[2], Where: os.Args[3]}}
		named(os.Args[2]).probe(&i)
		json.NewEncoder(os.Stdout).Encode(i.said)
		os.Exit(0)
	}
	var out bytes.Buffer
	for _, a := range attacks {
		if a.probe == nil || !contains(a.from, where) || len(b.Only) > 0 && !contains(b.Only, a.name) {
			continue
		}
		r := tryOne(a, where)
		line, _ := json.Marshal(r)
		fmt.Fprintf(&out, "%s%s\n", reportMark, line)
		if where != "room" {
			fmt.Printf("%s%s\n", reportMark, line)
		}
	}
	if where == "room" {
		resp, err := http.Post("http://"+worldAddress+"/report", "text/plain", &out)
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		resp.Body.Close()
		os.Exit(0)
	}
	if where == "step" {
		if err := os.WriteFile("/done", nil, 0o644); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	os.Exit(0)
}

func tryOne(a *attack, where string) report {
	ctx, cancel := context.WithTimeout(context.Background(), await.Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/proc/self/exe", "try", a.name, where)
	cmd.Args[0] = "intruder"
	cmd.WaitDelay = time.Second
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	raw, err := cmd.Output()
	var r report
	if json.Unmarshal(raw, &r) == nil && r.Attack == a.name {
		return r
	}
	// A process that a guard kills prints nothing. One that crashes prints why.
	return report{Attack: a.name, Where: where, Not: []string{fmt.Sprintf("the attempt ended: %v, %v: %s", err, ctx.Err(), stderr.String()[:min(stderr.Len(), 2000)])}}
}

func contains(list []string, s string) bool {
	return slices.Contains(list, s)
}

// bystander is a process of the host that has a secret and must survive.
const bystanderName = "attack-bystander"

var bystanderSecret []byte

func bystander() {
	fmt.Scanf("%s\n", (*byteString)(&bystanderSecret))
	bystanderSecret = append([]byte(memoryMark), bystanderSecret...)
	fmt.Println("ready")
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGTERM)
	<-c
	runtime.KeepAlive(&bystanderSecret)
	os.Exit(0)
}

type byteString []byte

func (b *byteString) Scan(state fmt.ScanState, _ rune) error {
	tok, err := state.Token(true, nil)
	*b = append([]byte(nil), tok...)
	return err
}
