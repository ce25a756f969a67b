package wire

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"magent/bench/keys"
)

// twin reads the replies to reqs from one who has the whole stream at once: slowly, by
// regular expressions and maps. Its log is as scanAll's.
type twin struct {
	space   *keys.Space
	meta    bool
	binary  bool
	rest    string
	errLine string
}

// stop is what makes a twin leave off: the stream is out of step, or ends.
type stop string

func (w *twin) all(reqs []Request) (log []string) {
	defer func() {
		if why := recover(); why != nil {
			if why != stop("end") {
				log = append(log, string(why.(stop)))
			}
		}
		log = append(log, "error: "+w.errLine)
	}()
	for i := range reqs {
		log = append(log, w.reply(&reqs[i]))
	}
	if w.rest != "" {
		panic(stop("surplus"))
	}
	return log
}

// line takes a line off the stream.
func (w *twin) line() string {
	line, rest, ok := strings.Cut(w.rest, "\n")
	switch {
	case !ok && len(line) > maxLine:
		panic(stop(lost))
	case !ok:
		panic(stop("end"))
	case len(line)+1 > maxLine || !strings.HasSuffix(line, "\r"):
		panic(stop(lost))
	}
	w.rest = rest
	return strings.TrimSuffix(line, "\r")
}

// block takes n bytes and a line end off the stream.
func (w *twin) block(n int) string {
	whole := w.rest[:min(len(w.rest), n+2)]
	if len(whole) > n && !strings.HasPrefix(crlf, whole[n:]) {
		panic(stop(lost))
	}
	if len(whole) < n+2 {
		panic(stop("end"))
	}
	w.rest = w.rest[n+2:]
	return whole[:n]
}

func digits(text string) uint64 {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		panic(stop(lost))
	}
	return n
}

var (
	errorLine = regexp.MustCompile(`^(ERROR|CLIENT_ERROR|SERVER_ERROR)( |$)`)
	textGet   = regexp.MustCompile(`^VALUE (?s:([^ ]*)) ([0-9]+) ([0-9]+)$`)
	textGets  = regexp.MustCompile(`^VALUE (?s:([^ ]*)) ([0-9]+) ([0-9]+) ([0-9]+)$`)
	metaValue = regexp.MustCompile(`^VA ([0-9]+)((?s: [^ ]+)*)$`)
	onlyDigit = regexp.MustCompile(`^[0-9]+$`)
)

// meanings are the lines that end a reply, "OP LINE" in either dialect.
var meanings = map[string]Status{
	"get END": OK, "gets END": OK, "set STORED": OK, "set NOT_STORED": Failed,
	"set-counter STORED": OK, "set-counter NOT_STORED": Failed,
	"cas STORED": OK, "cas NOT_STORED": Failed, "cas EXISTS": Exists, "cas NOT_FOUND": NotFound,
	"incr NOT_FOUND": NotFound, "delete DELETED": OK, "delete NOT_FOUND": NotFound,
	"touch TOUCHED": OK, "touch NOT_FOUND": NotFound,

	"get EN": OK, "gets EN": OK, "set HD": OK, "set NS": Failed, "set-counter HD": OK, "set-counter NS": Failed,
	"cas HD": OK, "cas NS": Failed, "cas EX": Exists, "cas NF": NotFound,
	"incr NF": NotFound, "incr NS": Failed, "delete HD": OK, "delete NF": NotFound, "touch HD": OK, "touch EN": NotFound,
}

var metaWords = regexp.MustCompile(`^(..|5)$`)

func (w *twin) reply(r *Request) string {
	if w.binary {
		return w.packets(r)
	}
	var out Reply
	var seen uint64
	var marks [MaxKeys]keys.Mark
	many := r.Keys > 1
	isGet := r.Op == Get || r.Op == Gets
	for refused := 0; ; {
		line := w.line()
		if name := fmt.Sprintf("EN k%s", w.space.AppendKey(nil, int(r.Key))); w.meta && isGet && line == name {
			line = "EN"
		}
		status, known := meanings[r.Op.String()+" "+line]
		if known && metaWords.MatchString(line) != w.meta || w.meta && many {
			known = false
		}
		switch {
		case known || w.meta && many && line == "MN":
			out.Status = max(out.Status, status)
			if status == Failed && w.errLine == "" {
				w.errLine = line
			}
			if isGet {
				out.Misses = max(0, int(r.Keys)-out.Hits-out.Wrong-refused)
			}
			return account(out, seen, &marks)
		case errorLine.MatchString(line):
			out.Status = Failed
			if w.errLine == "" {
				w.errLine = line
			}
			if refused++; !w.meta || !many {
				return account(out, seen, &marks)
			}
			if refused > int(r.Keys) {
				panic(stop(lost))
			}
		case isGet:
			w.value(line, r, &out, &seen, &marks)
			if w.meta && !many {
				return account(out, seen, &marks)
			}
		case r.Op == Incr:
			out.Number = w.number(line)
			return account(out, seen, &marks)
		default:
			panic(stop(lost))
		}
	}
}

func (w *twin) number(line string) uint64 {
	if w.meta {
		m := metaValue.FindStringSubmatch(line)
		if m == nil || m[2] != "" {
			panic(stop(lost))
		}
		size := digits(m[1])
		if size == 0 || size > 20 {
			panic(stop(lost))
		}
		if line = w.line(); uint64(len(line)) != size {
			panic(stop(lost))
		}
	}
	if !onlyDigit.MatchString(line) {
		panic(stop(lost))
	}
	return digits(line)
}

// value takes one value that line announces.
func (w *twin) value(line string, r *Request, out *Reply, seen *uint64, marks *[MaxKeys]keys.Mark) {
	name, flags, size, version := w.header(line, r.Op == Gets)
	if size > keys.MaxValue {
		panic(stop(lost))
	}
	value := w.block(int(size))
	for i := range int(r.Keys) {
		k := (int(r.Key) + i*int(r.Step)) % w.space.Len()
		if string(w.space.AppendKey(nil, k)) != name || flags != uint64(k)&0xffff || *seen&(1<<i) != 0 {
			continue
		}
		if m, ok := w.mark(k, value); ok {
			*seen |= 1 << i
			marks[i] = m
			out.Hits++
			if r.Keys == 1 {
				out.Version = version
			}
			return
		}
	}
	out.Wrong++
}

func (w *twin) header(line string, versioned bool) (name string, flags, size, version uint64) {
	if !w.meta {
		form := textGet
		if versioned {
			form = textGets
		}
		m := form.FindStringSubmatch(line)
		if m == nil {
			panic(stop(lost))
		}
		if versioned {
			version = digits(m[4])
		}
		return m[1], digits(m[2]), digits(m[3]), version
	}
	m := metaValue.FindStringSubmatch(line)
	if m == nil {
		panic(stop(lost))
	}
	want := map[byte]bool{'k': true, 'f': true, 'c': versioned}
	got := map[byte]string{}
	for field := range strings.SplitSeq(strings.TrimPrefix(m[2], " "), " ") {
		if field == "" || !want[field[0]] {
			panic(stop(lost))
		}
		want[field[0]] = false
		got[field[0]] = field[1:]
	}
	if want['k'] || want['f'] || want['c'] {
		panic(stop(lost))
	}
	for letter, text := range got {
		if letter != 'k' && !onlyDigit.MatchString(text) {
			panic(stop(lost))
		}
	}
	if versioned {
		version = digits(got['c'])
	}
	return got['k'], digits(got['f']), digits(m[1]), version
}

// mark is that of the write that gives key k this very value.
func (w *twin) mark(k int, value string) (m keys.Mark, ok bool) {
	if len(value) > twinValue {
		return m, false
	}
	if name := string(w.space.AppendKey(nil, k)); len(value) >= len(name)+keys.Overhead {
		fmt.Sscanf(value[len(name):], " %08x %08x ", &m.Run, &m.Seq)
	}
	return m, string(w.space.AppendValue(nil, k, m, len(value))) == value
}

// dialects is how many there are.
const dialects = len(dialectNames)

// twinValue is the largest value of the space that twins are tried on.
const twinValue = 60

func twinSpace() *keys.Space {
	return keys.NewSpace(keys.Config{Prefix: "k", Max: 63, Size: 3, MaxValue: twinValue})
}

// agree checks that in, the replies to reqs, means the same to a Scanner, however it is
// cut, and to its twin.
func agree(t *testing.T, s *keys.Space, d Dialect, reqs []Request, in []byte, cut, step int) {
	t.Helper()
	w := twin{space: s, meta: d == Meta, binary: d == Binary, rest: string(in)}
	want := w.all(reqs)
	at := min(cut, len(in))
	pieces := [][]byte{in[:at]}
	for piece := range slices.Chunk(in[at:], step+1) {
		pieces = append(pieces, piece)
	}
	for name, pieces := range map[string][][]byte{
		"at once": {in}, fmt.Sprintf("cut at %d", at): {in[:at], in[at:]}, fmt.Sprintf("in pieces of %d after %d", step+1, at): pieces,
	} {
		if got := scanAll(t, s, d, reqs, pieces...); !slices.Equal(got, want) {
			t.Fatalf("%s, %s: %+v answered %q\ngot  %q\nwant %q", d, name, reqs, in, got, want)
		}
	}
}

// anyRequests are up to eight of all kinds.
func anyRequests(r *rand.Rand, space int) []Request {
	reqs := make([]Request, 1+r.IntN(8))
	for i := range reqs {
		q := &reqs[i]
		*q = Request{Op: Op(r.IntN(Ops)), Keys: 1, Key: uint32(r.IntN(space))}
		if q.Op == Get || q.Op == Gets {
			if q.Keys = uint8(1 + r.IntN(5)); q.Keys > 1 {
				q.Step = uint32(1 + r.IntN(space/int(q.Keys)))
			}
		}
	}
	return reqs
}

// anyReply is what a node might answer to q, for good or bad.
func anyReply(r *rand.Rand, s *keys.Space, d Dialect, q *Request) string {
	if d == Binary {
		return anyPackets(r, s, q)
	}
	if r.IntN(12) == 0 && (q.Keys == 1 || d == Text) {
		return []string{"ERROR\r\n", "CLIENT_ERROR bad data chunk\r\n", "SERVER_ERROR out of memory storing object\r\n"}[r.IntN(3)]
	}
	var b strings.Builder
	switch q.Op {
	case Get, Gets:
		for i := range int(q.Keys) {
			switch k := (int(q.Key) + i*int(q.Step)) % s.Len(); {
			case r.IntN(8) == 0:
				b.WriteString(stored(s, d, q.Op, r.IntN(s.Len()), r.IntN(twinValue+1)))
			case r.IntN(3) > 0:
				b.WriteString(stored(s, d, q.Op, k, r.IntN(twinValue+1)))
			case d == Meta && q.Keys == 1 && r.IntN(2) == 0:
				b.WriteString("EN\r\n")
			case d == Meta && q.Keys == 1:
				fmt.Fprintf(&b, "EN k%s\r\n", s.AppendKey(nil, k))
			case d == Meta && r.IntN(3) == 0:
				b.WriteString("SERVER_ERROR gone\r\n")
			}
		}
		switch {
		case d == Text:
			b.WriteString("END\r\n")
		case q.Keys > 1:
			b.WriteString("MN\r\n")
		}
	case Incr:
		text := strconv.FormatUint(r.Uint64()>>r.IntN(64), 10)
		if d == Meta {
			fmt.Fprintf(&b, "VA %d\r\n", len(text))
		}
		b.WriteString(text + crlf)
	}
	if of := endings[d][q.Op]; b.Len() == 0 || q.Op == Incr && r.IntN(3) == 0 {
		return of[r.IntN(len(of))].text + crlf
	}
	return b.String()
}

// spoil changes in at places, and in ways, that it reads from how: a bit, a byte less, a
// byte more, a piece twice, a number.
func spoil(in, how []byte) []byte {
	for ; len(how) >= 4 && len(in) > 0; how = how[4:] {
		at := (int(how[0])<<8 | int(how[1])) % len(in)
		switch with := how[3]; how[2] % 5 {
		case 0:
			in[at] ^= 1 << (with % 8)
		case 1:
			in = slices.Delete(in, at, min(len(in), at+1+int(with%8)))
		case 2:
			in = slices.Insert(in, at, with)
		case 3:
			end := min(len(in), at+int(with))
			in = slices.Insert(in, end, slices.Clone(in[at:end])...)
		case 4:
			in = slices.Insert(in, at, []byte(strconv.Itoa(int(with)*12345))...)
		}
	}
	return in
}

// FuzzReplies: the replies to requests of all kinds, more or less spoilt, mean the same
// however they are cut, and the same as to the naive twin.
func FuzzReplies(f *testing.F) {
	s := twinSpace()
	for seed := range uint64(20) {
		how := make([]byte, 4*(seed%4))
		r := rand.New(rand.NewPCG(seed, 0))
		for i := range how {
			how[i] = byte(r.Uint32())
		}
		f.Add(seed, uint8(seed), how, uint16(r.Uint32()), uint8(r.Uint32()))
	}
	f.Fuzz(func(t *testing.T, seed uint64, dialect uint8, how []byte, cut uint16, step uint8) {
		r := rand.New(rand.NewPCG(seed, 1))
		d := Dialect(int(dialect) % dialects)
		reqs := anyRequests(r, s.Len())
		var in []byte
		for i := range reqs {
			in = append(in, anyReply(r, s, d, &reqs[i])...)
		}
		agree(t, s, d, reqs, spoil(in, how[:min(len(how), 40)]), int(cut), int(step))
	})
}

// FuzzScanner: the same for bytes that nobody thought of.
func FuzzScanner(f *testing.F) {
	s := twinSpace()
	for _, op := range []Op{Get, Gets} {
		f.Add([]byte(stored(s, Text, op, 3, 50)+"END\r\nSTORED\r\n"+stored(s, Text, op, 3, 9)+"END\r\nERROR\r\n"), uint8(Text), uint64(1), uint16(30), uint8(1))
		f.Add([]byte(stored(s, Meta, op, 3, 50)+"EN\r\nHD\r\n"+stored(s, Meta, op, 3, 9)+"MN\r\nVA 2\r\n10\r\n"), uint8(Meta), uint64(2), uint16(7), uint8(9))
	}
	f.Add([]byte(storedPacket(s, &Request{Op: Get, Keys: 1, Key: 3}, 0, 50)), uint8(Binary), uint64(1), uint16(30), uint8(1))
	f.Add([]byte("VALUE k03 3 9999999\r\n"), uint8(Text), uint64(3), uint16(3), uint8(7))
	f.Add([]byte("VA 1073741824 kk03 f3\r\nx"), uint8(Meta), uint64(4), uint16(3), uint8(7))
	f.Fuzz(func(t *testing.T, in []byte, dialect uint8, seed uint64, cut uint16, step uint8) {
		agree(t, s, Dialect(int(dialect)%dialects), anyRequests(rand.New(rand.NewPCG(seed, 1)), s.Len()), in, int(cut), int(step))
	})
}

// Thousands of the streams of FuzzReplies, always the same ones; those that are not
// spoilt have a reply to every request.
func TestTwins(t *testing.T) {
	s := twinSpace()
	r := rand.New(rand.NewPCG(5, 6))
	for i := range 4000 {
		d := Dialect(i % dialects)
		reqs := anyRequests(r, s.Len())
		var in []byte
		for i := range reqs {
			in = append(in, anyReply(r, s, d, &reqs[i])...)
		}
		how := make([]byte, 4*(i%3))
		for i := range how {
			how[i] = byte(r.Uint32())
		}
		if len(how) == 0 {
			w := twin{space: s, meta: d == Meta, binary: d == Binary, rest: string(in)}
			if log := w.all(reqs); len(log) != len(reqs)+1 {
				t.Fatalf("%+v answered %q: %q", reqs, in, log)
			}
		}
		agree(t, s, d, reqs, spoil(in, how), r.IntN(len(in)+1), r.IntN(50))
	}
}
