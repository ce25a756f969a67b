package memnode

import (
	"math"
	"strconv"
)

const badFormat = "CLIENT_ERROR bad command line format"

// get answers get, gets, gat and gats. Their keys are read from the line, for
// there may be more than words holds.
func (c *conn) get(words [][]byte, withCAS, touch bool) bool {
	_, keys := cut(c.line)
	var exptime uint32
	if touch {
		n, ok := parseI32(words[1])
		if !ok {
			return c.reply("CLIENT_ERROR invalid exptime argument")
		}
		exptime = c.store.deadline(n)
		_, keys = cut(keys)
	}
	start := len(c.out)
	long := len(keys) > maxKey && hasLongKey(keys)
	for {
		var key []byte
		if key, keys = cut(keys); key == nil {
			break
		}
		if len(key) > maxKey {
			c.out = c.out[:start]
			return c.reply(badFormat)
		}
		c.getOne(key, withCAS, touch, exptime)
		if len(c.out) > flushAt && !long && !c.hold && !c.flush() {
			return false
		}
	}
	c.out = append(c.out, "END\r\n"...)
	return c.batchEnds()
}

func hasLongKey(keys []byte) bool {
	for {
		var key []byte
		if key, keys = cut(keys); key == nil || len(key) > maxKey {
			return key != nil
		}
	}
}

func (c *conn) getOne(key []byte, withCAS, touch bool, exptime uint32) {
	s := c.store
	s.mu.Lock()
	it := s.find(key)
	s.n.countGet(touch, it != nil)
	if it == nil {
		s.mu.Unlock()
		return
	}
	if touch {
		it.exptime = exptime
	}
	s.bump(it)
	value, cas := it.value, it.cas
	s.mu.Unlock()
	b := append(append(c.out, "VALUE "...), it.key...)
	b = strconv.AppendUint(append(b, ' '), uint64(it.flags), 10)
	b = strconv.AppendInt(append(b, ' '), int64(len(value)), 10)
	if withCAS {
		b = strconv.AppendUint(append(b, ' '), cas, 10)
	}
	b = append(append(b, "\r\n"...), value...)
	c.out = append(b, "\r\n"...)
}

// countGet counts a fetch, or a fetch that touches, as memcached does: the
// latter is no get.
func (n *tally) countGet(touch, hit bool) {
	switch {
	case touch && hit:
		n.touches, n.touchHits = n.touches+1, n.touchHits+1
	case touch:
		n.touches, n.touchMisses = n.touches+1, n.touchMisses+1
	case hit:
		n.gets, n.getHits = n.gets+1, n.getHits+1
	default:
		n.gets, n.getMisses = n.gets+1, n.getMisses+1
	}
}

// storeWord is what a store command answers.
var storeWord = [...]string{stored: "STORED", notStored: "NOT_STORED", exists: "EXISTS", notFound: "NOT_FOUND"}

// update answers set, add, replace, append, prepend and cas.
func (c *conn) update(words [][]byte, m mode) bool {
	c.wantsNoreply(words)
	key := words[1]
	if len(key) > maxKey {
		return c.reply(badFormat)
	}
	flags, ok1 := parseU32(words[2])
	exptime, ok2 := parseI32(words[3])
	size, ok3 := parseI32(words[4])
	if !ok1 || !ok2 || !ok3 {
		return c.reply(badFormat)
	}
	ch := change{mode: m}
	if m == modeCAS {
		var ok bool
		if ch.cas, ok = parseU64(words[5]); !ok {
			return c.reply(badFormat)
		}
	}
	if size < 0 || size > math.MaxInt32-2 {
		return c.reply(badFormat)
	}
	deadline := c.store.deadline(exptime)
	if ok, why := c.store.fits(len(key), flags, int(size)); !ok {
		c.reply(why)
		if m == modeSet && !c.mute { // else the old value would outlive the new one
			c.store.remove(key)
		}
		return c.swallow(int(size) + 2)
	}
	ch.item = &item{key: string(key), flags: flags, exptime: deadline}
	good, ok := c.readValue(ch.item, int(size))
	switch {
	case !ok:
		return false
	case !good:
		return c.reply("CLIENT_ERROR bad data chunk")
	case c.mute:
		return true
	}
	out, _ := c.store.apply(ch)
	return c.reply(storeWord[out])
}

// readValue reads an item's value; good tells whether CRLF followed it. The
// command line is gone afterwards.
func (c *conn) readValue(it *item, size int) (good, ok bool) {
	it.value = make([]byte, size)
	var end [2]byte
	if !c.value(it.value) || !c.value(end[:]) {
		return false, false
	}
	c.store.mu.Lock()
	c.store.n.sets++
	c.store.mu.Unlock()
	return end == [2]byte{'\r', '\n'}, true
}

// arithmetic answers incr and decr.
func (c *conn) arithmetic(words [][]byte, decr bool) bool {
	c.wantsNoreply(words)
	if len(words[1]) > maxKey {
		return c.reply(badFormat)
	}
	delta, ok := parseU64(words[2])
	if !ok {
		return c.reply("CLIENT_ERROR invalid numeric delta argument")
	}
	c.store.mu.Lock()
	_, v, out := c.store.add(words[1], decr, delta, 0, 0)
	c.store.n.countAdd(decr, out)
	c.store.mu.Unlock()
	switch out {
	case notFound:
		return c.reply("NOT_FOUND")
	case nonNumeric:
		return c.reply(notNumber)
	}
	return c.reply(strconv.FormatUint(v, 10))
}

// countAdd counts an incr or decr that ended so.
func (n *tally) countAdd(decr bool, out outcome) {
	switch {
	case out == notFound && decr:
		n.decrMisses++
	case out == notFound:
		n.incrMisses++
	case out == stored && decr:
		n.decrHits++
	case out == stored:
		n.incrHits++
	}
}

const notNumber = "CLIENT_ERROR cannot increment or decrement non-numeric value"

func (c *conn) touch(words [][]byte) bool {
	c.wantsNoreply(words)
	if len(words[1]) > maxKey {
		return c.reply(badFormat)
	}
	exptime, ok := parseI32(words[2])
	if !ok {
		return c.reply("CLIENT_ERROR invalid exptime argument")
	}
	s := c.store
	s.mu.Lock()
	defer s.mu.Unlock()
	it := s.find(words[1])
	s.n.countGet(true, it != nil)
	if it == nil {
		return c.reply("NOT_FOUND")
	}
	it.exptime = s.deadline(exptime)
	s.bump(it)
	return c.reply("TOUCHED")
}

// delete also takes the hold time that old clients send, if it is 0.
func (c *conn) delete(words [][]byte) bool {
	if len(words) > 2 {
		zero := string(words[2]) == "0"
		quiet := c.wantsNoreply(words)
		if valid := len(words) == 3 && (zero || quiet) || len(words) == 4 && zero && quiet; !valid {
			return c.reply(badFormat + ".  Usage: delete <key> [noreply]")
		}
	}
	if len(words[1]) > maxKey {
		return c.reply(badFormat)
	}
	s := c.store
	s.mu.Lock()
	defer s.mu.Unlock()
	it := s.find(words[1])
	if it == nil {
		s.n.deleteMisses++
		return c.reply("NOT_FOUND")
	}
	s.n.deleteHits++
	s.unlink(it)
	return c.reply("DELETED")
}

func (c *conn) flushAll(words [][]byte) bool {
	args := len(words) - 1
	if c.wantsNoreply(words) {
		args--
	}
	delay := int32(0)
	if args > 0 {
		var ok bool
		if delay, ok = parseI32(words[1]); !ok {
			return c.reply("CLIENT_ERROR invalid exptime argument")
		}
	}
	s := c.store
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.now()
	if delay > 0 {
		at = s.deadline(delay)
	}
	s.flush(at)
	return c.reply("OK")
}

func (c *conn) version([][]byte) bool { return c.reply("VERSION " + c.p.node.cfg.Version) }

func (c *conn) verbosity(words [][]byte) bool {
	c.wantsNoreply(words)
	if _, ok := parseU32(words[1]); !ok {
		return c.reply(badFormat)
	}
	return c.reply("OK")
}

// memlimit changes the memory bound, in MiB.
func (c *conn) memlimit(words [][]byte) bool {
	c.wantsNoreply(words)
	mib, ok := parseU32(words[1])
	switch {
	case !ok:
		return c.reply("ERROR")
	case mib < 8:
		return c.reply("MEMLIMIT_TOO_SMALL cannot set maxbytes to less than 8m")
	case mib > 1e9:
		return c.reply("MEMLIMIT_ADJUST_FAILED input value is megabytes not bytes")
	}
	s := c.store
	s.mu.Lock()
	defer s.mu.Unlock()
	s.maxBytes = int64(mib) << 20
	s.shrink()
	return c.reply("OK")
}
