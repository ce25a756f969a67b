package keys

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
)

// Sizes says how large values are, in bytes. The zero value says nothing: it draws 0.
// It is not changed by drawing and may be shared.
type Sizes struct{ list []sizes }

// sizes are those from min to max, all alike.
type sizes struct {
	min, max int
	upTo     uint64 // the sum of the weights until here
}

// Fixed makes every value n bytes long.
func Fixed(n int) Sizes { return Sizes{[]sizes{{min: n, max: n, upTo: 1}}} }

// ParseSizes reads one size ("32"), a range to draw evenly from ("10-1000"), or a list
// of sizes and their weights ("32:90,1024:9,65536:1"). Sizes are from 1 to MaxValue.
func ParseSizes(text string) (Sizes, error) {
	if !strings.Contains(text, ":") {
		lo, hi, err := parseRange(text, 1, MaxValue)
		if err != nil {
			return Sizes{}, fmt.Errorf("keys: value size %w", err)
		}
		return Sizes{[]sizes{{min: lo, max: hi, upTo: 1}}}, nil
	}
	var s Sizes
	sum := uint64(0)
	for _, item := range strings.Split(text, ",") {
		size, weight, ok := strings.Cut(item, ":")
		if !ok {
			return Sizes{}, fmt.Errorf("keys: value size %q of a list has no weight: write SIZE:WEIGHT", item)
		}
		n, err := parseNumber(size, 1, MaxValue)
		if err != nil {
			return Sizes{}, fmt.Errorf("keys: value size %w", err)
		}
		w, err := parseNumber(weight, 1, math.MaxInt32)
		if err != nil {
			return Sizes{}, fmt.Errorf("keys: weight of value size %d: %w", n, err)
		}
		sum += uint64(w)
		s.list = append(s.list, sizes{min: n, max: n, upTo: sum})
	}
	return s, nil
}

// parseRange reads "lo-hi", or "n" for a range of one.
func parseRange(text string, least, most int) (lo, hi int, err error) {
	from, to, ok := strings.Cut(text, "-")
	if lo, err = parseNumber(from, least, most); err != nil {
		return 0, 0, err
	}
	if !ok {
		return lo, lo, nil
	}
	if hi, err = parseNumber(to, least, most); err != nil {
		return 0, 0, err
	}
	if hi < lo {
		return 0, 0, fmt.Errorf("range %q ends before it begins", text)
	}
	return lo, hi, nil
}

func parseNumber(text string, least, most int) (int, error) {
	n, err := strconv.ParseUint(text, 10, 63)
	if err != nil || int(n) < least || int(n) > most {
		return 0, fmt.Errorf("%q is not a number from %d to %d", text, least, most)
	}
	return int(n), nil
}

// Next draws a size. A list is walked: those that people write are short.
func (s *Sizes) Next(r *rand.PCG) int {
	if len(s.list) == 0 {
		return 0
	}
	at := &s.list[0]
	if len(s.list) > 1 {
		u := below(r, s.list[len(s.list)-1].upTo)
		for i := 1; u >= at.upTo; i++ {
			at = &s.list[i]
		}
	}
	if at.min == at.max {
		return at.min
	}
	return at.min + int(below(r, uint64(at.max-at.min+1)))
}

// Max is the largest size that can be drawn.
func (s *Sizes) Max() int {
	most := 0
	for _, e := range s.list {
		most = max(most, e.max)
	}
	return most
}

// String is what ParseSizes reads as s.
func (s Sizes) String() string {
	if len(s.list) == 1 {
		return rangeString(s.list[0].min, s.list[0].max)
	}
	var b strings.Builder
	before := uint64(0)
	for i, e := range s.list {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%d:%d", e.min, e.upTo-before)
		before = e.upTo
	}
	return b.String()
}

func rangeString(lo, hi int) string {
	if lo == hi {
		return strconv.Itoa(lo)
	}
	return strconv.Itoa(lo) + "-" + strconv.Itoa(hi)
}

// MaxTTL is the longest TTL, in seconds: 30 days. memcached takes larger numbers for
// points in time.
const MaxTTL = 30 * 24 * 60 * 60

// TTLs are those from Min to Max, in seconds, all alike; 0 is none.
type TTLs struct{ Min, Max uint32 }

// ParseTTLs reads one TTL ("60") or a range to draw evenly from ("10-20"), from 0 to
// MaxTTL seconds.
func ParseTTLs(text string) (TTLs, error) {
	lo, hi, err := parseRange(text, 0, MaxTTL)
	if err != nil {
		return TTLs{}, fmt.Errorf("keys: TTL %w", err)
	}
	return TTLs{Min: uint32(lo), Max: uint32(hi)}, nil
}

// Next draws a TTL.
func (t TTLs) Next(r *rand.PCG) uint32 {
	if t.Min == t.Max {
		return t.Min
	}
	return t.Min + uint32(below(r, uint64(t.Max-t.Min)+1))
}

// String is what ParseTTLs reads as t.
func (t TTLs) String() string { return rangeString(int(t.Min), int(t.Max)) }
