package upstream

import (
	"fmt"
	"testing"
	"time"

	"magent/codec"
	"magent/upstream/route"
)

// nobody hears everything and keeps nothing.
type nobody struct{}

func (*nobody) Reply(*Conn, *Pending, *codec.Reply, []byte) {}
func (*nobody) Body(*Conn, *Pending, []byte, int)           {}
func (*nobody) Fail(*Conn, *Pending, Cause, bool)           {}
func (*nobody) Late(*Conn, *Pending)                        {}

// timed gives l a real clock.
func timed(l Limits) Limits {
	begun := time.Now()
	l.Tick, l.Clock = 5*time.Millisecond, func() time.Duration { return time.Since(begun) }
	return l
}

// asker returns what asks node 0 for pipeline keys, and has it answer after wait, if any.
func (r *rig) asker(t testing.TB, pipeline int) func(wait func()) {
	c, w := r.open(t, 0)
	key, o := []byte("some-key"), &nobody{}
	var answer []byte
	for range pipeline {
		answer = append(answer, "VALUE some-key 0 5\r\nvalue\r\n"...)
	}
	answer = append(answer, "END\r\n"...)
	return func(wait func()) {
		for range pipeline {
			c.Get(Pending{Owner: o, Op: codec.OpGet}, nil, key)
		}
		r.group.Flush()
		if wait != nil {
			wait()
		}
		c.Feed(answer)
		w.out.Reset()
	}
}

// A get, from the owner's call to its answer, without sockets.
func BenchmarkGet(b *testing.B) {
	limits := Limits{Timeout: 100, Dial: 10}
	for _, clock := range []string{"off", "on"} {
		if clock == "on" {
			limits = timed(limits)
		}
		for _, pipeline := range []int{1, 16} {
			b.Run(fmt.Sprintf("clock=%s/pipeline=%d", clock, pipeline), func(b *testing.B) {
				r := newRigOf(2, limits)
				ask := r.asker(b, pipeline)
				b.ReportAllocs()
				for b.Loop() {
					ask(nil)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*pipeline), "ns/req")
			})
		}
	}
}

// What a tick costs a group all of whose nodes are being asked.
func BenchmarkTick(b *testing.B) {
	for _, nodes := range []int{2, 8} {
		b.Run(fmt.Sprintf("nodes=%d", nodes), func(b *testing.B) {
			r := newRigOf(nodes, timed(Limits{Timeout: 1 << 30, Dial: 10, HedgeAuto: true}))
			r.watch()
			for i := range nodes {
				c, _ := r.open(b, i)
				c.Get(Pending{Owner: &nobody{}, Op: codec.OpGet}, nil, []byte("k"))
			}
			r.group.Flush()
			b.ReportAllocs()
			for b.Loop() {
				for i := range r.group.paces {
					r.group.paces[i].gauge.Record(time.Millisecond)
				}
				r.group.Tick()
			}
		})
	}
}

// BenchmarkLate is what a tick costs a connection with so many reads in flight, all of
// which are late, or none.
func BenchmarkLate(b *testing.B) {
	for _, pipeline := range []int{1, 16, 1024} {
		for _, late := range []int{0, 1} {
			b.Run(fmt.Sprintf("pipeline=%d/late=%d", pipeline, late), func(b *testing.B) {
				r := newRigOf(2, Limits{Timeout: 100, Dial: 10, Hedge: 2})
				c, _ := r.open(b, 0)
				for range pipeline {
					c.Get(Pending{Owner: &nobody{}, Op: codec.OpGet}, nil, []byte("k"))
				}
				r.group.Flush()
				r.ticks(1)
				delay := uint32(1 - late)
				b.ReportAllocs()
				for b.Loop() {
					c.told = c.ring.tail
					c.late(delay)
				}
			})
		}
	}
}

// BenchmarkRing has one request pushed and one popped beside those that are in flight.
// With 15 the ring is full each time, and its end wraps round to its start.
func BenchmarkRing(b *testing.B) {
	for _, held := range []int{0, 15, 1023} {
		b.Run(fmt.Sprintf("held=%d", held), func(b *testing.B) {
			var r ring
			for range held {
				r.push(Pending{})
			}
			p := Pending{Owner: &nobody{}, Op: codec.OpGet}
			b.ReportAllocs()
			for b.Loop() {
				r.push(p)
				r.pop()
			}
		})
	}
}

// BenchmarkRingGrow is the first so many requests of a connection.
func BenchmarkRingGrow(b *testing.B) {
	for _, to := range []int{16, 1024} {
		b.Run(fmt.Sprintf("to=%d", to), func(b *testing.B) {
			p := Pending{Owner: &nobody{}, Op: codec.OpGet}
			b.ReportAllocs()
			for b.Loop() {
				var r ring
				for range to {
					r.push(p)
				}
			}
		})
	}
}

// BenchmarkState finds the node of a key and what it is trusted with, as it is done
// for each request.
func BenchmarkState(b *testing.B) {
	for _, nodes := range []int{2, 8, 100} {
		b.Run(fmt.Sprintf("nodes=%d", nodes), func(b *testing.B) {
			var all []*Node
			var servers []route.Server
			var place Placement
			for i := range nodes {
				all = append(all, NewNode(fmt.Sprint("n", i), "tcp", ""))
				servers = append(servers, route.Server{Host: "127.0.0.1", Port: 11211 + i})
				place.Nodes = append(place.Nodes, i)
			}
			var err error
			if place.Pick, err = route.New(route.Spec{Distribution: "jump"}, servers); err != nil {
				b.Fatal(err)
			}
			p, key := NewPool(all, []Placement{place}), []byte("user:1001:profile")
			b.ReportAllocs()
			for b.Loop() {
				p.State(0, key)
			}
		})
	}
}
