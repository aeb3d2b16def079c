package ec2

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/mail"
	"strings"

	"go.yaml.in/yaml/v3"
)

// UserData is what cloud-init would make of an instance's user data, as far as a node
// needs it.
type UserData struct {
	Keys      []string // authorized_keys lines
	HostKey   string   // private, in PEM; "" for one that the machine makes
	Hostname  string
	LetRootIn bool              // disable_root is false
	Files     map[string]string // write_files: contents by path
	Commands  []string          // runcmd, each joined by spaces
	Parts     []Part            // all, in their order
}

// Part is one part of user data.
type Part struct {
	Type, Text string
	Merge      string // the header Merge-Type
}

// ParseUserData reads plain or multipart user data, packed or not.
func ParseUserData(raw []byte) (UserData, error) {
	if bytes.HasPrefix(raw, []byte{0x1f, 0x8b}) {
		unpack, err := gzip.NewReader(bytes.NewReader(raw))
		if err != nil {
			return UserData{}, err
		}
		if raw, err = io.ReadAll(unpack); err != nil {
			return UserData{}, err
		}
	}
	data := UserData{Files: map[string]string{}}
	var err error
	if data.Parts, err = parts(raw); err != nil {
		return data, err
	}
	for _, part := range data.Parts {
		if part.Type == "text/cloud-config" {
			if err := data.read(part.Text); err != nil {
				return data, err
			}
		}
	}
	return data, nil
}

func parts(raw []byte) ([]Part, error) {
	switch {
	case len(raw) == 0:
		return nil, nil
	case bytes.HasPrefix(raw, []byte("#cloud-config")):
		return []Part{{Type: "text/cloud-config", Text: string(raw)}}, nil
	case bytes.HasPrefix(raw, []byte("#!")):
		return []Part{{Type: "text/x-shellscript", Text: string(raw)}}, nil
	}
	message, err := mail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("user data is neither a cloud-config, nor a script, nor MIME: %w", err)
	}
	kind, args, err := mime.ParseMediaType(message.Header.Get("Content-Type"))
	if err != nil || !strings.HasPrefix(kind, "multipart/") {
		return nil, fmt.Errorf("user data is %q, not multipart: %w", kind, err)
	}
	var all []Part
	for reader := multipart.NewReader(message.Body, args["boundary"]); ; {
		part, err := reader.NextPart()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, fmt.Errorf("user data: %w", err)
		}
		text, err := io.ReadAll(part)
		if err != nil {
			return nil, fmt.Errorf("user data: %w", err)
		}
		kind, _, err := mime.ParseMediaType(part.Header.Get("Content-Type"))
		if err != nil {
			return nil, fmt.Errorf("user data: %w", err)
		}
		all = append(all, Part{Type: kind, Text: string(text), Merge: part.Header.Get("Merge-Type")})
	}
}

func (d *UserData) read(text string) error {
	var config struct {
		Hostname    string   `yaml:"hostname"`
		Keys        []string `yaml:"ssh_authorized_keys"`
		DisableRoot *bool    `yaml:"disable_root"`
		HostKeys    struct {
			Private string `yaml:"ed25519_private"`
		} `yaml:"ssh_keys"`
		Files []struct {
			Path, Content, Encoding string
		} `yaml:"write_files"`
		Commands []any `yaml:"runcmd"`
	}
	if err := yaml.Unmarshal([]byte(text), &config); err != nil {
		return fmt.Errorf("cloud-config: %w", err)
	}
	d.Keys = append(d.Keys, config.Keys...)
	if config.Hostname != "" {
		d.Hostname = config.Hostname
	}
	if config.HostKeys.Private != "" {
		d.HostKey = config.HostKeys.Private
	}
	if config.DisableRoot != nil {
		d.LetRootIn = !*config.DisableRoot
	}
	for _, f := range config.Files {
		d.Files[f.Path] = f.Content
	}
	for _, c := range config.Commands {
		if words, ok := c.([]any); ok {
			line := []string{}
			for _, word := range words {
				line = append(line, fmt.Sprint(word))
			}
			c = strings.Join(line, " ")
		}
		d.Commands = append(d.Commands, fmt.Sprint(c))
	}
	return nil
}
