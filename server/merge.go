package server

import (
	"bytes"
	"math"
	"slices"
	"strconv"
)

// mergeRule is how the values of one statistic become one.
type mergeRule uint8

const (
	mergeSum     mergeRule = iota
	mergeFirst             // what the first node says
	mergeMax               // the largest; of flags, whether any is set
	mergeMin               // the smallest
	mergeLeast             // the smallest above 0, which stands for "never"
	mergeClasses           // the number of slab classes that any node has
)

// mergeRules are the exceptions, by the command and by the last part of a name, so
// that items:5:age is found as age; "*" is the rule of all others. Where there is
// none, numbers are summed.
var mergeRules = map[string]map[string]mergeRule{
	"": {
		"pid": mergeFirst, "version": mergeFirst, "libevent": mergeFirst, "pointer_size": mergeFirst, "time": mergeFirst,
		// As old as the youngest: a monitor that looks for restarts sees each.
		"uptime":           mergeMin,
		"hash_power_level": mergeMax, "time_since_server_cert_refresh": mergeMax,
		"accepting_conns": mergeMax, "hash_is_expanding": mergeMax, "slab_reassign_running": mergeMax, "lru_crawler_running": mergeMax,
		"extstore_memory_pressure": mergeMax, "proxy_enabled": mergeMax,
	},
	"items": {"age": mergeMax, "age_hot": mergeMax, "age_warm": mergeMax, "evicted_time": mergeLeast},
	"slabs": {"chunk_size": mergeFirst, "chunks_per_page": mergeFirst, "active_slabs": mergeClasses},
	// The limits that stats sums under other names, and num_threads, are those of
	// all nodes together; the rest is taken to be the same on all.
	"settings": {"*": mergeFirst, "maxbytes": mergeSum, "maxconns": mergeSum, "num_threads": mergeSum},
}

// connStride sets the descriptors of one node apart from those of the next in
// "stats conns": 23 of the second node is 1000023.
const connStride = 1_000_000

// mergeStats makes the statistics of one memcached out of those of several: nodes
// are the lines of their "stats what" without END, nil from one that said nothing.
// What one alone says is passed on as it is. Names stand in the order of the first
// node that has them, but those of slab classes and item sizes by these.
func mergeStats(what string, nodes [][]byte) []byte {
	spoke := slices.DeleteFunc(slices.Clone(nodes), func(b []byte) bool { return len(b) == 0 })
	if len(spoke) == 1 {
		return spoke[0]
	}
	if what == "conns" {
		return joinConns(nodes)
	}
	m := merger{rules: mergeRules[what], at: map[string]int{}}
	for _, lines := range spoke {
		for line := range bytes.Lines(lines) {
			m.add(line)
		}
	}
	if what != "" {
		slices.SortStableFunc(m.stats, func(a, b mergedStat) int { return a.group - b.group })
	}
	return m.append(nil)
}

// merger is statistics being merged.
type merger struct {
	rules map[string]mergeRule
	stats []mergedStat
	at    map[string]int // a name's place in stats
}

// mergedStat is one line; value is what to say if it is no number.
type mergedStat struct {
	name, value []byte
	number      decimal
	numeric     bool
	rule        mergeRule
	group       int // the class or size that the name begins with
}

// noGroup stands behind all groups.
const noGroup = math.MaxInt

// add takes one line of a node.
func (m *merger) add(line []byte) {
	name, value, ok := cutStat(line)
	if !ok {
		m.stats = append(m.stats, mergedStat{value: line, group: noGroup})
		return
	}
	n, numeric := parseDecimal(value)
	i, known := m.at[string(name)]
	if !known {
		m.at[string(name)] = len(m.stats)
		m.stats = append(m.stats, mergedStat{name, value, n, numeric, m.rule(name), groupOf(name)})
		return
	}
	s := &m.stats[i]
	if s.numeric = s.numeric && numeric && s.number.places == n.places; s.numeric {
		s.number.units = s.rule.apply(s.number.units, n.units)
	}
}

// cutStat takes "STAT name value" apart; a value may be empty or have spaces.
func cutStat(line []byte) (name, value []byte, ok bool) {
	rest, ok := bytes.CutPrefix(bytes.TrimSuffix(line, []byte("\r\n")), []byte("STAT "))
	name, value, _ = bytes.Cut(rest, []byte(" "))
	return name, value, ok && len(name) > 0
}

func (m *merger) rule(name []byte) mergeRule {
	if r, ok := m.rules[string(name[bytes.LastIndexByte(name, ':')+1:])]; ok {
		return r
	}
	return m.rules["*"]
}

// groupOf is the number in items:5:age, 5:chunk_size and 96.
func groupOf(name []byte) int {
	word, _, _ := bytes.Cut(bytes.TrimPrefix(name, []byte("items:")), []byte(":"))
	if n, err := strconv.Atoi(string(word)); err == nil {
		return n
	}
	return noGroup
}

func (r mergeRule) apply(a, b uint64) uint64 {
	switch {
	case r == mergeMax, r == mergeLeast && min(a, b) == 0:
		return max(a, b)
	case r == mergeMin, r == mergeLeast:
		return min(a, b)
	case r != mergeSum:
		return a
	case a > math.MaxUint64-b:
		return math.MaxUint64
	}
	return a + b
}

func (m *merger) append(out []byte) []byte {
	classes := 0
	for i, s := range m.stats {
		if s.group != noGroup && (i == 0 || m.stats[i-1].group != s.group) {
			classes++
		}
	}
	for _, s := range m.stats {
		if s.name == nil {
			out = append(out, s.value...)
			continue
		}
		out = append(append(append(out, "STAT "...), s.name...), ' ')
		switch {
		case s.rule == mergeClasses:
			out = strconv.AppendInt(out, int64(classes), 10)
		case s.numeric && s.rule != mergeFirst:
			out = s.number.append(out)
		default:
			out = append(out, s.value...)
		}
		out = append(out, "\r\n"...)
	}
	return out
}

// joinConns puts the connections of all nodes after one another.
func joinConns(nodes [][]byte) (out []byte) {
	for i, lines := range nodes {
		for line := range bytes.Lines(lines) {
			fd, rest, ok := bytes.Cut(line, []byte(":"))
			n, err := strconv.Atoi(string(bytes.TrimPrefix(fd, []byte("STAT "))))
			if !ok || err != nil {
				out = append(out, line...)
				continue
			}
			out = strconv.AppendInt(append(out, "STAT "...), int64(i*connStride+n), 10)
			out = append(append(out, ':'), rest...)
		}
	}
	return out
}

// decimal is an unsigned number with a fixed number of digits behind the point, in
// units of the last: 0.25 is 25 with two places.
type decimal struct {
	units  uint64
	places int
}

// parseDecimal reads digits with at most one point among them. What has a sign, or
// more units than fit, is no number here.
func parseDecimal(b []byte) (d decimal, ok bool) {
	whole, fraction, point := bytes.Cut(b, []byte("."))
	if len(whole) == 0 || point && len(fraction) == 0 {
		return d, false
	}
	n, err := strconv.ParseUint(string(whole)+string(fraction), 10, 64)
	return decimal{n, len(fraction)}, err == nil
}

func (d decimal) append(out []byte) []byte {
	start := len(out)
	out = strconv.AppendUint(out, d.units, 10)
	if d.places == 0 {
		return out
	}
	for len(out)-start <= d.places {
		out = slices.Insert(out, start, '0')
	}
	return slices.Insert(out, len(out)-d.places, '.')
}
