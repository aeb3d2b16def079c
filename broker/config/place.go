package config

import (
	"bytes"
	"path/filepath"
	"slices"

	"github.com/hashicorp/hcl/v2"
)

// places are where pools got their settings from.
type places struct {
	lineages map[string]lineage // by the pool's name
	items    map[itemsKey]map[string]hcl.Range
}

func newPlaces() places {
	return places{lineages: make(map[string]lineage), items: make(map[itemsKey]map[string]hcl.Range)}
}

// itemsKey names an object of variables: for each instance of a block it may have
// other keys.
type itemsKey struct {
	at   hcl.Range
	each *instance
}

// Place gives the place of what path names in a pool of the file: of the argument
// "module", "variables", "credentials" or "provider_sharing", of the block "follow", or
// of the item that a second element names among the variables, for the variant that a third one names. Where the pool inherits it, that is in
// a template or in defaults. Where the place is not known that precisely, it is that
// of what is around it; that of the pool itself is the line that opens its block, and
// so is that of an argument that nobody sets. Only a pool that the file does not
// have has no place: then the file name is "".
func (f *File) Place(pool string, path ...string) hcl.Range {
	from, ok := f.places.lineages[pool]
	if !ok {
		return hcl.Range{}
	}
	if len(path) > 2 {
		if at, ok := f.variantPlace(from, path[1], path[2]); ok {
			return at
		}
		path = path[:2]
	}
	for _, x := range from.layers {
		switch {
		case len(path) == 0:
		case path[0] == "variables" && x.variables.set:
			items := f.places.items[itemsKey{x.variables.at, x.each}]
			if len(path) == 1 {
				return x.variables.at
			}
			if at, ok := items[path[1]]; ok {
				return at
			}
			if _, ok := x.variables.value[path[1]]; ok {
				return x.variables.at
			}
		case path[0] == "module" && x.module.set:
			return x.module.at
		case path[0] == "credentials" && x.credentials.set:
			return x.credentials.at
		case path[0] == "provider_sharing" && x.providerSharing.set:
			return x.providerSharing.at
		case path[0] == "follow" && x.follow.set:
			return x.follow.at
		}
	}
	return from.layers[0].header
}

// variantPlace gives the place of a variable that a variant says itself.
func (f *File) variantPlace(from lineage, variable, variant string) (hcl.Range, bool) {
	i := slices.IndexFunc(from.layers, func(x *layer) bool { return x.variants.set })
	if i < 0 {
		return hcl.Range{}, false
	}
	for _, v := range from.layers[i].variants.value {
		if _, own := v.variables.value[variable]; v.name != variant || !own {
			continue
		}
		if at, ok := f.places.items[itemsKey{v.variables.at, from.layers[i].each}][variable]; ok {
			return at, true
		}
		return v.variables.at, true
	}
	return hcl.Range{}, false
}

// Source adds a file that was not read by [Load], such as one of a module, to
// [File.Files].
func (f *File) Source(name string, source *hcl.File) { f.files[name] = source }

// Shown gives a path as diagnostics show it: beside the file as the caller of
// [Load] wrote that.
func (f *File) Shown(path string) string {
	inside, err := filepath.Rel(f.Root, path)
	if err != nil || filepath.IsAbs(f.dir) && !filepath.IsLocal(inside) {
		return path
	}
	return filepath.Join(f.dir, inside)
}

// FirstLine cuts a place of the file off at the end of its first line.
func (f *File) FirstLine(at hcl.Range) hcl.Range {
	file := f.files[at.Filename]
	if at.Start.Line == at.End.Line || file == nil || at.Start.Byte > len(file.Bytes) {
		return at
	}
	line, _, _ := bytes.Cut(file.Bytes[at.Start.Byte:], []byte("\n"))
	line = bytes.TrimRight(line, " \t\r")
	at.End = hcl.Pos{Line: at.Start.Line, Column: at.Start.Column + len([]rune(string(line))), Byte: at.Start.Byte + len(line)}
	return at
}
