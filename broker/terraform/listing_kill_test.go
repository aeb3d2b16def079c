package terraform

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
)

func setProgram(t *testing.T, e *Engine, text string) {
	t.Helper()
	write(t, e.Binary.Path+".new", text)
	if err := errors.Join(os.Chmod(e.Binary.Path+".new", 0o700), os.Rename(e.Binary.Path+".new", e.Binary.Path)); err != nil {
		t.Fatal(err)
	}
}

// ctx ends while Terraform starts: many tries at many moments.
func TestListingGivenUpAtAnyMoment(t *testing.T) {
	e, _ := fakeEngine(t, "", "")
	setProgram(t, e, "#!/bin/sh\ncase $1 in\nversion) echo '{\"terraform_version\":\"1.11.4\"}';;\n*) sleep 0.3;;\nesac\n")
	write(t, filepath.Join(e.templatesDir(), "t1", sweepDir, "main.tf"), "variable \"broker\" {}\n")
	p := broker.Pool{Name: "small", Source: broker.Source{Template: "t1", Sweeps: true}}
	panics := 0
	for i := range 100 {
		ctx, cancel := context.WithCancel(t.Context())
		go func() { time.Sleep(time.Duration(i%60) * 100 * time.Microsecond); cancel() }()
		func() {
			defer func() {
				if recover() != nil {
					panics++
				}
			}()
			_, _ = e.List(ctx, p)
		}()
		cancel()
	}
	t.Logf("panics: %d of 100", panics)
	if panics > 0 {
		t.Fail()
	}
}

func TestListingStopsQuickly(t *testing.T) {
	e, _ := fakeEngine(t, "", "")
	setProgram(t, e, "#!/bin/sh\ncase $1 in\nversion) echo '{\"terraform_version\":\"1.11.4\"}';;\n*) trap '' INT; : > \"$0.began\"; i=0; while test $i -lt 400; do sleep 0.05; i=$((i+1)); done;;\nesac\n")
	write(t, filepath.Join(e.templatesDir(), "t1", sweepDir, "main.tf"), "variable \"broker\" {}\n")
	p := broker.Pool{Name: "small", Source: broker.Source{Template: "t1", Sweeps: true}}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _, _ = e.List(ctx, p) }()
	waitForFile(t, e.Binary.Path+".began")
	time.Sleep(200 * time.Millisecond)
	begin := time.Now()
	cancel()
	<-done
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("given up after %s", took)
	}
}

func TestImportAfterADamagedState(t *testing.T) {
	e, n := fakeEngine(t, "", "")
	n.Import = map[string]string{"fake.node": "i-1"}
	setProgram(t, e, "#!/bin/sh\ncase $1 in\nimport) if test -e terraform.tfstate; then echo 'Error: Error acquiring the state lock' >&2; exit 1; fi; echo '"+stateMade+"' > terraform.tfstate;;\n"+
		"destroy) echo '"+stateGone+"' > terraform.tfstate; echo '{\"type\":\"change_summary\",\"changes\":{\"operation\":\"destroy\"}}';;\nesac\n")
	write(t, filepath.Join(e.runsDir(), n.UID, stateFile), `{"version":4,"lin`)
	if _, err := e.Destroy(t.Context(), n, nil); err != nil {
		t.Fatal(err)
	}
}
