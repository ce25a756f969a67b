package memnode

import (
	"os"
	"reflect"
	"strings"
	"testing"
)

// scripts returns the scripts of testdata/scripts.txt and what each one gives.
func scripts(t testing.TB) (in, out []string) {
	text, err := os.ReadFile("testdata/scripts.txt")
	if err != nil {
		t.Fatal(err)
	}
	for part := range strings.SplitSeq(strings.TrimSpace(string(text)), "\n\n") {
		if strings.HasPrefix(part, "#") {
			continue
		}
		script, result, _ := strings.Cut(part, "\n")
		in, out = append(in, script), append(out, result)
	}
	return in, out
}

// result is what a golden shows of a script.
func result(text string) string {
	s, err := ParseScript(text)
	if err != nil {
		return "! " + err.Error()
	}
	return "= " + s.String()
}

func TestScriptGoldens(t *testing.T) {
	in, want := scripts(t)
	if *rewrite {
		text := "# A script, and below it what it prints as or the error it gives.\n"
		for _, s := range in {
			text += "\n" + s + "\n" + result(s) + "\n"
		}
		if err := os.WriteFile("testdata/scripts.txt", []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	for i, s := range in {
		if got := result(s); got != want[i] {
			t.Errorf("%s\ngot  %s\nwant %s", s, got, want[i])
		}
	}
	if s, err := ParseScript(" "); err != nil || s.String() != "" {
		t.Errorf("an empty script: %v, %v", s, err)
	}
}

// TestLanguage: the parser knows the examples of the documentation, and that has every
// word of the parser.
func TestLanguage(t *testing.T) {
	begins := make(map[string]bool) // words that a line begins with
	examples := 0
	for line := range strings.Lines(Language) {
		entry, indented := strings.CutPrefix(line, "  ")
		if !indented || strings.HasPrefix(entry, " ") {
			continue
		}
		entry, _, _ = strings.Cut(strings.TrimSuffix(entry, "\n"), "  ")
		if strings.HasPrefix(entry, "(") {
			examples++
			if s, err := ParseScript(entry); err != nil || s.String() != entry {
				t.Errorf("%s gives %v, %v", entry, s, err)
			}
		}
		begins[strings.Fields(entry)[0]] = true
	}
	if examples < 5 {
		t.Errorf("only %d examples", examples)
	}
	words := append(known(actions), "always", "on", "every", "from", "until", "after", "times", "1/N", "exp", "normal", "pareto")
	for _, w := range words {
		if !begins[w] {
			t.Errorf("the documentation does not have %s", w)
		}
	}
	for line := range strings.Lines(Language) {
		if len(line) > 96 {
			t.Errorf("%d bytes in %q", len(line), line)
		}
	}
}

// FuzzScript: what parses prints, and what is printed parses to the same.
func FuzzScript(f *testing.F) {
	in, _ := scripts(f)
	for _, s := range in {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseScript(text)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "fault script, column ") {
				t.Fatalf("%q: %v names no column", text, err)
			}
			return
		}
		again, err := ParseScript(s.String())
		if err != nil || !reflect.DeepEqual(s, again) {
			t.Fatalf("%q prints as %q: %v", text, s, err)
		}
	})
}
