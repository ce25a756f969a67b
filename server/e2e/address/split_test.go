package address

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"magent/server/e2e/harness"
	"magent/server/e2e/machine"
	"magent/server/e2e/model"
)

const (
	splitKeys    = 24
	splitClients = 4 // on each side
	// splitRound is how many requests each client makes while two machines have the
	// address.
	splitRound = 300
)

// When the machines do not hear each other's adverts both have the address, and clients
// find the one or the other. Both magents write to both nodes. Nothing that was
// acknowledged may be lost by that, and when it is over no node may hold an old value.
func TestSplitBrain(t *testing.T) {
	if testing.Short() {
		return
	}
	t.Parallel()
	s := newSite(t)
	far := s.wires.Plug("client2", netip.MustParseAddr("192.0.2.101"))
	sides := [2]*machine.Machine{s.client, far}
	h := &history{began: time.Now()}
	h.prepare(t, s.client)
	for i, side := range sides {
		side.Fix(vip, s.members[i].Machine)
	}
	for _, m := range s.members {
		m.Deafen()
	}
	await(t, "both have the address", func() bool { return s.at() == "m1 m2" })
	var all sync.WaitGroup
	for i := range 2 * splitClients {
		all.Go(func() { h.client(t, sides[i%2], i+1) })
	}
	all.Wait()
	for _, m := range s.members {
		m.Undeafen()
	}
	await(t, "one has the address", func() bool { return s.at() == "m1" || s.at() == "m2" })
	for _, side := range sides {
		side.Unfix(vip)
	}
	for _, m := range s.members {
		m.repaired(t)
	}
	h.conclude(t, far)
	h.judge(t)
	s.alike(t)
}

// A history is what clients asked and were told.
type history struct {
	began time.Time
	mu    sync.Mutex
	ops   []model.Op
}

func splitKey(i int) string { return fmt.Sprint("split", i) }

// prepare writes every key.
func (h *history) prepare(t *testing.T, from *machine.Machine) {
	t.Helper()
	w := h.connect(t, from, 0)
	for i := range splitKeys {
		w.write(splitKey(i))
	}
	w.leave()
}

// client writes, reads and deletes keys that all clients share.
func (h *history) client(t *testing.T, from *machine.Machine, id int) {
	w := h.connect(t, from, id)
	for range splitRound {
		key := splitKey(w.rng.IntN(splitKeys))
		switch n := w.rng.IntN(10); {
		case n < 5:
			w.read(key)
		case n < 9:
			w.write(key)
		default:
			w.delete(key)
		}
	}
	w.leave()
}

// conclude reads every key.
func (h *history) conclude(t *testing.T, from *machine.Machine) {
	t.Helper()
	w := h.connect(t, from, 2*splitClients+1)
	for i := range splitKeys {
		w.read(splitKey(i))
	}
	w.leave()
}

// judge demands that the answers are those that one memcached might have given.
func (h *history) judge(t *testing.T) {
	t.Helper()
	faults := model.Check(h.ops)
	for _, f := range faults[:min(5, len(faults))] {
		t.Errorf("%s: client %d, %v of %s, from %v to %v: %v %s (against %+v)", f.Why, f.Op.Client, f.Op.Kind, f.Op.Key, f.Op.Start, f.Op.End, f.Op.ID, f.Op.Note, f.Against)
	}
	t.Logf("%d requests, %d faults", len(h.ops), len(faults))
}

// A writer is one client.
type writer struct {
	h    *history
	id   int
	seq  int
	rng  *rand.Rand
	conn *harness.Client
	ops  []model.Op
}

func (h *history) connect(t *testing.T, from *machine.Machine, id int) *writer {
	w := &writer{h: h, id: id, rng: rand.New(rand.NewPCG(1, uint64(id)))}
	conn, err := from.Dial(service, connectLimit)
	if err != nil {
		t.Errorf("client %d: %v", id, err)
		conn, _ = net.Pipe()
		conn.Close() // everything fails on it
	}
	w.conn = harness.Over(conn)
	return w
}

// leave hands in what the client has noted.
func (w *writer) leave() {
	w.conn.Close()
	w.h.mu.Lock()
	defer w.h.mu.Unlock()
	w.h.ops = append(w.h.ops, w.ops...)
}

// note makes a request and notes what answered says of its answer.
func (w *writer) note(o model.Op, request string, answered func(o *model.Op, line string) error) {
	o.Client, o.Start = w.id, time.Since(w.h.began)
	line, err := w.conn.Do(request, 1)
	if err == nil {
		err = answered(&o, line)
	}
	if o.End = time.Since(w.h.began); err != nil {
		o.Outcome, o.Note = model.Failed, err.Error()
	}
	w.ops = append(w.ops, o)
}

func (w *writer) write(key string) {
	w.seq++
	id := model.ID{Writer: w.id, Seq: w.seq}
	value := model.AppendValue(nil, key, id, 100)
	w.note(model.Op{Key: key, Kind: model.Write, ID: id}, fmt.Sprintf("ms %s %d\r\n%s\r\n", key, len(value), value), func(o *model.Op, line string) error {
		if o.Outcome = model.Done; line != "HD" {
			return errors.New(line)
		}
		return nil
	})
}

func (w *writer) delete(key string) {
	w.note(model.Op{Key: key, Kind: model.Delete}, fmt.Sprintf("md %s\r\n", key), func(o *model.Op, line string) error {
		if o.Outcome = model.Done; line != "HD" && line != "NF" {
			return errors.New(line)
		}
		return nil
	})
}

func (w *writer) read(key string) {
	w.note(model.Op{Key: key, Kind: model.Read}, fmt.Sprintf("mg %s v\r\n", key), func(o *model.Op, line string) error {
		value, err := valueBehind(w.conn, line)
		switch {
		case err != nil:
			return err
		case value == nil:
			o.Outcome = model.Nothing
		default:
			o.Outcome = model.Done
			if o.ID, err = model.ParseValue(value, key); err != nil {
				o.Outcome, o.Note = model.Wrong, err.Error()
			}
		}
		return nil
	})
}

// valueBehind reads the rest of the answer to mg that line begins; nil is that there is
// no item.
func valueBehind(c *harness.Client, line string) ([]byte, error) {
	var size int
	if line == "EN" {
		return nil, nil
	}
	if _, err := fmt.Sscanf(line, "VA %d", &size); err != nil {
		return nil, errors.New(line)
	}
	value, err := c.Full(size + len("\r\n"))
	if err != nil {
		return nil, err
	}
	return value[:size], nil
}

// repaired waits until the magent of m has no key left to repair.
func (m *member) repaired(t *testing.T) {
	t.Helper()
	conn, err := m.site.client.Dial(netip.AddrPortFrom(m.home, 11211).String(), connectLimit)
	if err != nil {
		t.Fatal(err)
	}
	c := harness.Over(conn)
	defer c.Close()
	await(t, m.Name+" has nothing left to repair", func() bool {
		if err := c.Send([]byte("stats proxy\r\n")); err != nil {
			t.Fatal(err)
		}
		told, err := c.Until("END\r\n")
		if err != nil {
			t.Fatal(err)
		}
		return bytes.Contains(told, []byte("STAT repairs_waiting 0\r\n")) && bytes.Contains(told, []byte("STAT repairs_running 0\r\n"))
	})
}

// alike demands that the second node has nothing that the first has not.
func (s *site) alike(t *testing.T) {
	t.Helper()
	for i := range splitKeys {
		key := splitKey(i)
		lead, err := s.get(nodes[0], key)
		follower, err2 := s.get(nodes[1], key)
		if err := errors.Join(err, err2); err != nil {
			t.Fatal(err)
		}
		if follower != "" && follower != lead {
			t.Errorf("%s: the lead has %q, the follower %q", key, lead, follower)
		}
	}
}
