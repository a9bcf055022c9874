// Command mutate changes a package in many small ways, and finds out which changes its
// tests do not notice.
//
//	go run ./tools/mutate [-min PERCENT] [-shard I/N] [-only FILE] PACKAGE[+PACKAGE…]…
//
// Only the first PACKAGE is changed; the tests of those after "+" are tried, too.
// The changes: conditions negated, boundaries of comparisons moved, && and ||
// exchanged, calls, assignments and returns of errors removed. All mutants of a
// package are compiled into one test binary, through an overlay, and switched on one
// at a time; each is tried on the tests that reach it, with -short. It prints a table
// and the survivors. A survivor that explained.txt names, with the reason why no test
// can or need notice it, is not listed again, but does not count as killed. A mutant
// whose tests only became too slow counts as killed and is listed: on a busy machine it
// may be a survivor.
package main

import (
	_ "embed"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// explained has one line a survivor: FILE TAB FUNCTION TAB KIND TAB SOURCE LINE TAB REASON.
//
//go:embed explained.txt
var explained string

func main() {
	least := flag.Int("min", 90, "fail if fewer `percent` of a package's mutants are killed")
	parallel := flag.Int("parallel", 2, "mutants to try at once")
	of := flag.String("shard", "0/1", "try only mutants number `I/N`, I from 0")
	only := flag.String("only", "", "try only mutants that `FILE`, the output of an earlier run, lists")
	limit := flag.Duration("limit", 2*time.Minute, "leave out tests that take longer than this")
	flag.Parse()
	var shard, shards int
	if n, err := fmt.Sscanf(*of, "%d/%d", &shard, &shards); n != 2 || err != nil || shard < 0 || shard >= shards {
		fmt.Fprintf(os.Stderr, "mutate: -shard: got %q, want I/N\n", *of)
		os.Exit(2)
	}
	reasons, err := parseExplained(explained)
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutate:", err)
		os.Exit(2)
	}
	listed, err := readListed(*only)
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutate: -only:", err)
		os.Exit(2)
	}
	failed := false
	fmt.Printf("%-40s %7s %7s %9s %6s\n", "package", "mutants", "killed", "explained", "score")
	var show []outcome
	for _, arg := range flag.Args() {
		packages := strings.Split(arg, "+")
		path := packages[0]
		all, err := mutate(path, packages[1:], *parallel, *limit, func(n int, m mutant) bool {
			return n%shards == shard && (*only == "" || listed[m.key()])
		})
		if err != nil {
			fmt.Fprintln(os.Stderr, "mutate:", err)
			failed = true
			continue
		}
		dead, known := 0, 0
		for _, o := range all {
			switch {
			case o.state == killed:
				dead++
			case o.state == slow:
				dead++
				show = append(show, o)
			case reasons[o.key()] != "":
				known++
			default:
				show = append(show, o)
			}
		}
		score := 100 * dead / max(1, len(all))
		failed = failed || score < *least
		fmt.Printf("%-40s %7d %7d %9d %5d%%\n", path, len(all), dead, known, score)
	}
	for _, o := range show {
		fmt.Printf("%s: %s\n", o.state, o.mutant)
	}
	if failed {
		os.Exit(1)
	}
}

// mutate judges the mutants of a package that chosen accepts, by number.
func mutate(path string, others []string, parallel int, limit time.Duration, chosen func(int, mutant) bool) ([]outcome, error) {
	work, err := os.MkdirTemp("", "mutate-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(work)
	p, err := build(path, others, work)
	if err != nil {
		return nil, err
	}
	if err := p.trace(limit); err != nil {
		return nil, err
	}
	return p.judgeAll(parallel, chosen), nil
}

// key identifies a mutant by what it changes, so that other lines may move.
func (m mutant) key() string {
	return strings.Join([]string{filepath.Base(filepath.Dir(m.file)) + "/" + filepath.Base(m.file), m.fn, m.kind, m.text}, "\t")
}

// outcomeLine is how main prints an outcome: its state, file and line, function, kind
// and source line.
var outcomeLine = regexp.MustCompile(`(?m)^[a-z ]+: (\S+\.go):\d+: (\w+): ([a-z&| ]+): (.*)$`)

// readListed returns the keys of the mutants that an earlier run's output lists.
func readListed(file string) (map[string]bool, error) {
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	keys := map[string]bool{}
	for _, m := range outcomeLine.FindAllStringSubmatch(string(text), -1) {
		keys[mutant{file: m[1], fn: m[2], kind: m[3], text: m[4]}.key()] = true
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("%s lists no mutants", file)
	}
	return keys, nil
}

func parseExplained(text string) (map[string]string, error) {
	reasons := map[string]string{}
	for i, line := range strings.Split(text, "\n") {
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		fields := strings.Split(line, "\t")
		if len(fields) != 5 || slices.Contains(fields, "") {
			return nil, fmt.Errorf("explained.txt:%d: got %q, want FILE, FUNCTION, KIND, SOURCE LINE and REASON, separated by tabs", i+1, line)
		}
		reasons[strings.Join(fields[:4], "\t")] = fields[4]
	}
	return reasons, nil
}
