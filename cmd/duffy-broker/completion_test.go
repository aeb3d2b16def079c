package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/broker/brokertest"
)

// completed asks as the scripts of the shells do, and gives what is completed and
// what the shell is told about it.
func completed(t *testing.T, args ...string) (found []string, directive string) {
	t.Helper()
	code, out, errOut := command(t, append([]string{"__complete"}, args...)...)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if code != exitDone || len(lines) == 0 {
		t.Fatalf("%v: exit %d: %s%s", args, code, out, errOut)
	}
	for _, line := range lines[:len(lines)-1] {
		text, _, _ := strings.Cut(line, "\t")
		found = append(found, text)
	}
	return found, lines[len(lines)-1]
}

// Names and ids that the broker knows are completed.
func TestCompletion(t *testing.T) {
	noSettings(t)
	const nothing, file, noSpace, dirs = ":4", ":0", ":6", ":16"
	tests := []struct {
		args      []string
		want      []string
		directive string
	}{
		{[]string{"client", "request-session", ""}, []string{"pool=small,quantity=", "pool=large,quantity="}, noSpace},
		{[]string{"client", "request-session", "pool=s"}, []string{"pool=small,quantity="}, noSpace},
		{[]string{"client", "request-session", "pool=small,quantity=2", ""}, []string{"pool=large,quantity="}, noSpace},
		{[]string{"client", "run", "pool=l"}, []string{"pool=large,quantity="}, noSpace},
		{[]string{"client", "run", "pool=large,quantity=1", "--", "l"}, nil, file},
		{[]string{"client", "run", "pool=large,quantity=1", "--", "ls", ""}, nil, file},
		{[]string{"client", "show-pool", ""}, []string{"small", "large"}, nothing},
		{[]string{"client", "show-session", ""}, []string{"1"}, nothing},
		{[]string{"client", "ssh", ""}, []string{"1"}, nothing},
		{[]string{"client", "ssh", "1", "host-"}, []string{"host-"}, nothing},
		{[]string{"client", "ssh", "one", ""}, nil, nothing},
		{[]string{"client", "list-pools", ""}, nil, nothing},
		{[]string{"modules", "show", "loc"}, []string{"local"}, file},
		{[]string{"modules", "copy", "loc"}, []string{"local"}, file},
		{[]string{"modules", "copy", "local", ""}, nil, dirs},
		{[]string{"modules", "lock", ""}, nil, dirs},
		{[]string{"modules", "test", "--pools", "../../pools.hcl", ""}, []string{"local-small", "local-large"}, nothing},
		{[]string{"session", "show", ""}, []string{"1"}, nothing},
		{[]string{"session", "extend", "1", ""}, nil, nothing},
		{[]string{"session", "list", "--tenant", ""}, []string{"admin", "demo"}, nothing},
		{[]string{"admin", "tenant", "update", "d"}, []string{"demo"}, nothing},
		{[]string{"tenant", "create", ""}, nil, nothing},
		{[]string{"tenant", "legacy-key", "add", ""}, []string{"admin", "demo"}, nothing},
		{[]string{"legacy", "key", "remove", "demo", ""}, []string{"1"}, nothing},
		{[]string{"node", "show", ""}, []string{"1", "2", "3", "4", "5", "6"}, nothing},
		{[]string{"node", "hold", "5"}, []string{"5"}, nothing},
		{[]string{"node", "workspace", "5", ""}, nil, dirs},
		{[]string{"node", "list", "--pool", "l"}, []string{"large"}, nothing},
		// Words that never change are all given: the shell picks those that fit.
		{[]string{"node", "list", "--state", "de"}, []string{"unused", "provisioning", "ready", "contextualizing", "deployed", "deprovisioning", "failed", "done"}, nothing},
		{[]string{"client", "list-pools", "--format=t"}, []string{"json", "yaml", "flat", "table"}, nothing},
		{[]string{"tenant", "list", "--data-dir", ""}, nil, dirs},
		{[]string{"validate", ""}, nil, file},
		{[]string{"fmt", "a.hcl", ""}, nil, file},
		{[]string{"plan", "--format", ""}, []string{"text", "json", "markdown"}, nothing},
		{[]string{"pool", "show", "s"}, []string{"small"}, nothing},
		{[]string{"rollout", "pause", "s"}, []string{"small"}, nothing},
		{[]string{"client", "show-p"}, []string{"show-pool"}, nothing},
	}
	d := newTestDir(t)
	d.served(func(string) {
		for _, test := range tests {
			found, directive := completed(t, test.args...)
			for i := range found { // host names are random
				if strings.HasPrefix(found[i], "host-") {
					found[i] = "host-"
				}
			}
			if diff := cmp.Diff(test.want, found); diff != "" || directive != test.directive {
				t.Errorf("%v: %s, want %s (-want +got):\n%s", test.args, directive, test.directive, diff)
			}
		}
		// Who asks is read from the command line, too.
		t.Setenv("DUFFY_BROKER_AUTH_KEY", "")
		if found, _ := completed(t, "node", "show", "--auth-name", "admin", "--auth-key", d.admin, ""); len(found) != 6 {
			t.Errorf("with flags: %v", found)
		}
		if found, directive := completed(t, "node", "show", "--auth-key", "wrong", ""); len(found) != 0 || directive != nothing {
			t.Errorf("with a wrong key: %v %s", found, directive)
		}
	})
}

// A broker that does not answer costs a moment, and says nothing.
func TestCompletion_noAnswer(t *testing.T) {
	noSettings(t)
	gone := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		gone <- struct{}{}
	}))
	defer srv.Close()
	for _, url := range []string{srv.URL, "http://127.0.0.1:1", "nonsense", ""} {
		t.Setenv("DUFFY_BROKER_URL", url)
		code, out, errOut := command(t, "__complete", "client", "show-pool", "")
		if code != exitDone || out != ":4\n" || strings.Contains(errOut, "broker at") {
			t.Errorf("%s: exit %d: %s%s", url, code, out, errOut)
		}
		if url == srv.URL {
			<-gone // given up by the client
		}
	}
}

// The shells themselves, as far as they are here.
func TestCompletion_shells(t *testing.T) {
	noSettings(t)
	d := newTestDir(t)
	t.Setenv("PATH", filepath.Dir(binary)+string(os.PathListSeparator)+os.Getenv("PATH"))
	// What bash-completion defines, for the one line that is asked.
	const bash = `
_get_comp_words_by_ref() { words=(duffy-broker client run "$line"); cword=3; cur=$line; prev=run; }
compopt() { :; }
source <(duffy-broker completion bash)
line=$1 COMP_WORDBREAKS=$' \t\n"'"'"'><=;|&(:'
__start_duffy-broker
printf '%s\n' "${COMPREPLY[@]}"
`
	const fish = `
duffy-broker completion fish | source
complete -C "duffy-broker client run $argv[1]"
`
	shells := map[string]struct {
		script string
		want   []string
	}{
		"bash": {bash, []string{`large\,quantity=`}}, // readline has a word begin behind =
		"fish": {fish, []string{"pool=large,quantity="}},
	}
	d.served(func(string) {
		for shell, test := range shells {
			t.Run(shell, func(t *testing.T) {
				args := []string{"-c", test.script, "x", "pool=l"}
				if shell == "fish" {
					args = slices.Delete(args, 2, 3)
				}
				cmd := exec.CommandContext(t.Context(), brokertest.NeedProgram(t, shell), args...)
				cmd.WaitDelay = time.Minute
				out, err := cmd.CombinedOutput()
				if diff := cmp.Diff(test.want, strings.Fields(string(out))); err != nil || diff != "" {
					t.Errorf("%v (-want +got):\n%s", err, diff)
				}
			})
		}
	})
	if out, err := exec.CommandContext(t.Context(), binary, "completion", "zsh").Output(); err != nil || !strings.HasPrefix(string(out), "#compdef duffy-broker") {
		t.Errorf("zsh: %v", err)
	}
}
