package converge

import "magent/upstream/repair"

// Look is a second look at the lead: what it must show for the follower, which
// was written to before, to be left as it is.
type Look struct {
	Cas     uint64 // the version the write made; 0: that there is no item
	TTL     int64  // the TTL it gave; Gone
	Touched bool   // the write was a touch: the TTL alone counts
	At      int64  // when it went to the lead
}

// Gone is the TTL of an item that was stored, or touched, as expired already.
const Gone int64 = 0

// Verdict is what a look says.
type Verdict struct {
	Settled bool
	Begin   repair.Begin // else: where the repair begins
}

// Judge takes the answer to mg k c t u. version is the follower's after the write,
// 0 if that is not known. A repair that begins there saves a message.
func (l *Look) Judge(a *repair.Reply, version uint64, now int64) Verdict {
	none := l.Cas == 0 && !l.Touched || l.TTL == Gone
	switch {
	case a.Code == repair.CodeEN && none:
		return Verdict{Settled: true}
	case a.Has(repair.MarkStale):
		// The look may have been handed the W that is meant for a client.
		won := uint64(0)
		if a.Has(repair.MarkWon) {
			won = a.Cas
		}
		return Verdict{Begin: repair.Stale(won)}
	case a.Code != repair.CodeHD, none:
	case l.Touched || a.Cas == l.Cas:
		if repair.SameTTL(l.TTL, a.TTL, now-l.At) {
			return Verdict{Settled: true}
		}
		return Verdict{Begin: repair.TTL(a.TTL)}
	}
	if version != 0 {
		return Verdict{Begin: repair.Held(version)}
	}
	return Verdict{Begin: repair.Ask()}
}

// relative is the longest exptime, in seconds, that counts from now.
const relative = 60 * 60 * 24 * 30

// TTLOf is the TTL of an item that is given exptime, as written in a request that
// a node has accepted, at the Unix time now: seconds, repair.Forever or Gone.
func TTLOf(exptime []byte, now int64) int64 {
	var n int64
	neg := false
	for i, c := range exptime {
		switch {
		case c == '-' && i == 0:
			neg = true
		case c >= '0' && c <= '9':
			n = min(n*10+int64(c-'0'), 1<<40)
		}
	}
	switch {
	case n == 0:
		return repair.Forever
	case neg:
		return Gone
	case n > relative:
		return max(n-now, Gone)
	}
	return n
}
