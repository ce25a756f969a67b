package bench

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// flags are those of one command, in the groups of its help. pflag gives up at the
// first bad value; these take every value and keep what is wrong with it, so that all
// of it is said at once.
type flags struct {
	set    *pflag.FlagSet
	groups []group
	faults []error
}

type group struct {
	title string
	names []string
}

func newFlags(set *pflag.FlagSet) *flags {
	set.SortFlags = false
	return &flags{set: set}
}

// group begins a new group; the flags that follow are in it.
func (f *flags) group(title string) { f.groups = append(f.groups, group{title: title}) }

func (f *flags) fault(format string, args ...any) {
	f.faults = append(f.faults, fmt.Errorf(format, args...))
}

// given says whether the user gave the flag.
func (f *flags) given(name string) bool { return f.set.Changed(name) }

// all is the value of every flag that has one as text, by name.
func (f *flags) all() map[string]string {
	m := make(map[string]string)
	for _, g := range f.groups {
		for _, name := range g.names {
			if text := f.set.Lookup(name).Value.String(); text != "" {
				m[name] = text
			}
		}
	}
	return m
}

// command is the command line of these words and the flags that were given. Paths are
// cut to their last part: where a file lay on this machine says nothing to others.
func (f *flags) command(words ...string) []string {
	f.set.Visit(func(flag *pflag.Flag) {
		texts := []string{flag.Value.String()}
		if v, ok := flag.Value.(interface{ GetSlice() []string }); ok {
			texts = v.GetSlice()
		}
		for _, text := range texts {
			switch {
			case flag.Value.Type() == "bool":
				words = append(words, "--"+flag.Name)
			case filepath.IsAbs(text):
				words = append(words, "--"+flag.Name, filepath.Base(text))
			default:
				words = append(words, "--"+flag.Name, text)
			}
		}
	})
	return words
}

// kind is a kind of value: how it is read, and what to say of one that cannot be.
type kind[T any] struct {
	want  string
	parse func(text string) (T, error)
}

// value is a flag's value, a pflag.Value.
type value[T any] struct {
	flags    *flags
	name     string
	kind     kind[T]
	put      func(T)
	texts    []string
	repeated bool
	given    bool
}

func (v *value[T]) Set(text string) error {
	x, err := v.kind.parse(text)
	if err != nil {
		v.flags.fault("--%s takes %s, not %q", v.name, v.kind.want, text)
		return nil
	}
	v.put(x)
	if !v.repeated || !v.given {
		v.texts = nil
	}
	v.texts, v.given = append(v.texts, text), true
	return nil
}

func (v *value[T]) String() string { return strings.Join(v.texts, ",") }

// GetSlice is each text that was given.
func (v *value[T]) GetSlice() []string { return v.texts }

func (v *value[T]) Type() string {
	if _, ok := any(v).(*value[bool]); ok {
		return "bool"
	}
	return "value"
}

// bind defines a flag of kind k on f, whose variable is *p. names are its long name
// and, after a comma, its letter; byDefault is a text of the kind.
func bind[T any](f *flags, p *T, names, byDefault string, k kind[T], usage string) {
	add(f, names, byDefault, usage, &value[T]{flags: f, kind: k, put: func(x T) { *p = x }})
}

// bindList is bind for a flag that may be repeated. There is nothing by default.
func bindList[T any](f *flags, p *[]T, names string, k kind[T], usage string) {
	add(f, names, "", usage, &value[T]{flags: f, kind: k, put: func(x T) { *p = append(*p, x) }, repeated: true})
}

func add[T any](f *flags, names, byDefault, usage string, v *value[T]) {
	name, letter, _ := strings.Cut(names, ",")
	v.name = name
	if byDefault != "" {
		if x, err := v.kind.parse(byDefault); err == nil {
			v.put(x)
			v.texts = []string{byDefault}
		}
	}
	defined := f.set.VarPF(v, name, letter, usage)
	if v.Type() == "bool" {
		defined.NoOptDefVal = "true"
	}
	last := &f.groups[len(f.groups)-1]
	last.names = append(last.names, name)
}

var errRange = errors.New("out of range")

// whole is a whole number from low up.
func whole(low int64) kind[int64] {
	return kind[int64]{"a whole number from " + strconv.FormatInt(low, 10) + " up", func(text string) (int64, error) {
		n, err := strconv.ParseInt(text, 10, 64)
		if err == nil && n < low {
			err = errRange
		}
		return n, err
	}}
}

// count is a whole number from low up that an int32 holds.
func count(low int) kind[int] {
	return kind[int]{"a whole number from " + strconv.Itoa(low) + " up", func(text string) (int, error) {
		n, err := strconv.ParseInt(text, 10, 32)
		if err == nil && int(n) < low {
			err = errRange
		}
		return int(n), err
	}}
}

// positive is a number above 0.
var positive = kind[float64]{"a number above 0", func(text string) (float64, error) {
	x, err := strconv.ParseFloat(text, 64)
	if err == nil && !(x > 0 && x <= 1e18) {
		err = errRange
	}
	return x, err
}}

// span is a time: a number of seconds, or Go's notation.
var span = kind[time.Duration]{"seconds or a duration, such as 10 or 500ms", func(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if seconds, numErr := strconv.ParseFloat(text, 64); numErr == nil {
		d, err = time.Duration(seconds*float64(time.Second)), nil
		if !(seconds <= 1e9) {
			err = errRange
		}
	}
	if err == nil && d < 0 {
		err = errRange
	}
	return d, err
}}

var port = kind[int]{"a port, 1 to 65535", func(text string) (int, error) {
	n, err := strconv.ParseUint(text, 10, 16)
	if err == nil && n == 0 {
		err = errRange
	}
	return int(n), err
}}

var words = kind[string]{"a text", func(text string) (string, error) {
	if text == "" {
		return "", errRange
	}
	return text, nil
}}

var switched = kind[bool]{"no value", strconv.ParseBool}

// namedPID is NAME=PID.
type namedPID struct {
	name string
	pid  int
}

var named = kind[namedPID]{"NAME=PID", func(text string) (namedPID, error) {
	name, number, ok := strings.Cut(text, "=")
	pid, err := strconv.ParseInt(number, 10, 32)
	if !ok || name == "" || pid <= 0 {
		err = errRange
	}
	return namedPID{name, int(pid)}, err
}}

var percentiles = kind[[]float64]{"percentages with commas between them, such as 50,99,99.9", func(text string) ([]float64, error) {
	var list []float64
	for part := range strings.SplitSeq(text, ",") {
		q, err := strconv.ParseFloat(part, 64)
		if err != nil || !(q > 0 && q <= 100) {
			return nil, errRange
		}
		list = append(list, q)
	}
	return list, nil
}}

// elsewhere says of memtier_benchmark's flags that are not here what stands for them.
var elsewhere = map[string]string{
	"authenticate":         "there is no authentication yet",
	"clients-start":        "the number of connections stays what --clients says",
	"connection-timeout":   "give --timeout, which bounds silence, too",
	"data-import":          "keys and values are made here, see --key-pattern and --data-size",
	"data-size-pattern":    "sizes do not depend on the key here, leave it out",
	"data-verify":          "values are always checked here, leave it out",
	"distinct-client-seed": "connections always draw differently here, leave it out or give --seed",
	"hide-histogram":       "the histogram is hidden here unless --histogram asks for it, leave it out",
	"host":                 "give --server",
	"multi-key-get":        "give --multi-get, with which each get of --ratio has so many keys",
	"R":                    "values always differ here, leave it out",
	"random-data":          "values always differ here, leave it out",
	"randomize":            "give --seed, another number for each run",
	"rate-limiting":        "give --rate, which is of all connections together, where that is of each",
	"run-count":            "call it again, or compare with magent bench compare",
	"tls":                  "there is no TLS yet",
	"x":                    "call it again, or compare with magent bench compare",
}

// withHints has cmd say of a flag that it does not know, and memtier_benchmark does, what
// stands for it. What else is wrong with flags is for the command above to put into words.
func withHints(cmd *cobra.Command) {
	cmd.SetFlagErrorFunc(func(called *cobra.Command, err error) error {
		var unknown *pflag.NotExistError
		if errors.As(err, &unknown) && called == cmd {
			name, dashes := unknown.GetSpecifiedName(), "--"
			if unknown.GetSpecifiedShortnames() != "" {
				dashes = "-"
			}
			if hint := elsewhere[name]; hint != "" {
				return fmt.Errorf("%s%s is memtier_benchmark's: %s", dashes, name, hint)
			}
		}
		if above := cmd.Parent(); above != nil {
			err = above.FlagErrorFunc()(called, err)
		}
		return err
	})
}

const (
	helpWidth = 100
	helpLeft  = 34 // the column in which a flag's explanation begins
)

// withHelp gives cmd its page of help.
func withHelp(cmd *cobra.Command, f *flags) {
	cmd.Flags().BoolP("help", "h", false, "print this")
	cmd.SetHelpFunc(func(cmd *cobra.Command, _ []string) { fmt.Fprint(cmd.OutOrStdout(), f.help(cmd)) })
}

// help is the page of a command: what it does, how it is called, examples, and the
// flags group by group. Flags that somebody else has defined come last.
func (f *flags) help(cmd *cobra.Command) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\nUsage:\n  %s\n", cmd.Long, cmd.UseLine())
	for _, c := range cmd.Commands() {
		fmt.Fprintf(&b, "  %-*s %s\n", helpLeft-3, c.CommandPath()+" -h", c.Short)
	}
	fmt.Fprintf(&b, "\nExamples:\n%s\n", cmd.Example)
	told := make(map[string]bool)
	for _, g := range f.groups {
		fmt.Fprintf(&b, "\n%s:\n", g.title)
		for _, name := range g.names {
			told[name] = true
			explain(&b, f.set.Lookup(name))
		}
	}
	title := "\nThis program:\n"
	if len(f.groups) == 0 {
		title = "\nFlags:\n"
	}
	cmd.LocalFlags().VisitAll(func(flag *pflag.Flag) {
		if !told[flag.Name] && !flag.Hidden {
			b.WriteString(title)
			title = ""
			explain(&b, flag)
		}
	})
	return b.String()
}

// explain writes one flag, its explanation wrapped in a column of its own.
func explain(b *strings.Builder, flag *pflag.Flag) {
	takes, usage := pflag.UnquoteUsage(flag)
	usage = strings.TrimPrefix(usage, takes+": ")
	left := "      --" + flag.Name
	if flag.Shorthand != "" {
		left = "  -" + flag.Shorthand + ", --" + flag.Name
	}
	if takes != "" {
		left += " " + takes
	}
	if d := strings.Trim(flag.DefValue, "[]"); d != "" && d != "false" && (d != "0" || flag.Value.Type() == "string") {
		usage += " (default " + d + ")"
	}
	if len(left) >= helpLeft {
		fmt.Fprintln(b, left)
		left = ""
	}
	for line := range strings.SplitSeq(wrap(usage, helpWidth-helpLeft), "\n") {
		fmt.Fprintf(b, "%-*s%s\n", helpLeft, left, line)
		left = ""
	}
}

// wrap breaks text between words into lines of at most width bytes.
func wrap(text string, width int) string {
	var b strings.Builder
	length := 0
	for word := range strings.FieldsSeq(text) {
		switch {
		case length == 0:
		case length+1+len(word) > width:
			b.WriteByte('\n')
			length = 0
		default:
			b.WriteByte(' ')
			length++
		}
		b.WriteString(word)
		length += len(word)
	}
	return b.String()
}
