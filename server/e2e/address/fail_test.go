package address

import (
	"slices"
	"testing"
	"time"

	"magent/server/e2e/harness"
)

// The README's walk-through: what is set through the address is on both nodes, and is
// there when the machine that had the address is gone.
func TestMachineFails(t *testing.T) {
	t.Parallel()
	for _, p := range []struct {
		profile string
		bound   time.Duration
	}{{"default", bound}, {"fast", boundFast}} {
		t.Run("profile="+p.profile, func(t *testing.T) {
			if p.profile == "fast" && testing.Short() {
				return // the other walks the same way
			}
			t.Parallel()
			promise(t, p.bound, func(t *testing.T) *seen { return walk(t, p.profile) })
		})
	}
}

func walk(t *testing.T, profile string) *seen {
	s := newSite(t, "--profile", profile)
	if err := s.ask(time.Second, "walk"); err != nil {
		t.Fatal(err)
	}
	for _, node := range nodes {
		if value, err := s.get(node, "walk"); err != nil || value != "value of walk" {
			t.Errorf("%s has %q, %v", node, value, err)
		}
	}
	w := s.watch(t)
	s.wires.Cut(s.members[0].Machine)
	await(t, "the address moves", func() bool { return s.members[1].Has(vip) })
	w.served(t)
	if value, err := s.get(service, "walk"); err != nil || value != "value of walk" {
		t.Errorf("the value is %q, %v", value, err)
	}
	return w.end()
}

// A magent that is killed is restarted by monit, and the address leaves it meanwhile.
// With systemd (Restart=always) it would be back some 100 ms after its end, and monit
// would find nothing to do.
func TestMagentIsKilled(t *testing.T) {
	if testing.Short() {
		return // nothing here is of this process: the race detector sees none of it
	}
	t.Parallel()
	promise(t, bound, func(t *testing.T) *seen {
		s := newSite(t)
		w := s.watch(t)
		first := s.members[0]
		killed := first.magent()
		killed.Kill()
		w.served(t)
		await(t, "monit has restarted it", func() bool {
			p := first.ByPIDFile(pidFile)
			return p != nil && p.PID != killed.PID
		})
		s.settled(t)
		return w.end()
	})
}

// One that is frozen is not restarted for some seconds, in which it must not keep the
// address. systemd would find it by its watchdog, after 3 s.
func TestMagentIsFrozen(t *testing.T) {
	if testing.Short() {
		return
	}
	t.Parallel()
	promise(t, boundFrozen, func(t *testing.T) *seen {
		s := newSite(t)
		w := s.watch(t)
		s.members[0].magent().Freeze()
		w.served(t)
		if at := s.at(); at != "m2" {
			t.Errorf("the address is at %q, where magent is frozen on m1", at)
		}
		return w.end()
	})
}

// A keepalived that is killed leaves the address behind, and the other machine takes it:
// two have it, until the first is restarted and removes it. With systemd ExecStopPost
// removes it at once.
func TestKeepalivedIsKilled(t *testing.T) {
	if testing.Short() {
		return
	}
	t.Parallel()
	promise(t, boundTwo, func(t *testing.T) *seen {
		s := newSite(t)
		w := s.watch(t)
		first, second := s.members[0], s.members[1]
		all := first.Find("keepalived")
		all[0].Freeze() // it would start the other anew
		for _, p := range slices.Backward(all) {
			p.Kill() // and the other would end in order, if this one were killed first
		}
		var both time.Time // since when two have it; zero: they have not
		var two time.Duration
		await(t, "one machine has the address, and its keepalived runs", func() bool {
			had, has := first.Has(vip), second.Has(vip)
			switch {
			case had && has && both.IsZero():
				both = time.Now()
			case !both.IsZero() && !(had && has):
				two = time.Since(both)
				both = time.Time{}
			}
			return had != has && first.ByPIDFile("/run/keepalived.pid") != nil
		})
		s.settled(t)
		r := w.end()
		if t.Log(r); r.gap > bound {
			t.Errorf("clients were without service for %v, which may be %v", r.gap, bound)
		}
		r.gap = two
		return r
	})
}

// settled waits until one machine has the address for some time, and demands that its
// magent answers.
func (s *site) settled(t *testing.T) {
	t.Helper()
	await(t, "one machine has the address, and serves", func() bool {
		at := s.at()
		return (at == "m1" || at == "m2") && s.ask(time.Second, "settled") == nil && s.at() == at
	})
}

// get is the value of key that addr, a magent or a memcached, has; "" if it has none.
func (s *site) get(addr, key string) (string, error) {
	conn, err := s.client.Dial(addr, connectLimit)
	if err != nil {
		return "", err
	}
	c := harness.Over(conn)
	defer c.Close()
	line, err := c.Do("mg "+key+" v\r\n", 1)
	if err != nil {
		return "", err
	}
	value, err := valueBehind(c, line)
	return string(value), err
}
