package fleet

import (
	"context"
	"time"

	"magent/upstream/probe"
)

type LedgerConfig struct {
	Address string
	Sources []probe.Target
	ID      string
}
type State struct {
	Settled bool
	At      time.Time
	Waiting []string
	Dead    []string
	Err     error
}
type Ledger struct{}

func NewLedger(LedgerConfig) *Ledger                                        { return &Ledger{} }
func (*Ledger) Enter(ctx context.Context, life uint64, now time.Time) error { return nil }
func (*Ledger) Leave(context.Context) error                                 { return nil }
func (*Ledger) Settled(ctx context.Context, life uint64, now time.Time) State {
	return State{Settled: true}
}
func (*Ledger) Bury(ctx context.Context, life uint64, ids []string) error { return nil }
func (*Ledger) Forget()                                                   {}
