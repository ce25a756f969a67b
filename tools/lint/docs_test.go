//go:build !race

package lint

import (
	"go/ast"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestOperationsExplainsTheLog wants the text of every line that the program logs in
// OPERATIONS.md.
func TestOperationsExplainsTheLog(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "OPERATIONS.md"))
	if err != nil {
		t.Fatal(err)
	}
	lines := 0
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || !isLog(call.Fun) {
				return true
			}
			for _, a := range call.Args {
				if b, ok := a.(*ast.BinaryExpr); ok {
					a = b.X
				}
				lit, ok := a.(*ast.BasicLit)
				if !ok || lit.Kind != token.STRING {
					continue
				}
				lines++
				if msg, err := strconv.Unquote(lit.Value); err != nil || !strings.Contains(string(text), "`"+msg) {
					t.Errorf("%s: OPERATIONS.md does not say what %s means and what to do", s.at(lit.Pos()), lit.Value)
				}
				break // the rest names what belongs to the line
			}
			return true
		})
	}
	if lines < 5 {
		t.Errorf("only %d lines of log found", lines)
	}
}

// isLog reports whether f is a method that writes to something called log.
func isLog(f ast.Expr) bool {
	method, ok := f.(*ast.SelectorExpr)
	if !ok || !regexp.MustCompile(`^(Debug|Info|Warn|Error|Log)$`).MatchString(method.Sel.Name) {
		return false
	}
	switch on := method.X.(type) {
	case *ast.Ident:
		return on.Name == "log"
	case *ast.SelectorExpr:
		return on.Sel.Name == "log"
	}
	return false
}

var (
	link    = regexp.MustCompile(`\]\(([^)#]*)(?:#([^)]*))?\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
	dropped = regexp.MustCompile(`[^a-z0-9 _-]`)
)

// TestLinksLead follows the links between the documents: to a file, and to a heading
// in it by the name that GitHub gives it.
func TestLinksLead(t *testing.T) {
	pass := allowances(t, "link")
	files, err := filepath.Glob(filepath.Join(root, "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	anchors := make(map[string]bool)
	texts := make(map[string]string)
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Base(f)
		texts[name] = string(text)
		for _, m := range heading.FindAllStringSubmatch(string(text), -1) {
			anchors[name+"#"+strings.ReplaceAll(dropped.ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-")] = true
		}
	}
	for name, text := range texts {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			to, anchor := m[1], m[2]
			if strings.Contains(to, "://") {
				continue
			}
			if to == "" {
				to = name
			}
			if _, err := os.Stat(filepath.Join(root, to)); err != nil {
				if !pass.has(to) {
					t.Errorf("%s: there is no %s", name, to)
				}
			} else if anchor != "" && !anchors[to+"#"+anchor] {
				t.Errorf("%s: %s has no heading %s", name, to, anchor)
			}
		}
	}
}
