package file

import (
	"path/filepath"
	"strings"
	"testing"

	"magent/server/config"
)

// imports reads a file of twemproxy's or mcrouter's, as its name says.
func imports(path string, text []byte) (*Settings, []string, error) {
	if strings.HasSuffix(path, ".json") {
		return Mcrouter(filepath.Base(path), text, config.Listen{Network: "tcp", Address: "127.0.0.1:5000"})
	}
	return Twemproxy(filepath.Base(path), text)
}

// What others have comes to what the file beside it says, with notes; or is refused with all that
// stands there.
func TestImports(t *testing.T) {
	for _, path := range append(cases(t, "/*.yml"), cases(t, "/*.json")...) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			s, notes, err := imports(path, text(t, path))
			if err != nil {
				golden(t, path, ".txt", err.Error()+"\n")
				return
			}
			out := string(s.Text())
			for _, n := range notes {
				out += "# note: " + n + "\n"
			}
			golden(t, path, ".txt", out)
			again(t, s)
		})
	}
}

// FuzzImport wants no panic, and that what is understood can be said.
func FuzzImport(f *testing.F) {
	for _, path := range append(cases(f, "/*.yml"), cases(f, "/*.json")...) {
		f.Add(text(f, path), filepath.Ext(path) == ".json")
	}
	f.Fuzz(func(t *testing.T, in []byte, json bool) {
		name := "f.yml"
		if json {
			name = "f.json"
		}
		if s, _, err := imports(name, in); err == nil {
			again(t, s)
		}
	})
}
