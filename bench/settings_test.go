package bench

import (
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"magent/bench/failover"
	"magent/bench/keys"
	"magent/bench/load"
	"magent/bench/wire"
)

// generatorOf is `magent bench` with these flags.
func generatorOf(t *testing.T, args ...string) *generator {
	t.Helper()
	g := &generator{settings: settings{flags: newFlags(pflag.NewFlagSet("bench", pflag.ContinueOnError))}}
	g.bind()
	if err := g.set.Parse(args); err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	return g
}

func drillOf(t *testing.T, args ...string) *drill {
	t.Helper()
	d := &drill{settings: settings{flags: newFlags(pflag.NewFlagSet("failover", pflag.ContinueOnError))}, self: "/self"}
	d.bind()
	if err := d.set.Parse(args); err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	return d
}

func parsedSizes(t *testing.T, text string) keys.Sizes {
	t.Helper()
	s, err := keys.ParseSizes(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// usual is the load without any flag.
func usual() load.Config {
	pattern := keys.Pattern{Kind: 'R', Exponent: 1, Share: 0.01, Weight: 0.9}
	return load.Config{
		Targets: []string{"127.0.0.1:12000"}, Threads: 1, Conns: 50, Pipeline: 1, MultiGet: 1,
		Mix:  load.Mix{wire.Set: 1, wire.Get: 10},
		Keys: keys.Config{Prefix: "bench:", Max: 99999}, ReadKeys: pattern, WriteKeys: pattern,
		Values: keys.Fixed(100), Requests: 500000, Timeout: 10 * time.Second, Procs: map[string]int{},
	}
}

func TestFlagsMakeALoad(t *testing.T) {
	kinds := func(c *load.Config, write, read byte) { c.WriteKeys.Kind, c.ReadKeys.Kind = write, read }
	for _, c := range []struct {
		args string
		want func(*load.Config)
	}{
		{"", func(*load.Config) {}},
		{"-s 10.0.0.1", func(c *load.Config) { c.Targets = []string{"10.0.0.1:12000"} }},
		{"-s h -s other:7 -p 11211 -S /run/x -s ::1 -s [::2] -s [::3]:9", func(c *load.Config) {
			c.Targets = []string{"h:11211", "other:7", "[::1]:11211", "[::2]:11211", "[::3]:9", "/run/x"}
		}},
		{"-s a:1,b -p 11211 -s [::1],c", func(c *load.Config) {
			c.Targets = []string{"a:1", "b:11211", "[::1]:11211", "c:11211"}
		}},
		{"-S /run/x", func(c *load.Config) { c.Targets = []string{"/run/x"} }},
		{"-P memcache_meta", func(c *load.Config) { c.Dialect = wire.Meta }},
		{"-P memcache_binary", func(c *load.Config) { c.Dialect = wire.Binary }},
		{"-t 4 -c 10 -n 100", func(c *load.Config) { c.Threads, c.Conns, c.Requests = 4, 40, 4000 }},
		{"--pipeline 16", func(c *load.Config) { c.Pipeline = 16 }},
		{"--rate 5000.5 --arrivals poisson", func(c *load.Config) { c.Rate, c.Arrivals, c.Pipeline = 5000.5, load.Poisson, 4096 }},
		{"--rate 10 --pipeline 2", func(c *load.Config) { c.Rate, c.Pipeline = 10, 2 }},
		{"--reconnect-on-error --reconnect-interval 10", func(c *load.Config) { c.Reopen, c.ReopenEvery = true, 10 }},
		{"--rate 10 --writers 2 --test-time 5", func(c *load.Config) {
			c.Rate, c.Pipeline, c.Writers, c.Requests, c.Duration = 10, 4096, 2, 0, 5*time.Second
		}},
		{"--ratio 0:1", func(c *load.Config) { c.Mix = load.Mix{wire.Get: 1} }},
		{"--mix get=90,set=5,incr=3,cas=2,gets=7,delete=1,touch=4", func(c *load.Config) {
			c.Mix = load.Mix{wire.Get: 90, wire.Set: 5, wire.Incr: 3, wire.CAS: 2, wire.Gets: 7, wire.Delete: 1, wire.Touch: 4}
		}},
		{"--multi-get 20", func(c *load.Config) { c.MultiGet = 20 }},
		{"--key-prefix k --key-minimum 5 --key-maximum 15", func(c *load.Config) { c.Keys = keys.Config{Prefix: "k", Min: 5, Max: 15} }},
		{"--key-pattern P:Z --key-zipf-exp 1.2", func(c *load.Config) {
			kinds(c, 'P', 'Z')
			c.WriteKeys.Exponent, c.ReadKeys.Exponent = 1.2, 1.2
		}},
		{"--hot-keys 0.2:0.8", func(c *load.Config) {
			kinds(c, 'H', 'H')
			c.WriteKeys.Share, c.WriteKeys.Weight, c.ReadKeys.Share, c.ReadKeys.Weight = 0.2, 0.8, 0.2, 0.8
		}},
		{"--key-pattern R:H", func(c *load.Config) { kinds(c, 'R', 'H') }},
		{"--key-pattern G:G --key-minimum 100 --key-median 150 --key-stddev 12.5", func(c *load.Config) {
			kinds(c, 'G', 'G')
			c.Keys.Min = 100
			c.ReadKeys.Median, c.ReadKeys.Stddev, c.WriteKeys.Median, c.WriteKeys.Stddev = 50, 12.5, 50, 12.5
		}},
		{"-d 32", func(c *load.Config) { c.Values = keys.Fixed(32) }},
		{"--data-size-range 10-1000", func(c *load.Config) { c.Values = parsedSizes(t, "10-1000") }},
		{"--data-size-list 32:90,65536:10", func(c *load.Config) { c.Values = parsedSizes(t, "32:90,65536:10") }},
		{"--expiry-range 10-20", func(c *load.Config) { c.TTLs = keys.TTLs{Min: 10, Max: 20} }},
		{"--test-time 10", func(c *load.Config) { c.Requests, c.Duration = 0, 10*time.Second }},
		{"--test-time 1m30s -n 7", func(c *load.Config) { c.Requests, c.Duration = 350, 90*time.Second }},
		{"-n allkeys --key-maximum 9", func(c *load.Config) { c.Keys.Max, c.Requests = 9, 500 }},
		{"-n allkeys --key-maximum 9 --key-pattern P:P", func(c *load.Config) {
			kinds(c, 'P', 'P')
			c.Keys.Max, c.Requests = 9, 10
		}},
		{"--warmup 0.5 --timeout 250ms --seed 7", func(c *load.Config) {
			c.Warmup, c.Timeout, c.Seed = 500*time.Millisecond, 250*time.Millisecond, 7
		}},
		{"--proc a=12 --proc b=13", func(c *load.Config) { c.Procs = map[string]int{"a": 12, "b": 13} }},
	} {
		got, err := generatorOf(t, strings.Fields(c.args)...).config()
		want := usual()
		c.want(&want)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s\ngives %+v, %v\nwant  %+v", c.args, got, err, want)
		}
	}
}

// faultsOf wants the error to have a line for each of words and no other.
func faultsOf(t *testing.T, args string, err error, words []string) {
	t.Helper()
	if err == nil {
		t.Errorf("%s: no fault found", args)
		return
	}
	if lines := strings.Split(err.Error(), "\n"); len(lines) != len(words) {
		t.Errorf("%s: %d faults, want %d:\n%v", args, len(lines), len(words), err)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%s: no word of %q in:\n%v", args, w, err)
		}
	}
}

func TestBadFlagsOfALoad(t *testing.T) {
	for args, words := range map[string][]string{
		"-t 0 -c x --pipeline -1 --multi-get 1.5 -n 0": {"--threads takes", "--clients takes", "--pipeline takes", "--multi-get takes", "--requests takes"},
		"-p 0 -P redis -s a:b:c -s a:0 -s a/b":         {"--port takes a port", "--protocol takes memcache_text,", `--server "a:b:c"`, `--server "a:0"`, `--server "a/b"`},
		"-s a,,b -s a:1,b/c":                           {`--server ""`, `--server "b/c"`},
		"-S /run/x -p 11211":                           {"--port is of a --server, and only --unix-socket is given"},
		"--ratio 1 --mix get":                          {"--ratio takes", "--mix takes", "--mix and --ratio"},
		"--ratio 0:0":                                  {"--ratio takes SET:GET"},
		"--mix get=1,get=2":                            {"--mix takes"},
		"--mix set-counter=1":                          {"--mix takes"},
		"--mix flush=1":                                {"--mix takes"},
		"--mix get=0":                                  {"--mix takes"},
		"--rate 0 --arrivals odd":                      {"--rate takes a number above 0", "--arrivals takes even or poisson", "--arrivals is about --rate"},
		"--rate NaN":                                   {"--rate takes"},
		"--key-minimum 10 --key-maximum 9":             {"--key-maximum 9 is below --key-minimum 10"},
		"--multi-get 65":                               {"--multi-get 65 is too many: at most 64"},
		"--multi-get 11 --key-maximum 9":               {"--multi-get 11 is more than the 10 keys"},
		"--key-pattern RR":                             {"--key-pattern takes"},
		"--key-pattern R:X":                            {"--key-pattern takes"},
		"--key-pattern R:Z --hot-keys 0.1:0.9 --key-median 7": {"--hot-keys is about the pattern H", "--key-median is about the pattern G"},
		"--key-zipf-exp 1 --key-stddev 2":                     {"--key-zipf-exp is about the pattern Z", "--key-stddev is about the pattern G"},
		"--key-pattern Z:Z --key-zipf-exp 5":                  {"--key-zipf-exp must be below 5"},
		"--key-pattern G:G --key-median 100000":               {"--key-median 100000 is above --key-maximum 99999"},
		"--hot-keys 1:90":                                     {"--hot-keys takes SHARE:WEIGHT, both between 0 and 1"},
		"-d 10-20":                                            {"--data-size takes a size"},
		"-d 10 --data-size-range 1-2 --data-size-list 1:1":    {"give one of them"},
		"--data-size-range 5 --data-size-list 6 -d 7x":        {"--data-size-range takes", "--data-size-list takes", "--data-size takes", "give one of them"},
		"--expiry-range 20-10":                                {"--expiry-range takes"},
		"--test-time 0 --timeout 0 --warmup -1":               {"--test-time must be above 0", "--timeout must be above 0", "--warmup takes seconds"},
		"--test-time soon --seed -1":                          {"--test-time takes", "--test-time must", "--seed takes"},
		"-n 9223372036854775807":                              {"--requests 9223372036854775807 is too many for each of 50"},
		"--proc 12 --proc a=0 --proc a=7 --proc a=8":          {`NAME=PID, not "12"`, `NAME=PID, not "a=0"`, "--proc a is given twice"},
		"--print-percentiles 50,101 --no-preload=maybe":       {"--print-percentiles takes", "--no-preload takes no value"},
		"--key-prefix " + strings.Repeat("x", 250):            {"keys:"},
	} {
		_, err := generatorOf(t, strings.Fields(args)...).config()
		faultsOf(t, args, err, words)
	}
}

func TestFlagsMakeADrill(t *testing.T) {
	const ms = time.Millisecond
	for _, c := range []struct {
		args   string
		want   failover.Config
		bounds failover.Bounds
		names  []string // of the steps
		rate   float64
	}{
		{args: "", want: failover.Config{Before: 2000 * ms, Down: 3000 * ms, Back: 5000 * ms,
			Own: &failover.Topology{Scenario: "kill", Memcached: "memcached", Magent: "/self"}},
			bounds: failover.Bounds{MaxErrors: -1, MaxMiss: -1, MaxGap: -1}, rate: 5000},
		{args: "--scenario stop --direct --memcached /m --before 0.1 --down 200ms --back 1 --rate 70 --max-errors 0 --max-miss 7 --max-gap 300ms",
			want: failover.Config{Before: 100 * ms, Down: 200 * ms, Back: 1000 * ms,
				Own: &failover.Topology{Scenario: "stop", Memcached: "/m"}},
			bounds: failover.Bounds{MaxErrors: 0, MaxMiss: 7, MaxGap: 300 * ms}, rate: 70},
		{args: "--magent /other --magent-flag=--hedge=auto --magent-flag=-kn7",
			want: failover.Config{Before: 2000 * ms, Down: 3000 * ms, Back: 5000 * ms,
				Own: &failover.Topology{Scenario: "kill", Memcached: "memcached", Magent: "/other", Flags: []string{"--hedge=auto", "-kn7"}}},
			bounds: failover.Bounds{MaxErrors: -1, MaxMiss: -1, MaxGap: -1}, rate: 5000},
		{args: "-s h --exec true --exec false --restart exit --down 1",
			want:   failover.Config{Before: 2000 * ms, Down: 1000 * ms, Back: 5000 * ms},
			bounds: failover.Bounds{MaxErrors: -1, MaxMiss: -1, MaxGap: -1},
			names:  []string{"2s true", "2s false", "3s exit"}, rate: 5000},
	} {
		got, bounds, err := drillOf(t, strings.Fields(c.args)...).plan()
		var names []string
		for _, s := range got.Faults {
			names = append(names, s.At.String()+" "+s.Name)
		}
		rate, length := got.Load.Rate, got.Load.Duration
		got.Load, got.Faults = load.Config{}, nil
		if err != nil || !reflect.DeepEqual(got, c.want) || bounds != c.bounds || !slices.Equal(names, c.names) ||
			rate != c.rate || length != got.Before+got.Down+got.Back {
			t.Errorf("%s\ngives %+v, %+v, steps %q, %v requests/s for %v, %v\nwant  %+v, %+v, steps %q",
				c.args, got, bounds, names, rate, length, err, c.want, c.bounds, c.names)
		}
	}
}

// The command is kept as it was given, but for where files lay.
func TestCommandOfADrill(t *testing.T) {
	args := strings.Fields("--scenario all --rounds 3 --direct --magent-flag --hedge=auto --magent-flag --log=a,b --memcached /usr/bin/memcached")
	d := drillOf(t, args...)
	if got, want := strings.Join(d.command("magent", "failover"), " "), "magent failover "+strings.Replace(strings.Join(args, " "), "/usr/bin/", "", 1); got != want {
		t.Errorf("the command is\n%s\nnot\n%s", got, want)
	}
	if !slices.Equal(d.scenarios, failover.Names()) || !d.several() || drillOf(t, "--scenario", "stop").several() {
		t.Errorf("%q", d.scenarios)
	}
}

// A drill is called by its first step, which is to be what fails.
func TestDrillBeginsWithWhatFails(t *testing.T) {
	pid := strconv.Itoa(os.Getpid())
	for flag, want := range map[string]string{"--kill": "kill -9 of", "--stop": "SIGSTOP of"} {
		d := drillOf(t, "-s", "h", "--restart", "systemctl start memcached", flag, pid)
		c, _, err := d.plan()
		if err == nil {
			err = d.strike(&c)
		}
		if err != nil || !strings.HasPrefix(c.Faults[0].Name, want) || !slices.ContainsFunc(c.Faults, func(s failover.Step) bool { return s.Name == "systemctl start memcached" }) {
			t.Errorf("%s: %+v, %v", flag, c.Faults, err)
		}
	}
}

func TestBadFlagsOfADrill(t *testing.T) {
	for args, words := range map[string][]string{
		"-s h": {"nothing is to fail"},
		"-S /s --scenario kill --direct --memcached m --magent x --magent-flag y --exec z": {"--scenario is", "--direct is", "--memcached is", "--magent is", "--magent-flag is"},
		"--before 0 --down 0 --back 0": {"there is no drill"},
		"--scenario fire --kill 1 --stop x --max-errors -1": {"--scenario takes some of none, kill,", "--kill takes", "--stop takes", "--max-errors takes",
			"--kill is about a system that is there", "--stop is about a system that is there"},
		"--kill 12 -p 11211":   {"--kill is about a system that is there: name it with --server", "--port is about a system that is there"},
		"--scenario kill,kill": {"--scenario takes"},
		"--scenario kill,none --out x --max-gap 1 --exec true": {"--out is about one drill", "--max-gap is about one", "--exec is about one"},
		"-s h --exec true --rounds 2 --results r":              {"--rounds is about a system of its own", "--results is"},
		"--rate x -t 0": {"--rate takes", "--threads takes"},
	} {
		_, _, err := drillOf(t, strings.Fields(args)...).plan()
		faultsOf(t, args, err, words)
	}
	d := drillOf(t, "-s", "h", "--kill", "2147483647", "--stop", "2147483646")
	c, _, err := d.plan()
	if err != nil {
		t.Fatal(err)
	}
	faultsOf(t, "processes that are not there", d.strike(&c), []string{"--kill 2147483647: no such process", "--stop 2147483646: no such process"})
}
