package e2e

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
)

// A script is a generated dialog: for each stage the commands sent in one go.
type script [][]command

type command struct {
	text  []byte
	casOf string // as in step
}

// generator makes scripts of valid, nearly valid and hostile commands, all of
// which memcached answers the same way however they are cut and pipelined:
//
//   - no admin command, no delayed flush, no time that could pass meanwhile
//   - nothing that closes the connection (the transcripts do that)
//   - a key of get over 250 bytes only with nothing before it in its stage:
//     memcached drops the replies of the same read
//   - nothing counts in a stage that has read before: while a reply holds the
//     item, memcached counts in a new one, without padding and old flags
//   - no value of white space alone: memcached counts on beyond its end
//   - no ma with both N and q: 1.6.18 shows the answer after all if it made the
//     item, newer ones do not, and the answer does not say whether it did
type generator struct{ *rand.Rand }

// script makes the commands of one connection.
func (g generator) script() script {
	s := script{nil}
	for range 1 + g.IntN(25) {
		c, alone := g.command()
		last := len(s) - 1
		if alone && len(s[last]) > 0 || c.casOf != "" || g.IntN(12) == 0 {
			s = append(s, nil)
			last++
		}
		s[last] = append(s[last], c)
	}
	return slices.DeleteFunc(s, func(stage []command) bool { return len(stage) == 0 })
}

// dialog makes the bytes of s, each stage closed so that none leaves a command open.
func (s script) dialog() *dialog {
	d := &dialog{apart: true}
	for _, stage := range s {
		var st step
		for _, c := range stage {
			st.send = append(st.send, c.text...)
			if c.casOf != "" {
				st.casOf = c.casOf
			}
		}
		st.send = append(st.send, closing(st.send)...)
		d.steps = append(d.steps, st)
	}
	return d
}

// longest bounds the length of a value that no bytes follow.
const longest = 1 << 17

// closing ends whatever stage may have left open: it is a line end and then as
// many lines as the longest value said to follow could swallow.
func closing(stage []byte) []byte {
	need := 0
	for _, word := range bytes.FieldsFunc(stage, func(r rune) bool { return r < '0' || r > '9' }) {
		if n, ok := asLength(string(word)); ok && n <= longest {
			need = max(need, n)
		}
	}
	return append([]byte("\r\n"), bytes.Repeat([]byte(strings.Repeat("x", 510)+"\r\n"), need/512+1)...)
}

// asLength is the number memcached would make of word as the length of a value.
func asLength(word string) (n int, ok bool) {
	whole, err := strconv.ParseInt(word, 10, 64)
	n = int(int32(whole)) // memcached cuts it so
	return n, err == nil && n >= 0
}

func (g generator) pick(of ...string) string { return of[g.IntN(len(of))] }

func (g generator) key() string {
	switch g.IntN(12) {
	case 0:
		return g.pick("noreply", "0", "k\xff\x01", "k\tk", strings.Repeat("L", 250), "Zm9v", "foo", "-1", "{x}")
	default:
		return "k" + strconv.Itoa(g.IntN(5))
	}
}

func (g generator) value() []byte {
	switch g.IntN(10) {
	case 0:
		return append([]byte{'.'}, bytes.Repeat([]byte{byte(g.IntN(256))}, g.IntN(300))...)
	case 1:
		return bytes.Repeat([]byte("a line, should no set come before it\n"), g.IntN(1500))
	case 2:
		return []byte(g.pick("END\r\n", "\x00\r\n", "VALUE k0 0 1\r\nx", "get k0", "\x00", ""))
	case 3, 4, 5:
		return strconv.AppendUint(nil, g.Uint64()>>g.IntN(64), 10)
	default:
		return []byte(strings.Repeat(g.pick("a", "bc", "def"), g.IntN(5)))
	}
}

// past is the smallest time that memcached takes for an absolute one.
const past = "2592001"

func (g generator) ttl() string {
	return g.pick("0", "0", "0", "100", "1000", "100000", "-1", past, "4294967396")
}

func (g generator) number() string {
	return g.pick("0", "1", "5", "10", "+3", "007", "\t2", "4294967297", "18446744073709551615",
		"18446744073709551616", "99999999999999999999", "-1", "1x", "x", "1.5", "0x10")
}

// command is one command, and whether nothing may come before it in its stage.
func (g generator) command() (c command, alone bool) {
	line, value := "", []byte(nil)
	switch n := g.IntN(100); {
	case n < 22:
		line, value = g.storage()
	case n < 26:
		return g.cas(), false
	case n < 44:
		line = g.retrieval()
	case n < 52:
		line = g.pick("incr ", "decr ") + g.key() + " " + g.pick("1", "10", g.number()) + g.noreply()
		alone = true
	case n < 62:
		line = g.pick("delete ", "delete ", "touch ") + g.key()
		if strings.HasPrefix(line, "t") {
			line += " " + g.ttl()
		} else if g.IntN(6) == 0 {
			line += " 0"
		}
		line += g.noreply()
	case n < 64:
		line = "flush_all" + g.pick("", " 0", " -1") + g.noreply()
	case n < 66:
		line = g.pick("version", "mn", "stats reset", "foo", "", "me "+g.key(), "verbosity 0", "set", "get", "mg", "\x00", "bget "+g.key())
	case n < 76:
		line, value = g.metaSet()
	case n < 90:
		line = "mg " + g.metaKey(g.flags("kvstfchlqu", "ONTR"))
	case n < 95:
		line = "md " + g.metaKey(g.flags("kq", "OCIT"))
	default:
		line = "ma " + g.metaKey(g.flags("kvtcq", "ONTJDMC"))
		if strings.Contains(line, " N") {
			line = strings.ReplaceAll(line, " q", "")
		}
		alone = true
	}
	if g.IntN(7) == 0 && !strings.Contains(line, past) && !strings.HasPrefix(line, "flush_all") {
		line = g.spoil(line) // which could make a length of the time, and delay the flush
	}
	text := []byte(line + g.pick("\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\n"))
	if value != nil {
		text = append(append(text, value...), "\r\n"...)
	}
	return command{text: text}, alone
}

func (g generator) noreply() string { return g.pick("", "", "", " noreply") }

func (g generator) storage() (line string, value []byte) {
	value = g.value()
	length := len(value)
	if g.IntN(15) == 0 {
		length += g.IntN(9) - 4
	}
	verb := g.pick("set", "set", "set", "add", "replace", "append", "prepend")
	return fmt.Sprintf("%s %s %d %s %d%s", verb, g.key(), g.Uint32()>>g.IntN(32), g.ttl(), length, g.noreply()), value
}

// cas stores with the token of an earlier gets on the same connection, or with a
// token that nobody holds.
func (g generator) cas() command {
	key := g.pick("k0", "k1")
	c := command{text: []byte("gets " + key + "\r\n")}
	switch g.IntN(3) {
	case 0:
		c.text = fmt.Appendf(nil, "cas %s 1 0 3 %s%s\r\ncas\r\n", key, casMark, g.noreply())
		c.casOf = key
	case 1:
		c.text = fmt.Appendf(nil, "cas %s 1 0 3 0%s\r\nnot\r\n", key, g.noreply())
	}
	return c
}

func (g generator) retrieval() string {
	line := g.pick("get", "get", "gets", "gat "+g.ttl(), "gats "+g.ttl())
	for range 1 + g.IntN(1+g.IntN(30)) {
		line += " " + g.key()
	}
	return line
}

func (g generator) metaSet() (line string, value []byte) {
	value = g.value()
	key, flags, _ := strings.Cut(g.metaKey(g.flags("kcq", "OFTMCI")), " ")
	return fmt.Sprintf("ms %s %d %s", key, len(value), flags), value
}

// metaKey is a key, sometimes a binary one, with the flags behind it.
func (g generator) metaKey(flags string) string {
	if g.IntN(8) == 0 {
		return g.pick("Zm9v", "AAEC", "azA=", "azE=", "Zm9", "====", "!") + " b" + flags
	}
	return g.key() + flags
}

// flags picks from the flags without and with arguments, in any order.
func (g generator) flags(plain, tokens string) string {
	var all []string
	for _, f := range plain {
		if g.IntN(4) == 0 {
			all = append(all, string(f))
		}
	}
	for _, f := range tokens {
		if g.IntN(5) != 0 {
			continue
		}
		arg := g.pick("0", "1", "5")
		switch f {
		case 'O':
			arg = g.pick("", "opaque", strings.Repeat("o", 31), strings.Repeat("o", 32))
		case 'N', 'T':
			arg = g.pick("0", "100", "1000", "100000")
		case 'R':
			arg = g.pick("30", "500", "5000")
		case 'M':
			arg = g.pick("S", "E", "A", "P", "R", "I", "D", "+", "-", "X", "", "SS")
		case 'I':
			arg = ""
		case 'F', 'J', 'D':
			arg = g.pick("0", "7", "4294967295", "x", "-1")
		}
		all = append(all, string(f)+arg)
	}
	if g.IntN(25) == 0 {
		all = append(all, g.pick("v", "z", "E5", "Q", "S1", "k", "Tx", "N", "\x7f", "\xff"))
	}
	g.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return strings.Join(append([]string{""}, all...), " ")
}

// spoil makes a line nearly valid.
func (g generator) spoil(line string) string {
	words := strings.Split(line, " ")
	i := g.IntN(len(words))
	switch g.IntN(9) {
	case 0:
		words = slices.Delete(words, i, i+1)
	case 1:
		words = slices.Insert(words, i, words[i])
	case 2:
		words = slices.Insert(words, i, "")
	case 3:
		if i > 0 { // a number for a verb may leave a reader first in a counting stage
			words[i] = g.number()
		}
	case 4:
		words = append(words, g.pick("", "noreply", "x", "0"))
	case 5:
		words[i] += g.pick("\x00", "\t", "\r", "\x00 more", "\x80")
	case 6:
		words[i] = strings.ToUpper(words[i])
	case 7:
		words = append([]string{""}, words...)
	default:
		if verb := words[0]; verb != "get" && verb != "gets" && i > 0 && !strings.HasPrefix(verb, "gat") {
			words[i] = strings.Repeat("K", 251)
		}
	}
	return strings.Join(words, " ")
}
