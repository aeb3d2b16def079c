package config_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/broker"
)

func TestTenantDefaults(t *testing.T) {
	quota, lifetime, longest := 20, 8*time.Hour, 24*time.Hour
	tests := map[string]broker.TenantDefaults{
		"testdata/minimal.good.hcl": {},
		"testdata/full.good.hcl":    {NodeQuota: &quota, SessionLifetime: &lifetime, SessionLifetimeMax: &longest},
	}
	for path, want := range tests {
		if diff := cmp.Diff(want, load(t, path).TenantDefaults); diff != "" {
			t.Errorf("%s (-want +got):\n%s", path, diff)
		}
	}
}
