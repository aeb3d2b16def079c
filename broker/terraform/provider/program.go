package provider

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"
)

// programs finds the providers that an initialised module has installed, and
// gives their programs by source address.
func programs(module string) (map[string]string, error) {
	root := filepath.Join(module, ".terraform", "providers")
	// HOST/NAMESPACE/TYPE/VERSION/PLATFORM, of which the last may be a link.
	platforms, err := filepath.Glob(filepath.Join(escapeGlob(root), "*", "*", "*", "*", runtime.GOOS+"_"+runtime.GOARCH))
	if err != nil {
		return nil, err
	}
	found := map[string]string{}
	for _, platform := range platforms {
		inside, err := filepath.Rel(root, platform)
		if err != nil {
			return nil, err
		}
		address := path.Dir(path.Dir(filepath.ToSlash(inside)))
		if found[address] != "" {
			return nil, fmt.Errorf("%s has more than one version of provider %s", root, address)
		}
		if found[address], err = program(platform); err != nil {
			return nil, err
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("%s has no provider for %s_%s", root, runtime.GOOS, runtime.GOARCH)
	}
	return found, nil
}

func program(dir string) (string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), "terraform-provider-") {
			return filepath.Join(dir, entry.Name()), nil
		}
	}
	return "", fmt.Errorf("%s has no provider's program", dir)
}

func escapeGlob(text string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(text)
}
