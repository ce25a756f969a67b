package text

import (
	"strings"
	"testing"

	"magent/codec"
)

// replies is what ParseReply makes of each answer that memcached gives.
var replies = []struct {
	in    string
	shape codec.Shape
	err   error
	kind  codec.Kind
	key   string
	value uint32
}{
	{in: "STORED\r\n"},
	{in: "NOT_STORED\r\n"},
	{in: "EXISTS\r\n"},
	{in: "NOT_FOUND\r\n"},
	{in: "DELETED\r\n"},
	{in: "TOUCHED\r\n"},
	{in: "OK\r\n"},
	{in: "17\r\n"},
	{in: "VERSION 1.6.18\r\n"},
	{in: "ERROR\r\n", kind: codec.KindError},
	{in: "ERROR: shutdown not enabled\r\n", kind: codec.KindError},
	{in: "CLIENT_ERROR bad data chunk\r\n", kind: codec.KindError},
	{in: "SERVER_ERROR out of memory storing object\r\n", kind: codec.KindError},
	{in: "HD\r\n", err: ErrReply},
	{in: "VALUE k 0 1\r\n", err: ErrReply},
	{in: "END\r\n", err: ErrReply},
	{in: "\r\n", err: ErrReply},
	{in: "\n", err: ErrReply},
	{in: "STORED\n", err: ErrReply},
	{in: "STORED", err: ErrShort},
	{in: "STORED\r", err: ErrShort},
	{in: "", err: ErrShort},

	{in: "VALUE k 0 1\r\nx\r\n", shape: codec.ShapeValues, kind: codec.KindValue, key: "k", value: 1},
	{in: "VALUE k 4294967295 0 77\r\n\r\n", shape: codec.ShapeValues, kind: codec.KindValue, key: "k"},
	{in: "VALUE k 0 2147483645\r\n", shape: codec.ShapeValues, kind: codec.KindValue, key: "k", value: 2147483645},
	{in: "VALUE " + key250 + " 0 1\r\n", shape: codec.ShapeValues, kind: codec.KindValue, key: key250, value: 1},
	{in: "END\r\n", shape: codec.ShapeValues, kind: codec.KindEnd},
	{in: "SERVER_ERROR out of memory writing get response\r\n", shape: codec.ShapeValues, kind: codec.KindError},
	{in: "CLIENT_ERROR bad command line format\r\n", shape: codec.ShapeValues, kind: codec.KindError},
	{in: "VALUE k 0 2147483646\r\n", shape: codec.ShapeValues, err: ErrReply},
	{in: "VALUE k 0 4294967297\r\n", shape: codec.ShapeValues, err: ErrReply},
	{in: "VALUE k 0 18446744073709551617\r\n", shape: codec.ShapeValues, err: ErrReply},
	{in: "VALUE k 0 -1\r\n", shape: codec.ShapeValues, err: ErrReply},
	{in: "VALUE k 0 \r\n", shape: codec.ShapeValues, err: ErrReply},
	{in: "VALUE k 0\r\n", shape: codec.ShapeValues, err: ErrReply},
	{in: "VALUE k  1\r\n", shape: codec.ShapeValues, err: ErrReply},
	{in: "VALUE  0 1\r\n", shape: codec.ShapeValues, err: ErrReply},
	{in: "VALUE \r\n", shape: codec.ShapeValues, err: ErrReply},
	{in: "VALUE " + key251 + " 0 1\r\n", shape: codec.ShapeValues, err: ErrReply},
	{in: "STORED\r\n", shape: codec.ShapeValues, err: ErrReply},
	{in: "END \r\n", shape: codec.ShapeValues, err: ErrReply},

	{in: "HD\r\n", shape: codec.ShapeMeta},
	{in: "HD s2 t-1 kfoo O1\r\n", shape: codec.ShapeMeta, key: "foo"},
	{in: "HD Ok1 kk2\r\n", shape: codec.ShapeMeta, key: "k2"},
	{in: "NS\r\n", shape: codec.ShapeMeta},
	{in: "EX c0\r\n", shape: codec.ShapeMeta},
	{in: "NF kfoo b\r\n", shape: codec.ShapeMeta, key: "foo"},
	{in: "MN\r\n", shape: codec.ShapeMeta},
	{in: "ME k exp=-1 la=0 cas=1\r\n", shape: codec.ShapeMeta},
	{in: "EN\r\n", shape: codec.ShapeMeta, kind: codec.KindMiss},
	{in: "EN O1 kfoo\r\n", shape: codec.ShapeMeta, kind: codec.KindMiss, key: "foo"},
	{in: "VA 5\r\nhello\r\n", shape: codec.ShapeMeta, kind: codec.KindValue, value: 5},
	{in: "VA 0 kfoo b s0\r\n\r\n", shape: codec.ShapeMeta, kind: codec.KindValue, key: "foo"},
	{in: "CLIENT_ERROR invalid flag k\r\n", shape: codec.ShapeMeta, kind: codec.KindError},
	{in: "ERROR\r\n", shape: codec.ShapeMeta, kind: codec.KindError},
	{in: "VA\r\n", shape: codec.ShapeMeta, err: ErrReply},
	{in: "VA \r\n", shape: codec.ShapeMeta, err: ErrReply},
	{in: "VA x\r\n", shape: codec.ShapeMeta, err: ErrReply},
	{in: "VA 2147483646\r\n", shape: codec.ShapeMeta, err: ErrReply},
	{in: "VA 42949672970\r\n", shape: codec.ShapeMeta, err: ErrReply},
	{in: "VALUE k 0 1\r\n", shape: codec.ShapeMeta, err: ErrReply},
	{in: "STORED\r\n", shape: codec.ShapeMeta, err: ErrReply},
	{in: "17\r\n", shape: codec.ShapeMeta, err: ErrReply},
	{in: "ENx\r\n", shape: codec.ShapeMeta, err: ErrReply},
	{in: "H\r\n", shape: codec.ShapeMeta, err: ErrReply},
	{in: "hd\r\n", shape: codec.ShapeMeta, err: ErrReply},

	{in: "STAT pid 1\r\n", shape: codec.ShapeStats, kind: codec.KindStat},
	{in: "ITEM k [1 b; 0 s]\r\n", shape: codec.ShapeStats, kind: codec.KindStat},
	{in: "PREFIX k get 0 hit 0 set 1 del 0\r\n", shape: codec.ShapeStats, kind: codec.KindStat},
	{in: "END\r\n", shape: codec.ShapeStats, kind: codec.KindEnd},
	{in: "RESET\r\n", shape: codec.ShapeStats},
	{in: "OK\r\n", shape: codec.ShapeStats},
	{in: "CLIENT_ERROR usage: stats detail on|off|dump\r\n", shape: codec.ShapeStats, kind: codec.KindError},
	{in: "STAT\r\n", shape: codec.ShapeStats, err: ErrReply},
	{in: "STORED\r\n", shape: codec.ShapeStats, err: ErrReply},

	{in: "VERSION " + strings.Repeat("x", MaxReplyLine-9) + "\r\n"},
	{in: "VERSION " + strings.Repeat("x", MaxReplyLine-8) + "\r\n", err: ErrReply},
	{in: strings.Repeat("x", MaxReplyLine), err: ErrShort},
	{in: strings.Repeat("x", MaxReplyLine+1), err: ErrReply},
}

func TestParseReply(t *testing.T) {
	for _, c := range replies {
		var r codec.Reply
		err := ParseReply([]byte(c.in), c.shape, &r)
		if err != c.err {
			t.Errorf("%.80q, shape %d: error %v, want %v", c.in, c.shape, err, c.err)
			continue
		}
		if err != nil {
			continue
		}
		line := strings.Index(c.in, "\n") + 1
		size := line
		if c.kind == codec.KindValue {
			size += int(c.value) + 2
		}
		if r.Kind != c.kind || r.Value != c.value || int(r.Line) != line || r.Size() != size ||
			string(r.Key.In([]byte(c.in))) != c.key {
			t.Errorf("%.80q, shape %d: got %+v, size %d, want kind %d, key %q, value %d, size %d",
				c.in, c.shape, r, r.Size(), c.kind, c.key, c.value, size)
		}
	}
}
