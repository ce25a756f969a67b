package memnode

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
)

// TestDifferential sends random commands, valid, nearly valid and nonsense, to
// the real memcached and to a node, one at a time, and demands equal answers,
// CAS numbers included; only times may differ, by what the test itself takes.
//
// memcached's clock jumps once a second, whenever that falls, and what it makes of
// an item just then may hang on it. So a difference counts if there is one again when
// the same commands are sent to new servers.
func TestDifferential(t *testing.T) {
	for _, seed := range []uint64{1, 2} {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			at, difference := differ(t, seed)
			if difference == "" {
				return
			}
			t.Logf("command %d: %s", at, difference)
			if again, difference := differ(t, seed); difference != "" {
				t.Fatalf("command %d, again: %s", again, difference)
			}
		})
	}
}

// differ sends the commands of seed until an answer differs, and says where and how.
func differ(t *testing.T, seed uint64) (at int, difference string) {
	const commands = 30_000
	// Empty lines, for a command that lacks bytes of its value to swallow.
	const closing = "\r\n\r\n\r\nmn\r\n"
	g := generator{rand.New(rand.NewPCG(seed, 0))}
	realAddr, node := startReal(t, calm...), startNode(t, Config{})
	a, b := dial(t, realAddr), dial(t, node.Addr())
	var history []string
	for n := range commands {
		cmd := g.command()
		history = append(history, strconv.Quote(cmd))
		a.send("%s%s", cmd, closing)
		b.send("%s%s", cmd, closing)
		want, got := a.upTo("MN\r\n"), b.upTo("MN\r\n")
		if !alike(want, got) {
			return n, fmt.Sprintf("%q\nmemcached %q\nmemnode   %q\nbefore: %s",
				cmd, want, got, strings.Join(history[max(0, len(history)-12):], "\n"))
		}
		if strings.HasSuffix(got[len(got)-1], ">") {
			a, b = dial(t, realAddr), dial(t, node.Addr())
		}
	}
	return commands, ""
}

// alike compares replies word by word, and numbers that tell a time loosely.
func alike(want, got []string) bool {
	if len(want) != len(got) {
		return false
	}
	for i := range want {
		w, g := strings.Split(want[i], " "), strings.Split(got[i], " ")
		if strings.HasSuffix(want[i], ">") && strings.HasSuffix(got[i], ">") {
			continue // both ended; the addresses in errors differ
		}
		if len(w) != len(g) {
			return false
		}
		for j := range w {
			if w[j] != g[j] && !sameTime(w[j], g[j]) {
				return false
			}
		}
	}
	return true
}

func sameTime(w, g string) bool {
	for _, name := range []string{"t", "l", "la=", "exp="} {
		a, ok1 := strings.CutPrefix(w, name)
		b, ok2 := strings.CutPrefix(g, name)
		x, err1 := strconv.Atoi(strings.TrimSpace(a))
		y, err2 := strconv.Atoi(strings.TrimSpace(b))
		if ok1 && ok2 && err1 == nil && err2 == nil {
			return x-y <= 5 && y-x <= 5
		}
	}
	return false
}

type generator struct{ *rand.Rand }

func (g generator) pick(from ...string) string { return from[g.IntN(len(from))] }

func (g generator) chance(percent int) bool { return g.IntN(100) < percent }

func (g generator) key() string {
	if g.chance(4) {
		return g.pick(strings.Repeat("k", 250), strings.Repeat("k", 251), "\x01\xff", "a\tb", "noreply", "0")
	}
	return g.pick("a", "b", "c", "num", "num", "Zm9v", "foo")
}

func (g generator) number() string {
	if g.chance(85) {
		return strconv.Itoa(g.IntN(12))
	}
	return g.pick("-1", "+3", "abc", "1x", "", "18446744073709551615", "18446744073709551616",
		"4294967296", "2147483648", "-18446744073709551615", "9223372036854775808", "-9223372036854775809", "00007")
}

// delta never brings a number to 2^63: there memcached looks for a minus sign
// beyond the end of the value, and what it finds depends on older items.
func (g generator) delta() string {
	if g.chance(85) {
		return strconv.Itoa(g.IntN(12))
	}
	return g.pick("+3", "abc", "1x", "", "-1", "18446744073709551616", "4294967296", "00007")
}

func (g generator) exptime() string {
	return g.pick("0", "0", "0", "100000", "-1", "2592000", "2592001", "2147483647", "-2147483648", "4294967296", "x")
}

func (g generator) value() string {
	return g.pick("", "x", "7", "10", "99", "4611686018427387904", "abc", " 5", "a\r\nb", strings.Repeat("v", 300), "-3", "12 monkeys")
}

// body is a value with its announced length, now and then too short a one.
func (g generator) body() (length, data string) {
	v := g.value()
	n := len(v)
	if g.chance(3) && n > 0 {
		n--
	}
	return strconv.Itoa(n), v + "\r\n"
}

func (g generator) command() string {
	switch n := g.IntN(100); {
	case n < 12:
		return g.words(g.pick("get", "gets"), g.keys()...)
	case n < 16:
		return g.words(g.pick("gat", "gats"), append([]string{g.exptime()}, g.keys()...)...)
	case n < 30:
		return g.store()
	case n < 37:
		return g.words(g.pick("incr", "decr"), g.key(), g.delta())
	case n < 41:
		return g.words("delete", g.key())
	case n < 44:
		return g.words("touch", g.key(), g.exptime())
	case n < 45:
		return g.words("flush_all", g.pick("0", "-1", "", "x"))
	case n < 47:
		return g.pick("version\r\n", "verbosity 0\r\n", "quit\r\n", "nonsense\r\n", "\r\n", "GET / HTTP/1.0\r\n", "a\x00b\r\n", "mx a\r\n", "stats reset\r\n", "stats x\r\n")
	case n < 62:
		return "mg " + g.key() + g.flags("vtsfckhluq", "T", "N", "R", "O") + "\r\n"
	case n < 78:
		length, data := g.body()
		return "ms " + g.key() + " " + length + g.flags("ckq", "T", "F", "C", "I", "M", "O") + "\r\n" + data
	case n < 85:
		return "md " + g.key() + g.flags("kq", "T", "C", "I", "O") + "\r\n"
	case n < 97:
		return "ma " + g.key() + g.flags("vtckq", "T", "N", "C", "J", "D", "M", "O") + "\r\n"
	default:
		return "me " + g.key() + "\r\n"
	}
}

func (g generator) keys() (keys []string) {
	for range 1 + g.IntN(3) {
		keys = append(keys, g.key())
	}
	return keys
}

// words joins a line and sometimes bends it.
func (g generator) words(verb string, args ...string) string {
	line := append([]string{verb}, args...)
	switch n := g.IntN(30); {
	case n == 0:
		line = line[:len(line)-1]
	case n == 1:
		line = append(line, g.pick("0", "x", "1 2"))
	case n < 5 && !strings.HasPrefix(verb, "g"):
		line = append(line, "noreply")
	case n == 6:
		line[0] = " " + line[0] + " "
	case n == 7:
		return strings.Join(line, " ") + "\n"
	}
	return strings.Join(line, " ") + "\r\n"
}

func (g generator) store() string {
	verb := g.pick("set", "set", "set", "add", "replace", "append", "prepend", "cas")
	length, data := g.body()
	args := []string{g.key(), g.number(), g.exptime(), length}
	if verb == "cas" {
		args = append(args, strconv.Itoa(1+g.IntN(200)))
	}
	return g.words(verb, args...) + data
}

// flags draws meta flags: some of the plain ones, some with an argument, and now
// and then one that is wrong.
func (g generator) flags(plain string, with ...string) string {
	var out []string
	for _, f := range plain {
		if g.chance(25) {
			out = append(out, string(f))
		}
	}
	for _, f := range with {
		if !g.chance(25) {
			continue
		}
		switch f {
		case "T", "N":
			f += g.pick("0", "-1", "100000", "2147483647")
		case "R":
			f += g.pick("0", "30", "200000", "-1")
		case "O":
			f += g.pick("", "abc", strings.Repeat("o", 31), strings.Repeat("o", 32))
		case "M":
			f += g.pick("E", "A", "P", "R", "S", "I", "D", "+", "-", "X", "", "EE")
		case "C":
			f += strconv.Itoa(g.IntN(300))
		case "F":
			f += g.number()
		case "J", "D":
			f += g.delta()
		}
		out = append(out, f)
	}
	if g.chance(15) {
		out = append(out, "b")
	}
	if g.chance(4) {
		out = append(out, g.pick("k", "v", "E5", "x", "S3", "Tx", "Cx", "Dx", "Fx", "\x80", "P", "L"))
	}
	g.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	if len(out) == 0 {
		return ""
	}
	return " " + strings.Join(out, " ")
}
