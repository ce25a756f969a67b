package e2e

import (
	"slices"
	"strings"
	"testing"
	"time"

	"magent/bench/process/proctest"
	"magent/server/e2e/harness"
)

const (
	racers   = 32
	raceOver = 50 // keys
	// raceRound is how many writes are raced before the copies are compared: what
	// counts for a key is the race of its last writes.
	raceRound = 25_000
)

// TestCopiesConverge races every kind of write through two proxies, for a million
// writes if it is asked to be long. However they crossed, the copies are equal then, or a key is absent on the
// follower.
func TestCopiesConverge(t *testing.T) {
	raceRounds(t, newDuo(t, debian.start(t, 2)), int64(amount(50_000, 200_000, 1_000_000)))
}

// TestCopiesConvergeBehindTheClient does so when clients are answered earlier.
func TestCopiesConvergeBehindTheClient(t *testing.T) {
	raceRounds(t, newDuo(t, debian.start(t, 2), "--ack", "lead"), int64(amount(raceRound, 100_000, 100_000)))
}

// TestCopiesConvergeInVersion does so with nodes that take versions from the proxy,
// and where only one of two does.
func TestCopiesConvergeInVersion(t *testing.T) {
	for _, m := range append(versioning(), mixed) {
		t.Run(m.name, func(t *testing.T) {
			raceRounds(t, newDuo(t, m.start(t, 2)), int64(amount(raceRound, 100_000, 100_000)))
		})
	}
}

// raceRounds races so many writes and compares the copies now and then.
func raceRounds(t *testing.T, d *duo, writes int64) {
	t.Helper()
	began := time.Now()
	r := newRace(t, d, racers, raceKeys(raceOver))
	for goal := int64(raceRound); r.writes.Load() < writes && !t.Failed(); goal += raceRound {
		r.run(t, min(goal, writes))
		r.compare(t, d, 0, 1)
	}
	t.Logf("%d writes answered in %v", r.writes.Load(), time.Since(began).Round(time.Millisecond))
}

// compare waits until two copies agree and fails the test if they never do.
func (r *race) compare(t *testing.T, d *duo, lead, follower int) {
	t.Helper()
	if diffs := d.differences(t, lead, follower, r.keys, harness.Patience); len(diffs) > 0 {
		t.Errorf("after %d writes copies %d and %d differ in %d of %d keys:\n%s", r.writes.Load(), lead, follower, len(diffs), len(r.keys),
			strings.Join(diffs[:min(5, len(diffs))], "\n"))
	}
}

// TestParallelWritesDiffer tells that the tests above can tell: where all copies are
// written at once and nobody looks twice, the same race leaves them different.
func TestParallelWritesDiffer(t *testing.T) {
	d := newDuo(t, debian.start(t, 2), "--writes", "parallel")
	r := newRace(t, d, racers, raceKeys(raceOver))
	const rounds = 20
	for i := range int64(rounds) {
		r.run(t, (i+1)*raceRound/5)
		// What is still different after a second is different for good: every client
		// has its answers, and nothing is under way but what they did not wait for.
		if diffs := d.differences(t, 0, 1, r.keys, time.Second); len(diffs) > 0 {
			t.Logf("after %d writes the copies differ in %d keys, as they must: %s", r.writes.Load(), len(diffs), diffs[0])
			return
		}
	}
	t.Errorf("%d writes have left no difference: the race proves nothing", r.writes.Load())
}

// TestSurvivorsConverge kills one of three nodes in the middle of a race, for good.
// No client hears of it, but for relative ops and their like that were under way at a
// lead, of which nobody knows whether they were done. The two that are left converge.
func TestSurvivorsConverge(t *testing.T) {
	for i, victim := range []string{"the lead", "the first follower", "the last follower"} {
		t.Run(victim, func(t *testing.T) {
			repeat(t, 4, func(t *testing.T) { raceWithout(t, debian.start(t, 3), i) })
		})
	}
	for _, m := range versioning() {
		t.Run("the lead/"+m.name, func(t *testing.T) { raceWithout(t, m.start(t, 3), 0) })
	}
}

// raceWithout races, kills the node of a copy, races on for a moment, and compares
// two copies that are left, if there are so many.
func raceWithout(t *testing.T, nodes []replica, victim int) {
	t.Helper()
	const before, after = 4000, 2000
	d := newDuo(t, nodes)
	r := newRace(t, d, racers, raceKeys(raceOver))
	r.loud, r.lossy = true, victim == 0
	racing := make(chan struct{})
	go func() {
		defer close(racing)
		r.run(t, before+after)
	}()
	proctest.Eventually(t, "the race is on", func() bool { return r.writes.Load() >= before || t.Failed() })
	nodes[victim].kill()
	<-racing
	left := slices.DeleteFunc([]int{0, 1, 2}, func(i int) bool { return i == victim || i >= len(nodes) })
	for _, follower := range left[1:] {
		r.compare(t, d, left[0], follower)
	}
	r.served(t, d, left[0])
	if lost := r.lost.Load(); lost > racers*burstMost {
		t.Errorf("%d requests were answered with an error", lost)
	}
}

// served finds every key through both proxies as the node of a copy, which leads, holds
// it, and has both take writes.
func (r *race) served(t *testing.T, d *duo, copy int) {
	t.Helper()
	for _, c := range d.asks {
		proctest.Eventually(t, "a proxy has its reads from the lead", func() bool { return r.servedOnce(t, d, c, copy) })
	}
	for _, c := range d.asks {
		converse(t, c, everyVerb)
	}
}

// servedOnce reads every key through a proxy, and reports whether that had them from the
// lead, the node of a copy: it found that up all the while. One that it finds slow, as a
// busy machine makes them, it passes over for a follower, which need not have what the
// lead has: it is never given what is stale or what mg with N has made. So a key may be
// missing then, but not be another than the lead's.
func (r *race) servedOnce(t *testing.T, d *duo, proxy *harness.Client, copy int) bool {
	t.Helper()
	want := itemsOf(t, d.judges[copy], r.keys)
	before := d.trust(t, proxy, copy)
	got := itemsOf(t, proxy, r.keys)
	after := d.trust(t, proxy, copy)
	led := before == after && strings.HasPrefix(after, "up ")
	for i, k := range r.keys {
		if why := got[i].parts(&want[i], &k); why != "" || led && got[i].found != want[i].found {
			t.Errorf("%s is %v through a proxy, and %v at its node %s", k.name, &got[i], &want[i], why)
		}
	}
	return led
}

// TestServedByTheLeadOnceItIsFast has both proxies find the lead slow and pass it over
// for a follower that has nothing: all items are such that mg with N has made. They are
// served as soon as the lead is fast again.
func TestServedByTheLeadOnceItIsFast(t *testing.T) {
	nodes := debian.start(t, 2)
	d := newDuo(t, nodes)
	r := newRace(t, d, 1, raceKeys(raceOver))
	for _, k := range r.keys {
		if k.vivified {
			converse(t, d.asks[0], []exchange{{"mg " + k.name + k.b + " N600\r\n", "HD W"}})
		}
	}
	nodes[0].freeze()
	for i, c := range d.asks {
		if err := c.Send([]byte("get " + r.keys[0].name + "\r\n")); err != nil {
			t.Fatal(err)
		}
		other := dial(t, d.proxy(i))
		proctest.Eventually(t, "the lead is slow", func() bool { return strings.HasPrefix(d.trust(t, other, 0), "slow ") })
	}
	nodes[0].thaw()
	for _, c := range d.asks {
		if reply, err := c.Until("END\r\n"); err != nil {
			t.Fatalf("%q, %v", reply, err)
		}
	}
	r.served(t, d, 0)
}

// TestOneIsLeft kills one of two nodes in the middle of a race.
func TestOneIsLeft(t *testing.T) {
	for i, victim := range []string{"the lead", "the follower"} {
		t.Run(victim, func(t *testing.T) { raceWithout(t, debian.start(t, 2), i) })
	}
}
