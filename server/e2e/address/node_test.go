package address

import (
	"fmt"
	"regexp"
	"sync/atomic"
	"testing"
	"time"

	"magent/bench/process/proctest"
	"magent/server/e2e/harness"
)

// nodeKeys is how many keys a reader has, of which it reads all at each beat.
const nodeKeys = 100

func nodeKey(i int) string { return fmt.Sprint("node", i) }

// A memcached that is killed costs no read: the other has all that it had. monit starts it
// anew, and it is given back what it has lost. The address is of no concern in that: both
// magents use both memcacheds.
func TestMemcachedIsKilled(t *testing.T) {
	if testing.Short() {
		return
	}
	t.Parallel()
	s := newSite(t)
	first := s.members[0]
	r := s.reader(t)
	killed := first.memcached()
	if killed == nil {
		t.Fatal("no memcached runs on ", first.Name)
	}
	killed.Kill()
	began := time.Now()
	r.more(t)
	await(t, "monit has restarted it", func() bool {
		p := first.memcached()
		return p != nil && p.PID != killed.PID
	})
	restarted := time.Since(began)
	for _, m := range s.members {
		await(t, m.Name+" has seen it refilled", func() bool { return m.refilled(nodes[0]) })
	}
	t.Logf("restarted after %v, refilled after %v", restarted.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
	r.more(t)
	if at := s.at(); at != first.Name {
		t.Errorf("the address is at %q", at)
	}
	for _, node := range nodes {
		for i := range nodeKeys {
			if value, err := s.get(node, nodeKey(i)); err != nil || value != nodeKey(i) {
				t.Errorf("%s: %s is %q, %v", node, nodeKey(i), value, err)
			}
		}
	}
}

// memcached is the memcached that runs there; nil if none does.
func (m *member) memcached() *proctest.Process {
	m.site.t.Helper()
	return m.ByPIDFile("/run/memcached/memcached.pid")
}

// refilled reports whether the magent of m trusts node again after a refill.
func (m *member) refilled(node string) bool {
	m.site.t.Helper()
	status := m.Run(installed, "status")
	return regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(node) + ` .* up .* it is refilled `).MatchString(status)
}

// A reader is a client that reads all keys over and over, on a connection that it keeps.
type reader struct {
	conn   *harness.Client
	rounds atomic.Int64
	err    error // what was wrong first, after which nothing is read; for the goroutine of the beat
}

// reader has keys written and begins to read them. That all are there all the time is
// demanded at the end of the test.
func (s *site) reader(t *testing.T) *reader {
	t.Helper()
	conn, err := s.client.Dial(service, connectLimit)
	if err != nil {
		t.Fatal(err)
	}
	r := &reader{conn: harness.Over(conn)}
	t.Cleanup(r.conn.Close)
	for i := range nodeKeys {
		key := nodeKey(i)
		if line, err := r.conn.Do(fmt.Sprintf("ms %s %d\r\n%[1]s\r\n", key, len(key)), 1); err != nil || line != "HD" {
			t.Fatalf("setting %s: %q, %v", key, line, err)
		}
	}
	beat := newMetronome(watchEvery, func() {
		for i := 0; i < nodeKeys && r.err == nil; i++ {
			r.err = r.read(nodeKey(i))
		}
		r.rounds.Add(1)
	})
	t.Cleanup(func() {
		late := beat.end()
		t.Logf("all keys were read %d times; we were late by %v at most", r.rounds.Load(), late)
		if r.err != nil {
			t.Error("a read failed: ", r.err)
		}
	})
	return r
}

// more waits until all keys have been read once more from now on.
func (r *reader) more(t *testing.T) {
	t.Helper()
	from := r.rounds.Load()
	await(t, "all keys are read once more", func() bool { return r.rounds.Load() >= from+2 }) // the first has begun before
}

// read demands the value of key, which is the key.
func (r *reader) read(key string) error {
	line, err := r.conn.Do("mg "+key+" v\r\n", 1)
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	value, err := valueBehind(r.conn, line)
	if err == nil && string(value) != key {
		err = fmt.Errorf("answered %q, %q", line, value)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return nil
}
