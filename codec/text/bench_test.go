package text

import (
	"fmt"
	"strings"
	"testing"

	"magent/codec"
)

// benchLines holds one line of each shape that a client sends, by its name.
var benchLines = []struct{ name, line string }{
	{"op=get", "get user:1001:profile\r\n"},
	{"op=get/key=250", "get " + strings.Repeat("k", 250) + "\r\n"},
	{"op=get/keys=10", "get" + strings.Repeat(" user:1001:profile", 10) + "\r\n"},
	{"op=get/keys=100", "get" + strings.Repeat(" user:1001:profile", 100) + "\r\n"},
	{"op=gets", "gets user:1001:profile\r\n"},
	{"op=gat", "gat 300 user:1001:profile\r\n"},
	{"op=gats", "gats 300 user:1001:profile\r\n"},
	{"op=set", "set user:1001:profile 0 300 1024\r\n"},
	{"op=set/noreply=1", "set user:1001:profile 0 300 1024 noreply\r\n"},
	{"op=add", "add user:1001:profile 0 300 1024\r\n"},
	{"op=replace", "replace user:1001:profile 0 300 1024\r\n"},
	{"op=append", "append user:1001:profile 0 300 1024\r\n"},
	{"op=prepend", "prepend user:1001:profile 0 300 1024\r\n"},
	{"op=cas", "cas user:1001:profile 0 300 1024 123456789\r\n"},
	{"op=incr", "incr user:1001:profile 1\r\n"},
	{"op=decr", "decr user:1001:profile 1\r\n"},
	{"op=touch", "touch user:1001:profile 300\r\n"},
	{"op=delete", "delete user:1001:profile\r\n"},
	{"op=mg", "mg user:1001:profile v\r\n"},
	{"op=mg/flags=6", "mg user:1001:profile v f t k q O123\r\n"},
	{"op=mg/b=1", "mg dXNlcjoxMDAxOnByb2ZpbGU= v b\r\n"},
	{"op=ms", "ms user:1001:profile 1024 T300\r\n"},
	{"op=ms/flags=6", "ms user:1001:profile 1024 T300 F0 c k q O123\r\n"},
	{"op=md", "md user:1001:profile\r\n"},
	{"op=ma", "ma user:1001:profile v D3\r\n"},
	{"op=me", "me user:1001:profile\r\n"},
	{"op=mn", "mn\r\n"},
	{"op=flush_all", "flush_all 10\r\n"},
	{"op=verbosity", "verbosity 1\r\n"},
	{"op=version", "version\r\n"},
	{"op=stats", "stats items\r\n"},
	{"op=quit", "quit\r\n"},
}

// Every command has its line here, and the line its name.
func TestEveryCommandIsTimed(t *testing.T) {
	timed := make(map[codec.Op]bool)
	for _, l := range benchLines {
		var req codec.Request
		Parse([]byte(l.line), &req)
		if op, _, _ := strings.Cut(l.name, "/"); op != "op="+req.Op.String() {
			t.Errorf("%s is the name of %.40q", l.name, l.line)
		}
		timed[req.Op] = true
	}
	for op := codec.OpNone + 1; op < codec.NumOps; op++ {
		if !timed[op] {
			t.Errorf("%s: add a line to benchLines", op)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	for _, bm := range benchLines {
		line := []byte(bm.line)
		b.Run(bm.name, func(b *testing.B) {
			b.SetBytes(int64(len(line)))
			b.ReportAllocs()
			var req codec.Request
			for b.Loop() {
				Parse(line, &req)
			}
		})
	}
}

func BenchmarkAppendLine(b *testing.B) {
	for _, bm := range benchLines {
		line := []byte(bm.line)
		var req codec.Request
		Parse(line, &req)
		if req.Op.MultiKey() {
			continue
		}
		dst := make([]byte, 0, 4096)
		b.Run(bm.name, func(b *testing.B) {
			b.SetBytes(int64(len(line)))
			b.ReportAllocs()
			for b.Loop() {
				AppendLine(dst, line, &req)
			}
		})
	}
	// The same through the rewriting that a doubled space makes necessary.
	for _, bm := range benchLines {
		line := []byte(strings.Replace(bm.line, " ", "  ", 1))
		var req codec.Request
		Parse(line, &req)
		if req.Op.MultiKey() || req.Flags&codec.FlagClean != 0 {
			continue
		}
		dst := make([]byte, 0, 4096)
		b.Run(bm.name+"/clean=0", func(b *testing.B) {
			b.SetBytes(int64(len(line)))
			b.ReportAllocs()
			for b.Loop() {
				AppendLine(dst, line, &req)
			}
		})
	}
}

func BenchmarkAppendKeyed(b *testing.B) {
	key := []byte("user:1001:profile")
	dst := make([]byte, 0, 4096)
	b.Run("op=md", func(b *testing.B) {
		b.SetBytes(int64(len(key)))
		b.ReportAllocs()
		for b.Loop() {
			AppendKeyed(dst, "md", key)
		}
	})
}

func BenchmarkParseReply(b *testing.B) {
	for _, bm := range []struct {
		name, reply string
		shape       codec.Shape
	}{
		{"op=get/reply=VALUE", "VALUE user:1001:profile 0 1024\r\n", codec.ShapeValues},
		{"op=gets/reply=VALUE", "VALUE user:1001:profile 0 1024 123456789\r\n", codec.ShapeValues},
		{"op=get/reply=END", "END\r\n", codec.ShapeValues},
		{"op=set/reply=STORED", "STORED\r\n", codec.ShapeLine},
		{"op=add/reply=NOT_STORED", "NOT_STORED\r\n", codec.ShapeLine},
		{"op=cas/reply=EXISTS", "EXISTS\r\n", codec.ShapeLine},
		{"op=incr/reply=number", "123456789\r\n", codec.ShapeLine},
		{"op=touch/reply=TOUCHED", "TOUCHED\r\n", codec.ShapeLine},
		{"op=delete/reply=DELETED", "DELETED\r\n", codec.ShapeLine},
		{"op=delete/reply=NOT_FOUND", "NOT_FOUND\r\n", codec.ShapeLine},
		{"op=flush_all/reply=OK", "OK\r\n", codec.ShapeLine},
		{"op=set/reply=SERVER_ERROR", "SERVER_ERROR out of memory storing object\r\n", codec.ShapeLine},
		{"op=mg/reply=VA", "VA 1024\r\n", codec.ShapeMeta},
		{"op=mg/reply=VA/flags=4", "VA 1024 f0 t299 kuser:1001:profile O123\r\n", codec.ShapeMeta},
		{"op=mg/reply=EN", "EN\r\n", codec.ShapeMeta},
		{"op=ms/reply=HD", "HD\r\n", codec.ShapeMeta},
		{"op=ms/reply=HD/flags=3", "HD c123456 kuser:1001:profile O123\r\n", codec.ShapeMeta},
		{"op=md/reply=NF", "NF\r\n", codec.ShapeMeta},
		{"op=stats/reply=STAT", "STAT curr_items 123456\r\n", codec.ShapeStats},
	} {
		reply := []byte(bm.reply)
		b.Run(bm.name, func(b *testing.B) {
			b.SetBytes(int64(len(reply)))
			b.ReportAllocs()
			var r codec.Reply
			for b.Loop() {
				if err := ParseReply(reply, bm.shape, &r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkNextKey goes through all the keys of a line.
func BenchmarkNextKey(b *testing.B) {
	for _, keys := range []int{1, 10, 100} {
		line := []byte("get" + strings.Repeat(" user:1001:profile", keys) + "\r\n")
		var req codec.Request
		Parse(line, &req)
		b.Run(fmt.Sprintf("keys=%d", keys), func(b *testing.B) {
			b.SetBytes(int64(req.Rest.Len))
			b.ReportAllocs()
			for b.Loop() {
				at, more := req.Rest.Off, true
				for more {
					_, more = NextKey(line, req.Rest, &at)
				}
			}
		})
	}
}

// benchKey is one key in both of its forms.
var benchKey = map[bool]string{false: "user:1001:profile", true: "dXNlcjoxMDAxOnByb2ZpbGU="}

func BenchmarkRouteKey(b *testing.B) {
	for _, coded := range []bool{false, true} {
		key, meta := []byte(benchKey[coded]), codec.Letter('v')
		if coded {
			meta |= codec.Letter('b')
		}
		var buf [MaxKey]byte
		b.Run(fmt.Sprintf("base64=%v", coded), func(b *testing.B) {
			b.SetBytes(int64(len(key)))
			b.ReportAllocs()
			for b.Loop() {
				RouteKey(key, meta, buf[:])
			}
		})
	}
}

func BenchmarkSameKey(b *testing.B) {
	for _, named := range []bool{false, true} {
		for _, written := range []bool{false, true} {
			b.Run(fmt.Sprintf("named64=%v/written64=%v", named, written), func(b *testing.B) {
				n, w := []byte(benchKey[named]), []byte(benchKey[written])
				b.SetBytes(int64(len(n) + len(w)))
				b.ReportAllocs()
				for b.Loop() {
					if !SameKey(n, named, w, written) {
						b.Fatal("one key is taken for two")
					}
				}
			})
		}
	}
}
