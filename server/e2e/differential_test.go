package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"magent/server/e2e/harness"
)

// The last request on a connection that should outlive its dialog: whatever the
// peer has to say comes before the answer to it.
const (
	lastRequest = "mg e2e-last Olast\r\n"
	lastReply   = "EN Olast\r\n"
)

// talk has dialog d over a new connection to addr. It sends each stage in pieces
// that end at the given offsets of d's bytes, each read by the peer before the
// next is sent (unix sockets; over TCP cuts must be empty), and returns the
// canonical replies, one list a stage.
func talk(addr string, d *dialog, stages []step, cuts []int) (got [][]string, err error) {
	c, err := harness.Dial(addr)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	canon := newCanon()
	sent := 0
	for i, s := range stages {
		data := s.fill(canon)
		closes := d.closes && i == len(stages)-1
		sending := make(chan error, 1)
		go func(at int) { // beside the reading, for replies may fill every buffer on their way
			err := sendCut(c, data, at, cuts)
			if err == nil && !closes {
				err = c.Send([]byte(lastRequest))
			}
			sending <- err
		}(sent)
		sent += len(data)
		reply, err := read(c, closes)
		got = append(got, canon.lines(reply))
		if err != nil {
			return got, err
		}
		if err := <-sending; err != nil && !closes {
			return got, fmt.Errorf("sending: %w", err)
		}
	}
	return got, nil
}

// read reads the replies to one stage.
func read(c *harness.Client, closes bool) (reply []byte, err error) {
	if closes {
		if reply, err = c.Rest(); err != nil {
			err = fmt.Errorf("the connection should close: %w", err)
		}
		return reply, err
	}
	reply, err = c.Until(lastReply)
	if errors.Is(err, io.EOF) {
		err = errors.New("the connection should live")
	}
	return bytes.TrimSuffix(reply, []byte(lastReply)), err
}

// sendCut sends data, the bytes of a stream from offset at on, cut where cuts say.
func sendCut(c *harness.Client, data []byte, at int, cuts []int) error {
	for _, cut := range cuts {
		if cut <= at || cut >= at+len(data) {
			continue
		}
		n := cut - at
		if err := c.Send(data[:n]); err != nil {
			return err
		}
		if err := c.Arrive(); err != nil {
			return err
		}
		data, at = data[n:], cut
	}
	return c.Send(data)
}

// check has the dialog and compares the replies with the recorded ones; "" if
// they are equal.
func check(addr string, d *dialog, cuts []int) string {
	stages := d.stages()
	got, err := talk(addr, d, stages, cuts)
	for i := range got {
		if diff := differ(got[i], stages[i].want); diff != "" {
			return fmt.Sprintf("stage %d, %s: %s", i+1, brief(string(stages[i].send)), diff)
		}
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

// cutsOf lists the ways in which a stream of n bytes is cut: whole; short ones
// in two at every place and into single bytes, long ones at random places.
func cutsOf(rng *rand.Rand, n int) (ways [][]int) {
	ways = append(ways, nil)
	if n <= 2048 {
		each := make([]int, 0, n)
		for at := 1; at < n; at++ {
			ways = append(ways, []int{at})
			each = append(each, at)
		}
		return append(ways, each)
	}
	for range 16 {
		var cuts []int
		for at := 0; at < n; at += 1 + rng.IntN(1+rng.IntN(n/2)) {
			cuts = append(cuts, at)
		}
		ways = append(ways, cuts)
	}
	return ways
}

// flusher empties a server between dialogs, over a connection of its own.
func flusher(t testing.TB, addr string) func() error {
	c, err := harness.Dial(addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return func() error {
		reply, err := c.Do("flush_all\r\n", 1)
		if err == nil && reply != "OK" {
			err = fmt.Errorf("flush_all: %q", reply)
		}
		return err
	}
}

// seeded is a generator of random numbers whose seed a failing test prints.
func seeded(t testing.TB, seed uint64) *rand.Rand {
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

var topologies = []harness.Topology{
	{Copies: 1, Nodes: 1, Loops: 1},
	{Copies: 2, Nodes: 1, Loops: 2},
	{Copies: 2, Nodes: 3, Loops: 1},
}

func nameOf(top harness.Topology) string {
	return fmt.Sprintf("copies=%d/nodes=%d/loops=%d", top.Copies, top.Nodes, top.Loops)
}

// TestTranscriptsOnMemcached holds the recorded replies against memcached itself,
// so that the other tests may take them for its word.
func TestTranscriptsOnMemcached(t *testing.T) {
	node := harness.Memcached(t)
	flush := flusher(t, node.Addr)
	recorded := map[string]map[string][][]string{}
	for _, d := range loadTranscripts(t) {
		if err := flush(); err != nil {
			t.Fatal(err)
		}
		if !*rewrite {
			if diff := check(node.Addr, d, nil); diff != "" {
				t.Errorf("%s, %s: %s", d.file, d.name, diff)
			}
			continue
		}
		got, err := talk(node.Addr, d, d.steps, nil)
		if err != nil {
			t.Fatalf("%s, %s: %v", d.file, d.name, err)
		}
		if recorded[d.file] == nil {
			recorded[d.file] = map[string][][]string{}
		}
		recorded[d.file][d.name] = got
	}
	for file, replies := range recorded {
		if err := rewriteTranscript(file, replies); err != nil {
			t.Fatal(err)
		}
	}
}

// TestTranscripts has every dialog with the proxy, whole and cut at every place,
// and demands memcached's replies.
func TestTranscripts(t *testing.T) {
	for _, top := range topologies {
		t.Run(nameOf(top), func(t *testing.T) {
			p := harness.Proxy(t, top)
			flushUnix, flushTCP := flusher(t, p.Unix), flusher(t, p.Addr)
			for _, d := range loadTranscripts(t) {
				t.Run(strings.ReplaceAll(d.file+"/"+d.name, " ", "_"), func(t *testing.T) {
					if err := flushTCP(); err != nil {
						t.Fatal(err)
					}
					if diff := check(p.Addr, d, nil); diff != "" {
						t.Fatalf("over TCP: %s", diff)
					}
					for _, cuts := range cutsOf(seeded(t, uint64(d.size())), d.size()) {
						if err := flushUnix(); err != nil {
							t.Fatal(err)
						}
						if diff := check(p.Unix, d, cuts); diff != "" {
							t.Fatalf("cut at %v: %s", cuts[:min(len(cuts), 20)], diff)
						}
					}
				})
			}
		})
	}
}
