package refill

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// begun is how every conversation about the keys a and b begins: both are read, and added
// in one batch, of which a's add is quiet.
const begun = `
	s< mg a v f t c h u k|mg b v f t c h u k|
	s> VA 1 f0 t90 c7 h0 ka|x|VA 1 f0 t-1 c8 h0 kb|y|
	t< ms a 1 F0 T90 ME q O0|x|ms b 1 F0 T0 ME c O1|y|mn|
`

// batches are conversations that go on behind that. With b's version 2, a's is 1, as it is
// the first that the target is known to have numbered; with 9 it may be one of eight.
var batches = []struct {
	name, want, talk string
}{
	{"copied", "2 copied", `
		t> HD c9 O1|MN|
		s< mg a c t u k|mg b c t u k|
		s> HD c7 t90 ka|HD c8 t-1 kb|`},
	{"the target has the quiet one", "copied, present", `
		t> NS O0|HD c9 O1|MN|
		s< mg b c t u k|
		s> HD c8 t-1 kb|`},
	{"the target has the last one", "copied, present", `
		t> NS c0 O1|MN|
		s< mg a c t u k|
		s> HD c7 t90 ka|`},
	{"an error is one of theirs", "2 copied, 1 again", `
		t> SERVER_ERROR out of memory storing object|HD c9 O1|MN|
		t< mg a c u k|
		t> EN|
		s< mg b c t u k|mg a v f t c h u k|
		s> HD c8 t-1 kb|VA 1 f0 t90 c7 h0 ka|x|
		t< ms a 1 F0 T90 ME c|x|
		t> HD c10|
		s< mg a c t u k|
		s> HD c7 t90 ka|`},
	{"errors are of both", "2 failed, 2 again", `
		t> SERVER_ERROR object too large for cache|SERVER_ERROR object too large for cache|MN|
		t< mg a c u k|mg b c u k|
		t> EN|EN|
		s< mg a v f t c h u k|mg b v f t c h u k|
		s> VA 1 f0 t90 c7 h0 ka|x|VA 1 f0 t-1 c8 h0 kb|y|
		t< ms a 1 F0 T90 ME c|x|ms b 1 F0 T0 ME c|y|
		t> SERVER_ERROR object too large for cache|SERVER_ERROR object too large for cache|
		t< md a|md b|
		t> NF|NF|`},
	{"deleted meanwhile, of a known version", "copied, withdrawn", `
		t> HD c2 O1|MN|
		s< mg a c t u k|mg b c t u k|
		s> EN|HD c8 t-1 kb|
		t< md a C1|
		t> HD|`},
	{"deleted meanwhile", "copied, withdrawn", `
		t> HD c9 O1|MN|
		s< mg a c t u k|mg b c t u k|
		s> EN|HD c8 t-1 kb|
		t< mg a c u k|
		t> HD c5 ka|
		s< mg a v f t c h u k|
		s> EN|
		t< md a C5|
		t> HD|`},
	{"touched meanwhile", "2 copied, 1 again", `
		t> HD c9 O1|MN|
		s< mg a c t u k|mg b c t u k|
		s> HD c7 t500 ka|HD c8 t-1 kb|
		t< mg a c u k|
		t> HD c5 ka|
		s< mg a v f t c h u k|
		s> VA 1 f0 t500 c7 h0 ka|x|
		t< ms a 1 F0 T500 C5 c|x|
		t> HD c10|
		s< mg a c t u k|
		s> HD c7 t500 ka|`},
	{"the target stood still", "2 copied, 1 again", `
		+2s
		t> HD c9 O1|MN|
		s< mg a c t u k|mg b c t u k|
		s> HD c7 t88 ka|HD c8 t-1 kb|
		t< mg a c u k|
		t> HD c5 ka|
		s< mg a v f t c h u k|
		s> VA 1 f0 t88 c7 h0 ka|x|
		t< ms a 1 F0 T88 C5 c|x|
		t> HD c10|
		s< mg a c t u k|
		s> HD c7 t88 ka|`},
	{"the source is lost", "2 left", `
		s!
		t> HD c9 O1|MN|
		t< mg a c u k|md b C9|
		t> HD c5 ka|HD|
		t< md a C5|
		t> HD|`},
	{"the source is lost, and another has written", "2 left", `
		t> HD c9 O1|MN|
		s< mg a c t u k|mg b c t u k|
		s!
		t< mg a c u k|md b C9|
		t> HD c10 ka|EX|`},
	{"the source is lost, and nobody knows the version", "present, 1 left, 1 in doubt", `
		t> NS c0 O1|MN|
		s< mg a c t u k|
		s!
		t< mg a c u k|
		t> HD c5 ka|`},
	{"the source is lost, and the copy already gone", "present, 1 left", `
		t> NS c0 O1|MN|
		s< mg a c t u k|
		s!
		t< mg a c u k|
		t> EN|`},
	{"the target is lost", "2 left, 2 in doubt", `
		t> HD c9 O1|
		t!`},
}

func TestBatches(t *testing.T) {
	for _, b := range batches {
		for _, whole := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/whole=%v", b.name, whole), func(t *testing.T) {
				copier := NewCopier(Limits{})
				for _, key := range []string{"a", "b"} {
					copier.Add(Key{Name: []byte(key)}, epoch)
				}
				talk(t, copier, begun+b.talk, func(s Side, b []byte, now time.Time) error {
					for !whole && len(b) > 1 {
						if err := copier.Answer(s, b[:1], now); err != nil {
							return err
						}
						b = b[1:]
					}
					return copier.Answer(s, b, now)
				})
				if got := told(copier); got != b.want {
					t.Errorf("%s, want %s", got, b.want)
				}
			})
		}
	}
}

// TestBatchesOutOfStep: each of these cannot be of the target's answer to the batch.
func TestBatchesOutOfStep(t *testing.T) {
	for _, answer := range []string{
		"MN|",               // b's add is answered
		"HD c9 O0|",         // a's is not, if it is carried out
		"HD c9|",            // for which?
		"HD c9 O2|",         // for none of ours
		"HD c9 O1|NS c0 O1", // twice
		"NS Ox|", "NS O|", "NS O99999999999999999999|", "EN|", "VA 1 O1|x|", "ERROR|", "HD c9 O1|SERVER_ERROR x|HD c9 O1|",
	} {
		copier := NewCopier(Limits{})
		for _, key := range []string{"a", "b"} {
			copier.Add(Key{Name: []byte(key)}, epoch)
		}
		talk(t, copier, begun, copier.Answer)
		if err := copier.Answer(Target, []byte(wire(answer+"|")), epoch); err == nil {
			t.Errorf("%q is taken", answer)
		}
	}
}

// TestBatchesEnd with a number of keys, or of bytes, and before a request that is answered.
func TestBatchesEnd(t *testing.T) {
	added := func(c *Copier, n, size int) string {
		var values strings.Builder
		for i := range n {
			c.Add(Key{Name: fmt.Appendf(nil, "k%d", i)}, epoch)
			fmt.Fprintf(&values, "VA %d f0 t-1 c7 h0 kk%d\r\n%s\r\n", size, i, strings.Repeat("v", size))
		}
		c.Requests(Source, nil)
		if err := c.Answer(Source, []byte(values.String()), epoch); err != nil {
			t.Fatal(err)
		}
		return string(c.Requests(Target, nil))
	}
	for _, b := range []struct{ keys, size, quiet, ends int }{
		{1, 1, 0, 0},
		{2, 1, 1, 1},
		{batchKeys, 1, batchKeys - 1, 1},
		{2 * batchKeys, 1, 2*batchKeys - 2, 2},
		{2*batchKeys + 1, 1, 2*batchKeys - 2, 2},
		{6, batchBytes / 2, 3, 3},
		{3, batchBytes, 0, 0},
	} {
		sent := added(NewCopier(Limits{Bytes: 1 << 30}), b.keys, b.size)
		if quiet, ends := strings.Count(sent, " ME q "), strings.Count(sent, "mn\r\n"); quiet != b.quiet || ends != b.ends {
			t.Errorf("%d keys of %d bytes: %d quiet adds and %d ends, want %d and %d", b.keys, b.size, quiet, ends, b.quiet, b.ends)
		}
	}
}
