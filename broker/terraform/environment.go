package terraform

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/duffy-broker/duffy-broker/broker"
)

// environment gives what runs get to see.
func (e *Engine) environment() []string {
	return append(environment(), "DUFFY_BROKER="+e.Executable)
}

// environmentOf gives what a run for a node, or a sweep of its pool, gets to see.
func (e *Engine) environmentOf(own broker.Environment) ([]string, error) {
	env := e.environment()
	for name, value := range own.Environ {
		env = append(env, name+"="+value)
	}
	secrets, err := resolve(own.Credentials)
	for name, value := range secrets {
		env = append(env, name+"="+value)
	}
	return env, err
}

// maxSecretBytes is more than any credential has: what is longer is another file.
const maxSecretBytes = 64 << 10

// resolve gives the secrets that references name, by variable, and an error for
// those that name none.
func resolve(references map[string]string) (map[string]string, error) {
	secrets := make(map[string]string, len(references))
	var problems []error
	for _, name := range slices.Sorted(maps.Keys(references)) {
		secret, err := resolveOne(references[name])
		if err != nil {
			problems = append(problems, fmt.Errorf("credential %s: %w", name, err))
			continue
		}
		secrets[name] = secret
	}
	return secrets, errors.Join(problems...)
}

func resolveOne(reference string) (string, error) {
	kind, at, _ := strings.Cut(reference, ":")
	switch kind {
	case "env":
		secret, ok := os.LookupEnv(at)
		if !ok {
			return "", fmt.Errorf("the broker's environment has no variable %s", at)
		}
		return secret, nil
	case "file":
		f, err := os.Open(at) //nolint:gosec // the operator names it
		if err != nil {
			return "", err
		}
		defer func() { _ = f.Close() }()
		text, err := io.ReadAll(io.LimitReader(f, maxSecretBytes+1))
		if err != nil {
			return "", err
		}
		if len(text) > maxSecretBytes {
			return "", fmt.Errorf("%s has more than %d bytes: it is no credential", at, maxSecretBytes)
		}
		return strings.TrimRight(string(text), "\r\n"), nil
	}
	return "", fmt.Errorf("%q is no reference", reference)
}

// environment gives what Terraform gets to see: all of the broker's own, since
// modules need credentials, proxies and the like, except settings that would
// change what a run does, writes or prints.
func environment() []string {
	var env []string
	for _, entry := range os.Environ() {
		name, value, _ := strings.Cut(entry, "=")
		if name == cliConfigVariable && isMissing(value) {
			entry = name + "=" + os.DevNull
		}
		if !managed(name) {
			env = append(env, entry)
		}
	}
	return append(env,
		"CHECKPOINT_DISABLE=1", // no question to the network about new versions
		"TF_IN_AUTOMATION=1",
		"GOGC=400", // a tenth less CPU for a few MiB
	)
}

// cliConfigVariable names the environment variable with the path of Terraform's
// CLI configuration. Where there is no such file, both programs go on without one.
// They say so at every run, OpenTofu in front of the JSON on its standard output.
const cliConfigVariable = "TF_CLI_CONFIG_FILE"

func isMissing(path string) bool {
	_, err := os.Stat(path) //nolint:gosec // the operator names it
	return path != "" && errors.Is(err, fs.ErrNotExist)
}

// managed tells whether a variable is the broker's to set or leave out.
func managed(name string) bool {
	for _, prefix := range []string{"TF_VAR_", "TF_CLI_ARGS", "TF_LOG"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	switch name {
	case "TF_WORKSPACE", "TF_DATA_DIR", "TF_INPUT", "TF_IN_AUTOMATION", "TF_REATTACH_PROVIDERS",
		"TF_APPEND_USER_AGENT", "TF_DISABLE_PLUGIN_TLS", "PLUGIN_UNIX_SOCKET_DIR", "TF_SKIP_PROVIDER_VERIFY",
		"TF_ENCRYPTION", // OpenTofu would encrypt the state that we must read
		"CHECKPOINT_DISABLE", "GOGC", "DUFFY_BROKER",
		"DUFFY_BROKER_KEY", "DUFFY_BROKER_KEY_FILE": // the broker's root key is no module's business
		return true
	}
	return false
}
