package server

import (
	"context"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"magent/server/config"
	"magent/upstream/health"
	"magent/upstream/memnode"
)

// proxied starts a proxy that has copies[i] nodes in copy i. Those that are not down are
// not probed: the test says what becomes of them.
func proxied(t *testing.T, copies ...int) (*Server, []*memnode.Node) {
	t.Helper()
	var nodes []*memnode.Node
	cfg := config.Default()
	cfg.Copies, cfg.Loops, cfg.ProbeInterval = make([][]config.Node, len(copies)), 2, 0
	cfg.Listen = []config.Listen{{Network: "tcp", Address: "127.0.0.1:0"}}
	for i, n := range copies {
		for range n {
			m, err := memnode.Start(memnode.Config{})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { m.Close() })
			nodes = append(nodes, m)
			cfg.Copies[i] = append(cfg.Copies[i], nodeAt(t, m.Addr()))
		}
	}
	s, err := New(cfg, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Error(err)
		}
	})
	return s, nodes
}

func nodeAt(t *testing.T, addr string) config.Node {
	t.Helper()
	at, err := netip.ParseAddrPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	return config.Node{Host: at.Addr().String(), Port: int(at.Port())}
}

// becomes has node i be what it is said to be, without the monitor's doing.
func (s *Server) becomes(t *testing.T, i int, state health.State) health.Word {
	t.Helper()
	w, ok := s.pool.Health.Move(i, s.pool.Health.Load(i), state)
	if !ok {
		t.Fatalf("%s does not become %s", s.pool.Nodes[i].Name, state)
	}
	return w
}

func (s *Server) owed(t *testing.T, note func(*loop)) {
	t.Helper()
	if err := s.onLoops(t.Context(), note); err != nil {
		t.Fatal(err)
	}
}

// A node is not healed for ever. A key that nobody leads is given up in the end, though
// others are led. What no journal can tell, as when a flush_all has come while the node
// arrived, has it arrive anew.
func TestHealEnds(t *testing.T) {
	for name, c := range map[string]struct {
		note func(*loop)
		want string
	}{
		"a key that nobody leads": {func(l *loop) { l.debts[0].Note([]byte("k"), false) }, "up: its debt is paid"},
		"more than can be told":   {func(l *loop) { l.debts[0].Forfeit() }, "down: it missed more than can be told"},
	} {
		t.Run(name, func(t *testing.T) {
			s, nodes := proxied(t, 1, 2)
			s.pool.Monitor.Close() // the test heals
			lead := s.pool.Replica(1, []byte("k"))
			nodes[lead].Kill()
			s.becomes(t, lead, health.Down)
			seen := s.becomes(t, 0, health.Stale)
			s.owed(t, c.note)
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			state, got, err := s.keepers[0].heal(ctx, seen)
			if err != nil {
				got = err.Error()
			}
			if got = state.String() + ": " + got; !strings.HasPrefix(got, c.want) {
				t.Errorf("heal says %q, want %q", got, c.want)
			}
			s.keepers[0].openGates()
		})
	}
}
