package server

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"magent/upstream"
)

// movedAfter is how long after a node's fall it is told how many requests were moved to
// others: those that are under way have come there by then.
const movedAfter = time.Second

// moves tells what falls of nodes came to. Requests are counted by the loops, and are not
// told apart by node: those of nodes that fall together are told together.
type moves struct {
	mu      sync.Mutex
	nodes   []string // that have fallen, and it was not told yet
	counted [upstream.NumCauses]uint64
	telling sync.WaitGroup
}

// fell has the log told of the requests that node's fall moved, when they are.
func (s *Server) fell(node string) {
	m := &s.moves
	m.mu.Lock()
	defer m.mu.Unlock()
	m.nodes = append(m.nodes, node)
	if len(m.nodes) > 1 {
		return
	}
	m.telling.Go(func() {
		pause(s.ctx, movedAfter)
		s.tellMoves()
	})
}

// tellMoves logs how many requests were moved since it did last.
func (s *Server) tellMoves() {
	snap, m := s.Snapshot(), &s.moves
	m.mu.Lock()
	defer m.mu.Unlock()
	var causes []string
	requests := uint64(0)
	for cause, n := range snap.Failovers {
		if more := n - m.counted[cause]; more > 0 {
			requests += more
			causes = append(causes, fmt.Sprintf("%s %d", upstream.Cause(cause), more))
		}
	}
	slices.Sort(m.nodes)
	nodes := strings.Join(slices.Compact(m.nodes), ", ")
	m.nodes, m.counted = nil, snap.Failovers
	if requests > 0 {
		s.log.Info("requests were moved", "node", nodes, "requests", requests, "cause", strings.Join(causes, ", "))
	}
}
