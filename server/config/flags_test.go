package config

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

var rewrite = flag.Bool("rewrite", false, "write what the code says into testdata")

// TestFlags runs testdata/*.txt: blocks of `flags`, a line `----`, and what they
// come to: the fields that differ from Default and the warnings, or the faults.
// The arguments of a line are split at spaces; a lone "" is an empty argument.
func TestFlags(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no testdata: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) { goldenFile(t, file) })
	}
}

func goldenFile(t *testing.T, file string) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	bad := strings.HasPrefix(filepath.Base(file), "bad")
	var out []string
	for _, block := range strings.Split(strings.TrimSpace(string(text)), "\n\n") {
		head, want, ok := strings.Cut(block, "\n----\n")
		if !ok && !*rewrite {
			t.Fatalf("no line ---- in:\n%s", block)
		}
		head = strings.TrimSuffix(head, "\n----")
		got, err := describe(head)
		if (err != nil) != bad {
			t.Errorf("%s: error %v", head, err)
		}
		if got != strings.TrimSpace(want) && !*rewrite {
			t.Errorf("%s\ngot:\n%s\nwant:\n%s", head, got, want)
		}
		out = append(out, head+"\n----\n"+got)
	}
	if *rewrite {
		if err := os.WriteFile(file, []byte(strings.Join(out, "\n\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// describe gives the golden text for the last line of head; those before it are
// comments.
func describe(head string) (string, error) {
	lines := strings.Split(head, "\n")
	args := strings.Fields(lines[len(lines)-1])
	for i, a := range args {
		if a == `""` {
			args[i] = ""
		}
	}
	var f Flags
	fs := pflag.NewFlagSet("magent", pflag.ContinueOnError)
	f.Bind(fs)
	if err := fs.Parse(args); err != nil {
		return Explain(err).Error(), err
	}
	c, err := f.Config()
	if err != nil {
		return err.Error(), err
	}
	pool := c.Pools[0]
	c.Pools = nil
	out := slices.Concat(differences(c, Default()), differences(pool, DefaultPool()), differences(f, bound()))
	c.Pools = []Pool{pool}
	if rest := fs.Args(); len(rest) > 0 {
		out = append(out, fmt.Sprintf("arguments: %q", rest))
	}
	for _, w := range c.Warnings() {
		out = append(out, "warning: "+w)
	}
	return strings.Join(out, "\n"), nil
}

func bound() Flags {
	var f Flags
	f.Bind(pflag.NewFlagSet("", pflag.ContinueOnError))
	return f
}

// differences prints the exported fields of a struct that are not those of base.
func differences(v, base any) []string {
	var out []string
	a, b := reflect.ValueOf(v), reflect.ValueOf(base)
	for i := range a.NumField() {
		if field := a.Type().Field(i); field.IsExported() {
			if x, y := a.Field(i).Interface(), b.Field(i).Interface(); !reflect.DeepEqual(x, y) {
				out = append(out, fmt.Sprintf("%s: %v", field.Name, x))
			}
		}
	}
	return out
}

func TestEveryOldFlag(t *testing.T) {
	var f Flags
	fs := pflag.NewFlagSet("magent", pflag.ContinueOnError)
	f.Bind(fs)
	const getopt = "p:u:g:s:Dvn:l:kb:f:i:" // h is the command's own
	for i, c := range getopt {
		if c == ':' {
			continue
		}
		takesValue := strings.HasPrefix(getopt[i+1:], ":")
		switch def := fs.ShorthandLookup(string(c)); {
		case def == nil:
			t.Errorf("-%c is not defined", c)
		case takesValue != (def.NoOptDefVal == ""):
			t.Errorf("-%c: takes a value: want %v", c, takesValue)
		}
	}
}

func TestSizeReadsWhatItPrints(t *testing.T) {
	for _, s := range []size{0, 1024, 1025, 1536, 1 << 20, 3 << 19, 1 << 30} {
		var back size
		if err := back.Set(s.String()); err != nil || back != s {
			t.Errorf("%d prints as %s, which reads as %d, %v", int(s), s.String(), int(back), err)
		}
	}
}

func TestHedgeReadsWhatItPrints(t *testing.T) {
	for _, h := range []Hedge{{}, {Auto: true}, {After: 5 * time.Millisecond}} {
		back := Hedge{After: time.Hour}
		if err := back.Set(h.String()); err != nil || back != h {
			t.Errorf("%+v prints as %s, which reads as %+v, %v", h, h, back, err)
		}
	}
}
