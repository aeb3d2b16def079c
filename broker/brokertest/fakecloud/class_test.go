package fakecloud_test

import (
	"encoding/json"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/brokertest"
	"github.com/duffy-broker/duffy-broker/broker/brokertest/fakecloud"
	"github.com/duffy-broker/duffy-broker/broker/secret"
	"github.com/duffy-broker/duffy-broker/broker/terraform"
)

// Each way in which the cloud fails comes out of the engine with its class, and
// with what the cloud said in full.
func TestFailureClasses(t *testing.T) {
	program := brokertest.NeedProgram(t, "terraform")
	t.Setenv("TF_CLI_CONFIG_FILE", fakecloud.Mirror(t))
	c := fakecloud.Start(t, fakecloud.Config{})
	dir := t.TempDir()
	keys, err := secret.Open(filepath.Join(dir, "keys"))
	if err != nil {
		t.Fatal(err)
	}
	e := terraform.New(terraform.Config{
		Binary: terraform.Binary{Path: program}, Dir: dir, BrokerID: "broker-1", Keyring: keys, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	variables, err := json.Marshal(map[string]any{"endpoint": c.URL()})
	if err != nil {
		t.Fatal(err)
	}
	pool := broker.Pool{Name: "a", Module: filepath.Join("testdata", "module"), Variables: variables, CreateTimeout: time.Hour, DestroyTimeout: time.Hour}
	if pool.Source, err = e.Prepare(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	for class, want := range map[fakecloud.Class]broker.FailureClass{
		fakecloud.Throttled:            broker.FailureThrottled,
		fakecloud.InsufficientCapacity: broker.FailureNoCapacity,
		fakecloud.QuotaExceeded:        broker.FailureQuota,
		fakecloud.AuthFailure:          broker.FailureAuth,
		fakecloud.InvalidConfiguration: broker.FailureConfiguration,
		fakecloud.Unreachable:          broker.FailureUnreachable,
		fakecloud.NotFound:             broker.FailureOther,
	} {
		t.Run(string(class), func(t *testing.T) {
			c.SetFaults(fakecloud.Faults{Failures: []fakecloud.Failure{{Operation: fakecloud.Create, Class: class}}})
			n := broker.NewNode(pool, time.Now())
			_, err := e.Apply(t.Context(), n)
			if got := broker.FailureClassOf(err); got != want {
				t.Errorf("class %s, want %s: %v", got, want, err)
			}
			if err == nil || !strings.Contains(err.Error(), string(class)+": ") {
				t.Errorf("error %v does not hold what the cloud said", err)
			}
			if _, err := e.Destroy(t.Context(), n, nil); err != nil {
				t.Error(err)
			}
			if err := e.Discard(n); err != nil {
				t.Error(err)
			}
		})
	}
	wantTruth(t, c)
}
