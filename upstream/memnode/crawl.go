package memnode

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strconv"
)

// crawler answers lru_crawler: metadump, and crawl as a formality, for expired
// items need none here.
func (c *conn) crawler(words [][]byte) bool {
	if len(words) != 3 {
		return c.reply("ERROR")
	}
	switch string(words[1]) {
	case "metadump":
		if c.queued > 1 {
			return c.reply("ERROR cannot pipeline other commands before metadump")
		}
		want, ok := classesOf(words[2], "hash")
		if !ok {
			return c.reply("BADCLASS invalid class id")
		}
		return c.metadump(want)
	case "crawl":
		if _, ok := classesOf(words[2], ""); !ok {
			return c.reply("BADCLASS invalid class id")
		}
		return c.reply("OK")
	}
	return c.reply("ERROR")
}

// maxClass bounds the class ids that memcached takes.
const maxClass = 64

// classesOf reads "all", the extra word, or class numbers between commas. A nil
// set means every class.
func classesOf(arg []byte, extra string) (map[int]bool, bool) {
	if string(arg) == "all" || extra != "" && string(arg) == extra {
		return nil, true
	}
	want := make(map[int]bool)
	for id := range bytes.SplitSeq(arg, []byte(",")) {
		v, ok := parseU32(id)
		if !ok || v < 1 || v >= maxClass {
			return nil, false
		}
		want[int(v)] = true
	}
	return want, true
}

// dumpBatch is how many items metadump describes under one hold of the lock.
const dumpBatch = 256

// metadump lists the live items, the hottest first, one line with a bare LF
// each. Items stored meanwhile may be missing, removed ones may be too.
func (c *conn) metadump(want map[int]bool) bool {
	s := c.store
	s.mu.Lock()
	all := make([]*item, 0, len(s.items))
	for it := s.lru.next; it != &s.lru; it = it.next {
		all = append(all, it)
	}
	s.mu.Unlock()
	for len(all) > 0 {
		batch := all[:min(dumpBatch, len(all))]
		all = all[len(batch):]
		s.mu.Lock()
		now := s.now()
		for _, it := range batch {
			gone := it.next == nil || s.flushed(it, now) || it.exptime != 0 && it.exptime < now
			if !gone && (want == nil || want[it.class()]) {
				c.out = dumpLine(c.out, it, s.started)
			}
		}
		s.mu.Unlock()
		if len(c.out) > flushAt && !c.hold && !c.flush() {
			return false
		}
	}
	c.out = append(c.out, "END\r\n"...)
	return c.batchEnds()
}

func dumpLine(b []byte, it *item, started int64) []byte {
	exp := int64(-1)
	if it.exptime != 0 {
		exp = int64(it.exptime) + started
	}
	b = append(b, "key="...)
	b = escape(b, it.key)
	b = strconv.AppendInt(append(b, " exp="...), exp, 10)
	b = strconv.AppendInt(append(b, " la="...), int64(it.access)+started, 10)
	return append(header(b, it), '\n')
}

// describe is the reply of me.
func describe(b []byte, it *item, now uint32) []byte {
	b = append(b, "ME "...)
	if it.is&binary != 0 {
		b = base64.StdEncoding.AppendEncode(b, []byte(it.key))
	} else {
		b = append(b, it.key...)
	}
	exp := int64(-1)
	if it.exptime != 0 {
		exp = int64(now) - int64(it.exptime) // memcached counts the TTL backwards
	}
	b = fmt.Appendf(b, " exp=%d la=%d", exp, now-it.access)
	return append(header(b, it), '\r', '\n')
}

// header is what metadump and me say alike.
func header(b []byte, it *item) []byte {
	was := "no"
	if it.is&fetched != 0 {
		was = "yes"
	}
	return fmt.Appendf(b, " cas=%d fetch=%s cls=%d size=%d", it.cas, was, it.class(), it.size())
}

// escape appends a key as a URI component.
func escape(b []byte, key string) []byte {
	const hex = "0123456789ABCDEF"
	for i := range len(key) {
		ch := key[i]
		switch {
		case ch >= 'a' && ch <= 'z', ch >= 'A' && ch <= 'Z', ch >= '0' && ch <= '9',
			ch == '-', ch == '.', ch == '_', ch == '~':
			b = append(b, ch)
		default:
			b = append(b, '%', hex[ch>>4], hex[ch&15])
		}
	}
	return b
}
