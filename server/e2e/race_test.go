package e2e

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"magent/server/e2e/harness"
)

// A raceKey is one of the keys that everybody writes.
type raceKey struct {
	name     string // as written: base64 if the key is binary
	b        string // what follows the name then
	numeric  bool   // mostly holds a number
	big      bool   // holds up to 64 KiB at times
	vivified bool   // may be made by mg N. Others never hold an empty value and may be won by R
}

// everyNumeric key is numeric.
const everyNumeric = 5

// raceKeys are n keys of all sorts.
func raceKeys(n int) (keys []raceKey) {
	for i := range n {
		k := raceKey{name: fmt.Sprintf("race%02d", i), numeric: i%everyNumeric == 0, big: i%10 == 3, vivified: i%4 != 2}
		if i%10 == 9 {
			k.name, k.b = fmt.Sprintf("AP%02d", i), " b"
		}
		keys = append(keys, k)
	}
	return keys
}

// A race is many clients that write the same keys at the same time.
type race struct {
	keys   []raceKey
	loud   bool // nobody says noreply or q, so that each reply has its request
	lossy  bool // the lead dies, and with it what became of the requests that only the lead can tell it of
	racers []*racer
	writes atomic.Int64 // answered
	lost   atomic.Int64 // of these, those with an error for an answer
	limit  atomic.Int64 // of writes, where the race pauses
}

// newRace connects n clients to the proxies of d, by turns.
func newRace(t *testing.T, d *duo, n int, keys []raceKey) *race {
	t.Helper()
	r := &race{keys: keys}
	now := time.Now().Unix()
	ttls := []string{"0", "0", "300", "5000", "2592000", strconv.FormatInt(now+2592001+90000, 10), strconv.FormatInt(now+8640000, 10)}
	for id := range n {
		r.racers = append(r.racers, &racer{
			race: r, rng: rand.New(rand.NewPCG(*seedFlag, uint64(id))), c: dial(t, d.proxy(id)), id: id, ttls: ttls, tokens: map[string]string{},
		})
	}
	return r
}

// run lets all write until so many writes have been answered since the race began.
func (r *race) run(t *testing.T, writes int64) {
	t.Helper()
	r.limit.Store(writes)
	var all sync.WaitGroup
	for _, one := range r.racers {
		all.Go(func() {
			for r.writes.Load() < r.limit.Load() && !t.Failed() {
				if err := one.burst(); err != nil {
					t.Errorf("seed %d: client %d: %v", *seedFlag, one.id, err)
				}
			}
		})
	}
	all.Wait()
}

// A racer is one client of a race.
type racer struct {
	race   *race
	rng    *rand.Rand
	c      *harness.Client
	id     int
	ttls   []string
	seq    int
	tokens map[string]string // seen last, by key

	next *raceKey // its token is fresh

	out   []byte
	asked []raced // what is in out and has an answer, whatever happens
	quiet int     // what is in out and may have one
}

// raced is a request under way.
type raced struct {
	write bool
	alone bool // the lead alone knows its outcome: relative ops, and an ms that may have been stored as stale
	at    int  // where it begins in what is sent
}

// burstMost is how many requests a burst has at most, beside one that asks for a
// token and the one that ends it.
const burstMost = 64

// burst sends a few requests at once and takes their answers.
func (r *racer) burst() error {
	r.out, r.asked, r.quiet = r.out[:0], r.asked[:0], 0
	for range burstMost/4 + r.rng.IntN(burstMost*3/4) {
		r.request()
	}
	// The last keys are written seldom enough for some cas to succeed.
	next := &r.race.keys[len(r.race.keys)-1-r.rng.IntN(10)]
	r.asked = append(r.asked, raced{at: len(r.out)})
	r.line("mg", next.name, next.b, "c k v")
	r.line("mn")
	if err := r.c.Send(r.out); err != nil {
		return err
	}
	writes, got := int64(0), 0
	for {
		line, err := r.reply()
		if err != nil {
			return err
		}
		if line == "MN" {
			break
		}
		if err := r.judge(line, got); err != nil {
			return err
		}
		got++
	}
	r.next = next
	if got < len(r.asked) || got > len(r.asked)+r.quiet {
		return fmt.Errorf("%d answers to %d requests and %d quiet ones", got, len(r.asked), r.quiet)
	}
	for _, a := range r.asked {
		if a.write {
			writes++
		}
	}
	r.race.writes.Add(writes)
	return nil
}

// judge looks at the answer number i of a burst.
func (r *racer) judge(line string, i int) error {
	word, _, _ := strings.Cut(line, " ")
	switch {
	case slices.Contains(raceAnswers, word), word[0] >= '0' && word[0] <= '9', line == notANumber:
		return nil
	case r.race.lossy && word == "SERVER_ERROR" && i < len(r.asked) && r.asked[i].alone:
		r.race.lost.Add(1)
		return nil
	}
	if !r.race.loud || i >= len(r.asked) {
		return fmt.Errorf("the answer %s", brief(line))
	}
	request, _, _ := strings.Cut(string(r.out[r.asked[i].at:]), "\r\n")
	return fmt.Errorf("the answer %s to %q", brief(line), request)
}

const notANumber = "CLIENT_ERROR cannot increment or decrement non-numeric value"

// raceAnswers are how an answer may begin, beside a number.
var raceAnswers = strings.Fields("STORED NOT_STORED EXISTS NOT_FOUND DELETED TOUCHED END HD VA EN NS EX NF")

// reply reads one answer and returns its last line, or the first of a VA.
func (r *racer) reply() (string, error) {
	for {
		line, err := r.c.Line()
		if err != nil || len(line) < 2 {
			return line + " ", err
		}
		words := strings.Split(line, " ")
		n := ""
		switch words[0] {
		case "VALUE":
			if n = words[3]; len(words) > 4 {
				r.tokens[words[1]] = words[4]
			}
		case "VA":
			n = words[1]
			fallthrough
		case "HD":
			r.learn(words)
		}
		if n == "" {
			return line, nil
		}
		size, err := strconv.Atoi(n)
		if err != nil {
			return line, err
		}
		if _, err := r.c.Full(size + 2); err != nil || words[0] == "VA" {
			return line, err
		}
	}
}

// learn keeps the token that a meta answer names, if it names its key.
func (r *racer) learn(words []string) {
	key, token := "", ""
	for _, w := range words[1:] {
		if len(w) > 1 && w[0] == 'k' {
			key = w[1:]
		} else if len(w) > 1 && w[0] == 'c' {
			token = w[1:]
		}
	}
	if key != "" && token != "" {
		r.tokens[key] = token
	}
}

func (r *racer) pick(of ...string) string { return of[r.rng.IntN(len(of))] }

func (r *racer) chance(in int) bool { return r.rng.IntN(in) == 0 }

// number is k, or rather one that holds a number.
func (r *racer) number(k *raceKey) *raceKey {
	if k.numeric || r.chance(8) {
		return k
	}
	return &r.race.keys[r.rng.IntN(len(r.race.keys))/everyNumeric*everyNumeric]
}

// request appends one request. Few keys are written often and many seldom.
func (r *racer) request() {
	k := &r.race.keys[r.rng.IntN(1+r.rng.IntN(len(r.race.keys)))]
	start := len(r.out)
	var a raced
	mute := false
	if r.next != nil {
		k, r.next = r.next, nil
		a = r.conditional(k)
	} else if k.b != "" || r.chance(3) {
		a = r.meta(k)
		if mute = !r.race.loud && r.chance(6); mute {
			r.flag(start, " q")
		}
	} else {
		a = r.classic(k)
		if mute = a.write && !r.race.loud && r.chance(10) && r.mayBeMuted(start); mute {
			r.flag(start, " noreply")
		}
	}
	if mute {
		r.quiet++
		return
	}
	a.at = start
	r.asked = append(r.asked, a)
}

// mayBeMuted reports whether the request from start on knows noreply.
func (r *racer) mayBeMuted(start int) bool {
	return !strings.HasPrefix(string(r.out[start:start+3]), "gat")
}

// flag puts words to the end of the first line of the request that begins at start.
func (r *racer) flag(start int, words string) {
	end := start + slices.Index(r.out[start:], '\r')
	r.out = slices.Insert(r.out, end, []byte(words)...)
}

func (r *racer) line(words ...string) {
	for i, w := range words {
		if i > 0 && w != "" && w[0] != ' ' {
			r.out = append(r.out, ' ')
		}
		r.out = append(r.out, w...)
	}
	r.out = append(r.out, "\r\n"...)
}

func (r *racer) ttl() string {
	if r.chance(30) {
		return "-1" // gone at once
	}
	return r.ttls[r.rng.IntN(len(r.ttls))]
}

func (r *racer) clientFlags() string {
	return strconv.FormatUint(uint64(r.rng.Uint32()>>r.rng.IntN(32)), 10)
}

// token is the version last seen of k, or one that nobody has seen.
func (r *racer) token(k *raceKey) string {
	if token := r.tokens[k.name]; token != "" && !r.chance(20) {
		return token
	}
	return "7"
}

var raceFiller = strings.Repeat("the quick brown fox jumps over the lazy dog; ", 2000)

// value is a number, or a text that no other client stores.
func (r *racer) value(k *raceKey, short bool) string {
	r.seq++
	switch {
	case k.numeric && !r.chance(20):
		return strconv.FormatUint(r.rng.Uint64()>>(16+r.rng.IntN(48)), 10)
	case k.vivified && r.chance(15):
		return ""
	}
	n := r.rng.IntN(120)
	if k.big && !short && r.chance(20) {
		n = r.rng.IntN(64 << 10)
	}
	return fmt.Sprintf("%d.%d;%s", r.id, r.seq, raceFiller[:n])
}

// store appends a store of the classic protocol.
func (r *racer) store(k *raceKey, verb, cas string, short bool) {
	v := r.value(k, short)
	r.line(verb, k.name, r.clientFlags(), r.ttl(), strconv.Itoa(len(v)), cas)
	r.line(v)
}

// conditional appends a request that depends on the version of k.
func (r *racer) conditional(k *raceKey) raced {
	token := r.token(k)
	switch n := r.rng.IntN(8); {
	case n == 0:
		r.line("md", k.name, k.b, "C"+token)
	case n == 1:
		r.line("md", k.name, k.b, "I T600 C"+token)
	case n == 2:
		r.line("ma", k.name, k.b, "v c k C"+token)
		return raced{write: true, alone: true}
	case n < 6 && k.b == "":
		r.store(k, "cas", token, false)
	default:
		v := r.value(k, false)
		r.line("ms", k.name, strconv.Itoa(len(v)), k.b, "c k T"+r.ttl()+" C"+token)
		r.line(v)
	}
	return raced{write: true}
}

// classic appends a request of the classic protocol.
func (r *racer) classic(k *raceKey) raced {
	switch n := r.rng.IntN(100); {
	case n < 22:
		r.store(k, "set", "", false)
	case n < 28:
		r.store(k, "add", "", false)
	case n < 34:
		r.store(k, "replace", "", false)
	case n < 42:
		r.store(k, r.pick("append", "prepend"), "", true)
		return raced{write: true, alone: true}
	case n < 54:
		r.store(k, "cas", r.token(k), false)
	case n < 64:
		r.line(r.pick("incr", "incr", "decr"), r.number(k).name, r.pick("1", "7", "1000"))
		return raced{write: true, alone: true}
	case n < 69:
		r.line("touch", k.name, r.ttl())
	case n < 75:
		r.line(r.pick("gat", "gats"), r.ttl(), k.name, r.pick("", "", r.race.keys[0].name))
	case n < 84:
		r.line("delete", k.name)
	case n < 94:
		r.line("gets", k.name)
		return raced{}
	default:
		r.line("get", k.name, r.race.keys[0].name)
		return raced{}
	}
	return raced{write: true}
}

// meta appends a meta request that has the key, and so the token, returned.
func (r *racer) meta(k *raceKey) raced {
	maybe := func(in int, flag string) string {
		if r.chance(in) {
			return flag
		}
		return ""
	}
	switch n := r.rng.IntN(100); {
	case n < 50:
		return r.metaSet(k, maybe)
	case n < 64:
		r.line("md", k.name, k.b, maybe(3, r.pick("I", "I T600")), maybe(4, "C"+r.token(k)), maybe(5, "Omd"))
		return raced{write: true}
	case n < 78:
		if k.b == "" {
			k = r.number(k)
		}
		make := maybe(3, "N"+r.ttl()+" J"+r.pick("0", "5", "100000"))
		r.line("ma", k.name, k.b, "v c k t", make, maybe(3, "D"+r.pick("0", "3", "12")), maybe(4, r.pick("MD", "M+", "MI")), maybe(6, "C"+r.token(k)), maybe(8, "T700"))
		return raced{write: true, alone: true}
	case n < 90:
		win := "R10000"
		if k.vivified {
			win = maybe(2, "N600") + " R30"
		}
		r.line("mg", k.name, k.b, "v c k t", win, maybe(3, "T"+r.ttl()))
		return raced{write: true}
	}
	r.line("mg", k.name, k.b, "v c k f", maybe(5, "Omg"))
	return raced{}
}

func (r *racer) metaSet(k *raceKey, maybe func(int, string) string) raced {
	mode := r.pick("", "", "", "MS", "ME", "MR", "MA", "MP")
	relative := mode == "MA" || mode == "MP"
	version := ""
	if !relative && r.chance(3) {
		version = "C" + r.token(k) + maybe(2, " I")
	} else if relative && k.vivified {
		mode += maybe(3, " N800") // memcached 1.6.18 makes nothing
	}
	v := r.value(k, relative)
	r.line("ms", k.name, strconv.Itoa(len(v)), k.b, "c k", maybe(2, "F"+r.clientFlags()), maybe(2, "T"+r.ttl()), mode, version, maybe(5, "Oms"))
	r.line(v)
	return raced{write: true, alone: relative || strings.HasSuffix(version, " I")}
}
