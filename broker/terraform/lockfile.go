package terraform

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclparse"
	"github.com/zclconf/go-cty/cty"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/modulesource"
)

const (
	lockFileName = ".terraform.lock.hcl"
	// warningsFile is where a kept module's warnings are noted, below ownDir, so that
	// they can be given again without a Terraform run.
	warningsFile = "warnings.json"
	// checksumError is what Terraform and OpenTofu say of a provider that the lock
	// file does not allow, in their error of init.
	checksumError = "match any of the checksums"
)

// lockFile is what a dependency lock file says: the checksums of each provider,
// by its address. nil where there is no such file.
type lockFile map[string][]string

// readLockFile reads the lock file of the module in dir. What can't be read of it
// is left out: Terraform itself complains of that.
func readLockFile(dir string) lockFile {
	path := filepath.Join(dir, lockFileName)
	if !exists(path) {
		return nil
	}
	lock := lockFile{}
	f, _ := hclparse.NewParser().ParseHCLFile(path)
	if f == nil {
		return lock
	}
	content, _, _ := f.Body.PartialContent(&hcl.BodySchema{Blocks: []hcl.BlockHeaderSchema{{Type: "provider", LabelNames: []string{"address"}}}})
	for _, block := range content.Blocks {
		var hashes []string
		if v, _ := literal(block.Body, "hashes"); v.IsWhollyKnown() && v.CanIterateElements() {
			for _, element := range v.AsValueSlice() {
				if element.Type() == cty.String && !element.IsNull() {
					hashes = append(hashes, element.AsString())
				}
			}
		}
		lock[block.Labels[0]] = hashes
	}
	return lock
}

// moduleWarning is something about an accepted module that its author should know.
type moduleWarning struct {
	Text string `json:"text"`
	// Lock: "providers lock" mends it.
	Lock bool `json:"lock,omitempty"`
}

// lockWarnings compares a module's lock file with what init has made of it: init
// adds what is missing.
func lockWarnings(before, after lockFile) []moduleWarning {
	maps.DeleteFunc(after, func(provider string, _ []string) bool { return isOwn(provider) })
	if before == nil {
		if len(after) == 0 {
			return nil // no provider, or built-in ones only
		}
		return []moduleWarning{{Lock: true, Text: fmt.Sprintf("it has no %s, which would pin its providers: %s",
			lockFileName, strings.Join(slices.Sorted(maps.Keys(after)), ", "))}}
	}
	var warnings []moduleWarning
	for _, provider := range slices.Sorted(maps.Keys(after)) {
		known, locked := before[provider]
		added := slices.ContainsFunc(after[provider], func(hash string) bool { return !slices.Contains(known, hash) })
		switch {
		case !locked:
			warnings = append(warnings, moduleWarning{Lock: true, Text: fmt.Sprintf("its %s does not have the provider %s", lockFileName, provider)})
		case added:
			warnings = append(warnings, moduleWarning{Lock: true, Text: fmt.Sprintf("its %s lacks checksums of the provider %s for %s", lockFileName, provider, platform())})
		}
	}
	return warnings
}

func platform() string { return runtime.GOOS + "_" + runtime.GOARCH }

// lockCommand gives the command that completes the lock file of a module.
func (e *Engine) lockCommand(module string) string {
	program := "terraform"
	if e.Binary.Product == OpenTofu {
		program = "tofu"
	}
	return fmt.Sprintf("%s -chdir=%s providers lock -platform=%s", program, shellQuote(module), platform())
}

// mendElsewhere says how the lock file of a module is mended that is no directory of
// the operator's; "" for one that is.
func mendElsewhere(module string) string {
	switch source, is, _ := modulesource.Parse(module); {
	case !is:
		return ""
	case source.Builtin != "":
		return fmt.Sprintf("for a lock file of your own, take a copy: duffy-broker modules copy %[1]s modules/%[1]s, then duffy-broker modules lock modules/%[1]s", source.Builtin)
	}
	return "run \"duffy-broker modules lock\" in the module's repository, commit the file there, and name that commit here"
}

// shellQuote quotes what a shell would take apart.
func shellQuote(text string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+@", r)
	}
	if !strings.ContainsFunc(text, func(r rune) bool { return !plain(r) }) {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

// noteWarnings keeps warnings with the module copy in dir.
func noteWarnings(dir string, warnings []moduleWarning) error {
	if len(warnings) == 0 {
		return nil
	}
	text, err := json.Marshal(warnings)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(dir, ownDir), 0o700); err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, ownDir, warningsFile), text)
}

// warn logs what is noted about the module of a pool.
func (e *Engine) warn(ctx context.Context, p broker.Pool, template string) {
	text, err := os.ReadFile(filepath.Join(e.templatesDir(), template, ownDir, warningsFile)) //nolint:gosec // a file of ours
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var warnings []moduleWarning
	if err == nil {
		err = json.Unmarshal(text, &warnings)
	}
	if err != nil {
		e.Log.WarnContext(ctx, "what is noted about a terraform module can't be read", "pool", p.Name, "module", p.Module, "error", err)
		return
	}
	for _, w := range warnings {
		attributes := []any{"pool", p.Name, "module", p.Module, "warning", w.Text}
		if w.Lock {
			attributes = append(attributes, "mend_with", cmp.Or(mendElsewhere(p.Module), e.lockCommand(p.Module)))
		}
		e.Log.WarnContext(ctx, "terraform module has a warning", attributes...)
	}
}
