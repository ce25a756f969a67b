package main

import (
	"fmt"
	"strings"
	"testing"

	"magent/server/config"
)

// The formula and the example of OPERATIONS.md are what is asked of the system, and
// leave room for clients that come in together: each holds two descriptors at first.
func TestOperationsCountsTheFiles(t *testing.T) {
	pool := config.Pool{ConnsPerNode: 1, Copies: [][]config.Node{make([]config.Node, 3), make([]config.Node, 1)}}
	cfg := config.Config{Loops: 2, Pools: []config.Pool{pool}}
	beside := filesBesideClients(&cfg, cfg.Loops)
	spare := beside - 4*(cfg.Loops*pool.ConnsPerNode+1)
	told := strings.Join(strings.Fields(document(t, operations)), " ")
	for _, words := range []string{
		fmt.Sprintf("-n + nodes × (loops × conns-per-node + 1) + %d", spare),
		fmt.Sprintf("`-n 51200` with 4 nodes, 2 loops and one connection each needs %d.", 51200+beside),
	} {
		if !strings.Contains(told, words) {
			t.Errorf("OPERATIONS.md does not say %q", words)
		}
	}
	if enrolling := spare / 2; enrolling < 128 {
		t.Errorf("there is room for %d connections that are being enrolled", enrolling)
	}
}
