package config_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/duffy-broker/duffy-broker/broker/config"
)

// eachBlock visits a block and all that nest in it.
func eachBlock(b *config.Block, path string, visit func(path string, b *config.Block)) {
	visit(path, b)
	for _, nested := range b.Blocks {
		eachBlock(nested, strings.TrimPrefix(path+"."+nested.Name, "."), visit)
	}
}

// Whatever the readers take is described: a setting without words of its own is
// a mistake.
func TestDescribe_everySettingHasWords(t *testing.T) {
	settings := 0
	eachBlock(config.Describe(), "", func(path string, b *config.Block) {
		if path != "" && !strings.HasSuffix(b.Doc, ".") {
			t.Errorf("block %s: no sentence says what it is for: %q", path, b.Doc)
		}
		for _, s := range b.Settings {
			settings++
			if !strings.HasSuffix(s.Doc, ".") || s.Kind == "" {
				t.Errorf("setting %s of %s: no sentence says what it is for, or no words what is written: %q, %q", s.Name, path, s.Doc, s.Kind)
			}
		}
	})
	if settings < 50 {
		t.Errorf("%d settings are described: the readers have more", settings)
	}
}

func TestDescribe_properties(t *testing.T) {
	blocks := make(map[string]*config.Block)
	eachBlock(config.Describe(), "", func(path string, b *config.Block) { blocks[path] = b })
	for path, want := range map[string]struct{ labelled, once bool }{
		"terraform": {false, true}, "defaults": {false, true}, "account": {true, false}, "pool": {true, false},
		"pool.ready": {false, true}, "legacy.map": {false, false}, "pool.schedule": {true, false},
	} {
		b := blocks[path]
		if b == nil {
			t.Errorf("block %s is not described", path)
			continue
		}
		if b.Labelled != want.labelled || b.Once != want.once {
			t.Errorf("block %s: has a name: %t, once: %t, want %+v", path, b.Labelled, b.Once, want)
		}
	}
	for _, want := range []struct{ path, name, value string }{
		{"pool", "create_timeout", "`\"15m\"`"},
		{"pool", "fill_level", "`0`"},
		{"tenant_defaults", "node_quota", "`10`"},
		{"legacy", "max_wait", "`\"30s\"`"},
		{"account", "destroy_share", "`0.5`"},
		{"account", "rate_limit", ""},
		{"pool", "variables", ""},
	} {
		i := slices.IndexFunc(blocks[want.path].Settings, func(s config.Setting) bool { return s.Name == want.name })
		if i < 0 {
			t.Errorf("%s of %s is not described", want.name, want.path)
			continue
		}
		s := blocks[want.path].Settings[i]
		if s.Default != want.value || s.Required != (want.name == "rate_limit") {
			t.Errorf("%s of %s: default %s, required: %t, want %s", want.name, want.path, s.Default, s.Required, want.value)
		}
	}
}
