package refill

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"magent/bench/failover"
	"magent/bench/keys"
	"magent/bench/load"
	"magent/bench/wire"
)

// TestMain is, called as a proxy would be, one.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "serve" {
		if err := fakeProxy(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// fakeProxy asks the backup for everything, calls the primary down when it hangs up, and
// warming when it is back; then it copies all to it, and calls it up. With --never it
// does not copy.
func fakeProxy(args []string) error {
	flag := func(name string) string { return args[slices.Index(args, name)+1] }
	empty, full := flag("-s"), flag("-b")
	l, err := net.Listen("tcp", "127.0.0.1:"+flag("-p"))
	if err != nil {
		return err
	}
	var state atomic.Value
	state.Store("up")
	go func() {
		for {
			c, err := net.Dial("tcp", empty)
			if err != nil {
				// It asks again until the node is back, or the test ends.
				time.Sleep(time.Millisecond)
				continue
			}
			if state.Load() == "down" {
				state.Store("warming")
				if _, err := Copy(context.Background(), full, empty); err == nil && !slices.Contains(args, "--never") {
					state.Store("up")
				}
			}
			io.Copy(io.Discard, c)
			state.Store("down")
		}
	}()
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			r := bufio.NewReader(c)
			for what, err := r.Peek(len("stats nodes\r\n")); string(what) == "stats nodes\r\n"; what, err = r.Peek(len(what)) {
				if err != nil {
					return
				}
				r.Discard(len(what))
				fmt.Fprintf(c, "STAT %s:state %s\r\nSTAT %s:state up\r\nEND\r\n", empty, state.Load(), full)
			}
			b, err := net.Dial("tcp", full)
			if err != nil {
				return
			}
			defer b.Close()
			go io.Copy(b, r)
			io.Copy(c, b)
		}()
	}
}

// little is a short measurement, through that proxy.
func little() Config {
	sizes, _ := keys.ParseSizes("32-100")
	return Config{
		Magent: os.Args[0], Memcached: "memcached", Keys: 20_000, Prefix: "refill:", Values: sizes,
		Rate: 2000, Conns: 4, Mix: load.Mix{wire.Set: 1, wire.Get: 9},
		Before: 300 * time.Millisecond, Down: 100 * time.Millisecond, After: 200 * time.Millisecond,
		Patience: 20 * time.Second, Rounds: 2,
	}
}

// All is measured, kept, and can be read again.
func TestRun(t *testing.T) {
	c := little()
	s := Set{}
	told := 0
	if err := s.Run(t.Context(), c, func(round int, _ *Round) { told = round }); err != nil {
		t.Fatal(err)
	}
	if told != 2 || len(s.Rounds) != 2 || s.Load != "2000 requests/s over 4 connections, 1 set : 9 get" {
		t.Fatalf("told of %d rounds, there are %d; %s", told, len(s.Rounds), s.Load)
	}
	if err := s.Check(); err != nil {
		t.Error(err)
	}
	for i := range s.Rounds {
		r := &s.Rounds[i]
		for _, trial := range []Trial{r.Copy, r.Idle, r.Loaded.Trial} {
			if trial.Keys != c.Keys || trial.Items < int64(c.Keys) || trial.Rate < 1000 || trial.Whole > trial.Took || trial.CPU <= 0 || trial.NodesCPU <= 0 {
				t.Errorf("%+v", trial)
			}
		}
		if r.Copy.Warming != failover.Never || r.Idle.Warming < 0 || r.Idle.Warming > r.Idle.Took {
			t.Errorf("warming after %v, of a copy %v", r.Idle.Warming, r.Copy.Warming)
		}
		seen := r.Loaded.Seen
		if calm := r.Loaded.phase(before); calm.Requests < 400 || r.Loaded.phase(during).Requests == 0 || seen.Total.Good != seen.Total.Requests || seen.UpAfter != r.Loaded.Took {
			t.Errorf("before %+v, in total %+v; up after %v", calm, seen.Total, seen.UpAfter)
		}
		if whole := &s.Rounds[i] == s.worst(); whole != (seen.Timeline != nil) {
			t.Errorf("round %d, the worst: %v; its timeline has %d bins", i+1, whole, len(seen.Timeline))
		}
	}
	dir, err := s.Save(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	again, err := Load(dir)
	if err != nil || !reflect.DeepEqual(again.Lines(), s.Lines()) {
		t.Errorf("%v\n%q\nnot\n%q", err, again.Lines(), s.Lines())
	}
	svg, err := again.SVG()
	kept, readErr := os.ReadFile(filepath.Join(dir, PlotFile))
	if err != nil || readErr != nil || string(svg) != string(kept) {
		t.Errorf("%v, %v", err, readErr)
	}
}

// A proxy that does not refill is waited for, and no longer; what was measured stays.
func TestPatience(t *testing.T) {
	c := little()
	c.Flags, c.Patience, c.Keys = []string{"--never"}, time.Second, 100
	s := Set{}
	err := s.Run(t.Context(), c, func(int, *Round) {})
	if err == nil || !strings.Contains(err.Error(), "after 1s magent does not call up the node that came back empty") || !strings.Contains(err.Error(), `is "warming"`) || s.Error == "" || s.Rounds != nil {
		t.Errorf("%v; %+v", err, s)
	}
	c.Memcached = "/nowhere/memcached"
	if err := s.Run(t.Context(), c, nil); err == nil || !strings.Contains(err.Error(), "/nowhere/memcached") {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	c = little()
	err = s.Run(ctx, c, func(int, *Round) { cancel() })
	if err == nil || len(s.Rounds) != 1 {
		t.Errorf("%v, %d rounds", err, len(s.Rounds))
	}
}

func TestValidate(t *testing.T) {
	c := little()
	c.Magent, c.Keys, c.Before, c.ProxyCPUs, c.Conns = "", 0, 0, []int{1023}, 0
	err := c.Validate()
	for _, want := range []string{"which magent", "keys (0)", "the times before (0s)", "no CPU 1023", "conns (0)"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no word of %q in\n%v", want, err)
		}
	}
}
