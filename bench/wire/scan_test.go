package wire

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"magent/bench/keys"
)

// A small space with keys of one length, whose values are long enough to name a write.
func testSpace() *keys.Space { return keys.NewSpace(keys.Config{Max: 999, Size: 8, MaxValue: 100}) }

const testSize = 64

func testMark(k int) keys.Mark { return keys.Mark{Run: 0xabcd, Seq: uint32(k) + 1} }

// The whole of a value, and what it is announced with.
func stored(s *keys.Space, d Dialect, op Op, k, size int) string {
	name, value := s.AppendKey(nil, k), s.AppendValue(nil, k, testMark(k), size)
	line := fmt.Sprintf("VALUE %s %d %d", name, s.Flags(k), size)
	if d == Meta {
		line = fmt.Sprintf("VA %d k%s f%d", size, name, s.Flags(k))
	}
	if op == Gets {
		line += map[Dialect]string{Text: " ", Meta: " c"}[d] + maxText
	}
	return fmt.Sprintf("%s\r\n%s\r\n", line, value)
}

// get asks for first and, as far apart, for as many more.
func get(first int, more ...int) Request {
	r := Request{Op: Get, Keys: 1, Key: uint32(first)}
	if len(more) > 0 {
		r.Keys, r.Step = uint8(len(more)+1), uint32(more[0]-first)
	}
	return r
}

func gets(first int, more ...int) Request {
	r := get(first, more...)
	r.Op = Gets
	return r
}

func one(op Op) Request { return Request{Op: op, Keys: 1, Key: 7} }

const lost = "out of step"

// account is what a reply came to, with the marks of its values.
func account(out Reply, seen uint64, marks *[MaxKeys]keys.Mark) string {
	text := fmt.Sprintf("%+v", out)
	for i, m := range marks {
		if seen&(1<<i) != 0 {
			text += fmt.Sprintf(" %d=%v", i, m)
		}
	}
	return text
}

// scanAll reads pieces as the replies to reqs in turn. Its log has an account of each,
// what went out of step or was left over, and the first error line.
func scanAll(t testing.TB, s *keys.Space, d Dialect, reqs []Request, pieces ...[]byte) (log []string) {
	t.Helper()
	sc := Scanner{Space: s, Dialect: d}
	defer func() { log = append(log, "error: "+sc.ErrLine) }()
	for _, b := range pieces {
		for len(b) > 0 {
			if len(reqs) == 0 {
				return append(log, "surplus")
			}
			n, out, done, err := sc.Next(b, &reqs[0])
			if err != nil {
				return append(log, lost)
			}
			if n == 0 || n > len(b) || !done && n != len(b) || !done && out != (Reply{}) {
				t.Fatalf("took %d of %d bytes, done %v, %+v", n, len(b), done, out)
			}
			if b = b[n:]; done {
				log = append(log, account(out, sc.Seen, &sc.Marks))
				reqs = reqs[1:]
			}
		}
	}
	return log
}

// answer is a reply and what should be made of it: lost, or a Reply with the marks of
// those keys that are held good, by their places.
type answer struct {
	name, reply string
	req         Request
	want        Reply
	good        []int
	lost        bool
}

func (a answer) check(t *testing.T, s *keys.Space, d Dialect, errLine string) {
	t.Helper()
	var seen uint64
	var marks [MaxKeys]keys.Mark
	for _, i := range a.good {
		seen |= 1 << i
		marks[i] = testMark(a.req.key(i, s.Len()))
	}
	want := []string{account(a.want, seen, &marks)}
	if a.lost {
		want = []string{lost}
	}
	want = append(want, "error: "+errLine)
	in := []byte(a.reply)
	for cut := range in {
		if got := scanAll(t, s, d, []Request{a.req}, in[:cut], in[cut:]); !slices.Equal(got, want) {
			t.Errorf("%s: %s, cut at %d: got %q, want %q", d, a.name, cut, got, want)
			return
		}
	}
}

const (
	maxVersion = 1<<64 - 1
	maxText    = "18446744073709551615"
)

// hits is what one who holds ks answers: their values, and in text an END.
func hits(s *keys.Space, d Dialect, op Op, ks ...int) string {
	var b strings.Builder
	for _, k := range ks {
		b.WriteString(stored(s, d, op, k, testSize))
	}
	if d == Text {
		b.WriteString("END\r\n")
	}
	return b.String()
}

// with is text with its first was, which it must have, replaced.
func with(t *testing.T, text, was, is string) string {
	t.Helper()
	if !strings.Contains(text, was) {
		t.Fatalf("%q is not in %q", was, text)
	}
	return strings.Replace(text, was, is, 1)
}

// broken are replies, by what is wrong with them, after which a stream is out of step.
type broken map[string]struct {
	reply string
	req   Request
}

func (b broken) check(t *testing.T, s *keys.Space, d Dialect) {
	t.Helper()
	for name, c := range b {
		answer{name: name, reply: c.reply, req: c.req, lost: true}.check(t, s, d, "")
	}
}

func TestTextReplies(t *testing.T) {
	s := testSpace()
	hit := func(op Op, ks ...int) string { return hits(s, Text, op, ks...) }
	plain := hit(Get, 7)
	versioned := hit(Gets, 7)
	head := len("VALUE key:0007 7 64\r\n")
	spoilt := func(at int) string {
		b := []byte(plain)
		b[at] ^= 1
		return string(b)
	}
	other := func(was, is string) string { return with(t, plain, was, is) }
	for _, c := range []answer{
		{"hit", plain, get(7), Reply{Hits: 1}, []int{0}, false},
		{"miss", "END\r\n", get(7), Reply{Misses: 1}, nil, false},
		{"all of a multi-get", hit(Get, 3, 5, 7), get(3, 5, 7), Reply{Hits: 3}, []int{0, 1, 2}, false},
		{"multi-get in another order", hit(Get, 7, 3, 5), get(3, 5, 7), Reply{Hits: 3}, []int{0, 1, 2}, false},
		{"part of a multi-get", hit(Get, 7), get(3, 5, 7), Reply{Hits: 1, Misses: 2}, []int{2}, false},
		{"multi-get that wraps round", hit(Get, 999, 1), get(999, 1001), Reply{Hits: 2}, []int{0, 1}, false},
		{"a key twice", hit(Get, 3, 3), get(3, 5), Reply{Hits: 1, Wrong: 1}, []int{0}, false},
		{"a key twice, first wrong", strings.TrimSuffix(other(" 7 64", " 8 64"), "END\r\n") + plain, get(7), Reply{Hits: 1, Wrong: 1}, []int{0}, false},
		{"another key", hit(Get, 8), get(7), Reply{Wrong: 1}, nil, false},
		{"a key between those asked", hit(Get, 4), get(3, 5, 7), Reply{Misses: 2, Wrong: 1}, nil, false},
		{"a key past those asked", hit(Get, 9), get(3, 5, 7), Reply{Misses: 2, Wrong: 1}, nil, false},
		{"an unknown key", "VALUE who 0 2\r\nhi\r\nEND\r\n", get(7), Reply{Wrong: 1}, nil, false},
		{"300 unasked", strings.Repeat("VALUE who 0 2\r\nhi\r\n", 300) + "END\r\n", get(7), Reply{Wrong: 300}, nil, false},
		{"key spoilt in the value", spoilt(head), get(7), Reply{Wrong: 1}, nil, false},
		{"last byte of the value spoilt", spoilt(head + testSize - 1), get(7), Reply{Wrong: 1}, nil, false},
		{"another key's value", other(stored(s, Text, Get, 7, testSize)[head:], stored(s, Text, Get, 8, testSize)[head:]), get(7), Reply{Wrong: 1}, nil, false},
		{"other flags", other(" 7 64", " 8 64"), get(7), Reply{Wrong: 1}, nil, false},
		{"the flags and 2^32", other(" 7 64", " 4294967303 64"), get(7), Reply{Wrong: 1}, nil, false},
		{"value of another length", "VALUE key:0007 7 3\r\nabc\r\nEND\r\n", get(7), Reply{Wrong: 1}, nil, false},
		{"a version", versioned, gets(7), Reply{Hits: 1, Version: maxVersion}, []int{0}, false},
		{"versions", hit(Gets, 3, 5), gets(3, 5), Reply{Hits: 2}, []int{0, 1}, false},
		{"the version of a wrong value", strings.Replace(versioned, "0007 7 ", "0007 8 ", 1), gets(7), Reply{Wrong: 1}, nil, false},
		{"a number", maxText + "\r\n", one(Incr), Reply{Number: maxVersion}, nil, false},
	} {
		c.check(t, s, Text, "")
	}
	answer{"an error amid values", stored(s, Text, Get, 3, testSize) + "SERVER_ERROR gone\r\n", get(3, 5),
		Reply{Hits: 1, Status: Failed}, []int{0}, false}.check(t, s, Text, "SERVER_ERROR gone")
}

func TestTextOutOfStep(t *testing.T) {
	s := testSpace()
	plain, versioned := hits(s, Text, Get, 7), hits(s, Text, Gets, 7)
	other := func(was, is string) string { return with(t, plain, was, is) }
	broken{
		"a version to a get":                      {versioned, get(7)},
		"no version to a gets":                    {plain, gets(7)},
		"a version past 64 bits":                  {strings.Replace(versioned, "615\r\n", "616\r\n", 1), gets(7)},
		"a version that is no number":             {strings.Replace(versioned, "615\r\n", "x15\r\n", 1), gets(7)},
		"two versions":                            {strings.Replace(versioned, "615\r\n", "615 1\r\n", 1), gets(7)},
		"set answered like a get":                 {"END\r\n", one(Set)},
		"get answered like a set":                 {"STORED\r\n", get(7)},
		"set answered like a cas":                 {"EXISTS\r\n", one(Set)},
		"set answered with a value":               {plain, one(Set)},
		"a get answered in meta":                  {"EN\r\n", get(7)},
		"value with no line end":                  {other("\r\nEND", "xxEND"), get(7)},
		"line end of one byte":                    {"END\n", get(7)},
		"negative length":                         {"VALUE key:0007 7 -5\r\n", get(7)},
		"length beyond belief":                    {"VALUE key:0007 7 99999999999999999999\r\n", get(7)},
		"length beyond what is stored":            {"VALUE key:0007 7 1073741825\r\n", get(7)},
		"blank at the end":                        {"VALUE key:0007 7 5 \r\n", get(7)},
		"VALUE line cut short":                    {"VALUE x\r\n", get(7)},
		"endless line":                            {strings.Repeat("x", maxLine+1), get(7)},
		"line too long":                           {"SERVER_ERROR " + strings.Repeat("x", maxLine) + "\r\n", get(7)},
		"a word that begins like an error":        {"ERRORS\r\n", get(7)},
		"a number past 64 bits":                   {"18446744073709551616\r\n", one(Incr)},
		"a number with a sign":                    {"+1\r\n", one(Incr)},
		"an empty line":                           {"\r\n", one(Incr)},
		"incr answered with a value":              {"VALUE key:0007 7 0\r\n\r\nEND\r\n", one(Incr)},
		"delete answered with a number":           {"1\r\n", one(Delete)},
		"delete answered as if nothing was there": {"END\r\n", one(Delete)},
	}.check(t, s, Text)
}

func TestMetaReplies(t *testing.T) {
	s := testSpace()
	hit := func(op Op, ks ...int) string { return hits(s, Meta, op, ks...) }
	plain, versioned := hit(Get, 7), hit(Gets, 7)
	other := func(was, is string) string { return with(t, plain, was, is) }
	for _, c := range []answer{
		{"hit", plain, get(7), Reply{Hits: 1}, []int{0}, false},
		{"hit, flags in another order", other("kkey:0007 f7", "f7 kkey:0007"), get(7), Reply{Hits: 1}, []int{0}, false},
		{"miss", "EN\r\n", get(7), Reply{Misses: 1}, nil, false},
		{"miss that names the key", "EN kkey:0007\r\n", gets(7), Reply{Misses: 1}, nil, false},
		{"all of a multi-get", hit(Get, 3, 5, 7) + "MN\r\n", get(3, 5, 7), Reply{Hits: 3}, []int{0, 1, 2}, false},
		{"part of a multi-get", hit(Get, 7) + "MN\r\n", get(3, 5, 7), Reply{Hits: 1, Misses: 2}, []int{2}, false},
		{"nothing of a multi-get", "MN\r\n", get(3, 5, 7), Reply{Misses: 3}, nil, false},
		{"a key twice", hit(Get, 3, 3) + "MN\r\n", get(3, 5), Reply{Hits: 1, Wrong: 1}, []int{0}, false},
		{"another key", hit(Get, 8), get(7), Reply{Wrong: 1}, nil, false},
		{"a key past those asked", hit(Get, 9) + "MN\r\n", get(3, 5, 7), Reply{Misses: 2, Wrong: 1}, nil, false},
		{"an unknown key", "VA 2 kwho f0\r\nhi\r\n", get(7), Reply{Wrong: 1}, nil, false},
		{"no key", "VA 2 k f0\r\nhi\r\n", get(7), Reply{Wrong: 1}, nil, false},
		{"other flags", other("f7", "f8"), get(7), Reply{Wrong: 1}, nil, false},
		{"another key's value", other("key:0007 0000abcd", "key:0008 0000abcd"), get(7), Reply{Wrong: 1}, nil, false},
		{"a version", versioned, gets(7), Reply{Hits: 1, Version: maxVersion}, []int{0}, false},
		{"versions", hit(Gets, 3, 5) + "MN\r\n", gets(3, 5), Reply{Hits: 2}, []int{0, 1}, false},
		{"the version of a wrong value", strings.Replace(versioned, "f7", "f8", 1), gets(7), Reply{Wrong: 1}, nil, false},
		{"a number", "VA 20\r\n" + maxText + "\r\n", one(Incr), Reply{Number: maxVersion}, nil, false},
	} {
		c.check(t, s, Meta, "")
	}
	for _, c := range []answer{
		{"an error amid a multi-get", hit(Get, 3) + "SERVER_ERROR gone\r\nMN\r\n", get(3, 5, 7), Reply{Hits: 1, Misses: 1, Status: Failed}, []int{0}, false},
		{"as many errors as keys", strings.Repeat("SERVER_ERROR gone\r\n", 2) + "MN\r\n", get(3, 5), Reply{Status: Failed}, nil, false},
		{"an error before the value of a single key", "SERVER_ERROR gone\r\n", get(3), Reply{Status: Failed}, nil, false},
		{"more errors than keys", strings.Repeat("SERVER_ERROR gone\r\n", 3), get(3, 5), Reply{}, nil, true},
	} {
		c.check(t, s, Meta, "SERVER_ERROR gone")
	}
}

func TestMetaOutOfStep(t *testing.T) {
	s := testSpace()
	plain, versioned := hits(s, Meta, Get, 7), hits(s, Meta, Gets, 7)
	other := func(was, is string) string { return with(t, plain, was, is) }
	broken{
		"a version to a get":                 {versioned, get(7)},
		"no version to a gets":               {plain, gets(7)},
		"a version past 64 bits":             {strings.Replace(versioned, "615\r\n", "616\r\n", 1), gets(7)},
		"a version of no digits":             {strings.Replace(versioned, maxText, "", 1), gets(7)},
		"no key flag":                        {other(" kkey:0007", ""), get(7)},
		"no flags":                           {other(" f7", ""), get(7)},
		"a flag twice":                       {other(" f7", " f7 f7"), get(7)},
		"a flag that nobody asked for":       {other(" f7", " f7 t-1"), get(7)},
		"blank at the end":                   {other(" f7", " f7 "), get(7)},
		"two blanks":                         {other(" f7", "  f7"), get(7)},
		"a hit without a value":              {"HD kkey:0007 f7\r\n", get(7)},
		"a miss in a quiet run":              {"EN\r\n", get(3, 5)},
		"a named miss in a quiet run":        {"EN kkey:0003\r\n", get(3, 5)},
		"another key's miss":                 {"EN kkey:0008\r\n", get(7)},
		"a miss of a part of the key":        {"EN kkey:000\r\n", get(7)},
		"a miss with another flag":           {"EN f0\r\n", get(7)},
		"a named miss of a touch":            {"EN kkey:0007\r\n", one(Touch)},
		"the end of a run to a single get":   {"MN\r\n", get(3)},
		"a get answered in text":             {"END\r\n", get(7)},
		"set answered like a get":            {"EN\r\n", one(Set)},
		"set answered with flags":            {"HD c5\r\n", one(Set)},
		"set answered like a cas":            {"EX\r\n", one(Set)},
		"value with no line end":             {plain[:len(plain)-2] + "xx", get(7)},
		"negative length":                    {"VA -5 kkey:0007 f7\r\n", get(7)},
		"length beyond what is stored":       {"VA 1073741825 kkey:0007 f7\r\n", get(7)},
		"no length":                          {"VA \r\n", get(7)},
		"a number with flags":                {"VA 1 c5\r\n1\r\n", one(Incr)},
		"a number shorter than it should be": {"VA 2\r\n1\r\n", one(Incr)},
		"a number longer than it should be":  {"VA 1\r\n10\r\n", one(Incr)},
		"a number of no digits":              {"VA 0\r\n\r\n", one(Incr)},
		"no number, and another answer":      {"VA 0\r\nNF\r\n", one(Incr)},
		"a number that is none":              {"VA 5\r\nERROR\r\n", one(Incr)},
		"a number of 21 digits":              {"VA 21\r\n000000000000000000001\r\n", one(Incr)},
		"a number past 64 bits":              {"VA 20\r\n18446744073709551616\r\n", one(Incr)},
		"an incr without its number":         {"HD\r\n", one(Incr)},
	}.check(t, s, Meta)
}

// A value too short to name its write is good, and of no write.
func TestShortValues(t *testing.T) {
	s := testSpace()
	for size := range len("key:0007") + keys.Overhead {
		for d, end := range []string{Text: "END\r\n", Meta: ""} {
			in := stored(s, Dialect(d), Get, 7, size) + end
			want := []string{account(Reply{Hits: 1}, 1, new([MaxKeys]keys.Mark)), "error: "}
			for cut := range in {
				if got := scanAll(t, s, Dialect(d), []Request{get(7)}, []byte(in[:cut]), []byte(in[cut:])); !slices.Equal(got, want) {
					t.Fatalf("%d bytes in %s, cut at %d: got %q, want %q", size, Dialect(d), cut, got, want)
				}
			}
		}
	}
}

// Each line that ends a reply is taken for what it means after the operations that it
// belongs to, and for a stream out of step after all others.
func TestEndings(t *testing.T) {
	s := testSpace()
	type said map[string]Status
	errors := said{
		"ERROR": Failed, "ERROR unknown": Failed, "CLIENT_ERROR bad data chunk": Failed,
		"SERVER_ERROR out of memory storing object": Failed, "SERVER_ERROR": Failed,
	}
	text := map[Op]said{
		Get:        {"END": OK},
		Gets:       {"END": OK},
		Set:        {"STORED": OK, "NOT_STORED": Failed},
		CAS:        {"STORED": OK, "EXISTS": Exists, "NOT_FOUND": NotFound, "NOT_STORED": Failed},
		Incr:       {"5": OK, "NOT_FOUND": NotFound},
		Delete:     {"DELETED": OK, "NOT_FOUND": NotFound},
		Touch:      {"TOUCHED": OK, "NOT_FOUND": NotFound},
		SetCounter: {"STORED": OK, "NOT_STORED": Failed},
	}
	meta := map[Op]said{
		Get:        {"EN": OK},
		Gets:       {"EN": OK},
		Set:        {"HD": OK, "NS": Failed},
		CAS:        {"HD": OK, "EX": Exists, "NF": NotFound, "NS": Failed},
		Incr:       {"NF": NotFound, "NS": Failed},
		Delete:     {"HD": OK, "NF": NotFound},
		Touch:      {"HD": OK, "EN": NotFound},
		SetCounter: {"HD": OK, "NS": Failed},
	}
	words := []string{
		"END", "STORED", "NOT_STORED", "EXISTS", "NOT_FOUND", "DELETED", "TOUCHED", "5", "OK", "VERSION 1", "RESET",
		"HD", "HD ", "EN", "NS", "EX", "NF", "MN", "ME", "VA", "end", " END", "END ", "", "5 ", "-5",
	}
	for word := range errors {
		words = append(words, word)
	}
	for d, table := range []map[Op]said{Text: text, Meta: meta} {
		for op := range Op(Ops) {
			for _, word := range words {
				is, ok := table[op][word]
				if !ok {
					is, ok = errors[word]
				}
				want := Reply{Status: is}
				if ok && (op == Get || op == Gets) && is == OK {
					want.Misses = 1
				}
				if word == "5" && op == Incr {
					want.Number = 5
				}
				errLine := ""
				if ok && is == Failed {
					errLine = word
				}
				answer{name: fmt.Sprintf("%s answered %q", op, word), reply: word + crlf, req: one(op), want: want, lost: !ok}.
					check(t, s, Dialect(d), errLine)
			}
		}
	}
}

// Only the first line that said no is kept, and what a reply left behind does not show
// in the next.
func TestRepliesStandAlone(t *testing.T) {
	s := testSpace()
	in := stored(s, Text, Gets, 7, testSize) + "END\r\nNOT_STORED\r\nSERVER_ERROR gone\r\nEND\r\n9\r\nDELETED\r\n"
	reqs := []Request{gets(7), one(Set), one(Set), get(7), one(Incr), one(Delete)}
	want := []string{
		"{Hits:1 Misses:0 Wrong:0 Status:ok Number:0 Version:18446744073709551615} 0={43981 8}",
		"{Hits:0 Misses:0 Wrong:0 Status:failed Number:0 Version:0}",
		"{Hits:0 Misses:0 Wrong:0 Status:failed Number:0 Version:0}",
		"{Hits:0 Misses:1 Wrong:0 Status:ok Number:0 Version:0}",
		"{Hits:0 Misses:0 Wrong:0 Status:ok Number:9 Version:0}",
		"{Hits:0 Misses:0 Wrong:0 Status:ok Number:0 Version:0}",
		"error: NOT_STORED",
	}
	for step := range len(in) {
		pieces := slices.Collect(slices.Chunk([]byte(in), step+1))
		if got := scanAll(t, s, Text, reqs, pieces...); !slices.Equal(got, want) {
			t.Fatalf("in pieces of %d:\n%s\nwant\n%s", step+1, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}
