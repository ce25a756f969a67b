package converge

import (
	"bytes"
	"strconv"
	"strings"
)

// item is what a simulated node holds of the one key that there is.
type item struct {
	present, stale, sent bool
	value                string
	flags, cas           uint64
	ttl                  int64 // opaque: it does not pass
}

// simNode is a memcached that knows one key and is asked one request at a time. Its
// answers were compared with memcached 1.6.18's: see memcached_test.go.
type simNode struct {
	dead bool
	last uint64 // the version it numbered last
	it   item
}

// exec carries out one request. value is what follows a store's line; got is the
// value behind a VA.
func (n *simNode) exec(line, value string) (reply, got string) {
	words := strings.Fields(line)
	if len(words) < 2 || words[1] != "k" {
		panic("not about the one key: " + line)
	}
	flags := map[byte]string{}
	if len(words[0]) == 2 {
		for _, w := range words[2:] {
			flags[w[0]] = w[1:]
		}
	}
	switch words[0] {
	case "mg":
		return n.get(flags, words[2:])
	case "ms":
		return n.store(flags, value), ""
	case "md":
		return n.remove(flags), ""
	case "ma":
		return n.add(flags)
	case "append":
		if !n.it.present {
			return "NOT_STORED", ""
		}
		n.it.value += value
		n.it.stale, n.it.sent = false, false
		n.stamp(flags)
		return "STORED", ""
	case "incr":
		if !n.it.present {
			return "NOT_FOUND", ""
		}
		if !n.step(words[2]) {
			return "CLIENT_ERROR cannot increment or decrement non-numeric value", ""
		}
		n.stamp(flags)
		return n.it.value, ""
	case "touch":
		if !n.it.present {
			return "NOT_FOUND", ""
		}
		n.it.ttl = simTTL(words[2])
		return "TOUCHED", ""
	case "delete":
		if !n.it.present {
			return "NOT_FOUND", ""
		}
		n.it = item{}
		return "DELETED", ""
	}
	panic("no such command: " + line)
}

func (n *simNode) stamp(flags map[byte]string) {
	n.last++
	n.it.cas = n.last
	if e, ok := flags['E']; ok {
		n.it.cas = simNumber(e)
	}
}

func (n *simNode) get(flags map[byte]string, words []string) (reply, got string) {
	it, won := &n.it, false
	if !it.present {
		if _, viv := flags['N']; !viv {
			return "EN", ""
		}
		*it = item{present: true, ttl: simTTL(flags['N'])}
		n.stamp(nil)
		won = true
	}
	var b bytes.Buffer
	if _, ok := flags['v']; ok {
		b.WriteString("VA " + strconv.Itoa(len(it.value)))
		got = it.value
	} else {
		b.WriteString("HD")
	}
	for _, w := range words {
		switch w[0] {
		case 'T':
			it.ttl = simTTL(w[1:])
		case 'c':
			b.WriteString(" c" + strconv.FormatUint(it.cas, 10))
		case 'f':
			b.WriteString(" f" + strconv.FormatUint(it.flags, 10))
		case 't':
			b.WriteString(" t" + strconv.FormatInt(it.ttl, 10))
		}
	}
	if it.sent {
		b.WriteString(" Z")
	}
	if it.stale {
		b.WriteString(" X")
		won = won || !it.sent
	}
	if won {
		b.WriteString(" W")
		it.sent = true
	}
	return b.String(), got
}

func (n *simNode) store(flags map[byte]string, value string) string {
	it := &n.it
	guard, guarded := flags['C']
	match := !guarded || it.present && it.cas == simNumber(guard)
	switch flags['M'] {
	case "E":
		if it.present {
			return "NS c0"
		}
	case "A":
		switch {
		case !it.present:
			return "NS c0"
		case !match:
			return "EX c0"
		}
		value = it.value + value
		flags['F'], flags['T'] = strconv.FormatUint(it.flags, 10), strconv.FormatInt(it.ttl, 10)
	case "R":
		if !it.present {
			return "NS c0"
		}
	}
	if guarded && !it.present {
		return "NF c0"
	}
	if !match {
		return "EX c0"
	}
	*it = item{present: true, value: value, flags: simNumber(flags['F']), ttl: simTTL(flags['T'])}
	n.stamp(flags)
	return "HD c" + strconv.FormatUint(it.cas, 10)
}

func (n *simNode) remove(flags map[byte]string) string {
	guard, guarded := flags['C']
	switch {
	case !n.it.present:
		return "NF"
	case guarded && n.it.cas != simNumber(guard):
		return "EX"
	}
	if _, ok := flags['I']; ok {
		n.it.stale, n.it.sent = true, false
		n.stamp(flags)
		return "HD"
	}
	n.it = item{}
	return "HD"
}

func (n *simNode) add(flags map[byte]string) (reply, got string) {
	guard, guarded := flags['C']
	switch {
	case !n.it.present:
		return "NF", ""
	case guarded && n.it.value != "" && n.it.cas != simNumber(guard):
		return "EX", ""
	case !n.step(flags['D']):
		return "CLIENT_ERROR cannot increment or decrement non-numeric value", ""
	}
	n.stamp(flags)
	return "VA " + strconv.Itoa(len(n.it.value)), n.it.value
}

func (n *simNode) step(by string) bool {
	v, err := strconv.ParseUint(n.it.value, 10, 64)
	if err != nil {
		return false
	}
	was := len(n.it.value)
	n.it.value = strconv.FormatUint(v+simNumber(by), 10)
	if len(n.it.value) > was { // it is a new item, which has not been marked
		n.it.stale, n.it.sent = false, false
	}
	return true
}

func simNumber(s string) uint64 {
	v, _ := strconv.ParseUint(s, 10, 64)
	return v
}

func simTTL(s string) int64 {
	if v, _ := strconv.ParseInt(s, 10, 64); v > 0 {
		return v
	}
	return -1
}
