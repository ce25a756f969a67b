package converge

import (
	"bytes"
	"strconv"
	"strings"
	"sync"
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

// simRequest is a request line taken apart.
type simRequest struct {
	words []string
	has   [128]bool // a meta command's flags
	arg   [128]string
}

// simRequests is what has been taken apart before: the explorer sends the same few
// lines over and over.
var simRequests sync.Map

func parseSim(line string) *simRequest {
	if r, ok := simRequests.Load(line); ok {
		return r.(*simRequest)
	}
	r := &simRequest{words: strings.Fields(line)}
	if len(r.words) < 2 || r.words[1] != "k" {
		panic("not about the one key: " + line)
	}
	if len(r.words[0]) == 2 {
		for _, w := range r.words[2:] {
			r.has[w[0]], r.arg[w[0]] = true, w[1:]
		}
	}
	simRequests.Store(line, r)
	return r
}

// exec carries out one request. value is what follows a store's line; got is the
// value behind a VA.
func (n *simNode) exec(line, value string) (reply, got string) {
	r := parseSim(line)
	words := r.words
	switch words[0] {
	case "mg":
		return n.get(r)
	case "ms":
		return n.store(r, value), ""
	case "md":
		return n.remove(r), ""
	case "ma":
		return n.add(r)
	case "append":
		if !n.it.present {
			return "NOT_STORED", ""
		}
		n.it.value += value
		n.it.stale, n.it.sent = false, false
		n.stamp(r)
		return "STORED", ""
	case "incr":
		if !n.it.present {
			return "NOT_FOUND", ""
		}
		if !n.step(words[2]) {
			return "CLIENT_ERROR cannot increment or decrement non-numeric value", ""
		}
		n.stamp(r)
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

func (n *simNode) stamp(r *simRequest) {
	n.last++
	n.it.cas = n.last
	if r.has['E'] {
		n.it.cas = simNumber(r.arg['E'])
	}
}

func (n *simNode) get(r *simRequest) (reply, got string) {
	it, won := &n.it, false
	if !it.present {
		switch {
		case r.has['N']:
		case r.has['k']:
			return "EN kk", ""
		default:
			return "EN", ""
		}
		*it = item{present: true, ttl: simTTL(r.arg['N'])}
		n.stamp(&simRequest{})
		won = true
	}
	var b bytes.Buffer
	if r.has['v'] {
		b.WriteString("VA " + strconv.Itoa(len(it.value)))
		got = it.value
	} else {
		b.WriteString("HD")
	}
	for _, w := range r.words[2:] {
		switch w[0] {
		case 'T':
			it.ttl = simTTL(w[1:])
		case 'c':
			b.WriteString(" c" + strconv.FormatUint(it.cas, 10))
		case 'k':
			b.WriteString(" kk")
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

func (n *simNode) store(r *simRequest, value string) string {
	it := &n.it
	guarded, flags, ttl := r.has['C'], simNumber(r.arg['F']), simTTL(r.arg['T'])
	match := !guarded || it.present && it.cas == simNumber(r.arg['C'])
	switch r.arg['M'] {
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
		flags, ttl = it.flags, it.ttl
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
	*it = item{present: true, value: value, flags: flags, ttl: ttl}
	n.stamp(r)
	return "HD c" + strconv.FormatUint(it.cas, 10)
}

func (n *simNode) remove(r *simRequest) string {
	switch {
	case !n.it.present:
		return "NF"
	case r.has['C'] && n.it.cas != simNumber(r.arg['C']):
		return "EX"
	}
	if r.has['I'] {
		n.it.stale, n.it.sent = true, false
		n.stamp(r)
		return "HD"
	}
	n.it = item{}
	return "HD"
}

func (n *simNode) add(r *simRequest) (reply, got string) {
	switch {
	case !n.it.present:
		return "NF", ""
	case r.has['C'] && n.it.value != "" && n.it.cas != simNumber(r.arg['C']):
		return "EX", ""
	case !n.step(r.arg['D']):
		return "CLIENT_ERROR cannot increment or decrement non-numeric value", ""
	}
	n.stamp(r)
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
