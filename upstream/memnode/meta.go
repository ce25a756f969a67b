package memnode

import (
	"bytes"
	"math"
	"strconv"
)

// Return flags are given in the order in which they were asked for; a handler
// that fails half way takes back what it appended, but not what it did.

// metaGet answers mg.
func (c *conn) metaGet(words [][]byte) bool {
	if len(words[1]) > maxKey {
		return c.fail(badFormat)
	}
	if len(words) > maxMetaWords {
		return c.fail("CLIENT_ERROR options flags are too long")
	}
	f, why := c.parseMeta(words, 2)
	if why != "" {
		return c.fail(why)
	}
	start := len(c.out)
	value, why := c.metaFetch(words, &f)
	if why != "" {
		c.out = c.out[:start]
		return c.fail(why)
	}
	switch {
	case value == nil && f.quiet:
		c.out = c.out[:start]
	case value != nil && f.value:
		c.out = append(append(c.out, value...), "\r\n"...)
	}
	return true
}

// metaFetch appends the first line of mg's reply and returns the value, nil on a
// miss.
func (c *conn) metaFetch(words [][]byte, f *metaFlags) (value []byte, why string) {
	s := c.store
	s.mu.Lock()
	defer s.mu.Unlock()
	it := s.find(words[1])
	created := it == nil && f.vivify
	if created {
		it = &item{key: string(words[1]), value: []byte{}}
		s.link(it, s.versionFor(f.newCAS))
	}
	s.n.countGet(it != nil && f.newTTL, it != nil)
	if it == nil {
		c.out = append(c.out, "EN"...)
		return nil, c.echo(words, f)
	}
	if !f.noBump && !f.locked {
		s.bump(it)
	}
	if why := c.metaHit(it, words, f, created); why != "" {
		return nil, why
	}
	if !f.noBump && f.locked { // h and l have shown the state before this fetch
		s.bump(it)
	}
	return it.value, ""
}

// versionFor is the CAS a change gets: the one asked for, or the next.
func (s *store) versionFor(asked uint64) uint64 {
	if asked != 0 {
		return asked
	}
	return s.nextCAS()
}

// metaHit appends the first line of mg's reply for it and applies T, N and R.
func (c *conn) metaHit(it *item, words [][]byte, f *metaFlags, created bool) (why string) {
	c.status(f.value, len(it.value))
	now := c.store.now()
	win := false
	for _, w := range words[2:] {
		switch w[0] {
		case 'T':
			it.exptime = f.exptime
		case 'N':
			if created {
				it.exptime = f.vivifyTTL
				win = true
			}
		case 'R':
			if it.is&won == 0 && !created && it.exptime != 0 && it.exptime < f.recache {
				win = true
			}
		case 'O':
			if len(w) > maxOpaque {
				return badOpaque
			}
			c.out = append(append(c.out, ' '), w...)
		case 'k':
			c.out = appendKey(c.out, it.key, it.is&binary != 0)
		case 's':
			c.flag('s', uint64(len(it.value)))
		case 't':
			c.ttl(it, now)
		case 'c':
			c.flag('c', it.cas)
		case 'f':
			c.flag('f', uint64(it.flags))
		case 'l':
			c.flag('l', uint64(now-it.access))
		case 'h':
			c.flag('h', uint64(it.is&fetched))
		}
	}
	if it.is&won != 0 {
		c.out = append(c.out, " Z"...)
	}
	if it.is&stale != 0 {
		c.out = append(c.out, " X"...)
		win = win || it.is&won == 0
	}
	if win {
		c.out = append(c.out, " W"...)
		it.is |= won
	}
	c.out = append(c.out, "\r\n"...)
	return ""
}

// status begins the reply to a hit.
func (c *conn) status(value bool, size int) {
	if value {
		c.out = strconv.AppendInt(append(c.out, "VA "...), int64(size), 10)
		return
	}
	c.out = append(c.out, "HD"...)
}

// flag appends a return flag with a number.
func (c *conn) flag(name byte, v uint64) {
	c.out = strconv.AppendUint(append(c.out, ' ', name), v, 10)
}

// ttl appends the t flag: seconds left in 32 bits, -1 for never.
func (c *conn) ttl(it *item, now uint32) {
	if it.exptime == 0 {
		c.out = append(c.out, " t-1"...)
		return
	}
	c.flag('t', uint64(it.exptime-now))
}

// echo appends the O and k flags of a reply that has no item, and its end.
func (c *conn) echo(words [][]byte, f *metaFlags) (why string) {
	for _, w := range words[2:] {
		switch w[0] {
		case 'O':
			if len(w) > maxOpaque {
				return badOpaque
			}
			c.out = append(append(c.out, ' '), w...)
		case 'k':
			c.out = appendKey(c.out, string(words[1]), f.binary)
		}
	}
	c.out = append(c.out, "\r\n"...)
	return ""
}

// metaSet answers ms.
func (c *conn) metaSet(words [][]byte) bool {
	if len(words[1]) > maxKey || len(words) == 2 {
		return c.fail(badFormat)
	}
	if len(words) > maxMetaWords {
		return c.fail(manyFlags)
	}
	size, ok := parseI32(words[2])
	if !ok || size < 0 || size > math.MaxInt32-2 {
		return c.fail(badFormat)
	}
	f, ch, why := c.metaChange(words)
	if why == "" {
		if ok, why = c.store.fits(len(words[1]), f.flags, int(size)); !ok && !c.mute {
			c.store.remove(words[1])
		}
	}
	if why != "" {
		c.fail(why)
		return c.swallow(int(size) + 2)
	}
	ch.item = &item{key: string(words[1]), flags: f.flags, exptime: f.exptime}
	if f.binary {
		ch.item.is = binary
	}
	good, ok := c.readValue(ch.item, int(size))
	switch {
	case !ok:
		return false
	case !good:
		return c.fail("CLIENT_ERROR bad data chunk")
	case c.mute:
		return true
	}
	out, cas := c.store.apply(ch)
	c.metaStored(ch.item.key, &f, out, cas) // the item is the store's now, for others to change
	return true
}

// setModes are the modes of ms; S is what it does without one.
var setModes = map[byte]mode{
	0: modeSet, 'S': modeSet, 'E': modeAdd, 'A': modeAppend, 'P': modePrepend, 'R': modeReplace,
}

// metaChange reads the flags of an ms and keeps those to be returned in stash.
func (c *conn) metaChange(words [][]byte) (f metaFlags, ch change, why string) {
	if f, why = c.parseMeta(words, 3); why != "" {
		return f, ch, why
	}
	c.stash = c.stash[:0]
	for _, w := range words[3:] {
		switch w[0] {
		case 'O':
			if len(w) > maxOpaque {
				why = badOpaque
				continue
			}
			c.stash = append(append(c.stash, w...), ' ')
		case 'k', 'c':
			c.stash = append(c.stash, w[0], ' ')
		}
	}
	m, ok := setModes[f.mode]
	if !ok {
		return f, ch, "CLIENT_ERROR invalid mode for ms M token"
	}
	if f.hasCAS && (m == modeSet || m == modeReplace) {
		m = modeCAS
	}
	return f, change{mode: m, cas: f.cas, setCAS: f.newCAS, stale: f.invalidate}, why
}

// metaWord is what an ms answers.
var metaWord = [...]string{stored: "HD", notStored: "NS", exists: "EX", notFound: "NF"}

func (c *conn) metaStored(key string, f *metaFlags, out outcome, cas uint64) {
	if f.quiet && out == stored {
		return
	}
	c.out = append(c.out, metaWord[out]...)
	for w := range bytes.FieldsSeq(c.stash) {
		switch w[0] {
		case 'O':
			c.out = append(append(c.out, ' '), w...)
		case 'k':
			c.out = appendKey(c.out, key, f.binary)
		case 'c':
			c.flag('c', cas)
		}
	}
	c.out = append(c.out, "\r\n"...)
}

// metaDelete answers md.
func (c *conn) metaDelete(words [][]byte) bool {
	f, why := c.metaKeyed(words)
	if why != "" {
		return c.fail(why)
	}
	start := len(c.out)
	c.out = append(c.out, "HD"...)
	if why := c.echo(words, &f); why != "" {
		c.out = c.out[:start]
		return c.fail(why)
	}
	s := c.store
	s.mu.Lock()
	defer s.mu.Unlock()
	it := s.find(words[1])
	switch {
	case it == nil:
		s.n.deleteMisses++
		copy(c.out[start:], "NF")
		return true
	case f.hasCAS && it.cas != f.cas:
		s.n.deleteMisses++
		copy(c.out[start:], "EX")
		return true
	case f.invalidate:
		if f.newTTL {
			it.exptime = f.exptime
		}
		it.is = it.is&^won | stale
		it.cas = s.versionFor(f.newCAS)
	default:
		s.n.deleteHits++
		s.unlink(it)
	}
	if f.quiet {
		c.out = c.out[:start]
	}
	return true
}

// metaKeyed reads the flags of md and ma.
func (c *conn) metaKeyed(words [][]byte) (f metaFlags, why string) {
	if len(words[1]) > maxKey {
		return f, badFormat
	}
	if len(words) > maxMetaWords {
		return f, manyFlags
	}
	if f, why = c.parseMeta(words, 2); why != "" {
		return f, badFlags
	}
	return f, ""
}

// metaArithmetic answers ma.
func (c *conn) metaArithmetic(words [][]byte) bool {
	f, why := c.metaKeyed(words)
	if why != "" {
		return c.fail(why)
	}
	start := len(c.out)
	if why := c.metaAdd(words, &f, start); why != "" {
		c.out = c.out[:start]
		return c.fail(why)
	}
	return true
}

func (c *conn) metaAdd(words [][]byte, f *metaFlags, start int) (why string) {
	var decr bool
	switch f.mode {
	case 0, 'I', '+':
	case 'D', '-':
		decr = true
	default:
		return "CLIENT_ERROR invalid mode for ma M token"
	}
	s := c.store
	s.mu.Lock()
	defer s.mu.Unlock()
	it, v, out := s.add(words[1], decr, f.delta, f.cas, f.newCAS)
	created := out == notFound && f.vivify
	if created {
		v = f.initial
		it = &item{key: string(words[1]), value: strconv.AppendUint(nil, v, 10)}
		s.link(it, s.versionFor(f.newCAS))
	} else {
		s.n.countAdd(decr, out)
	}
	switch {
	case out == nonNumeric:
		return notNumber
	case it == nil:
		c.out = append(c.out, metaWord[out]...)
		return c.echo(words, f)
	}
	if why := c.metaNumberReply(it, v, words, f, created); why != "" {
		return why
	}
	if f.quiet && !created {
		c.out = c.out[:start]
	}
	return ""
}

// metaNumberReply answers an ma that has found or made an item.
func (c *conn) metaNumberReply(it *item, v uint64, words [][]byte, f *metaFlags, created bool) (why string) {
	text := strconv.FormatUint(v, 10)
	c.status(f.value, len(text))
	now := c.store.now()
	for _, w := range words[2:] {
		switch w[0] {
		case 'T':
			it.exptime = f.exptime
		case 'N':
			if created {
				it.exptime = f.vivifyTTL
			}
		case 'O':
			if len(w) > maxOpaque {
				return badOpaque
			}
			c.out = append(append(c.out, ' '), w...)
		case 'k':
			c.out = appendKey(c.out, string(words[1]), f.binary)
		case 't':
			c.ttl(it, now)
		case 'c':
			c.flag('c', it.cas)
		}
	}
	c.out = append(c.out, "\r\n"...)
	if f.value {
		c.out = append(append(c.out, text...), "\r\n"...)
	}
	return ""
}

// metaNoop answers mn, the marker that ends a run of quiet commands.
func (c *conn) metaNoop([][]byte) bool {
	c.reply("MN")
	return c.batchEnds()
}

// metaDebug answers me.
func (c *conn) metaDebug(words [][]byte) bool {
	if len(words) < 2 || len(words[1]) > maxKey {
		return c.reply(badFormat)
	}
	key := words[1]
	if len(words) > 2 && string(words[2]) == "b" {
		var ok bool
		if key, ok = decodeKey(key); !ok {
			return c.reply(badFormat)
		}
	}
	s := c.store
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n.metas++
	it := s.find(key)
	if it == nil {
		return c.reply("EN")
	}
	c.out = describe(c.out, it, s.now())
	return true
}
