package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"magent/bench/process/proctest"
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
	for {
		line, err := c.Lines(1)
		if string(line) == lastReply {
			return reply, nil
		}
		reply = append(reply, line...)
		if errors.Is(err, io.EOF) {
			err = errors.New("the connection should live")
		}
		if bytes.HasPrefix(line, []byte("SERVER_ERROR node ")) { // the last request may share its fate
			err = fmt.Errorf("the proxy says %s", line)
		}
		if err != nil {
			return reply, err
		}
	}
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
		got, want := got[i], stages[i].want
		if d.copied {
			got, want = unpadded(got), unpadded(want)
		}
		if diff := differ(got, want); diff != "" {
			return fmt.Sprintf("stage %d, %s: %s", i+1, brief(string(stages[i].send)), diff)
		}
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

// checkEmpty is check where nothing is stored.
func checkEmpty(flush func() error, addr string, d *dialog, cuts []int) string {
	if err := flush(); err != nil {
		return err.Error()
	}
	return check(addr, d, cuts)
}

// cutsOf lists the ways in which the stream of a dialog is cut. Short streams are
// cut at every place: one cut at a time if each is true, else several together,
// toothWidth bytes apart; and into single bytes. Long ones are cut at random.
func cutsOf(rng *rand.Rand, d *dialog, each bool) (ways [][]int) {
	var stream []byte
	for _, s := range d.steps {
		stream = append(stream, s.send...)
	}
	ways = append(ways, nil)
	some := amount(1, 8, 8)
	if len(stream) > 2048 || testing.Short() {
		for range some {
			ways = append(ways, someCuts(rng, len(stream)))
		}
		return ways
	}
	var places []int
	for at := 1; at < len(stream); at++ {
		inside := at+1 < len(stream) && stream[at-1] == stream[at] && stream[at] == stream[at+1]
		if !inside { // of a run of one byte, as of a long key: any place is as good
			places = append(places, at)
		}
	}
	const toothWidth = 12
	if each {
		for _, at := range places {
			ways = append(ways, []int{at})
		}
	} else {
		for i := range toothWidth {
			var comb []int
			for j := i; j < len(places); j += toothWidth {
				comb = append(comb, places[j])
			}
			ways = append(ways, comb)
		}
	}
	return append(ways, places)
}

// flusher empties a server between dialogs, over a connection of its own. A node
// that a failed dialog has brought into disgrace is waited for.
func flusher(t testing.TB, addr string) func() error {
	c, err := harness.Dial(addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return func() error {
		var reply string
		var err error
		if !proctest.Within(harness.Patience, func() bool {
			reply, err = c.Do("flush_all\r\n", 1)
			return err != nil || reply == "OK"
		}) {
			return fmt.Errorf("flush_all: %s", reply)
		}
		return err
	}
}

// seeded is a generator of random numbers whose seed a failing test prints.
func seeded(t testing.TB, seed uint64) *rand.Rand {
	t.Helper()
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
		if !*rewrite {
			if diff := checkEmpty(flush, node.Addr, d, nil); diff != "" {
				t.Errorf("%s, %s: %s", d.file, d.name, diff)
			}
			continue
		}
		if err := flush(); err != nil {
			t.Fatal(err)
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

// TestTranscripts has every dialog with the proxy, whole and cut at every place, one
// place at a time if it is asked to be long, and demands memcached's replies.
func TestTranscripts(t *testing.T) {
	for _, top := range topologies {
		t.Run(nameOf(top), func(t *testing.T) {
			p := harness.Proxy(t, top)
			flushUnix, flushTCP := flusher(t, p.Unix), flusher(t, p.Addr)
			rng := seeded(t, *seedFlag)
			for _, d := range loadTranscripts(t) {
				d.copied = top.Copies > 1
				t.Run(strings.ReplaceAll(d.file+"/"+d.name, " ", "_"), func(t *testing.T) {
					if diff := p.Steadily(func() string { return checkEmpty(flushTCP, p.Addr, d, nil) }); diff != "" {
						t.Fatalf("over TCP: %s", diff)
					}
					for _, cuts := range cutsOf(rng, d, *long && top.Nodes > 1) {
						if diff := p.Steadily(func() string { return checkEmpty(flushUnix, p.Unix, d, cuts) }); diff != "" {
							t.Fatalf("cut at %v: %s", cuts[:min(len(cuts), 20)], diff)
						}
					}
				})
			}
		})
	}
}
