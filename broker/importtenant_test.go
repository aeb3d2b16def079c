package broker_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/store/fault"
	"github.com/duffy-broker/duffy-broker/store/memory"
)

// names lists the tenants of a store.
func names(t *testing.T, store broker.Store) (names []string) {
	t.Helper()
	err := store.View(t.Context(), func(tx broker.ReadTx) error {
		list, err := tx.Tenants()
		for _, tenant := range list {
			names = append(names, tenant.Name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestImportTenants(t *testing.T) {
	quota, lifetime := 3, time.Hour
	full := broker.Tenant{
		Name: "full", IsAdmin: true, SSHKey: "one\ntwo", KeyHash: broker.ImportedHash([]byte("h")), CreatedAt: t0.Add(-time.Hour), RetiredAt: t0,
		NodeQuota: &quota, SessionLifetime: &lifetime, SessionLifetimeMax: &lifetime,
	}
	type row struct {
		Name   string
		Exists bool
		Wanted bool
		Stored bool
	}
	tests := map[string]struct {
		tenants []broker.TenantImport
		options broker.ImportOptions
		code    broker.Code
		want    []row
		stored  []string
	}{
		"all": {
			tenants: []broker.TenantImport{{Tenant: full}, {Tenant: broker.Tenant{Name: "known"}, Problem: "of no interest"}, {Tenant: broker.Tenant{Name: "second"}}},
			want:    []row{{"full", false, true, true}, {"known", true, false, false}, {"second", false, true, true}},
			stored:  []string{"known", "full", "second"},
		},
		"a dry run": {
			tenants: []broker.TenantImport{{Tenant: full}, {Tenant: broker.Tenant{Name: "known"}}}, options: broker.ImportOptions{DryRun: true},
			want: []row{{"full", false, true, false}, {"known", true, false, false}}, stored: []string{"known"},
		},
		"one is refused, so all are": {
			tenants: []broker.TenantImport{{Tenant: full}, {Tenant: broker.Tenant{Name: "bad"}, Problem: "is bad"}}, code: broker.CodeInvalid,
			want: []row{{"full", false, true, false}, {"bad", false, false, false}}, stored: []string{"known"},
		},
		"a dry run says so, too": {
			tenants: []broker.TenantImport{{Tenant: broker.Tenant{Name: "a:b"}}}, options: broker.ImportOptions{DryRun: true}, code: broker.CodeInvalid,
			want: []row{{"a:b", false, false, false}}, stored: []string{"known"},
		},
		"or it is left out": {
			tenants: []broker.TenantImport{{Tenant: broker.Tenant{Name: "é"}}, {Tenant: broker.Tenant{Name: "bad"}, Problem: "is bad"}, {Tenant: full}},
			options: broker.ImportOptions{SkipInvalid: true},
			want:    []row{{"é", false, false, false}, {"bad", false, false, false}, {"full", false, true, true}}, stored: []string{"known", "full"},
		},
		"twice": {
			tenants: []broker.TenantImport{{Tenant: full}, {Tenant: full}},
			want:    []row{{"full", false, true, true}, {"full", true, false, false}}, stored: []string{"known", "full"},
		},
		"none": {want: []row{}, stored: []string{"known"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			store := memory.New()
			update(t, store, func(tx broker.Tx) error { return tx.CreateTenant(&broker.Tenant{Name: "known"}) })
			test.options.From, test.options.Now = "elsewhere", t0
			plan, err := broker.ImportTenants(t.Context(), store, test.tenants, test.options)
			if broker.CodeOf(err) != test.code {
				t.Errorf("error %v, want code %q", err, test.code)
			}
			got := []row{}
			for _, p := range plan {
				got = append(got, row{p.Tenant.Name, p.Exists, p.Wanted(), p.Tenant.ID != 0})
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.stored, names(t, store)); diff != "" {
				t.Errorf("stored (-want +got):\n%s", diff)
			}
			if name != "all" {
				return
			}
			want := full
			want.ID = 2
			if diff := cmp.Diff(want, storedTenant(t, store, "full")); diff != "" {
				t.Errorf("stored tenant (-want +got):\n%s", diff)
			}
			var events []broker.Event
			if err := store.View(t.Context(), func(tx broker.ReadTx) (err error) {
				events, err = tx.Events(0, 10)
				return err
			}); err != nil {
				t.Fatal(err)
			}
			if len(events) != 2 || events[0].TenantID != 2 || !strings.Contains(events[0].Message, "'full' imported from elsewhere") || !events[0].At.Equal(t0) {
				t.Errorf("events %+v", events)
			}
			// Again: nothing changes.
			plan, err = broker.ImportTenants(t.Context(), store, test.tenants, test.options)
			if err != nil || plan[0].Wanted() || plan[2].Wanted() || len(names(t, store)) != 3 {
				t.Errorf("the second time: %+v, %v", plan, err)
			}
		})
	}
}

// All or none, also where a store runs the transaction again.
func TestImportTenantsAtomic(t *testing.T) {
	two := []broker.TenantImport{{Tenant: broker.Tenant{Name: "a"}}, {Tenant: broker.Tenant{Name: "b"}}}
	store := fault.New(memory.New())
	injected := errors.New("injected")
	store.FailUpdate(1, fault.Before, injected)
	if _, err := broker.ImportTenants(t.Context(), store, two, broker.ImportOptions{Now: t0}); !errors.Is(err, injected) || len(names(t, store)) > 0 {
		t.Errorf("a failed import: %v, and stored are %v", err, names(t, store))
	}
	store.RunTwice()
	plan, err := broker.ImportTenants(t.Context(), store, two, broker.ImportOptions{Now: t0})
	if err != nil || len(plan) != 2 || !plan[1].Wanted() || plan[1].Tenant.ID != storedTenant(t, store, "b").ID {
		t.Errorf("run again: %+v, %v", plan, err)
	}
}
