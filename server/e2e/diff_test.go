package e2e

import (
	"fmt"
	"testing"

	"magent/bench/process/proctest"
	"magent/server/admin"
	"magent/server/e2e/harness"
	"magent/upstream/repair"
)

// Real memcacheds are compared, spoiled past the proxy, and mended.
func TestDiff(t *testing.T) {
	const n = 500
	p := harness.Proxy(t, harness.Topology{Copies: 2, Nodes: 2, Loops: 2})
	client := dial(t, p.Addr)
	for i := range n {
		if reply, err := client.Do(fmt.Sprintf("set diff%06d %d %d 6\r\n%06d\r\n", i, i, i%2*1000, i), 1); err != nil || reply != "STORED" {
			t.Fatalf("%q, %v", reply, err)
		}
	}
	ask := func(q admin.DiffQuestion, want string) {
		t.Helper()
		q.Pause = 1
		d, err := p.Server.Diff(t.Context(), q, func(admin.DiffProgress) {})
		if err != nil {
			t.Fatal(err)
		}
		got := fmt.Sprintf("%d compared, %d mended", d.Compared, d.Mended)
		for _, k := range d.Kinds {
			got += fmt.Sprintf(", %d %s", k.Copies, k.Kind)
		}
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	proctest.Eventually(t, "all writes have come to their ends", func() bool { return p.Server.Snapshot().Repairs.Running == 0 })
	ask(admin.DiffQuestion{}, "500 compared, 0 mended")
	ask(admin.DiffQuestion{Sample: 100}, "100 compared, 0 mended")
	past := func(copy, i int, request string) { // at both of its nodes: one of them is the replica
		t.Helper()
		for _, node := range p.Nodes[copy] {
			key := fmt.Sprintf("diff%06d", i)
			judge := dial(t, node.Addr)
			if have, err := judge.Do("mg "+key+"\r\n", 1); err != nil || have == "EN" {
				continue
			}
			if _, err := judge.Do(fmt.Sprintf(request, key), 1); err != nil {
				t.Fatal(err)
			}
		}
	}
	past(1, 3, "delete %s\r\n")
	past(0, 4, "delete %s\r\n")
	past(1, 5, "set %s 5 1000 6\r\nanothe\r\n")
	past(1, 6, "set %s 7 0 6\r\n000006\r\n")
	past(1, 7, "touch %s 500\r\n")
	const found = ", 1 missing, 1 extra, 1 value, 1 flags, 1 ttl"
	ask(admin.DiffQuestion{Sample: n}, "500 compared, 0 mended"+found)
	ask(admin.DiffQuestion{Repair: true}, "500 compared, 5 mended"+found)
	ask(admin.DiffQuestion{}, "499 compared, 0 mended")
	if d := p.Server.Snapshot(); d.Repairs.Asked[repair.CauseDifference] != 5 {
		t.Errorf("repairs by cause: %v", d.Repairs.Asked)
	}
}
