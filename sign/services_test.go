package sign

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// A service that is busy or fails is asked again, and no other answer is repeated.
func TestPostRetries(t *testing.T) {
	for name, tt := range map[string]struct {
		answers []int
		want    string // in the error
		asked   int32
	}{
		"at once":       {answers: []int{201}, asked: 1},
		"busy once":     {answers: []int{429, 200}, asked: 2},
		"always failed": {answers: []int{500, 503, 502, 201}, want: "got status 502", asked: 3},
		"refused":       {answers: []int{400, 201}, want: "got status 400", asked: 1},
		"entry exists":  {answers: []int{409, 201}, want: "the log has this entry already", asked: 1},
		"redirect":      {answers: []int{307, 201}, want: "got status 307", asked: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var asked atomic.Int32
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(tt.answers[asked.Add(1)-1])
			}))
			defer srv.Close()
			_, err := newService(srv.URL, nil).post(t.Context(), header("text/plain"), nil)
			if got := asked.Load(); got != tt.asked {
				t.Errorf("requests: got %d, want %d", got, tt.asked)
			}
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got error %v, want %q in it", err, tt.want)
			}
		})
	}
}

// A request ends with its context, also while the service does not answer.
func TestPostIsCancelled(t *testing.T) {
	stop := errors.New("stopped")
	ctx, cancel := context.WithCancelCause(t.Context())
	release := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		cancel(stop)
		<-release
	}))
	defer srv.Close()
	defer close(release)
	start := time.Now()
	if _, err := newService(srv.URL, nil).post(ctx, header("text/plain"), nil); err == nil {
		t.Error("got an answer")
	}
	if took := time.Since(start); took > timeout/2 {
		t.Errorf("it took %v", took)
	}
}

func TestAnswerIsBounded(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Write(make([]byte, 2<<20))
	}))
	defer srv.Close()
	if _, err := newService(srv.URL, nil).post(t.Context(), header("text/plain"), nil); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("got error %v", err)
	}
}

// The clocks of this machine and of the services must agree before anything is logged.
func TestClock(t *testing.T) {
	now := time.Now()
	for ahead, want := range map[time.Duration]string{
		0: "", 4 * time.Minute: "", -4 * time.Minute: "",
		6 * time.Minute: "6m0s ahead of that of the service", -time.Hour: "1h0m0s behind that of the service",
	} {
		err := checkClock("the service", now.Add(-ahead), now)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%v ahead: got %v, want %q", ahead, err, want)
		}
	}
}

func TestChallenge(t *testing.T) {
	jwt := func(claims string) string {
		return "h." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".s"
	}
	for name, tt := range map[string]struct{ token, want string }{
		"subject":    {jwt(`{"sub":"builder"}`), "builder"},
		"email":      {jwt(`{"sub":"1234","email":"a@example.com"}`), "a@example.com"},
		"no subject": {jwt(`{"iss":"x"}`), ""},
		"not JSON":   {jwt(`secret`), ""},
		"not a JWT":  {"secret", ""},
		"not base64": {"secret.secret!.secret", ""},
	} {
		got, err := challenge(tt.token)
		if got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("%s: got %q, %v; want %q", name, got, err, tt.want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error quotes the token: %v", name, err)
		}
	}
}
