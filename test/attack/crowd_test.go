package attack

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

var _ = register(attack{
	name: "slow-bodies", tries: "stop the log for everybody else with 1,100 bodies that never end",
	guard: "the port reads small bodies to their end before a role sees the request: platform/front Buffered",
	cuts:  []cut{{"platform/role_front.go", `mux.Handle("/", front.Buffered(proxy(roleTrust)))`, `mux.Handle("/", proxy(roleTrust))`}},
	beside: func(s *scene) (string, string) {
		p := s.platform("step")
		for range 1100 {
			c, err := net.Dial("tcp", p.Addr)
			if err != nil {
				s.Fatal(err)
			}
			defer c.Close()
			if _, err := io.WriteString(c, "POST /api/v2/log/entries HTTP/1.1\r\nHost: "+p.Addr+"\r\nContent-Length: 1000\r\n\r\n{"); err != nil {
				s.Fatal(err)
			}
		}
		time.Sleep(2 * time.Second)
		code, answer := s.put(p, http.MethodPost, "/api/v2/log/entries", "", "application/json", []byte("{}"))
		if code == http.StatusServiceUnavailable {
			return fmt.Sprintf("the log refuses everybody: %d %s", code, answer), ""
		}
		return "", fmt.Sprintf("the log answers the next request: %d %s", code, answer)
	},
})

var _ = register(attack{
	name: "empty-uploads", tries: "block the pushes of everybody else with uploads that are started and left alone",
	guard: "unfinished uploads are bounded for each token: platform/registry tryUpload",
	cuts:  []cut{{"platform/registry/upload.go", `if a.uploads >= r.cfg.MaxUploads {`, `if len(r.uploads) >= r.cfg.MaxUploads {`}},
	beside: func(s *scene) (string, string) {
		p := s.platform("step")
		said := ""
		for range 300 {
			code, answer := s.put(p, http.MethodPost, "/v2/crowd/blobs/uploads/", "client.json", "", nil)
			said = fmt.Sprintf("%d %s", code, answer)
		}
		if !strings.HasPrefix(said, "429") {
			s.Fatalf("after 300 uploads: got %s, want 429", said)
		}
		if code, answer := s.put(p, http.MethodPost, "/v2/others/blobs/uploads/", "admin.json", "", nil); code != http.StatusAccepted {
			return fmt.Sprintf("another token cannot push: %d %s", code, answer), ""
		}
		return "", said
	},
})

// These accidents are unit tests of the packages.
func init() {
	for _, a := range []attack{
		{name: "damaged-blob", tries: "have a push of the right bytes over a damaged blob acknowledged, while the damage stays",
			guard: "an existing blob is compared before it is trusted: platform/registry linkOrReplace", unit: "platform/registry: TestDamagedBlob",
			cuts: []cut{{"platform/registry/store.go", `same, err := sameContent(tmp, dst)`, `same := true`}}},
		{name: "damaged-log", tries: "have the log serve an entry bundle that its disk has changed",
			guard: "each tile is verified when it is read: platform/authority/log published", unit: "platform/authority/log: TestDamagedTilesAreNotServed",
			cuts: []cut{{"platform/authority/log/published.go", `err = tlog.VerifyTile(ctx, v, v.view.Checkpoint, t, data)`, `err = nil`}}},
		{name: "damaged-ct-log", tries: "have the CT log go on from a checkpoint that its disk has changed or lost",
			guard: "the checkpoint is checked before Tessera starts: platform/authority/tiles Check", unit: "platform/authority/ctlog: TestDamagedLogDoesNotStart",
			cuts: []cut{{"platform/authority/ctlog/ctlog.go", `if err := tiles.Check(context.Background(), cfg.TileDir, s.verifier); err != nil {`, `if err := tiles.Check(context.Background(), cfg.TileDir, s.verifier); err != nil && false {`}}},
		{name: "lost-tuf-root", tries: "have the trust services make a lost TUF root again, as another version 1",
			guard: "the keys' directory records which roots were published: platform/authority/root readRoots", unit: "platform/authority/root: TestDamagedRepositoryDoesNotStart",
			cuts: []cut{{"platform/authority/root/served.go", `			if version <= len(published.Roots) {`, `			if false {`}}},
		{name: "full-disk-index", tries: "have the log forget on a full disk which entries it acknowledged",
			guard: "only damage makes the log create its index again: internal/cachedb Open", unit: "platform/authority/log: TestStartOnFullDisk",
			cuts: []cut{{"internal/cachedb/cachedb.go", `if !isDamage(err) {`, `if err == nil {`}}},
	} {
		register(a)
	}
}
