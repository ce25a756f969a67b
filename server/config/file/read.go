package file

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/goccy/go-yaml/ast"
	"github.com/spf13/pflag"

	"magent/server/config"
)

// Settings is all that a process is told: by a command line alone, or by a file and what its
// command line says beside it.
type Settings struct {
	config.Config
	Flags *config.Flags // what names the process

	set *pflag.FlagSet // holds Flags
}

// FromFlags is what f says, which fs has parsed.
func FromFlags(f *config.Flags, fs *pflag.FlagSet) (*Settings, error) {
	c, err := f.Config()
	if err != nil {
		return nil, err
	}
	return &Settings{Config: c, Flags: f, set: fs}, nil
}

// Empty is what nothing has been said of.
func Empty() *Settings {
	s := &Settings{Config: config.Default(), Flags: new(config.Flags), set: pflag.NewFlagSet("", pflag.ContinueOnError)}
	s.Flags.Bind(s.set)
	return s
}

// MakeAbsolute has every path go from dir that is relative.
func (s *Settings) MakeAbsolute(dir string) {
	MakeAbsolute(s.set, dir)
	paths := s.Paths()
	for i := range s.Listen {
		if s.Listen[i].Network == "unix" {
			paths = append(paths, &s.Listen[i].Address)
		}
	}
	for _, p := range paths {
		*p = absolute(*p, dir)
	}
}

// MakeAbsolute has every path of fs go from dir that is relative.
func MakeAbsolute(fs *pflag.FlagSet, dir string) {
	fs.VisitAll(func(f *pflag.Flag) {
		text := f.Value.String()
		switch what, _ := pflag.UnquoteUsage(f); {
		case what == "path", what == "path or address" && strings.Contains(text, "/"):
			_ = f.Value.Set(absolute(text, dir)) // it takes any text
		}
	})
}

func absolute(path, dir string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// Read is what the text of the file called name says. typed is a command line that was parsed:
// what that says of the process wins, and of pools and listeners it may say nothing. The error
// is of type *Faults if the file is to blame.
func Read(name string, text []byte, typed *pflag.FlagSet) (*Settings, error) {
	if err := onlyProcess(typed); err != nil {
		return nil, err
	}
	s := Empty()
	if err := repeat(typed, s.set); err != nil {
		return nil, err
	}
	r := &reader{tree: plant(text), typed: typed, where: make(map[field]ast.Node)}
	r.top(s)
	var err error
	listen, pools := s.Listen, s.Pools
	s.Config, err = s.Flags.Process()
	s.Listen, s.Pools = listen, pools
	r.locate(err)
	r.locate(s.Validate())
	if len(r.faults) == 0 {
		return s, nil
	}
	faults := &Faults{Name: name, All: r.faults, lines: r.lines}
	faults.sort()
	return nil, faults
}

// onlyProcess refuses flags for which a file has words of its own.
func onlyProcess(typed *pflag.FlagSet) error {
	var errs []error
	said(typed, func(f *pflag.Flag) {
		if config.About(f) != config.OfProcess {
			errs = append(errs, fmt.Errorf("%s cannot stand beside --config: the file says that", config.Title(f)))
		}
	})
	return errors.Join(errs...)
}

// said calls do for each flag that was typed, though it be by way of another set that shares it,
// of which Visit knows nothing.
func said(fs *pflag.FlagSet, do func(*pflag.Flag)) {
	fs.VisitAll(func(f *pflag.Flag) {
		if f.Changed {
			do(f)
		}
	})
}

// repeat has to be told what from was.
func repeat(from, to *pflag.FlagSet) error {
	var errs []error
	said(from, func(f *pflag.Flag) {
		same := to.Lookup(f.Name)
		if same == nil { // it is the command's own, such as --help
			return
		}
		if from, ok := f.Value.(pflag.SliceValue); ok {
			errs = append(errs, same.Value.(pflag.SliceValue).Replace(from.GetSlice()))
			same.Changed = true
			return
		}
		errs = append(errs, to.Set(f.Name, f.Value.String()))
	})
	return errors.Join(errs...)
}

// field is one that a fault may be of: of a pool; or of the process, if that is "".
type field struct{ pool, name string }

// reader makes settings of a tree.
type reader struct {
	*tree
	typed *pflag.FlagSet
	where map[field]ast.Node // what the file says of it
}

// top reads the whole.
func (r *reader) top(s *Settings) {
	if r.root == nil {
		if len(r.faults) > 0 { // it was no YAML
			return
		}
		r.faults = append(r.faults, Fault{Text: "it is empty, and needs to say where to listen, and which pools there are: see magent help file"})
		return
	}
	names := append([]string{"listen", "pools"}, Process()...)
	var listen, pools *entry
	for _, e := range r.mapping(r.root, "a configuration") {
		r.where[field{"", e.name}] = e.at()
		switch {
		case e.name == "listen":
			listen = &e
		case e.name == "pools":
			pools = &e
		case !slices.Contains(names, e.name):
			r.unknown(e, "a configuration", names, Pool())
		case !r.typed.Changed(e.name):
			r.set(s.set, e)
		}
	}
	if pools != nil {
		s.Pools = r.pools(pools)
	} else if len(r.faults) == 0 {
		r.fault(r.root, "there are no pools: say pools, with a name for each, and its copies")
	}
	if listen != nil {
		s.Listen = r.listeners(listen, s.Pools)
	} else if len(r.faults) == 0 {
		r.fault(r.root, "there is no address to listen on: say listen")
	}
}

// unknown says that what has no field e, and which one it may have been meant for. elsewhere is
// the fields that are in another place.
func (r *reader) unknown(e entry, what string, names, elsewhere []string) {
	switch near := nearest(e.name, names); {
	case slices.Contains(elsewhere, e.name) && what == "a configuration":
		r.fault(e.key, "%s belongs to a pool: put it under one of pools", e.name)
	case slices.Contains(elsewhere, e.name):
		r.fault(e.key, "%s belongs to the process: put it at the left margin, beside pools", e.name)
	case near != "":
		r.fault(e.key, "%s has no %q: is %s meant?", what, e.name, near)
	case len(names) > 10:
		r.fault(e.key, "%s has no %q: magent help file says what there is", what, e.name)
	default:
		r.fault(e.key, "%s has no %q: there are %s", what, e.name, list(names))
	}
}

// set has the flag of the name of e take its value.
func (r *reader) set(fs *pflag.FlagSet, e entry) {
	f := fs.Lookup(e.name)
	if e.value == nil {
		return
	}
	var err error
	if several, ok := f.Value.(pflag.SliceValue); ok {
		r.setSlice(f, several, e)
	} else if text, ok := r.typedScalar(f, e); ok {
		err = fs.Set(e.name, text)
	}
	if err != nil {
		text, _ := scalar(e.value)
		r.fault(e.at(), "%v", config.Refused(e.name, wants(f), text, err))
	}
}

// wants says what a field takes, in words.
func wants(f *pflag.Flag) string {
	switch f.Value.Type() {
	case "bool":
		return "true or false"
	case "string":
		return "a text"
	}
	return config.Wants(f)
}

// setSlice has f, whose value is to, take a list, or one value in its place.
func (r *reader) setSlice(f *pflag.Flag, to pflag.SliceValue, e entry) {
	items := []ast.Node{e.value}
	if _, ok := scalar(e.value); !ok {
		items = r.sequence(e.value, e.name+" is a list")
	}
	_ = to.Replace(nil) // which every list takes
	for _, n := range items {
		text, ok := scalar(n)
		if !ok {
			r.fault(n, "%s is a list of texts, and this is %s", e.name, kind(n))
		} else if err := to.Append(text); err != nil {
			r.fault(n, "%v", config.Refused(e.name, wants(f), text, err))
		}
	}
}

// typedScalar is the text of a value, if it is of the type that f takes.
func (r *reader) typedScalar(f *pflag.Flag, e entry) (text string, ok bool) {
	text, ok = scalar(e.value)
	_, isBool := e.value.(*ast.BoolNode)
	_, isInt := e.value.(*ast.IntegerNode)
	switch f.Value.Type() {
	case "bool":
		ok = isBool
	case "int":
		ok = isInt
	default:
		ok = ok && !isBool
	}
	if !ok {
		r.fault(e.at(), "%s takes %s, not %s", e.name, wants(f), kind(e.value))
	}
	return text, ok
}

// locate notes the faults of err, each where the file speaks of it.
func (r *reader) locate(err error) {
	broken := len(r.faults) > 0
	for _, one := range split(err) {
		text := one.Error()
		of, known := errors.AsType[*config.Fault](one)
		if known {
			if n := r.node(field{of.Pool, of.Field}); n != nil {
				if strings.HasPrefix(text, "--"+of.Field) { // a flag; in a file it has no dashes
					text = text[len("--"):]
				}
				if at := place(n); !slices.ContainsFunc(r.faults, func(f Fault) bool { return f.Line == at.Line }) {
					r.fault(n, "%s", text)
				}
				continue
			}
		}
		if !broken { // else it follows from what is wrong
			r.faults = append(r.faults, Fault{Text: text})
		}
	}
}

// node is where the file speaks of f, or of what f is a part of; nil if it does not.
func (r *reader) node(f field) ast.Node {
	for {
		if n := r.where[f]; n != nil {
			return n
		}
		whole, _, part := cutLast(f.name, ".")
		switch {
		case part:
			f.name = whole
		case f.pool != "" && f.name != "":
			f.name = ""
		default:
			return nil
		}
	}
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// split is the errors that err joins.
func split(err error) (all []error) {
	if err == nil {
		return nil
	}
	if several, ok := err.(interface{ Unwrap() []error }); ok {
		for _, one := range several.Unwrap() {
			all = append(all, split(one)...)
		}
		return all
	}
	return []error{err}
}

// Process is the fields of the process, in the order of help; not to be changed.
var Process = sync.OnceValue(func() (names []string) {
	Empty().set.VisitAll(func(f *pflag.Flag) {
		if config.About(f) == config.OfProcess && config.InFile(f) {
			names = append(names, f.Name)
		}
	})
	return slices.Clip(names) // who appends has a list of its own
})

// Pool is the fields of a pool, its copies aside; not to be changed.
var Pool = sync.OnceValue(func() (names []string) {
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	fs.SortFlags = false
	p := config.DefaultPool()
	config.BindPool(fs, &p)
	fs.VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	return slices.Clip(names)
})

// index is the name of the part i of a field.
func index(name string, i int) string { return name + "." + strconv.Itoa(i) }
