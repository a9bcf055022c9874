package credential

import (
	"strings"
	"testing"
)

func TestURL(t *testing.T) {
	for in, want := range map[string]string{
		"https://h.example/a.tar.gz":                                "https://h.example/a.tar.gz",
		"https://h.example/a?version=1.2&file=b%20c&commit=381e42a": "https://h.example/a?version=1.2&file=b%20c&commit=381e42a",
		"https://h.example/a?token=hunter2&v=1":                     "https://h.example/a?token=redacted&v=1",
		"https://h.example/a?private_token=hunter2":                 "https://h.example/a?private_token=redacted",
		"https://h.example/a?access%5Ftoken=hunter2":                "https://h.example/a?access%5Ftoken=redacted",
		"https://h.example/a?API-Key=hunter2":                       "https://h.example/a?API-Key=redacted",
		"https://s3.example/a?X-Amz-Credential=hunter2&X-Amz-Date=1&X-Amz-Security-Token=hunter2&X-Amz-Signature=hunter2": "https://s3.example/a?X-Amz-Credential=redacted&X-Amz-Date=1&X-Amz-Security-Token=redacted&X-Amz-Signature=redacted",
		"https://az.example/a?sv=2024&se=2026&sig=hunter2%3D":                                                             "https://az.example/a?sv=2024&se=2026&sig=redacted",
		"https://cf.example/a?Expires=1&Signature=hunter2&Key-Pair-Id=hunter2&Policy=hunter2":                             "https://cf.example/a?Expires=1&Signature=redacted&Key-Pair-Id=redacted&Policy=redacted",
		"https://gs.example/a?GoogleAccessId=x&X-Goog-Signature=hunter2":                                                  "https://gs.example/a?GoogleAccessId=x&X-Goog-Signature=redacted",
		"https://h.example/a?x=ghp_hunter2":                                                                               "https://h.example/a?x=redacted",
		"https://h.example/a?ghp_hunter2":                                                                                 "https://h.example/a?redacted",
		"https://h.example/a?x=eyJhbGciOi.hunter2.x":                                                                      "https://h.example/a?x=redacted",
		"https://h.example/a?token=%zzhunter2":                                                                            "https://h.example/a?redacted",
		"https://u:hunter2@h.example/a?b=c#d":                                                                             "https://h.example/a?b=c#d",
		"https://h.example/a?token=":                                                                                      "https://h.example/a?token=",
		"/elsewhere?sig=hunter2":                                                                                          "/elsewhere?sig=redacted",
		"https://h.example/token?service=registry&scope=repository:x":                                                     "https://h.example/token?service=registry&scope=repository:x",
	} {
		got := URL(in)
		if got != want || strings.Contains(got, "hunter2") {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
		if again := URL(got); again != got {
			t.Errorf("%s: got %s the second time", got, again)
		}
	}
	const line = `#5 ADD https://h.example/a?token=hunter2 /x, "https://u:hunter2@h.example/b?v=1\u0026sig=hunter2"`
	if got, want := Text(line), `#5 ADD https://h.example/a?token=redacted /x, "https://h.example/b?v=1&sig=redacted"`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestNames(t *testing.T) {
	for name, want := range map[string]bool{
		"GITHUB_TOKEN": true, "NPM_TOKEN": true, "AWS_SECRET_ACCESS_KEY": true, "AWS_ACCESS_KEY_ID": true, "DB_PASSWORD": true, "PASSWD": true, "SSH_PRIVATE_KEY": true,
		"API_KEY": true, "apiKey": true, "MYSQL_PWD": true, "TOKEN_VALUE": true, "accessToken": true, "TOKENIZERS_PARALLELISM": false, "VERIFY_SIGNATURES": false, "GPG_PASSPHRASE": true, "AUTH": true,
		"VERSION": false, "FLAVOR": false, "KEYBOARD": false, "GOFLAGS": false, "BASE": false, "AUTHOR": false, "PUBLIC_KEY": false, "PWDIR": false, "http_proxy": false,
	} {
		if Name(name) != want {
			t.Errorf("%s: got %v, want %v", name, !want, want)
		}
	}
}
