package dump

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// read has a Parser read the pieces of an answer, each behind what was left of the one
// before, and tells what came of it.
func read(t testing.TB, pieces ...string) (said []string) {
	t.Helper()
	var p Parser
	var e Entry
	var rest []byte
	for _, piece := range pieces {
		rest = append(rest, piece...)
		for {
			n, ok, err := p.Next(rest, &e)
			if ok && n == 0 || n > len(rest) {
				t.Fatalf("%d of %d bytes make an item", n, len(rest))
			}
			switch {
			case err != nil:
				return append(said, fmt.Sprintf("%T %v", err, err))
			case ok:
				said = append(said, fmt.Sprintf("%+v", e))
			}
			rest = rest[n:]
			if !ok {
				break
			}
		}
	}
	return said
}

// twin is Parser, as a man reads. It takes the answer whole.
func twin(in string) (said []string) {
	for i, line := range strings.SplitAfter(in, "\n") {
		whole := strings.HasSuffix(line, "\n")
		line = strings.TrimSuffix(line, "\n")
		if len(line) > maxLine {
			return append(said, fmt.Sprintf("dump.Malformed %v", Malformed(line[:maxLine])))
		}
		if !whole {
			return said
		}
		line = strings.TrimSuffix(line, "\r")
		word := strings.Split(line, " ")[0]
		switch {
		case strings.HasPrefix(line, "key="):
			e, ok := twinEntry(line)
			if !ok {
				return append(said, fmt.Sprintf("dump.Malformed %v", Malformed(line)))
			}
			said = append(said, fmt.Sprintf("%+v", e))
		case i == 0 && line == "OK":
		case line == "END":
			return append(said, fmt.Sprintf("%T %v", io.EOF, io.EOF))
		case slices.Contains(strings.Fields("BUSY ERROR CLIENT_ERROR SERVER_ERROR BADCLASS NOTSTARTED"), word):
			return append(said, fmt.Sprintf("dump.Refused %v", Refused(line)))
		default:
			return append(said, fmt.Sprintf("dump.Malformed %v", Malformed(line)))
		}
	}
	return said
}

func twinEntry(line string) (e Entry, ok bool) {
	e.Exp = -1
	var faults []error
	signed := func(s string, bits int) int64 {
		v, err := strconv.ParseInt(s, 10, bits)
		if strings.HasPrefix(s, "+") || s == strconv.Itoa(-1<<63) {
			err = strconv.ErrSyntax
		}
		faults = append(faults, err)
		return v
	}
	unsigned := func(s string, bits int) uint64 {
		v, err := strconv.ParseUint(s, 10, bits)
		faults = append(faults, err)
		return v
	}
	for field := range strings.SplitSeq(line, " ") {
		name, value, found := strings.Cut(field, "=")
		if !found {
			continue
		}
		switch name {
		case "key":
			key, err := url.PathUnescape(value)
			if key == "" || len(key) > 250 {
				err = errors.New("length")
			}
			e.Key = []byte(key)
			faults = append(faults, err)
		case "exp":
			e.Exp = signed(value, 64)
		case "la":
			e.LastAccess = signed(value, 64)
		case "cas":
			e.CAS = unsigned(value, 64)
		case "fetch":
			e.Fetched = value == "yes"
		case "cls":
			e.Class = int(unsigned(value, 31))
		case "size":
			e.Size = int(unsigned(value, 31))
		case "flags":
			e.Flags = unsigned(value, 64)
		}
	}
	return e, errors.Join(faults...) == nil
}

const (
	// What memcached 1.6.18 and 1.6.45 list when given the same four items.
	of1618 = "key=a%20b%00%FF%0A%25 exp=-1 la=1795403088 cas=1 fetch=no cls=1 size=67\n" +
		"key=abc exp=-1 la=1795403088 cas=2 fetch=no cls=1 size=63\n" +
		"key=plain%FE%25%2F exp=1795403188 la=1795403088 cas=3 fetch=no cls=1 size=72\n" +
		"key=tab%09bed%01 exp=1795403188 la=1795403088 cas=4 fetch=yes cls=1 size=72\nEND\r\n"
	of1645 = "OK\r\nkey=a%20b%00%FF%0A%25 exp=-1 la=1795403089 cas=2 fetch=no cls=1 size=67 flags=0 \n" +
		"key=abc exp=-1 la=1795403089 cas=3 fetch=no cls=1 size=63 flags=0 \n" +
		"key=plain%FE%25%2F exp=1795403189 la=1795403089 cas=4 fetch=no cls=1 size=72 flags=3 \n" +
		"key=tab%09bed%01 exp=1795403189 la=1795403089 cas=5 fetch=yes cls=1 size=72 flags=3 \nEND\r\n"
)

func TestParserReadsWhatMemcachedWrites(t *testing.T) {
	for _, c := range []struct {
		version, in string
		want        []Entry
	}{
		{"1.6.18", of1618, []Entry{
			{Key: []byte("a b\x00\xff\n%"), Exp: -1, LastAccess: 1795403088, CAS: 1, Class: 1, Size: 67},
			{Key: []byte("abc"), Exp: -1, LastAccess: 1795403088, CAS: 2, Class: 1, Size: 63},
			{Key: []byte("plain\xfe%/"), Exp: 1795403188, LastAccess: 1795403088, CAS: 3, Class: 1, Size: 72},
			{Key: []byte("tab\tbed\x01"), Exp: 1795403188, LastAccess: 1795403088, CAS: 4, Fetched: true, Class: 1, Size: 72},
		}},
		{"1.6.45", of1645, []Entry{
			{Key: []byte("a b\x00\xff\n%"), Exp: -1, LastAccess: 1795403089, CAS: 2, Class: 1, Size: 67},
			{Key: []byte("abc"), Exp: -1, LastAccess: 1795403089, CAS: 3, Class: 1, Size: 63},
			{Key: []byte("plain\xfe%/"), Exp: 1795403189, LastAccess: 1795403089, CAS: 4, Class: 1, Size: 72, Flags: 3},
			{Key: []byte("tab\tbed\x01"), Exp: 1795403189, LastAccess: 1795403089, CAS: 5, Fetched: true, Class: 1, Size: 72, Flags: 3},
		}},
	} {
		var want []string
		for _, e := range c.want {
			want = append(want, fmt.Sprintf("%+v", e))
		}
		want = append(want, "*errors.errorString EOF")
		for cut := range len(c.in) + 1 {
			if got := read(t, c.in[:cut], c.in[cut:]); !slices.Equal(got, want) {
				t.Fatalf("%s, cut at %d: got\n%q, want\n%q", c.version, cut, got, want)
			}
		}
		if got := read(t, strings.SplitAfter(c.in, "")...); !slices.Equal(got, want) {
			t.Errorf("%s, byte by byte: got\n%q, want\n%q", c.version, got, want)
		}
	}
}

// lines are answers of one line or two, and what they end with, if they have an item
// without fault before that.
var lines = []struct{ in, want string }{
	{"END\r\n", "EOF"},
	{"END\n", "EOF"},
	{"OK\r\nEND\r\n", "EOF"},
	{"OK\r\nOK\r\n", `no line of a list of keys: "OK"`},
	{"END", ""},
	{"", ""},
	{"BUSY currently processing crawler request\r\n", `the node answered "BUSY currently processing crawler request"`},
	{"OK\r\nERROR locked try again later\r\n", `the node answered "ERROR locked try again later"`},
	{"ERROR\r\n", `the node answered "ERROR"`},
	{"ERRORS\r\n", `no line of a list of keys: "ERRORS"`},
	{"CLIENT_ERROR lru crawler disabled\r\n", `the node answered "CLIENT_ERROR lru crawler disabled"`},
	{"BADCLASS invalid class id\r\n", `the node answered "BADCLASS invalid class id"`},
	{"\r\n", `no line of a list of keys: ""`},
	{"VALUE k 0 1\r\n", `no line of a list of keys: "VALUE k 0 1"`},
	{"ENDX\r\n", `no line of a list of keys: "ENDX"`},
	{"key= exp=-1\n", `no line of a list of keys: "key= exp=-1"`},
	{"key=%2 exp=-1\n", `no line of a list of keys: "key=%2 exp=-1"`},
	{"key=%2g\n", `no line of a list of keys: "key=%2g"`},
	{"key=a exp=\n", `no line of a list of keys: "key=a exp="`},
	{"key=a exp=-\n", `no line of a list of keys: "key=a exp=-"`},
	{"key=a exp=+1\n", `no line of a list of keys: "key=a exp=+1"`},
	{"key=a la=9223372036854775808\n", `no line of a list of keys: "key=a la=9223372036854775808"`},
	{"key=a cas=-1\n", `no line of a list of keys: "key=a cas=-1"`},
	{"key=a cas=18446744073709551616\n", `no line of a list of keys: "key=a cas=18446744073709551616"`},
	{"key=a size=2147483648\n", `no line of a list of keys: "key=a size=2147483648"`},
	{"key=a cls=x\n", `no line of a list of keys: "key=a cls=x"`},
	{"key=a flags=1x\n", `no line of a list of keys: "key=a flags=1x"`},
	{"key=" + strings.Repeat("k", 251) + "\n", `no line of a list of keys: "key=` + strings.Repeat("k", 76) + `"...`},
	{"key=" + strings.Repeat("%41", 251) + "\n", `no line of a list of keys: "key=` + strings.Repeat("%41", 25) + `%"...`},
	{"key=" + strings.Repeat("k", 3000), `no line of a list of keys: "key=` + strings.Repeat("k", 76) + `"...`},
}

func TestParserTellsLinesApart(t *testing.T) {
	for _, c := range lines {
		want := strings.TrimSuffix(c.want, "...")
		for cut := range len(c.in) + 1 {
			got := strings.Join(read(t, c.in[:cut], c.in[cut:]), "; ")
			if _, text, _ := strings.Cut(got, " "); strings.TrimSuffix(text, "...") != want {
				t.Fatalf("%q, cut at %d: got %s, want %s", c.in, cut, got, c.want)
			}
		}
	}
}

func TestParserTakesWhatItNeedNotKnow(t *testing.T) {
	for in, want := range map[string]Entry{
		"key=a\n":                             {Key: []byte("a"), Exp: -1},
		"key=a ext_page=3 new la=7 x=y= \r\n": {Key: []byte("a"), Exp: -1, LastAccess: 7},
		"key=%41%2f%2F  exp=0\n":              {Key: []byte("A//"), Exp: 0},
		"key=a cas=18446744073709551615 flags=4294967296\n": {Key: []byte("a"), Exp: -1, CAS: 1<<64 - 1, Flags: 1 << 32},
		"key=" + strings.Repeat("%00", 250) + "\n":          {Key: make([]byte, 250), Exp: -1},
		"key=" + strings.Repeat("a", 250) + "\n":            {Key: []byte(strings.Repeat("a", 250)), Exp: -1},
	} {
		if got := read(t, in); len(got) != 1 || got[0] != fmt.Sprintf("%+v", want) {
			t.Errorf("%q: got %s, want %+v", in, got, want)
		}
	}
}

func TestBusyIsTold(t *testing.T) {
	for line, want := range map[Refused]bool{
		"BUSY currently processing crawler request": true,
		"ERROR locked try again later":              true,
		"ERROR metadump not allowed":                false,
		"CLIENT_ERROR lru crawler disabled":         false,
	} {
		if line.Busy() != want {
			t.Errorf("%s: Busy is %v", line, line.Busy())
		}
	}
}

func FuzzParser(f *testing.F) {
	for _, in := range []string{of1618, of1645} {
		f.Add(in, uint16(20))
	}
	for _, c := range lines {
		f.Add("key=a la=5 \n"+c.in, uint16(3))
	}
	f.Fuzz(func(t *testing.T, in string, cut uint16) {
		at := min(int(cut), len(in))
		want := twin(in)
		if whole := read(t, in); !slices.Equal(whole, want) {
			t.Fatalf("got\n%q, want\n%q", whole, want)
		}
		if split := read(t, in[:at], in[at:]); !slices.Equal(split, want) {
			t.Fatalf("cut at %d: got\n%q, want\n%q", at, split, want)
		}
	})
}
