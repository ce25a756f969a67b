package load

import "magent/bench/wire"

// A flight is a request in flight.
type flight struct {
	wire.Request
	due    int64 // or when it was sent, in a closed loop
	forCAS bool  // a CAS of the same key follows
}

// flights are the requests in flight on one connection, in the order they were sent,
// which is that of their answers: a ring. Beside each lie the numbers that were
// acknowledged of its keys when it was sent, wide of them.
//
// len(slots) is a power of two and grows as needed.
type flights struct {
	slots   []flight
	acked   []uint32
	wide    int
	head, n int
}

// newFlights has room for n requests of so many keys each.
func newFlights(n, wide int) flights {
	size := 1
	for size < n {
		size *= 2
	}
	return flights{slots: make([]flight, size), acked: make([]uint32, size*wide), wide: wide}
}

// push makes room for one more. What it returns is good until the next push.
func (f *flights) push() (*flight, []uint32) {
	if f.n == len(f.slots) {
		f.grow()
	}
	at := (f.head + f.n) & (len(f.slots) - 1)
	f.n++
	return &f.slots[at], f.acked[at*f.wide : (at+1)*f.wide]
}

// front is the oldest, of which there must be one.
func (f *flights) front() (*flight, []uint32) {
	return &f.slots[f.head], f.acked[f.head*f.wide : (f.head+1)*f.wide]
}

func (f *flights) pop() {
	f.head = (f.head + 1) & (len(f.slots) - 1)
	f.n--
}

func (f *flights) grow() {
	g := newFlights(2*len(f.slots), f.wide)
	n := copy(g.slots, f.slots[f.head:])
	copy(g.slots[n:], f.slots[:f.head])
	n = copy(g.acked, f.acked[f.head*f.wide:])
	copy(g.acked[n:], f.acked[:f.head*f.wide])
	g.n = f.n
	*f = g
}

// times is a queue of points in time.
type times struct {
	at   []int64
	head int
}

func (t *times) len() int { return len(t.at) - t.head }

// push moves what is left to the front where it may, so that the queue does not grow
// for ever.
func (t *times) push(at int64) {
	if len(t.at) == cap(t.at) && t.head > len(t.at)/2 {
		t.at = t.at[:copy(t.at, t.at[t.head:])]
		t.head = 0
	}
	t.at = append(t.at, at)
}

func (t *times) pop() int64 {
	at := t.at[t.head]
	if t.head++; t.head == len(t.at) {
		t.at, t.head = t.at[:0], 0
	}
	return at
}
