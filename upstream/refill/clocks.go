package refill

import (
	"bytes"
	"math"
	"strconv"
	"time"

	"magent/codec/text"
	"magent/upstream/repair"
)

// What a Copier knows of the nodes' clocks. It is for items whose TTL is above a month: the
// target is given a time of its clock at which they expire, and the source says only how
// much is left by its own, which goes on once a second, and late if its machine is busy.
//
//	source                                target
//	stats ──▶ time                        stats ──▶ time     until both clocks are known
//	mg k v f t c h u k ──▶ VA t3000000
//	                                      ms k LEN F T1703000000 ME …
//	mg k c t u k ──▶ HD t3000000
//	stats ──▶ time: as before the look, so that is when it expires there
//
// What the source says before and after it has said how much is left, it said with that as
// well, in time or late. So the time at which the item expires there is known, and not
// guessed from what time it should have been. It is put as a time of the target's clock by
// how far each of the two is ahead of ours, which repair.Clock finds out.

const (
	// apart is by how much the two times at which an item expires may differ, as far as is
	// known. Half a second comes of whole ones.
	apart = 750 * time.Millisecond
	// alike is by how much two ticks of a clock that is in time may seem to differ from a
	// second: they are seen up to often and an answer's time late.
	alike = 100 * time.Millisecond
	often = 20 * time.Millisecond
	// enough ticks make a clock known, however busy its machine.
	enoughTicks = 10
	// maxParked bounds the keys that wait for clocks.
	maxParked = 4096
	// furthest is the last time that a node can be given.
	furthest = math.MaxInt32
)

// timekeeper is what is known of a side's clock.
type timekeeper struct {
	clock   repair.Clock
	says    int64         // what time it was there when it was asked last; 0: never
	said    time.Time     // when it answered
	ticked  time.Duration // how far ahead it was at the latest tick that was seen
	ticks   int           // how many were
	known   bool          // two ticks in a row were a second apart: hardly both are late
	pending bool          // it is being asked
	asked   time.Time
	entry   *entry // waits for the answer
}

// heard takes an answer.
func (t *timekeeper) heard(at int64, now time.Time) {
	t.pending = false
	t.clock.Saw(at, now)
	if t.says != 0 && at > t.says {
		ahead := time.Unix(at, 0).Sub(now)
		t.ticks++
		if t.ticks > 1 && (ahead-t.ticked).Abs() <= alike || t.ticks >= enoughTicks {
			t.known = true
		}
		t.ticked = ahead
	}
	t.says, t.said = at, now
}

// at is what time it is at the source, put as one of the target's clock. What the source
// has just said it may well say again; else its clock is taken to be in time.
func (c *Copier) at(now time.Time) int64 {
	source, target := &c.sides[Source].time, &c.sides[Target].time
	second := now.Add(source.clock.Ahead()).Unix()
	if source.says != 0 && now.Sub(source.said) <= often {
		second = source.says
	}
	return second + int64((target.clock.Ahead()-source.clock.Ahead()).Round(time.Second)/time.Second)
}

// clocksKnown reports whether it is known how far the nodes' clocks are ahead.
func (c *Copier) clocksKnown() bool {
	return c.sides[Source].time.known && c.sides[Target].time.known
}

// ask asks a side what time it is, unless that is being done.
func (c *Copier) ask(side Side, now time.Time) {
	s := &c.sides[side]
	if s.time.pending || s.lost {
		return
	}
	if side == Target {
		c.close()
	}
	s.time.pending, s.time.asked = true, now
	s.out = append(s.out, "stats\r\n"...)
	s.push(s.time.entry)
}

// sample asks both sides, unless that was done of late.
func (c *Copier) sample(now time.Time) {
	for side := range c.sides {
		if now.Sub(c.sides[side].time.asked) >= often {
			c.ask(Side(side), now)
		}
	}
}

// timed finds out when e is to expire at the target, for which it was just read. It
// reports false if e is not to be written: it waits until the clocks are known.
func (c *Copier) timed(e *entry, now time.Time) bool {
	c.sample(now)
	switch {
	case c.clocksKnown():
		e.expires = min(c.at(now)+e.ttl, furthest)
	case !e.written:
		c.park(e)
		return false
	}
	return true
}

// park has e begin anew when the clocks are known.
func (c *Copier) park(e *entry) {
	if c.hurried {
		c.giveUp(e, false)
		return
	}
	c.parked = append(c.parked, Key{Name: bytes.Clone(e.name), Size: e.size})
	c.release(e)
}

// Wake is to be called every few milliseconds: it goes on with what waits for time to pass.
func (c *Copier) Wake(now time.Time) {
	if len(c.parked) == 0 {
		return
	}
	if c.sample(now); !c.clocksKnown() {
		return
	}
	for n := len(c.parked) - 1; n >= 0 && c.room(); n-- {
		k := c.parked[n]
		c.parked = c.parked[:n]
		c.start(k, now)
	}
}

// Hurry gives up what waits for time to pass. It will have no outcome.
func (c *Copier) Hurry() {
	c.hurried = true
	c.rest = append(c.rest, c.parked...)
	c.parked = nil
}

// hear takes the answer of a side that was asked what time it is, if it is at the front of
// b, and gives its length, 0 if it is not whole. A node that does not say is taken to have
// our clock.
func (c *Copier) hear(s *side, b []byte, now time.Time) (int, error) {
	at := now.Unix()
	for rest := b; ; {
		line, behind, whole := bytes.Cut(rest, crlf)
		switch {
		case !whole && len(line) <= text.MaxReplyLine:
			s.need = len(b) + 1
			return 0, nil
		case string(line) == "END":
			s.need = 0
			s.pop()
			s.time.heard(at, now)
			if s.time.entry.to == Source {
				c.judge(now)
			}
			return len(b) - len(behind), nil
		case !whole || !bytes.HasPrefix(line, stat):
			return 0, outOfStep(s.time.entry, line)
		}
		if says, ok := bytes.CutPrefix(line, statTime); ok {
			t, err := strconv.ParseInt(string(says), 10, 64)
			if err != nil {
				return 0, outOfStep(s.time.entry, line)
			}
			at = t
		}
		rest = behind
	}
}

var (
	stat     = []byte("STAT ")
	statTime = []byte("STAT time ")
)

// judge ends the copied keys that waited for what time it is at the source, but for those
// that may not expire when they are to.
func (c *Copier) judge(now time.Time) {
	says := c.sides[Source].time.says
	waiting := c.unjudged
	c.unjudged = c.unjudged[:0]
	for _, e := range waiting {
		if e.before == says && c.right(e, says) || !c.again(e, now) {
			c.end(e, Copied)
		}
	}
}

// right reports whether a copy expires when its item does at the source, where it was said
// to be that time when it was said how much is left.
func (c *Copier) right(e *entry, says int64) bool {
	expires := says + e.left
	ahead := c.sides[Target].time.clock.Ahead() - c.sides[Source].time.clock.Ahead()
	if e.expires == furthest {
		return time.Duration(furthest-expires)*time.Second-ahead <= apart
	}
	return (time.Duration(e.expires-expires)*time.Second - ahead).Abs() <= apart
}
