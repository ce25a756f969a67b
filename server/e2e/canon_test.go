package e2e

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A canon turns replies into the form in which two servers can be compared. What
// no two servers share is replaced: CAS tokens by #1, #2 in order of appearance
// per key (by # where the reply does not name its key), versions, the values of
// stats and the numbers of me by #. It frames values by their lengths and so
// touches no value. A canon belongs to one connection.
type canon struct {
	ids  map[string]map[string]int // key -> token -> number
	last map[string]string         // key -> token seen last
}

func newCanon() *canon {
	return &canon{ids: map[string]map[string]int{}, last: map[string]string{}}
}

// token is the token last seen of key.
func (c *canon) token(key string) []byte { return []byte(c.last[key]) }

var numbers = regexp.MustCompile(`=-?[0-9]+`)

// lines splits a reply at its line feeds and makes each line canonical.
func (c *canon) lines(reply []byte) (out []string) {
	for len(reply) > 0 {
		line, rest := cutLine(reply)
		reply = rest
		if !bytes.HasSuffix(line, []byte("\r\n")) {
			out = append(out, string(line))
			continue
		}
		words := strings.Split(strings.TrimSuffix(string(line), "\r\n"), " ")
		length := -1
		switch words[0] {
		case "VALUE":
			length = c.value(words)
		case "VA", "HD", "EN", "NF", "NS", "EX":
			length = c.meta(words)
		case "VERSION":
			words = []string{"VERSION", "#"}
		case "STAT":
			words = append(words[:min(2, len(words))], "#")
		case "ME":
			words = strings.Split(numbers.ReplaceAllString(strings.Join(words, " "), "=#"), " ")
		}
		out = append(out, strings.Join(words, " ")+"\r\n")
		if length < 0 {
			continue
		}
		value := reply[:min(length+2, len(reply))]
		reply = reply[len(value):]
		for len(value) > 0 {
			line, value = cutLine(value)
			out = append(out, string(line))
		}
	}
	return out
}

// value makes the words of a VALUE line canonical and returns the value's length.
func (c *canon) value(words []string) int {
	if len(words) < 4 {
		return -1
	}
	if len(words) == 5 {
		words[4] = c.number(words[1], words[4])
	}
	return length(words[3])
}

// meta does the same for the header of a meta reply; -1 if it has no value.
func (c *canon) meta(words []string) int {
	key, n, first := "", -1, 1
	if words[0] == "VA" && len(words) > 1 {
		n, first = length(words[1]), 2
	}
	for _, w := range words[min(first, len(words)):] {
		if strings.HasPrefix(w, "k") {
			key = w[1:]
		}
	}
	for i := first; i < len(words); i++ {
		w := words[i]
		if _, err := strconv.ParseUint(w[min(1, len(w)):], 10, 64); err != nil || w[0] != 'c' || w == "c0" {
			continue
		}
		if key == "" {
			words[i] = "c#"
		} else {
			words[i] = "c" + c.number(key, w[1:])
		}
	}
	return n
}

func (c *canon) number(key, token string) string {
	c.last[key] = token
	if c.ids[key] == nil {
		c.ids[key] = map[string]int{}
	}
	if c.ids[key][token] == 0 {
		c.ids[key][token] = len(c.ids[key]) + 1
	}
	return fmt.Sprintf("#%d", c.ids[key][token])
}

func cutLine(b []byte) (line, rest []byte) {
	if i := bytes.IndexByte(b, '\n'); i >= 0 {
		return b[:i+1], b[i+1:]
	}
	return b, nil
}

// length is s as a count, -1 if it is none.
func length(s string) int {
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil {
		return -1
	}
	return int(n)
}

// unpadded is canonical lines with the spaces taken off that memcached leaves behind a
// number which a counter made shorter in place. It does so only if nobody reads the
// item at that moment; the second look of a proxy is such a reader.
func unpadded(lines []string) []string {
	lines = slices.Clone(lines)
	for i, v := range lines[min(1, len(lines)):] {
		if n := strings.TrimRight(v, " \r\n"); n != "" && strings.Trim(n, "0123456789") == "" {
			lines[i] = sizeWord.ReplaceAllString(lines[i], "${1}#")
			lines[i+1] = n + "\r\n"
		}
	}
	return lines
}

var sizeWord = regexp.MustCompile(`^(VALUE \S+ \S+ |VA )\d+`)

// differ says where two canonical replies part, or "" if they are equal. Times
// in meta replies (t, l) may be slack seconds apart.
func differ(got, want []string) string {
	for i := range max(len(got), len(want)) {
		g, w := "(nothing)", "(nothing)"
		if i < len(got) {
			g = got[i]
		}
		if i < len(want) {
			w = want[i]
		}
		if g != w && !sameButForTime(g, w) {
			return fmt.Sprintf("line %d of the reply is %s, want %s", i+1, brief(g), brief(w))
		}
	}
	return ""
}

// slack bounds, in seconds, by how much two clocks of memcached may be apart: each
// ticks once a second, and a busy machine may delay a tick.
const slack = 2

var times = regexp.MustCompile(` [tl]([0-9]+)`)

func sameButForTime(got, want string) bool {
	if !strings.HasPrefix(want, "HD ") && !strings.HasPrefix(want, "VA ") {
		return false
	}
	if times.ReplaceAllString(got, " #") != times.ReplaceAllString(want, " #") {
		return false
	}
	g, w := times.FindAllStringSubmatch(got, -1), times.FindAllStringSubmatch(want, -1)
	for i := range g {
		a, _ := strconv.ParseInt(g[i][1], 10, 64)
		b, _ := strconv.ParseInt(w[i][1], 10, 64)
		if g[i][0][1] != w[i][0][1] || a-b > slack || b-a > slack {
			return false
		}
	}
	return true
}

// brief is s quoted, its middle left out if it is long.
func brief(s string) string {
	if len(s) > 200 {
		return fmt.Sprintf("%q…%q (%d bytes)", s[:120], s[len(s)-60:], len(s))
	}
	return strconv.Quote(s)
}
