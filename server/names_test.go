package server

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"magent/upstream/token"
)

// meet learns what the lives of the nodes look like in tokens.
func (w *world) meet() {
	for i, n := range w.nodes {
		if n.conn == nil {
			continue
		}
		if life, ok := n.conn.ctx.(*link).conn.Life(); ok {
			owner := token.Encode(w.lane.pool.FirstCopy(i), life, 1) >> 48
			w.names.owners[owner] = n.name + strings.Repeat("'", n.life)
		}
	}
}

// versionNames are the names that versions have in transcripts.
type versionNames struct {
	owners  map[uint64]string // by what a token has above the node's version
	sourced []uint64          // v1, v2 and so on
	written []string          // numbers that stand as such in the transcript
}

var (
	longNumber  = regexp.MustCompile(`[0-9]{16,20}`)
	versionName = regexp.MustCompile(`\{(foreign|v[0-9]+|[pbc][0-9]+'*:[0-9]+)\}`)
)

// named is b with the names of the versions in it in their places.
func (v *versionNames) named(b []byte) []byte {
	return longNumber.ReplaceAllFunc(b, func(m []byte) []byte {
		n, err := strconv.ParseUint(string(m), 10, 64)
		owner, ok := v.owners[n>>48]
		switch {
		case err != nil, slices.Contains(v.written, string(m)):
			return m
		case n == token.Foreign:
			return []byte("{foreign}")
		case token.Sourced(n):
			i := slices.Index(v.sourced, n)
			if i < 0 {
				i = len(v.sourced)
				v.sourced = append(v.sourced, n)
			}
			return fmt.Appendf(nil, "{v%d}", i+1)
		case ok:
			return fmt.Appendf(nil, "{%s:%d}", owner, n&(1<<48-1))
		}
		return m
	})
}

// meant is text with versions in place of their names.
func (v *versionNames) meant(text string) string {
	v.written = append(v.written, longNumber.FindAllString(text, -1)...)
	return versionName.ReplaceAllStringFunc(text, func(m string) string {
		name := m[1 : len(m)-1]
		if name == "foreign" {
			return strconv.FormatUint(token.Foreign, 10)
		}
		owner, number, isToken := strings.Cut(name, ":")
		if i, _ := strconv.Atoi(name[1:]); !isToken && i <= len(v.sourced) {
			return strconv.FormatUint(v.sourced[i-1], 10)
		}
		n, _ := strconv.ParseUint(number, 10, 64)
		for bits, who := range v.owners {
			if who == owner {
				return strconv.FormatUint(bits<<48|n, 10)
			}
		}
		return m
	})
}
