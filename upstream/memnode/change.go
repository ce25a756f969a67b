package memnode

import "strconv"

// mode is what a store command asks for.
type mode uint8

const (
	modeSet mode = iota
	modeAdd
	modeReplace
	modeAppend
	modePrepend
	modeCAS
)

// outcome is how a store or arithmetic command ended.
type outcome uint8

const (
	stored outcome = iota
	notStored
	exists
	notFound
	nonNumeric
)

// change is a store command whose value has been read.
type change struct {
	item   *item
	mode   mode
	cas    uint64 // the version asked for, 0: none
	setCAS uint64 // the version to give it, 0: the next
	stale  bool   // ms I: an older cas stores too, as stale
}

// apply stores ch under memcached's rules and returns the version it made, 0 if
// none.
func (s *store) apply(ch change) (outcome, uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.alive(s.items[ch.item.key])
	it, out := s.judge(old, ch)
	if out != stored {
		return out, 0
	}
	cas := s.versionFor(ch.setCAS)
	if old != nil {
		s.unlink(old)
	}
	s.link(it, cas)
	return stored, cas
}

// judge decides what apply does given the item it finds, nil if there is none,
// and returns the item to store.
func (s *store) judge(old *item, ch change) (*item, outcome) {
	if old == nil {
		switch ch.mode {
		case modeSet, modeAdd:
			return ch.item, stored
		case modeCAS:
			s.n.casMisses++
			return nil, notFound
		}
		return nil, notStored
	}
	switch ch.mode {
	case modeAdd:
		s.promote(old, s.now())
		return nil, notStored
	case modeCAS:
		return s.judgeCAS(old, ch)
	case modeAppend:
		return s.join(old, ch, old.value, ch.item.value)
	case modePrepend:
		return s.join(old, ch, ch.item.value, old.value)
	}
	return ch.item, stored
}

func (s *store) judgeCAS(old *item, ch change) (*item, outcome) {
	switch {
	case ch.cas != 0 && ch.cas == old.cas:
	case ch.cas != 0 && ch.cas < old.cas && ch.stale:
		ch.item.exptime = old.exptime
		ch.item.is |= stale | old.is&won
	default:
		s.n.casBad++
		return nil, exists
	}
	s.n.casHits++
	return ch.item, stored
}

// join makes the item of an append or prepend: old's flags and exptime, a new
// header otherwise.
func (s *store) join(old *item, ch change, head, tail []byte) (*item, outcome) {
	if ch.cas != 0 && ch.cas != old.cas {
		return nil, exists
	}
	size := sizeOf(len(old.key), old.flags, len(head)+len(tail))
	if size > s.maxItem || int64(size+overhead) > s.maxBytes {
		return nil, notStored
	}
	value := make([]byte, 0, len(head)+len(tail))
	value = append(append(value, head...), tail...)
	return &item{key: old.key, value: value, flags: old.flags, exptime: old.exptime}, stored
}

// add applies incr or decr to a key. It returns the item it found, which a
// longer result has already replaced (memcached then shows and touches the old
// one), and the new number. The caller holds s.mu.
func (s *store) add(key []byte, decr bool, delta, cas, setCAS uint64) (*item, uint64, outcome) {
	it := s.find(key)
	if it == nil {
		return nil, 0, notFound
	}
	if len(it.value) == 0 || it.size() > chunkMax {
		return nil, 0, nonNumeric
	}
	if cas != 0 && cas != it.cas {
		return nil, 0, exists
	}
	v, ok := parseU64(it.value)
	if !ok {
		return nil, 0, nonNumeric
	}
	if decr {
		v -= min(v, delta)
	} else {
		v += delta
	}
	s.write(it, v, s.versionFor(setCAS))
	return it, v, stored
}

// write puts the number v into it. One that is shorter than what was there is
// padded with spaces and keeps the header; a longer one gets a new item.
func (s *store) write(it *item, v, cas uint64) {
	text := strconv.AppendUint(nil, v, 10)
	if len(text) > len(it.value) {
		fresh := &item{key: it.key, value: text, flags: it.flags, exptime: it.exptime}
		s.replace(it, fresh, cas)
		it.cas = cas
		return
	}
	for len(text) < len(it.value) {
		text = append(text, ' ')
	}
	it.value = text
	it.cas = cas
	s.promote(it, s.now())
}
