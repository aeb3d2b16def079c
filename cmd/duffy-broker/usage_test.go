package main

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Whatever is wrong, the message says what, and then what to do about it.
func TestErrorsSayWhatToDo(t *testing.T) {
	noSettings(t)
	answers := func(status int, header, body string) string {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if name, value, ok := strings.Cut(header, ": "); ok {
				w.Header().Set(name, value)
			}
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
		}))
		t.Cleanup(srv.Close)
		return srv.URL
	}
	quiet := func(srv *httptest.Server, start func(*httptest.Server)) string {
		srv.Config.ErrorLog = discardLog()
		start(srv)
		t.Cleanup(srv.Close)
		return srv.URL
	}
	handler := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	secure := quiet(httptest.NewUnstartedServer(handler), (*httptest.Server).StartTLS)
	plain := quiet(httptest.NewUnstartedServer(handler), (*httptest.Server).Start)

	d := newTestDir(t)
	config := os.Getenv("XDG_CONFIG_HOME")
	write := func(path, text string) {
		path = filepath.Join(config, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d.served(func(url string) {
		admin := []string{"--url", url, "--auth-name", "admin", "--auth-key", d.admin}
		demo := []string{"--url", url, "--auth-name", "demo", "--auth-key", d.key}
		at := func(url string) []string { return []string{"--url", url, "--auth-name", "a", "--auth-key", "k"} }
		for _, test := range []struct {
			args string
			more []string
			what string // is wrong
			todo string
		}{
			// The connection.
			{"tenant list", at("http://127.0.0.1:1"), "can't reach the broker at http://127.0.0.1:1/api/v1", "is `duffy-broker serve` running there?"},
			{"tenant list", at("unix:/nowhere/socket"), "can't reach the broker at unix:/nowhere/socket", "is `duffy-broker serve` running there?"},
			{"tenant list", at("127.0.0.1:8080"), "the broker's URL is not one", "it looks like http://127.0.0.1:8080/api/v1, or unix:PATH"},
			{"tenant list", at(secure), "certificate signed by unknown authority", "SSL_CERT_FILE"},
			{"client request-session pool=small,quantity=1", at(secure), "certificate signed by unknown authority", "SSL_CERT_FILE"},
			{"tenant list", at(strings.Replace(plain, "http:", "https:", 1)), "HTTP response to HTTPS client", "begin with http://"},
			{"tenant list", at(strings.Replace(secure, "https:", "http:", 1)), "400 Bad Request", "begin with https://"},
			{"tenant list", at(answers(200, "", "<html>")), "can't be understood", "is the URL that of a broker?"},
			{"tenant list", at(answers(502, "", "<html>")), "502 Bad Gateway", "does a proxy stand between?"},
			{"events", at(answers(200, "", "{}")), "not a stream of events", "is the URL that of a broker?"},
			// Refusals, of ours and of Duffy.
			{"tenant list", at(url), "Unauthorized", "tenant name and API key don't fit; check --auth-name and --auth-key"},
			{"tenant list", at(answers(401, "", `{"detail": "Unauthorized"}`)), "Unauthorized", "check --auth-name and --auth-key"},
			{"tenant retire demo", demo, "Forbidden", "only admins may change tenants; ask as somebody who may"},
			{"client list-nodes", at(answers(403, "", `{"detail": "Forbidden"}`)), "Forbidden", "ask as somebody who may"},
			{"node show 99", admin, "Not Found", "there is no node 99; the list commands show what there is"},
			{"client show-session 99", at(answers(404, "", `{"detail": "Not Found"}`)), "Not Found", "the list commands show what there is"},
			{"tenant list", at(answers(429, "Retry-After: 7", `{"detail": "too many requests", "code": "unavailable", "hint": "wait"}`)), "too many requests", "try again in 7 s"},
			{"tenant list", at(answers(500, "X-Request-Id: r1", `{"detail": "internal error", "code": "internal"}`)), "internal error", "request_id r1"},
			{"tenant show nobody", admin, `there is no tenant "nobody"`, "duffy-broker tenant list shows"},
			{"client request-session pool=none,quantity=1", demo, "can't reserve nodes", "list-pools shows them"},
			{"client request-session pool=small,quantity=50", demo, "quota exceeded", "give back a session"},
			{"client retire-session 99", demo, "Not Found", "the list commands show what there is"},
			// The command line.
			{"tenant list --format xml", nil, `there is no format "xml"`, "json, yaml, flat, table"},
			{"version --format xml", nil, `there is no format "xml"`, "json, yaml, flat, table"},
			{"tenant list --nonsense", nil, "unknown flag: --nonsense", "duffy-broker tenant list --help lists the flags"},
			{"tenant list -x", nil, "unknown shorthand flag", "--help lists the flags"},
			{"tenant list --url", nil, "flag needs an argument: --url", "--help lists the flags"},
			{"client run --timeout soon", nil, `invalid argument "soon" for "--timeout"`, "duffy-broker client run --help lists the flags"},
			{"tenant show", nil, "duffy-broker tenant show accepts 1 arg(s), received 0", "usage: duffy-broker tenant show TENANT; for example: duffy-broker tenant show demo"},
			{"tenant list demo", nil, `unknown command "demo" for "duffy-broker tenant list"`, "usage: duffy-broker tenant list"},
			{"tenant lst", nil, `unknown command "lst"`, "did you mean list?"},
			{"xyzzy", nil, `unknown command "xyzzy"`, "duffy-broker --help lists the commands"},
			{"client run pool=small,quantity=1", nil, "run takes pool=NAME,quantity=N ... -- COMMAND", "for example: duffy-broker client run"},
			{"client ssh", nil, "ssh takes SESSION [NODE] [-- COMMAND]", "for example: duffy-broker client ssh"},
			{"client request-session small", nil, `nodes spec "small"`, "write it like pool="},
			{"client show-session one", nil, `session "one" is not a number`, "list-sessions shows the ids"},
			{"node show one", nil, `node "one" is not a number`, "node list shows the ids"},
			{"node workspace 1 . --discard", nil, "--discard goes with --return", "add --return"},
			{"legacy key remove demo one", nil, `key id "one" is not a number`, "legacy report shows the ids"},
			{"tenant reset-key demo --keep-previous --drop-previous", nil, "[drop-previous keep-previous] were all set", "duffy-broker tenant reset-key --help"},
			{"tenant update demo --quota many", nil, `quota "many" is not a number`, "write a whole number"},
			{"session extend 1 soon", admin, "invalid datetime format", "use a shift like +1h"},
			{"validate nowhere.hcl", nil, "nowhere.hcl has mistakes", "each is named above"},
			{"key list --data-dir " + t.TempDir(), nil, "is not the data directory of a broker", "name it with --data-dir"},
		} {
			code, _, errOut := command(t, append(strings.Fields(test.args), test.more...)...)
			what, todo, _ := strings.Cut(errOut[max(0, strings.Index(errOut, "duffy-broker: ")):], "\n")
			if code != exitFailed || !strings.Contains(what, test.what) || !strings.Contains(todo, test.todo) {
				t.Errorf("%s: exit %d, want %q and %q:\n%s", test.args, code, test.what, test.todo, errOut)
			}
		}

		// What could not be printed is not done.
		command(t, append(strings.Fields("tenant retire demo --format xml"), admin...)...)
		if _, out, _ := command(t, append(strings.Fields("tenant show demo --format flat"), admin...)...); !strings.Contains(out, "active=TRUE") {
			t.Errorf("got %s", out)
		}

		// What is told to people is told to programs, too.
		if _, out, _ := command(t, append(strings.Fields("node show 99 --format json"), admin...)...); out != `{"error": {"detail": "Not Found", "code": "not_found", "hint": "there is no node 99; the list commands show what there is"}}`+"\n" {
			t.Errorf("got %s", out)
		}
	})

	// Settings.
	for _, name := range []string{"DUFFY_BROKER_URL", "DUFFY_BROKER_AUTH_NAME", "DUFFY_BROKER_AUTH_KEY"} {
		t.Setenv(name, "")
	}
	settings := func(args, what, todo string) {
		t.Helper()
		code, _, errOut := command(t, strings.Fields(args)...)
		if code != exitFailed || !strings.Contains(errOut, what) || !strings.Contains(errOut, todo) {
			t.Errorf("%s: exit %d, want %q and %q:\n%s", args, code, what, todo, errOut)
		}
	}
	settings("client list-pools", "no broker is known", "duffy-broker serve")
	settings("client list-pools --profile x", `there is no client profile "x"`, "--url, --auth-name and --auth-key")
	write("duffy/client.yaml", "client: [")
	settings("client list-pools", "client.yaml: yaml: line 1", "mend it, or name a broker with --url")
	write("duffy-broker/b-1.yaml", "url: http://127.0.0.1:1")
	settings("client list-pools --profile x", `there is no client profile "x"`, "those here are b-1")
	write("duffy-broker/b-1.yaml", "url: [")
	settings("client list-pools --profile b-1", "b-1.yaml is not valid YAML", "mend it, or move it away")
}

func discardLog() *log.Logger { return log.New(io.Discard, "", 0) }
