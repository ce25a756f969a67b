package file

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// The bounds of a file. No file that people write comes near, and without them the library
// would take memory and time without end for what is no such file.
const (
	MaxSize    = 256 << 10 // bytes
	maxNesting = 50        // brackets that are open, and dashes at the begin of a line
	maxNodes   = 100_000   // nodes looked at, each alias as often as it is used
)

// tree is a file of which every node knows its place, and what has been found wrong with it.
type tree struct {
	lines   []string
	root    ast.Node // nil: the file is empty
	anchors map[string]ast.Node
	looked  int // nodes looked at
	faults  []Fault
}

// plant reads text. What is no YAML has one fault, as nobody can say what follows.
func plant(text []byte) *tree {
	t := &tree{lines: strings.Split(string(text), "\n"), anchors: make(map[string]ast.Node)}
	if len(text) > MaxSize {
		t.faults = append(t.faults, Fault{Text: fmt.Sprintf("it has %d bytes, and %d are the most: is it a configuration?", len(text), MaxSize)})
		return t
	}
	if !utf8.Valid(text) {
		t.faults = append(t.faults, Fault{Text: "it is not in UTF-8: is it a configuration?"})
		return t
	}
	if line := t.deep(); line > 0 {
		t.faults = append(t.faults, Fault{line, 1, fmt.Sprintf("more than %d lists or mappings are in one another here", maxNesting)})
		return t
	}
	file, err := parse(text)
	if err != nil {
		t.faults = append(t.faults, syntax(err))
		return t
	}
	for i, doc := range file.Docs {
		switch {
		case doc.Body == nil:
		case t.root == nil:
			t.root = doc.Body
		default:
			t.fault(doc.Body, "a second document begins here, and a configuration is one: leave out the line --- before it")
		}
		if doc.Body != nil && i == 0 {
			ast.Walk(anchors(t.anchors), doc.Body)
		}
	}
	return t
}

// deep is the first line in which too much is nested; 0 if there is none. It does not know
// what is quoted, so it is generous.
func (t *tree) deep() int {
	open := 0
	for i, line := range t.lines {
		open += strings.Count(line, "[") + strings.Count(line, "{")
		if open > maxNesting || strings.Count(line, "- ") > maxNesting {
			return i + 1
		}
		open = max(0, open-strings.Count(line, "]")-strings.Count(line, "}"))
	}
	return 0
}

// parse is the library's, for which a panic is one more way to say that text is no YAML.
func parse(text []byte) (file *ast.File, err error) {
	defer func() {
		if what := recover(); what != nil {
			err = fmt.Errorf("this is no YAML: %v", what)
		}
	}()
	return parser.ParseBytes(text, parser.Mode(0), parser.AllowDuplicateMapKey())
}

// syntax is what the library has found.
func syntax(err error) Fault {
	if said, ok := errors.AsType[*yaml.SyntaxError](err); ok && said.Token != nil && said.Token.Position != nil {
		return Fault{said.Token.Position.Line, said.Token.Position.Column, "this is no YAML: " + printable(said.Message)}
	}
	return Fault{Text: err.Error()}
}

// anchors notes what each anchor of a tree stands for.
type anchors map[string]ast.Node

// Visit is ast.Visitor's.
func (a anchors) Visit(n ast.Node) ast.Visitor {
	if n, ok := n.(*ast.AnchorNode); ok && n.Name != nil {
		a[n.Name.String()] = n.Value
	}
	return a
}

// fault notes, once, that something is wrong with n.
func (t *tree) fault(n ast.Node, format string, args ...any) {
	at := place(n)
	if f := (Fault{at.Line, at.Column, fmt.Sprintf(format, args...)}); !slices.Contains(t.faults, f) {
		t.faults = append(t.faults, f)
	}
}

// place is where n begins.
func place(n ast.Node) (at token.Position) {
	switch m := n.(type) {
	case *ast.MappingNode:
		if m.Start != nil && m.Start.Type == token.MappingStartType && m.Start.Position != nil {
			return *m.Start.Position
		}
		if len(m.Values) > 0 {
			return place(m.Values[0])
		}
	case *ast.MappingValueNode:
		n = m.Key
	}
	if n == nil || n.GetToken() == nil || n.GetToken().Position == nil {
		return at
	}
	return *n.GetToken().Position
}

// follow is what n stands for: behind an anchor, an alias or a tag. It is nil, with a fault, if
// that is nothing that a file may have.
func (t *tree) follow(n ast.Node) ast.Node {
	for {
		if t.looked++; t.looked > maxNodes {
			if t.looked == maxNodes+1 {
				t.fault(n, "aliases make this file larger than %d values", maxNodes)
			}
			return nil
		}
		switch m := n.(type) {
		case *ast.AnchorNode:
			n = m.Value
		case *ast.AliasNode:
			meant := t.anchors[m.Value.String()]
			if meant == nil {
				t.fault(n, "there is no &%s that *%s could stand for", m.Value, m.Value)
				return nil
			}
			n = meant
		case *ast.TagNode:
			t.fault(n, "a configuration has no tags: leave out %s", m.GetToken().Value)
			return nil
		case *ast.MappingNode:
			return glued(m)
		default:
			return n
		}
	}
}

// glued is m, or the text that it stands for: in a list within a mapping in braces the library
// takes the colon of host:port for one that makes a mapping, for which a space would have to
// follow it (YAML 1.2.2, section 7.3.3).
func glued(m *ast.MappingNode) ast.Node {
	if len(m.Values) != 1 || m.Start == nil || m.Start.Type == token.MappingStartType {
		return m
	}
	v := m.Values[0]
	key, colon, value := v.Key.GetToken(), v.Start, v.Value.GetToken()
	if colon == nil || value == nil || key.Type == token.DoubleQuoteType || key.Type == token.SingleQuoteType ||
		value.Position.Offset != colon.Position.Offset+1 || value.Position.Line != colon.Position.Line {
		return m
	}
	rest, ok := scalar(v.Value)
	if !ok {
		return m
	}
	text := *key
	text.Value += ":" + rest
	return ast.String(&text)
}

// entry is one of a mapping's.
type entry struct {
	name    string
	key     ast.Node
	written ast.Node // the value, as it stands there
	value   ast.Node // what that stands for; nil: it has a fault
}

// at is what a fault of e is shown at.
func (e *entry) at() ast.Node {
	if e.written != nil {
		return e.written
	}
	return e.key
}

// mapping is the entries of n, in their order; or nothing, and a fault that says what n should be.
func (t *tree) mapping(n ast.Node, what string) (all []entry) {
	if n = t.follow(n); n == nil {
		return nil
	}
	values, ok := pairs(n)
	if !ok {
		t.fault(n, "%s is a mapping, lines of name: value, and this is %s", what, kind(n))
		return nil
	}
	var merged []entry
	for _, v := range values {
		if v.Key.IsMergeKey() {
			merged = append(merged, t.merge(v.Value, what)...)
			continue
		}
		name, ok := scalar(v.Key)
		if !ok {
			t.fault(v.Key, "a name is expected here, and this is %s", kind(v.Key))
			continue
		}
		if first := find(all, name); first != nil {
			t.fault(v.Key, "%s is said twice, first in line %d", name, place(first.key).Line)
			continue
		}
		all = append(all, entry{name, v.Key, v.Value, t.follow(v.Value)})
	}
	for _, e := range merged {
		if find(all, e.name) == nil {
			all = append(all, e)
		}
	}
	return all
}

// merge is the entries that << brings: those of a mapping, or of several, the first of which counts.
func (t *tree) merge(n ast.Node, what string) (all []entry) {
	n = t.follow(n)
	several, ok := n.(*ast.SequenceNode)
	if !ok {
		if n == nil {
			return nil
		}
		return t.mapping(n, what)
	}
	for _, one := range several.Values {
		all = append(all, t.mapping(one, what)...)
	}
	return all
}

func find(all []entry, name string) *entry {
	for i := range all {
		if all[i].name == name {
			return &all[i]
		}
	}
	return nil
}

// pairs is what a mapping holds.
func pairs(n ast.Node) ([]*ast.MappingValueNode, bool) {
	switch n := n.(type) {
	case *ast.MappingNode:
		return n.Values, true
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}, true
	}
	return nil, false
}

// sequence is the items of n, followed; or nothing, and a fault that says what n should be.
func (t *tree) sequence(n ast.Node, what string) (all []ast.Node) {
	s, ok := n.(*ast.SequenceNode)
	if !ok {
		if n != nil {
			t.fault(n, "%s, and this is %s", what, kind(n))
		}
		return nil
	}
	for _, v := range s.Values {
		if v = t.follow(v); v != nil {
			all = append(all, v)
		}
	}
	return all
}

// scalar is the text of a value that is neither a list nor a mapping, nor nothing.
func scalar(n ast.Node) (text string, ok bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return strings.TrimSuffix(n.Value.Value, "\n"), true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, true
	}
	return "", false
}

// kind is what n is, in a sentence.
func kind(n ast.Node) string {
	switch n.(type) {
	case nil, *ast.NullNode:
		return "nothing"
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a mapping"
	case *ast.SequenceNode:
		return "a list"
	}
	text, ok := scalar(n)
	if !ok {
		return "something else"
	}
	if r := []rune(text); len(r) > 40 {
		text = string(r[:40]) + "…"
	}
	return fmt.Sprintf("%q", text)
}
