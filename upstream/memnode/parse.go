package memnode

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ParseScript reads a fault script. An error names the column, from 1, and what
// the language knows at that place.
func ParseScript(text string) (*Script, error) {
	p := parser{text: text}
	p.next()
	s := p.script()
	if p.err != nil {
		return nil, p.err
	}
	return s, nil
}

// parser holds one token of look-ahead: "(", ")", a word, a quoted string, or ""
// at the end. Its first error ends the text, so that every loop does too.
type parser struct {
	text   string
	pos    int // behind token
	start  int // of token
	token  string
	quoted bool
	err    error
}

func (p *parser) fail(what string) {
	if p.err == nil {
		p.err = fmt.Errorf("fault script, column %d: %s", p.start+1, what)
	}
	p.pos, p.token, p.quoted = len(p.text), "", false
}

// due fails because the token is not what is due here.
func (p *parser) due(what string) { p.fail(p.show() + " where " + what + " is due") }

// show names the token in an error.
func (p *parser) show() string {
	switch {
	case p.token == "":
		return "the end"
	case p.quoted:
		return p.token
	}
	return strconv.Quote(p.token)
}

func (p *parser) next() {
	for p.pos < len(p.text) && strings.IndexByte(" \t", p.text[p.pos]) >= 0 {
		p.pos++
	}
	p.start, p.quoted = p.pos, false
	rest := p.text[p.pos:]
	switch {
	case rest == "":
		p.token = ""
	case rest[0] == '(' || rest[0] == ')':
		p.token = rest[:1]
	case rest[0] == '"':
		lit, err := strconv.QuotedPrefix(rest)
		if err != nil {
			p.fail("a text that does not end, or has a bad escape")
			return
		}
		p.token, p.quoted = lit, true
	default:
		p.token = rest
		if i := strings.IndexAny(rest, " \t()\""); i >= 0 {
			p.token = rest[:i]
		}
	}
	p.pos += len(p.token)
}

// accept takes the token if it is this one.
func (p *parser) accept(token string) bool {
	if p.quoted || p.token != token {
		return false
	}
	p.next()
	return true
}

func (p *parser) want(token string) {
	if !p.accept(token) {
		p.due(strconv.Quote(token))
	}
}

func (p *parser) script() *Script {
	s := &Script{}
	for p.token != "" {
		p.want("(")
		switch {
		case p.accept("seed"):
			s.Seed = p.number(p.token, 0, "a seed")
		case p.accept("always"):
			s.Rules = append(s.Rules, p.rule(Rule{}))
		case p.accept("on"):
			s.Rules = append(s.Rules, p.rule(p.where()))
		default:
			p.fail("unknown clause " + p.show() + "; known: always, on, seed")
		}
		p.want(")")
	}
	return s
}

func (p *parser) where() (r Rule) {
	if _, ok := byName[p.token]; !ok && p.token != "*" {
		p.fail("unknown verb " + p.show() + "; known: *, " + known(byName))
		return r
	}
	r.Verb = p.token
	p.next()
	if p.accept("key") {
		if p.token == `""` {
			p.due("a key")
		}
		r.Key = p.str("a key in quotes")
	}
	return r
}

func known[V any](m map[string]V) string {
	return strings.Join(slices.Sorted(maps.Keys(m)), ", ")
}

// rule reads the conditions and the action.
func (p *parser) rule(r Rule) Rule {
	p.want("(")
	for {
		chance, isChance := strings.CutPrefix(p.token, "1/")
		switch {
		case p.accept("after"):
			r.After = p.number(p.token, 0, "a number of matches")
		case p.accept("times"):
			r.Times = p.number(p.token, 1, "a number of times")
		case isChance:
			r.OneIn = p.number(chance, 1, "1/N")
		default:
			r.Action = p.action(r.Verb)
			p.want(")")
			return r
		}
	}
}

func (p *parser) action(verb string) (a Action) {
	arg, ok := actions[p.token]
	switch {
	case !ok:
		p.fail("unknown condition or action " + p.show() + "; known: after, times, 1/N, " + known(actions))
		return a
	case p.token == "refuse" && verb != "":
		p.fail("refuse is for connections: use always")
		return a
	}
	a.Name = p.token
	p.next()
	switch arg {
	case countArgument:
		least := uint64(0)
		if a.Name == "chunk" {
			least = 1
		}
		if v := p.number(p.token, least, "a number of bytes"); v > math.MaxInt32 {
			p.fail("more bytes than any reply has")
		} else {
			a.N = int(v)
		}
	case offsetArgument:
		a.N = p.offset()
	case durationArgument:
		a.Lo, a.Hi = p.durations(p.token, p.token)
	case rangeArgument:
		lo, hi, isRange := strings.Cut(p.token, "..")
		if !isRange {
			hi = lo
		}
		a.Lo, a.Hi = p.durations(lo, hi)
	case textArgument:
		a.Text = p.str("a text in quotes")
	}
	return a
}

// number reads the token, or digits that are part of it, as at least least.
func (p *parser) number(digits string, least uint64, what string) uint64 {
	v, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || v < least {
		p.due(what)
		return 0
	}
	p.next()
	return v
}

func (p *parser) offset() int {
	v, err := strconv.ParseInt(p.token, 10, 32)
	if err != nil {
		p.due("a number of bytes, such as 3 or -3")
		return 0
	}
	p.next()
	return int(v)
}

// durations reads the two ends of a range, both part of the token.
func (p *parser) durations(from, to string) (lo, hi time.Duration) {
	lo, err1 := time.ParseDuration(from)
	hi, err2 := time.ParseDuration(to)
	if errors.Join(err1, err2) != nil || lo < 0 || hi < lo {
		p.due("a duration such as 300ms")
		return 0, 0
	}
	p.next()
	return lo, hi
}

func (p *parser) str(what string) string {
	s, err := strconv.Unquote(p.token)
	if err != nil || !p.quoted {
		p.due(what)
		return ""
	}
	p.next()
	return s
}
