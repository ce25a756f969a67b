package e2e

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"magent/server/e2e/harness"
)

// absentIsSafe names the dialogs after which the backup may lack a key that the
// primary holds, and why.
var absentIsSafe = map[string]string{
	"meta_set/C and I": "an item stored stale cannot be stored so on a node that has another version",
	"meta_rest/count with an opaque on a present key": "memcached 1.6.18 counts, and then finds the opaque too long: the answer does not say that it did",
}

// TestCopiesAgree has every dialog with a proxy of two copies and then asks both
// nodes for every word that might be a key: they must hold the same value, flags
// and time to live, and the same as a memcached that had the dialog itself.
func TestCopiesAgree(t *testing.T) {
	p := harness.Proxy(t, harness.Topology{Copies: 2, Nodes: 1, Loops: 1})
	direct := harness.Memcached(t)
	flushProxy, flushDirect := flusher(t, p.Addr), flusher(t, direct.Addr)
	nodes := []*harness.Client{dial(t, direct.Addr), dial(t, p.Nodes[0][0].Addr), dial(t, p.Nodes[1][0].Addr)}
	names := []string{"memcached alone", "the primary", "the backup"}
	for _, d := range loadTranscripts(t) {
		if err := flushProxy(); err != nil {
			t.Fatal(err)
		}
		if err := flushDirect(); err != nil {
			t.Fatal(err)
		}
		if diff := check(direct.Addr, d, nil); diff != "" {
			t.Fatalf("%s, %s: memcached itself: %s", d.file, d.name, diff)
		}
		// What the proxy answered is for TestTranscripts to judge.
		_, _ = talk(p.Addr, d, d.stages(), nil)
		for _, key := range keysOf(d) {
			want := nodeState(t, nodes[0], key)
			for i, c := range nodes[1:] {
				var diff string
				agree := func() bool { // noreply is not waited for
					got := nodeState(t, c, key)
					diff = differ(got, want)
					return diff == "" || i == 1 && absentIsSafe[d.file+"/"+d.name] != "" && got[0] == "EN\r\n"
				}
				if !harness.Within(time.Second, agree) {
					t.Errorf("%s, %s: key %s on %s: %s", d.file, d.name, brief(key), names[i+1], diff)
				}
			}
		}
	}
}

// keysOf is every word of d that could be a key, binary ones marked with b.
func keysOf(d *dialog) (keys []string) {
	for _, s := range d.steps {
		for line := range bytes.SplitSeq(s.send, []byte("\n")) {
			line, _, _ = bytes.Cut(line, []byte{0})
			words := strings.Split(strings.TrimSuffix(string(line), "\r"), " ")
			for _, w := range words[min(1, len(words)):] {
				if len(w) > 0 && len(w) <= 250 && len(words) < 30 {
					keys = append(keys, w)
				}
			}
		}
	}
	slices.Sort(keys)
	return slices.Compact(append(keys, "AAECAw== b"))
}
