package e2e

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"magent/bench/process/proctest"
	"magent/server/e2e/harness"
)

// TestCopiesAgree has every dialog with a proxy of two copies and then asks both
// nodes for every word that might be a key: they must hold the same value, flags
// and time to live, and the same as a memcached that had the dialog itself. What a
// client is to make anew, a stale item or a placeholder, the backup does not have.
func TestCopiesAgree(t *testing.T) {
	p := harness.Proxy(t, harness.Topology{Copies: 2, Nodes: 1, Loops: 1})
	direct := harness.Memcached(t)
	flushProxy, flushDirect := flusher(t, p.Addr), flusher(t, direct.Addr)
	nodes := []*harness.Client{dial(t, direct.Addr), dial(t, p.Nodes[0][0].Addr), dial(t, p.Nodes[1][0].Addr)}
	for _, d := range loadTranscripts(t) {
		agree := func() string {
			if err := flushProxy(); err != nil {
				return err.Error()
			}
			if diff := checkEmpty(flushDirect, direct.Addr, d, nil); diff != "" {
				return "memcached itself: " + diff
			}
			// What the proxy answered is for TestTranscripts to judge.
			_, _ = talk(p.Addr, d, d.stages(), nil)
			return disagreement(t, nodes, d)
		}
		if diff := p.Steadily(agree); diff != "" {
			t.Errorf("%s, %s: %s", d.file, d.name, diff)
		}
	}
}

// disagreement says in which keys of d the primary and the backup, which are nodes[1] and
// nodes[2], are not what they should be beside the memcached that is nodes[0]; "" if there
// is none.
func disagreement(t *testing.T, nodes []*harness.Client, d *dialog) (all string) {
	t.Helper()
	names := []string{"memcached alone", "the primary", "the backup"}
	for _, key := range keysOf(d) {
		want := unpadded(nodeState(t, nodes[0], key))
		for i := 1; i < len(nodes); i++ {
			want := want
			if i == 2 && marked.MatchString(want[0]) {
				want = []string{"EN\r\n", "MN\r\n"}
			}
			var diff string
			agree := func() bool { // noreply is not waited for
				diff = differ(unpadded(nodeState(t, nodes[i], key)), want)
				return diff == ""
			}
			if !proctest.Within(time.Second, agree) {
				all += fmt.Sprintf("\nkey %s on %s: %s", brief(key), names[i], diff)
			}
		}
	}
	return all
}

// marked is the line of an item that somebody is to make anew.
var marked = regexp.MustCompile(` [WXZ]\b`)

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
