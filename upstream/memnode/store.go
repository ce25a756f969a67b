package memnode

import (
	"sync"
	"time"
)

// Store time is in seconds since startSlack seconds before the process began:
// never 0, because 0 means "no expiry" and "no flush", and never before any
// relative time that a client can ask for in the first second.
const (
	startSlack = 62
	uptimeSkew = 60             // STAT uptime is store time less this: memcached's clock also starts at 2
	maxDelta   = 30 * 24 * 3600 // a larger exptime is a Unix time
)

// store is the items of one process: a map, an LRU list, and the counters that
// change with them.
//
// Invariants: an item is in the map iff it is in the list; used is the sum of
// their costs and at most maxBytes between calls.
type store struct {
	clock   func() time.Time
	started int64 // Unix time of store time 0
	maxItem int

	mu       sync.Mutex // guards all below
	items    map[string]*item
	lru      item // sentinel: next is the hottest item, prev the coldest
	used     int64
	maxBytes int64
	cas      uint64 // the last one given out
	flushAt  uint32 // items last used up to then are dead once it has come; 0: never flushed
	n        tally
}

// tally is what stats shows.
type tally struct {
	gets, sets, flushes, touches, metas                              uint64
	getHits, getMisses, getExpired, getFlushed                       uint64
	deleteHits, deleteMisses, incrHits, incrMisses                   uint64
	decrHits, decrMisses, casHits, casMisses, casBad                 uint64
	touchHits, touchMisses, tooLarge, noMemory, evictions, reclaimed uint64
	total                                                            uint64 // items ever linked
	bytes                                                            int64  // sum of item sizes
}

func newStore(cfg Config) *store {
	s := &store{
		clock:    cfg.Clock,
		started:  cfg.Clock().Unix() - startSlack,
		maxItem:  cfg.MaxItem,
		maxBytes: cfg.MaxBytes,
	}
	s.lru.prev, s.lru.next = &s.lru, &s.lru
	s.clear()
	return s
}

func (s *store) wipe() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clear()
}

func (s *store) now() uint32 { return uint32(s.clock().Unix() - s.started) }

// deadline turns a client's exptime into store time: 0 never, negative or past
// at once, up to 30 days from now, beyond that a Unix time.
func (s *store) deadline(exptime int32) uint32 {
	switch {
	case exptime == 0:
		return 0
	case exptime < 0:
		return 1
	case exptime <= maxDelta:
		return uint32(exptime) + s.now()
	case int64(exptime) <= s.started:
		return 1
	}
	return uint32(int64(exptime) - s.started)
}

// fits tells whether an item may be stored at all; otherwise it says why not,
// in memcached's words.
func (s *store) fits(nkey int, flags uint32, nvalue int) (ok bool, why string) {
	size := sizeOf(nkey, flags, nvalue)
	s.mu.Lock()
	defer s.mu.Unlock()
	if size > s.maxItem {
		s.n.tooLarge++
		return false, "SERVER_ERROR object too large for cache"
	}
	if int64(size+overhead) > s.maxBytes {
		s.n.noMemory++
		return false, "SERVER_ERROR out of memory storing object"
	}
	return true, ""
}

// From here on the caller holds s.mu.

// find returns the live item of a key. One that has expired or was flushed is
// dropped here.
func (s *store) find(key []byte) *item { return s.alive(s.items[string(key)]) }

func (s *store) alive(it *item) *item {
	if it == nil {
		return nil
	}
	now := s.now()
	switch {
	case s.flushed(it, now):
		s.n.getFlushed++
	case it.expired(now):
		s.n.getExpired++
	default:
		return it
	}
	s.unlink(it)
	return nil
}

func (it *item) expired(now uint32) bool { return it.exptime != 0 && it.exptime <= now }

func (s *store) flushed(it *item, now uint32) bool {
	return s.flushAt != 0 && s.flushAt <= now && it.access <= s.flushAt
}

// flush makes what is stored now dead, at once or when at comes. memcached marks
// a flush that acts at once with a CAS number, so the numbers keep step.
func (s *store) flush(at uint32) {
	s.n.flushes++
	s.flushAt = at - 1
	if s.flushAt <= s.now() {
		s.nextCAS()
		s.clear()
	}
}

func (s *store) clear() {
	for s.lru.prev != &s.lru {
		s.unlink(s.lru.prev)
	}
	s.items = make(map[string]*item) // a map never shrinks
}

func (s *store) nextCAS() uint64 {
	s.cas++
	return s.cas
}

// link adds an item, whose key must be absent, as the hottest one. It must fit
// by itself; colder ones make room.
func (s *store) link(it *item, cas uint64) {
	it.cas = cas
	it.access = s.now()
	s.items[it.key] = it
	s.front(it)
	s.used += it.cost()
	s.n.bytes += int64(it.size())
	s.n.total++
	s.shrink()
}

// shrink evicts the coldest items until the bound holds.
func (s *store) shrink() {
	for now := s.now(); s.used > s.maxBytes; {
		cold := s.lru.prev
		if cold.expired(now) || s.flushed(cold, now) {
			s.n.reclaimed++
		} else {
			s.n.evictions++
		}
		s.unlink(cold)
	}
}

func (s *store) unlink(it *item) {
	if it.next == nil {
		return
	}
	delete(s.items, it.key)
	it.prev.next, it.next.prev = it.next, it.prev
	it.prev, it.next = nil, nil
	s.used -= it.cost()
	s.n.bytes -= int64(it.size())
}

func (s *store) front(it *item) {
	it.prev, it.next = &s.lru, s.lru.next
	it.prev.next, it.next.prev = it, it
}

// bump counts a fetch of the item. As in memcached the first one only marks it;
// later ones also renew its access time.
func (s *store) bump(it *item) {
	if it.is&fetched == 0 {
		it.is |= fetched
		s.promote(it, it.access)
		return
	}
	s.promote(it, s.now())
}

// promote makes the item the hottest.
func (s *store) promote(it *item, access uint32) {
	it.access = access
	it.prev.next, it.next.prev = it.next, it.prev
	s.front(it)
}

// replace puts it in the place of old, under the same key.
func (s *store) replace(old, it *item, cas uint64) {
	s.unlink(old)
	s.link(it, cas)
}

// From here on the functions lock for themselves.

func (s *store) remove(key []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if it := s.find(key); it != nil {
		s.unlink(it)
	}
}

func (s *store) inspect(key string) (Item, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	it, now := s.items[key], s.now()
	if it == nil || it.expired(now) || s.flushed(it, now) {
		return Item{}, false
	}
	out := Item{Value: append([]byte(nil), it.value...), Flags: it.flags, CAS: it.cas, Stale: it.is&stale != 0}
	if it.exptime != 0 {
		out.Exptime = time.Unix(int64(it.exptime)+s.started, 0)
	}
	return out, true
}

func (s *store) live() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, now := 0, s.now()
	for _, it := range s.items {
		if !it.expired(now) && !s.flushed(it, now) {
			n++
		}
	}
	return n
}
