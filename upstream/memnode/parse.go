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

// failAt fails at a token that has been taken.
func (p *parser) failAt(start int, what string) {
	if p.err == nil {
		p.start = start
	}
	p.fail(what)
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
			s.Rules = append(s.Rules, p.rule(p.on()))
		case p.accept("every"):
			s.Rules = append(s.Rules, p.rule(Rule{Every: p.period()}))
		default:
			p.fail("unknown clause " + p.show() + "; known: always, every, on, seed")
		}
		p.want(")")
	}
	return s
}

func (p *parser) on() (r Rule) {
	r.On = p.token
	if p.accept(onAccept) {
		return r
	}
	if _, ok := byName[p.token]; !ok && p.token != "*" {
		p.fail("unknown verb " + p.show() + "; known: *, " + onAccept + ", " + strings.Join(known(byName), ", "))
		return r
	}
	p.next()
	if p.accept("key") {
		if p.token == `""` {
			p.due("a key")
		}
		r.Key = p.str("a key in quotes")
	}
	return r
}

func (p *parser) period() Delay {
	start := p.start
	d := p.delay()
	if p.err == nil && d.A < leastPeriod && d.B < leastPeriod {
		p.failAt(start, "a period below "+leastPeriod.String())
	}
	return d
}

// known is the names of a table, in order.
func known[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// rule reads the conditions and the action.
func (p *parser) rule(r Rule) Rule {
	p.want("(")
	for {
		start := p.start
		chance, isChance := strings.CutPrefix(p.token, "1/")
		switch {
		case p.accept("from"):
			r.From = p.duration()
		case p.accept("until"):
			if r.Until = p.duration(); r.Until == 0 {
				p.failAt(start, "until 0s is never")
			}
		case p.accept("after"):
			r.After = p.number(p.token, 0, "a number of times")
		case p.accept("times"):
			r.Times = p.number(p.token, 1, "a number of times from 1 up")
		case isChance:
			r.OneIn = p.number(chance, 1, "1/N")
		default:
			r.Action = p.action(r.place())
			p.want(")")
			return r
		}
		if r.Until > 0 && r.From >= r.Until {
			p.failAt(start, fmt.Sprintf("from %v until %v is never", r.From, r.Until))
		}
	}
}

// action reads an action that may be done to at.
func (p *parser) action(at place) (a Action) {
	does, ok := actions[p.token]
	if !ok || does.place&at == 0 {
		what := "unknown condition or action " + p.show()
		if ok {
			what = p.token + " is not for " + placeText[at]
		}
		possible := slices.DeleteFunc(known(actions), func(name string) bool { return actions[name].place&at == 0 })
		p.fail(what + "; known here: from, until, after, times, 1/N, " + strings.Join(possible, ", "))
		return a
	}
	a.Name = p.token
	p.next()
	argued := p.token != ")"
	switch does.argument {
	case countArgument:
		least := uint64(0)
		if a.Name == "chunk" {
			least = 1
		}
		a.N = p.bytes(least)
	case maybeCountArgument:
		if argued && at != aTime {
			a.N = p.bytes(1)
		}
	case offsetArgument:
		a.N = p.offset()
	case delayArgument:
		a.Delay = p.delay()
	case maybeDelayArgument:
		if argued {
			a.Delay = p.delay()
		}
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

func (p *parser) bytes(least uint64) int {
	start := p.start
	v := p.number(p.token, least, "a number of bytes from "+strconv.FormatUint(least, 10)+" up")
	if v > math.MaxInt32 {
		p.failAt(start, "more bytes than any reply has")
	}
	return int(v)
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

// delay reads a duration, a range, or a law.
func (p *parser) delay() (d Delay) {
	switch {
	case p.accept(string(expo)):
		d.Law, d.A = expo, p.duration()
		return d
	case p.accept(string(normal)):
		d.Law, d.A = normal, p.duration()
		d.B = p.duration()
		return d
	case p.accept(string(pareto)):
		d.Law, d.A = pareto, p.duration()
		d.Shape = p.shape()
		return d
	}
	lo, hi, isRange := strings.Cut(p.token, "..")
	if !isRange {
		hi = lo
	}
	d.A, d.B = p.durations(lo, hi, "a duration such as 300ms or 1ms..5ms, or exp, normal or pareto,")
	return d
}

func (p *parser) duration() time.Duration {
	d, _ := p.durations(p.token, p.token, "a duration such as 300ms")
	return d
}

// durations reads the two ends of a range, both part of the token.
func (p *parser) durations(from, to, what string) (lo, hi time.Duration) {
	lo, err1 := time.ParseDuration(from)
	hi, err2 := time.ParseDuration(to)
	switch {
	case errors.Join(err1, err2) != nil || lo < 0 || hi < lo:
		p.due(what)
	case hi > maxDelay:
		p.fail(p.show() + " is more than " + maxDelay.String())
	default:
		p.next()
		return lo, hi
	}
	return 0, 0
}

func (p *parser) shape() float64 {
	v, err := strconv.ParseFloat(p.token, 64)
	if err != nil || !(v > 0) || math.IsInf(v, 0) {
		p.due("a shape such as 1.5")
		return 0
	}
	p.next()
	return v
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
