//go:build !race

// Package lint holds the repository's own rules, as tests whose messages say
// what to do. It reads the source tree and runs on the test's goroutine; it
// imports the standard library only. What a rule lets pass is in allow.txt, with
// the reason. There are no rules under -race, where they would take four times as long
// to find nothing else.
package lint

import (
	"bufio"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const root = "../.."

// source is one Go file.
type source struct {
	path string // from the root, with slashes
	dir  string
	test bool
	fset *token.FileSet
	file *ast.File
}

func (s *source) at(p token.Pos) string {
	return s.path + ":" + strconv.Itoa(s.fset.Position(p).Line)
}

// imports gives the paths that s imports and where it does.
func (s *source) imports() map[string]string {
	m := make(map[string]string)
	for _, spec := range s.file.Imports {
		if p, err := strconv.Unquote(spec.Path.Value); err == nil {
			m[p] = s.at(spec.Pos())
		}
	}
	return m
}

// walk calls visit for every file that belongs to the project.
func walk(t *testing.T, visit func(path string)) {
	t.Helper()
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		switch {
		case d.IsDir() && (rel == ".git" || rel == "bin" || rel == "bench/results"):
			return filepath.SkipDir
		case d.Type().IsRegular():
			visit(rel)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func sources(t *testing.T) []*source {
	t.Helper()
	var all []*source
	walk(t, func(p string) {
		if !strings.HasSuffix(p, ".go") {
			return
		}
		s := &source{path: p, dir: path.Dir(p), test: strings.HasSuffix(p, "_test.go"), fset: token.NewFileSet()}
		file, err := parser.ParseFile(s.fset, filepath.Join(root, p), nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		s.file = file
		all = append(all, s)
	})
	if len(all) < 10 {
		t.Fatalf("only %d Go files under %s", len(all), root)
	}
	return all
}

// allowed is a rule's entries in allow.txt.
type allowed struct {
	t    *testing.T
	rule string
	used map[string]bool
}

func allowances(t *testing.T, rule string) *allowed {
	t.Helper()
	file, err := os.Open("allow.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	a := &allowed{t: t, rule: rule, used: make(map[string]bool)}
	for lines := bufio.NewScanner(file); lines.Scan(); {
		f := strings.Fields(lines.Text())
		if len(f) == 0 || f[0] == "#" || f[0] != rule {
			continue
		}
		if len(f) < 4 {
			t.Errorf("allow.txt: %q gives no reason", lines.Text())
			continue
		}
		a.used[f[1]] = false
	}
	t.Cleanup(func() {
		for what, used := range a.used {
			if !used {
				t.Errorf("allow.txt: nothing needs %s %s any more: remove the line", rule, what)
			}
		}
	})
	return a
}

func (a *allowed) has(what string) bool {
	_, ok := a.used[what]
	if ok {
		a.used[what] = true
	}
	return ok
}

// judge is why nothing of bench sees the proxy from inside.
const judge = "a judge must not share the bugs of the judged: nothing of codec, upstream or server"

// law says what the packages of a folder may import beside std, in files that are
// no tests. The longest folder that matches counts; one that is not here is free.
var law = []struct {
	dir    string
	may    []string // a path, or a tree that ends with /...
	advice string
}{
	{"codec", []string{"magent/codec", "magent/codec/..."}, "codec is the bottom: std only"},
	{"upstream", []string{"magent/codec", "magent/codec/...", "magent/upstream/...", "golang.org/x/sys/...", "github.com/valyala/bytebufferpool"},
		"upstream knows nodes and the wire format: give it an interface of its own instead"},
	{"upstream/route", []string{"github.com/dgryski/go-jump", "github.com/cespare/xxhash/v2"}, "placement is pure: std and its hashes"},
	{"upstream/health", nil, "health is a pure state machine: std only"},
	{"upstream/dial", []string{"magent/codec/binary", "magent/upstream/interpret", "magent/upstream/sealed", "golang.org/x/sys/..."},
		"a connection to a node is made of the network's, and what makes it fit: std, x/sys, codec/binary, interpret and sealed"},
	{"upstream/interpret", []string{"magent/codec", "magent/codec/...", "github.com/valyala/bytebufferpool", "golang.org/x/sys/..."},
		"an interpreter knows two wire forms and no pool: std, codec, bytebufferpool and x/sys"},
	{"upstream/sealed", nil, "TLS is crypto/tls: std only"},
	{"upstream/probe", []string{"magent/upstream/dial"}, "a prober asks a few questions of one node: std and dial"},
	{"upstream/debt", nil, "a journal is a set of keys: std only"},
	{"upstream/latency", nil, "a gauge is arithmetic: std only"},
	{"upstream/memnode", nil, "memnode judges the proxy and must not share its bugs: std only"},
	{"server", []string{"magent/codec", "magent/codec/...", "magent/upstream", "magent/upstream/...", "magent/server/...",
		"github.com/panjf2000/gnet/v2", "github.com/panjf2000/gnet/v2/...", "github.com/cespare/xxhash/v2", "github.com/valyala/bytebufferpool", "golang.org/x/sys/..."},
		"server joins upstream, codec and gnet; the command line is cmd's"},
	{"server/secret", nil, "what proves who somebody is is files: std only"},
	{"server/admin", nil, "the endpoint knows the proxy by what it declares itself: std only"},
	{"server/sketch", nil, "a sketch is arithmetic: std only"},
	{"server/succession", []string{"golang.org/x/sys/..."}, "what passes between two processes knows nothing of the proxy: std and x/sys"},
	{"server/logs", nil, "a log knows what is written to it by slog: std only"},
	{"server/metrics", []string{"magent/server", "magent/codec", "magent/upstream", "magent/upstream/...", "github.com/prometheus/client_golang/prometheus",
		"github.com/prometheus/client_golang/prometheus/...", "github.com/prometheus/client_model/go"}, "what is shown is what server has counted"},
	{"server/config", []string{"magent/codec", "magent/upstream/route", "github.com/spf13/pflag"}, "a configuration is data: std, pflag, route, and the names of commands"},
	{"server/config/file", []string{"magent/server/config", "magent/upstream/route", "github.com/spf13/pflag", "github.com/goccy/go-yaml", "github.com/goccy/go-yaml/..."},
		"a file is one more front to config: what it says is config's"},
	{"server/config/names", []string{"magent/server/config", "github.com/miekg/dns"}, "names are looked up, and that is all: std, the DNS library and config"},
	{"server/e2e", []string{"magent/server", "magent/server/...", "magent/upstream/memnode",
		"magent/bench/process", "magent/bench/process/proctest", "magent/bench/load", "magent/bench/keys", "magent/bench/wire", "golang.org/x/sys/..."},
		"the end-to-end harness sees the proxy from outside"},
	{"server/e2e/clients", []string{"github.com/bradfitz/gomemcache/memcache"}, "a client's program sees the proxy as people's programs do"},
	{"server/e2e/browser", []string{"magent/bench/process/proctest", "github.com/chromedp/chromedp", "github.com/chromedp/cdproto/..."},
		"a browser knows pages, and nothing of who serves them"},
	{"tools/deploy", nil, "what is written, and what is judged, is made of what it is given: std only"},
	{"bench", []string{"magent/bench/...", "github.com/spf13/cobra", "github.com/spf13/pflag", "github.com/HdrHistogram/hdrhistogram-go",
		"golang.org/x/sys/...", "golang.org/x/term"}, judge},
	{"bench/meter", []string{"golang.org/x/sys/..."}, judge},
	{"bench/process", []string{"magent/bench/process", "golang.org/x/sys/..."}, judge},
	{"bench/stats", nil, "a proxy is asked in its own words: std only"},
	{"bench/keys", nil, "what keys hold is arithmetic: std only"},
	{"bench/wire", []string{"magent/bench/keys"}, judge},
	{"bench/load", []string{"magent/bench/keys", "magent/bench/wire", "magent/bench/meter", "github.com/HdrHistogram/hdrhistogram-go", "golang.org/x/sys/..."}, judge},
	{"bench/compare", []string{"magent/bench/...", "github.com/spf13/pflag", "golang.org/x/sys/...", "gonum.org/v1/plot", "gonum.org/v1/plot/..."}, judge},
	{"bench/failover", []string{"magent/bench/...", "golang.org/x/sys/...", "gonum.org/v1/plot", "gonum.org/v1/plot/..."}, judge},
	{"bench/refill", []string{"magent/bench/failover", "magent/bench/keys", "magent/bench/load", "magent/bench/meter", "magent/bench/process", "magent/bench/stats", "magent/bench/wire"}, judge},
}

func TestImportLaw(t *testing.T) {
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		best := -1
		for i, l := range law {
			if (s.dir == l.dir || strings.HasPrefix(s.dir, l.dir+"/")) && (best < 0 || len(l.dir) > len(law[best].dir)) {
				best = i
			}
		}
		if best < 0 {
			continue
		}
		for p, where := range s.imports() {
			if !standard(p) && !slices.ContainsFunc(law[best].may, func(m string) bool { return matches(m, p) }) {
				t.Errorf("%s: %s may not import %s: %s", where, law[best].dir, p, law[best].advice)
			}
		}
	}
}

func standard(p string) bool {
	first, _, _ := strings.Cut(p, "/")
	return first != "magent" && !strings.Contains(first, ".")
}

func matches(pattern, p string) bool {
	if tree, ok := strings.CutSuffix(pattern, "..."); ok {
		return strings.HasPrefix(p, tree)
	}
	return p == pattern
}

// madeForTests says of a folder that its packages are, be their files tests or not.
func madeForTests(dir string) bool {
	return slices.ContainsFunc([]string{"server/e2e", "server/config/names/namestest", "server/secret/secrettest", "bench/process/proctest"}, func(tree string) bool {
		return dir == tree || strings.HasPrefix(dir, tree+"/")
	})
}

func TestTestHelpersStayInTests(t *testing.T) {
	for _, s := range sources(t) {
		if s.test || madeForTests(s.dir) {
			continue
		}
		for p, where := range s.imports() {
			if p == "testing" || madeForTests(strings.TrimPrefix(p, "magent/")) {
				t.Errorf("%s: %s is for tests: move what the program needs of it to where the program may have it", where, p)
			}
		}
	}
}

func TestGnetStaysInServer(t *testing.T) {
	for _, s := range sources(t) {
		if s.dir == "server" {
			continue
		}
		for p, where := range s.imports() {
			if strings.HasPrefix(p, "github.com/panjf2000/gnet") {
				t.Errorf("%s: gnet is imported by server only: take an interface that gnet.Conn satisfies", where)
			}
		}
	}
}

const screen = 70

func TestFunctionsFitAScreen(t *testing.T) {
	pass := allowances(t, "long")
	for _, s := range sources(t) {
		for _, d := range s.file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			lines := s.fset.Position(f.End()).Line - s.fset.Position(f.Pos()).Line + 1
			if lines > screen && !pass.has(s.path+":"+f.Name.Name) {
				t.Errorf("%s: %s has %d lines, at most %d fit a screen: split it, or add it to allow.txt with the reason",
					s.at(f.Pos()), f.Name.Name, lines, screen)
			}
		}
	}
}

func TestEveryPackageSaysWhatItOwns(t *testing.T) {
	said := make(map[string]bool)
	for _, s := range sources(t) {
		doc := s.file.Doc.Text()
		said[s.dir] = said[s.dir] || len(strings.Fields(doc)) >= 10
	}
	for dir, ok := range said {
		if !ok && !strings.Contains(dir, "/testdata") {
			t.Errorf("%s: write a package comment: what it owns, on which goroutine it runs, what it may import", dir)
		}
	}
}

func TestTopLevelIsFixed(t *testing.T) {
	known := []string{
		".ci", ".git", ".gitignore", "ARCHITECTURE.md", "BENCHMARKS.md", "CHANGELOG.md", "LICENSE", "Makefile", "OPERATIONS.md",
		"README.md", "bench", "bin", "cmd", "codec", "go.mod", "go.sum", "server", "tools", "upstream",
	}
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !slices.Contains(known, e.Name()) {
			t.Errorf("%s: the top level is fixed: put it into the folder whose job it is", e.Name())
		}
	}
}

// marks are the words for work left lying. They are joined here, so that this
// file has none.
var marks = regexp.MustCompile(`\b(` + strings.Join([]string{"TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK"}, "|") + `)\b`)

func TestNothingIsLeftForLater(t *testing.T) {
	text := []string{".go", ".md", ".txt", ".sh", ".mod", ".c", ".py", ".conf", ".service", ""}
	walk(t, func(p string) {
		if !slices.Contains(text, path.Ext(p)) || strings.Contains(p, "/testdata/") {
			return
		}
		b, err := os.ReadFile(filepath.Join(root, p))
		if err != nil {
			t.Error(err)
		}
		for i, line := range strings.Split(string(b), "\n") {
			if m := marks.FindString(line); m != "" {
				t.Errorf("%s:%d: %s: do it now, or leave it out", p, i+1, m)
			}
		}
	})
}

// TestTestsNeitherSkipNorSleep looks at tests and at the packages made for them. A
// sleep in a loop is the pause of a poll.
func TestTestsNeitherSkipNorSleep(t *testing.T) {
	pass := allowances(t, "sleep")
	for _, s := range sources(t) {
		if !s.test && !madeForTests(s.dir) {
			continue
		}
		var loop ast.Node // the last outermost loop
		ast.Inspect(s.file, func(n ast.Node) bool {
			if _, ok := n.(*ast.ForStmt); ok && (loop == nil || n.Pos() > loop.End()) {
				loop = n
			}
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			sel, ok := call.Fun.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			polls := loop != nil && n.Pos() < loop.End()
			x, _ := sel.X.(*ast.Ident)
			switch name := sel.Sel.Name; {
			case x != nil && x.Name == "time" && name == "Sleep" && !polls && !pass.has(s.path):
				t.Errorf("%s: a fixed sleep is too long or too short: wait for a condition with a deadline", s.at(n.Pos()))
			case x != nil && (x.Name == "t" || x.Name == "b" || x.Name == "f") && strings.HasPrefix(name, "Skip"):
				t.Errorf("%s: a skipped test proves nothing: fail, and let make deps install what is missing", s.at(n.Pos()))
			}
			return true
		})
	}
}

// TestDirectRequirementsAreUsed keeps go.mod honest: what it requires directly,
// the program needs.
func TestDirectRequirementsAreUsed(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	imported := make(map[string]bool)
	for _, s := range sources(t) {
		for p := range s.imports() {
			imported[p] = imported[p] || !s.test
		}
	}
	require := regexp.MustCompile(`(?m)^\s+(\S+\.\S+/\S+|\S+\.\S+) v\S+$`)
	for _, m := range require.FindAllStringSubmatch(string(text), -1) {
		used := false
		for p, ok := range imported {
			used = used || ok && (p == m[1] || strings.HasPrefix(p, m[1]+"/"))
		}
		if !used {
			t.Errorf("go.mod requires %s, which only tests import or nothing does: use it or run go mod tidy", m[1])
		}
	}
}

func TestMakefileExplainsItself(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	explained := regexp.MustCompile(`(?m)^([a-z0-9]+):.*## `)
	var names []string
	for _, m := range explained.FindAllStringSubmatch(string(text), -1) {
		names = append(names, m[1])
	}
	for _, line := range strings.Split(string(text), "\n") {
		list, ok := strings.CutPrefix(line, ".PHONY:")
		for _, name := range strings.Fields(list) {
			if ok && !slices.Contains(names, name) {
				t.Errorf("Makefile: %s needs a comment after ##, which is what make prints", name)
			}
		}
	}
}
