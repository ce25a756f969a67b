package load

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"magent/bench/keys"
	"magent/bench/wire"
)

// target is a memcached in a few lines: bufio, a map, and a hook that may
// change or withhold the reply to the n-th command (from 1) of a connection.
type target struct {
	addr string

	mu     sync.Mutex
	values map[string]string // key → flags and value, as stored
	gets   int
	sets   int
}

// errHangUp makes the target close the connection instead of answering.
var errHangUp = errors.New("hang up")

type hook func(n int, reply string) (string, error)

func startTarget(t *testing.T, h hook) *target {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tg := &target{addr: l.Addr().String(), values: map[string]string{}}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				tg.serve(c, h)
			})
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return tg
}

// serve answers until the client goes. It flushes when it would block.
func (tg *target) serve(c net.Conn, h hook) {
	r, w := bufio.NewReader(c), bufio.NewWriter(c)
	for n := 1; ; n++ {
		if r.Buffered() == 0 && w.Flush() != nil {
			return
		}
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		reply, err := tg.reply(strings.Fields(line), r)
		if err == nil && h != nil {
			reply, err = h(n, reply)
		}
		if err != nil {
			w.Flush()
			return
		}
		w.WriteString(reply)
	}
}

// served returns how many commands were answered, and how many keys are held.
func (tg *target) served() (gets, sets, keys int) {
	tg.mu.Lock()
	defer tg.mu.Unlock()
	return tg.gets, tg.sets, len(tg.values)
}

func (tg *target) reply(words []string, r io.Reader) (string, error) {
	tg.mu.Lock()
	defer tg.mu.Unlock()
	if words[0] == "set" {
		var size int
		fmt.Sscan(words[4], &size)
		data := make([]byte, size+2)
		if _, err := io.ReadFull(r, data); err != nil {
			return "", err
		}
		tg.sets++
		tg.values[words[1]] = fmt.Sprintf("%s %d\r\n%s", words[2], size, data)
		return "STORED\r\n", nil
	}
	tg.gets++
	var b strings.Builder
	for _, key := range words[1:] {
		if v, ok := tg.values[key]; ok {
			fmt.Fprintf(&b, "VALUE %s %s", key, v)
		}
	}
	return b.String() + "END\r\n", nil
}

func mustRun(t *testing.T, cfg Config) *Report {
	t.Helper()
	rep, err := Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return rep
}

func TestRunCountsEveryRequest(t *testing.T) {
	for _, c := range []Config{
		{Conns: 1, Requests: 1},
		{Conns: 5, Requests: 1003, Pipeline: 7},
		{Conns: 7, Requests: 2000, Pipeline: 3, Threads: 3, Mix: Mix{wire.Set: 1, wire.Get: 3}},
		{Conns: 4, Requests: 300, MultiGet: 20},
		{Conns: 3, Requests: 60, Pipeline: 4, Mix: Mix{wire.Set: 1, wire.Get: 1}, Values: keys.Fixed(300 << 10), Keys: keys.Config{Max: 49}},
	} {
		tg := startTarget(t, nil)
		c.Targets = []string{tg.addr}
		if c.Keys.Max == 0 {
			c.Keys.Max = 499
		}
		n := c.Keys.Max + 1
		if err := Preload(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		if _, sets, held := tg.served(); sets != n || held != n {
			t.Errorf("preload stored %d keys in %d sets, want %d", held, sets, n)
		}
		rep := mustRun(t, c)
		gets, sets, _ := tg.served()
		if sets -= n; rep.Requests != c.Requests || int64(gets+sets) != c.Requests {
			t.Errorf("%+v: reported %d, served %d", c, rep.Requests, gets+sets)
		}
		if want := int64(gets * max(1, c.MultiGet)); rep.Hits != want || rep.Misses != 0 {
			t.Errorf("%+v: %d hits, %d misses, want %d and 0", c, rep.Hits, rep.Misses, want)
		}
		if rep.Errors != 0 || rep.Wrong != 0 || rep.Lost != 0 || rep.FirstError != "" {
			t.Errorf("%+v: faults in %+v", c, rep)
		}
		if rep.Hist.TotalCount() != c.Requests || rep.Rate <= 0 || rep.Self.CPU <= 0 {
			t.Errorf("%+v: %d latencies, rate %v, own CPU %v", c, rep.Hist.TotalCount(), rep.Rate, rep.Self.CPU)
		}
	}
}

func TestRunCountsMisses(t *testing.T) {
	rep := mustRun(t, Config{Targets: []string{startTarget(t, nil).addr}, Conns: 2, Requests: 50, MultiGet: 3})
	if rep.Misses != 150 || rep.Hits != 0 {
		t.Errorf("%d misses, %d hits, want 150 and 0", rep.Misses, rep.Hits)
	}
}

// spoil changes the last byte of the value in reply.
func spoil(reply string) string {
	b := []byte(reply)
	b[len(b)-len("x\r\nEND\r\n")] ^= 1
	return string(b)
}

func TestRunFindsWrongValuesAndErrors(t *testing.T) {
	tg := startTarget(t, func(n int, reply string) (string, error) {
		switch {
		case strings.HasPrefix(reply, "STORED"): // the preload
		case n%10 == 0:
			return strings.Replace(reply, "key:", "kex:", 1), nil // as if another key's
		case n%10 == 5:
			return spoil(reply), nil
		case n%10 == 7:
			return "SERVER_ERROR out of sorts\r\n", nil
		}
		return reply, nil
	})
	cfg := Config{Targets: []string{tg.addr}, Conns: 1, Keys: keys.Config{Max: 9}, Requests: 1000, Pipeline: 4}
	if err := Preload(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	rep := mustRun(t, cfg)
	if rep.Wrong != 200 || rep.Errors != 100 || rep.Hits != 700 || rep.Requests != 1000 {
		t.Errorf("wrong %d, errors %d, hits %d, requests %d; want 200, 100, 700, 1000", rep.Wrong, rep.Errors, rep.Hits, rep.Requests)
	}
	if !strings.HasPrefix(rep.FirstError, "wrong: get of key:") {
		t.Errorf("first error %q", rep.FirstError)
	}
}

// A target that reads a whole pipeline before it answers would wait for ever if
// the generator sent less than its depth, and sees at once if it sent more.
func TestRunKeepsThePipelineFull(t *testing.T) {
	const depth, batches = 16, 20
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	served := make(chan error, 1)
	go func() {
		served <- func() error {
			c, err := l.Accept()
			if err != nil {
				return err
			}
			defer c.Close()
			r := bufio.NewReader(c)
			for range batches {
				for range depth {
					if _, err := r.ReadString('\n'); err != nil {
						return err
					}
				}
				if n := r.Buffered(); n > 0 {
					return fmt.Errorf("%d bytes beyond the depth", n)
				}
				if _, err := c.Write(bytes.Repeat([]byte("END\r\n"), depth)); err != nil {
					return err
				}
			}
			return nil
		}()
	}()
	rep := mustRun(t, Config{Targets: []string{l.Addr().String()}, Conns: 1, Pipeline: depth, Requests: depth * batches})
	if err := <-served; err != nil {
		t.Error(err)
	}
	if rep.Requests != depth*batches {
		t.Errorf("%d requests, want %d", rep.Requests, depth*batches)
	}
}

func TestRunSurvivesOneLostConnection(t *testing.T) {
	var once sync.Once
	tg := startTarget(t, func(n int, reply string) (string, error) {
		err := error(nil)
		if n == 10 {
			once.Do(func() { err = errHangUp })
		}
		return reply, err
	})
	rep := mustRun(t, Config{Targets: []string{tg.addr}, Conns: 4, Requests: 1000})
	if rep.Lost != 1 || rep.Errors != 1 || rep.Requests != 999 {
		t.Errorf("lost %d, errors %d, requests %d; want 1, 1, 999", rep.Lost, rep.Errors, rep.Requests)
	}
	if !strings.Contains(rep.FirstError, "closed by the target") && !strings.Contains(rep.FirstError, "reset") {
		t.Errorf("first error %q", rep.FirstError)
	}
}

func TestRunFailsInsteadOfHanging(t *testing.T) {
	hangUp := startTarget(t, func(n int, reply string) (string, error) {
		if n == 3 {
			return "", errHangUp
		}
		return reply, nil
	})
	rep, err := Run(t.Context(), Config{Targets: []string{hangUp.addr}, Conns: 2, Requests: 1000, Pipeline: 2})
	if err == nil || !strings.Contains(err.Error(), "every connection") {
		t.Errorf("connections closed: %v", err)
	} else if rep.Lost != 2 || rep.Requests != 4 || rep.Errors == 0 {
		t.Errorf("connections closed: lost %d, requests %d, errors %d", rep.Lost, rep.Requests, rep.Errors)
	}
	babble := startTarget(t, func(int, string) (string, error) { return "HELLO\r\n", nil })
	if _, err := Run(t.Context(), Config{Targets: []string{babble.addr}, Conns: 1, Requests: 10}); err == nil || !strings.Contains(err.Error(), "out of step") {
		t.Errorf("babble: %v", err)
	}
	surplus := startTarget(t, func(_ int, reply string) (string, error) { return reply + reply, nil })
	if _, err := Run(t.Context(), Config{Targets: []string{surplus.addr}, Conns: 1, Requests: 1}); err == nil || !strings.Contains(err.Error(), "answer to nothing") {
		t.Errorf("two replies to one request: %v", err)
	}
	silent := startTarget(t, func(int, string) (string, error) { return "", nil })
	if _, err := Run(t.Context(), Config{Targets: []string{silent.addr}, Conns: 1, Requests: 10, Timeout: 50 * time.Millisecond}); err == nil || !strings.Contains(err.Error(), "no answer") {
		t.Errorf("silence: %v", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if _, err := Run(t.Context(), Config{Targets: []string{l.Addr().String()}, Requests: 1}); err == nil {
		t.Error("nobody listens, and no error")
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	tg := startTarget(t, func(n int, reply string) (string, error) {
		if n == 100 {
			cancel()
		}
		return reply, nil
	})
	rep, err := Run(ctx, Config{Targets: []string{tg.addr}, Conns: 1, Duration: time.Hour})
	if !errors.Is(err, context.Canceled) || rep == nil || rep.Requests < 99 {
		t.Errorf("cancelled run: %v, report %+v", err, rep)
	}
}

func TestRunMeasuresAfterTheWarmup(t *testing.T) {
	tg := startTarget(t, nil)
	const warmup, duration = 100 * time.Millisecond, 50 * time.Millisecond
	rep := mustRun(t, Config{
		Targets: []string{tg.addr}, Conns: 3, Warmup: warmup, Duration: duration,
		Procs: map[string]int{"target": os.Getpid()},
	})
	if rep.Seconds < duration.Seconds() {
		t.Errorf("measured %v s, want at least %v", rep.Seconds, duration)
	}
	if gets, _, _ := tg.served(); rep.Requests >= int64(gets) {
		t.Errorf("measured %d of %d requests: the warm-up should not count", rep.Requests, gets)
	}
	if rep.Hist.TotalCount() != rep.Requests {
		t.Errorf("%d latencies of %d requests", rep.Hist.TotalCount(), rep.Requests)
	}
	if u := rep.Procs["target"]; u.CPU <= 0 || u.PID != os.Getpid() {
		t.Errorf("target's usage %+v", u)
	}
	exact := mustRun(t, Config{Targets: []string{tg.addr}, Conns: 3, Pipeline: 5, Warmup: warmup, Requests: 500})
	if exact.Requests != 500 {
		t.Errorf("%d requests after a warm-up, want 500", exact.Requests)
	}
}

// Latencies of known length come out as the quantiles they are.
func TestLatencies(t *testing.T) {
	s := newShared(Config{Targets: []string{"x:1"}, Conns: 1, Requests: 1}.withDefaults())
	w := newWorker(s, 0, -1)
	w.add(0, -1, nil)
	w.phase = measuring
	f := flight{Request: wire.Request{Op: wire.Get, Keys: 1}}
	for i := range 10000 {
		w.settle(&w.conns[0], &f, nil, &wire.Reply{}, int64(i+1)*1000) // 1 µs … 10 ms
	}
	w.settle(&w.conns[0], &f, nil, &wire.Reply{}, 3*histMax) // beyond the scale counts as its end
	rep := collect(s, []*worker{w})
	for _, c := range []struct {
		name      string
		got, want float64 // µs
	}{
		{"p50", rep.Latency.P50, 5000}, {"p90", rep.Latency.P90, 9000}, {"p99", rep.Latency.P99, 9900},
		{"p99.9", rep.Latency.P999, 9990}, {"max", rep.Latency.Max, float64(histMax) / 1000},
	} {
		if c.got < c.want*0.998 || c.got > c.want*1.002 {
			t.Errorf("%s is %v µs, want %v", c.name, c.got, c.want)
		}
	}
	if rep.Requests != 10001 {
		t.Errorf("%d requests", rep.Requests)
	}
}

func TestValidateNamesEveryFault(t *testing.T) {
	bad := Config{Threads: 2, Conns: 1, Pipeline: -1, Keys: keys.Config{Max: 9, Prefix: "k", Size: 1}, MultiGet: 11}
	err := bad.Validate()
	for _, fault := range []string{"address", "conns", "pipeline", "mix", "multi-get", "key size", "requests"} {
		if err == nil || !strings.Contains(err.Error(), fault) {
			t.Errorf("no word of the %s in: %v", fault, err)
		}
	}
	if err := (Config{Targets: []string{"x:1"}, Requests: 1}).withDefaults().Validate(); err != nil {
		t.Errorf("the defaults: %v", err)
	}
}
