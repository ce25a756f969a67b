package file

import (
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"magent/server/config"
)

var rewrite = flag.Bool("rewrite", false, "write what the code says into testdata")

// read reads text beside a command line.
func read(t testing.TB, name string, text []byte, args ...string) (*Settings, error) {
	t.Helper()
	return Read(name, text, parsed(t, args...))
}

// parsed is a command line.
func parsed(t testing.TB, args ...string) *pflag.FlagSet {
	t.Helper()
	fs := pflag.NewFlagSet("magent", pflag.ContinueOnError)
	new(config.Flags).Bind(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	return fs
}

// cases are the files of testdata whose names end so.
func cases(t testing.TB, end string) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/*" + end)
	if err != nil || len(files) == 0 {
		t.Fatalf("no %s in testdata: %v", end, err)
	}
	return files
}

func text(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// golden compares got with the file beside path that ends with end.
func golden(t *testing.T, path, end, got string) {
	t.Helper()
	path += end
	if *rewrite {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if want := string(text(t, path)); got != want {
		t.Errorf("%s: got\n%s\nwant\n%s", path, got, want)
	}
}

// A good file is what the file beside it says in magent's own words, with the warnings, and
// that says the same.
func TestGoodFiles(t *testing.T) {
	for _, path := range cases(t, ".good.yml") {
		t.Run(filepath.Base(path), func(t *testing.T) {
			s, err := read(t, filepath.Base(path), text(t, path))
			if err != nil {
				t.Fatal(err)
			}
			out := string(s.Text())
			for _, w := range s.Warnings() {
				out += "# warning: " + w + "\n"
			}
			golden(t, strings.TrimSuffix(path, ".yml"), ".txt", out)
			again(t, s)
		})
	}
}

// A listener is what its text means to anybody, IPv6 addresses without brackets included.
func TestListener(t *testing.T) {
	for text, want := range map[string]string{
		"127.0.0.1": "tcp://127.0.0.1:11211", "a:5": "tcp://a:5", ":5000": "tcp://0.0.0.0:5000", "::": "tcp://[::]:11211",
		"::1": "tcp://[::1]:11211", "[::1]:5": "tcp://[::1]:5", "/run/x": "unix:///run/x",
	} {
		if l, err := Listener(text); err != nil || l.String() != want {
			t.Errorf("%s is %v, %v, want %s", text, l, err, want)
		}
		for _, file := range []string{"listen: ['" + text + "']\n", "listen: [{" + strings.Split(want, ":")[0] + ": '" + text + "'}]\n"} {
			if s, err := read(t, "f", []byte(file+"pools: {a: {copies: [[b]]}}\n")); err != nil || s.Listen[0].String() != want {
				t.Errorf("%s: %v, want %s", file, err, want)
			}
		}
	}
	for _, text := range []string{"", ":", ":0", ":x", "::g", "a:b:c"} {
		if l, err := Listener(text); err == nil {
			t.Errorf("%q is %v", text, l)
		}
	}
}

// One good file has every field there is.
func TestOneFileHasEveryField(t *testing.T) {
	out := string(text(t, "testdata/whole.good.yml"))
	for _, name := range append(Pool(), Process()...) {
		if !strings.Contains(out, name+": ") {
			t.Errorf("whole.good.yml does not have %s", name)
		}
	}
}

// again wants that s, printed and read, is s.
func again(t testing.TB, s *Settings) {
	t.Helper()
	out := s.Text()
	back, err := read(t, "again.yml", out)
	if err != nil {
		t.Fatalf("%v in what was printed:\n%s", err, out)
	}
	if !reflect.DeepEqual(back.Config, s.Config) {
		t.Errorf("printed, and read again, it is\n%+v\nand it was\n%+v\n%s", back.Config, s.Config, out)
	}
	if next := back.Text(); string(next) != string(out) {
		t.Errorf("printed again it is\n%s\nand it was\n%s", next, out)
	}
}

// A bad file is refused with all that the file beside it says.
func TestBadFiles(t *testing.T) {
	for _, path := range cases(t, ".bad.yml") {
		t.Run(filepath.Base(path), func(t *testing.T) {
			_, err := read(t, filepath.Base(path), text(t, path))
			if _, ok := err.(*Faults); !ok {
				t.Fatalf("the error is %v", err)
			}
			golden(t, strings.TrimSuffix(path, ".yml"), ".txt", err.Error()+"\n")
		})
	}
}

// Whatever a command line says, a file can say.
func TestCommandLinesAsFiles(t *testing.T) {
	blocks := strings.Split(string(text(t, "../testdata/flags.txt")), "\n\n")
	said := make(map[string]bool)
	for _, block := range blocks {
		head, _, _ := strings.Cut(block, "\n----\n")
		lines := strings.Split(head, "\n")
		args := strings.Fields(lines[len(lines)-1])
		f, fs := new(config.Flags), pflag.NewFlagSet("magent", pflag.ContinueOnError)
		f.Bind(fs)
		if err := fs.Parse(args); err != nil {
			t.Fatal(err)
		}
		s, err := FromFlags(f, fs)
		if err != nil {
			t.Fatalf("%s: %v", args, err)
		}
		fs.Visit(func(f *pflag.Flag) { said[f.Name] = true })
		again(t, s)
	}
	parsed(t).VisitAll(func(f *pflag.Flag) {
		if !said[f.Name] && config.InFile(f) {
			t.Errorf("testdata/flags.txt of config does not say --%s", f.Name)
		}
	})
}

// What a command line says of the process wins; of the rest it may say nothing.
func TestBesideACommandLine(t *testing.T) {
	const file = "listen: 127.0.0.1:1\npools: {a: {copies: [[b]]}}\nuser: nobody\nloops: 2\nvip: [192.0.2.1]\nfrgnd: true\n"
	good := strings.Replace(file, "frgnd: true\n", "", 1)
	s, err := read(t, "f", []byte(good), "-u", "root", "-n", "7", "--vip", "192.0.2.2", "--vip", "192.0.2.3", "-Dv", "--config", "f")
	if err != nil {
		t.Fatal(err)
	}
	if f := s.Flags; f.User != "root" || !f.Foreground || !f.Verbose() || s.MaxClients != 7 || s.Loops != 2 || len(s.VIPs) != 2 {
		t.Errorf("it is %+v, %+v", f, s.Config)
	}
	for args, want := range map[string]string{
		"-s a":               "-s (--server) cannot stand beside --config",
		"-p 0":               "-p (--port) cannot",
		"-k":                 "-k (--ketama) cannot",
		"--timeout 1s":       "--timeout cannot",
		"--no-resync -l ::1": "-l (--listen) cannot stand beside --config: the file says that\n--no-resync cannot",
	} {
		if _, err := read(t, "f", []byte(good), strings.Fields(args)...); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", args, err, want)
		}
	}
	if _, err := read(t, "f", []byte(file), "-u", "root"); err == nil || !strings.Contains(err.Error(), "f:6:1: ") {
		t.Errorf("got %v", err)
	}
}

// Files that are no configurations are told so, and quickly.
func TestWhatIsNoFile(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"large":    {strings.Repeat("# large\n", MaxSize/8+1), "262152 bytes, and 262144 are the most"},
		"binary":   {"\xff\xfe", "not in UTF-8"},
		"deep":     {strings.Repeat("{a: ", 1<<15), "in one another"},
		"dashes":   {strings.Repeat("- ", 1<<15), "in one another"},
		"bomb":     {bomb(), "aliases make this file larger than 100000 values"},
		"ring":     {"listen: &a [*a]\npools: {a: {copies: &b [*b]}}", "a listener is an address"},
		"markup":   {"<html>\n<body>", "a configuration is a mapping"},
		"comments": {"# none\n---\n# none", "it is empty"},
	} {
		if _, err := read(t, name, []byte(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
}

// bomb is a short file with aliases of aliases.
func bomb() string {
	nodes := strings.TrimSuffix(strings.Repeat("a,", 1000), ",")
	return "listen: 127.0.0.1:1\npools: {a: {copies: [&n [" + nodes + "]" + strings.Repeat(", *n", 1000) + "]}}\n"
}

func TestNearest(t *testing.T) {
	names := []string{"timeout", "connect-timeout", "fall", "rise", "loops"}
	for text, want := range map[string]string{
		"timout": "timeout", "time_out": "timeout", "connect_timeout": "connect-timeout", "Timeout": "timeout", "conect-timeotu": "connect-timeout",
		"fal": "fall", "rises": "rise", "lops": "loops", "x": "", "servers": "", "": "",
	} {
		if got := nearest(text, names); got != want {
			t.Errorf("nearest to %q is %q, want %q", text, got, want)
		}
	}
}

// A long line is shown around the fault, without what would move the cursor.
func TestExcerpt(t *testing.T) {
	f := &Faults{Name: "f", lines: []string{strings.Repeat("x", 300) + "\x1b[31mé!" + strings.Repeat("y", 300)}}
	line, column := f.excerpt(Fault{1, 307, "t"})
	if []rune(line)[column-1] != '!' || len([]rune(line)) != excerptWidth || strings.Contains(line, "\x1b") {
		t.Errorf("column %d of %q", column, line)
	}
}

// FuzzRead wants no panic, and that a good file is what it is printed as.
func FuzzRead(f *testing.F) {
	for _, path := range append(cases(f, ".good.yml"), cases(f, ".bad.yml")...) {
		f.Add(text(f, path))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		s, err := read(t, "fuzz.yml", in)
		if err != nil {
			if err.Error() == "" {
				t.Error("it is refused without a word")
			}
			return
		}
		again(t, s)
	})
}
