package fleet

import (
	"context"
	"errors"
	"fmt"
	"time"

	"magent/upstream/probe"
)

// maxVouches is how often Vouch tries to replace a mark that changes while it does.
const maxVouches = 4

// Vouch marks a node warm, as of now, in a life in which nobody has marked it: it was
// never cold as far as is known, or a client has flushed it. A mark of this life that is
// there stays, and is no error: Look tells which it is.
func Vouch(ctx context.Context, node *probe.Prober, life uint64, id string) error {
	_, err := stamp(ctx, node, life, warm(life, id), Unmarked)
	return err
}

// Accept marks a node warm, as of now, in a life in which a refill of it has begun: no
// other has more, and none will, so that it is as complete as it can be.
func Accept(ctx context.Context, node *probe.Prober, life uint64, id string) error {
	_, err := stamp(ctx, node, life, warm(life, id), Begun)
	return err
}

// Expect marks that a refill of life is to come, if that has no mark yet, and reports
// whether it has. A node that stores no marker is expected by nobody.
func Expect(ctx context.Context, node *probe.Prober, life uint64, id string) (first bool, err error) {
	first, err = stamp(ctx, node, life, fmt.Sprintf(begunValue, life, id), Unmarked)
	if _, refused := err.(refusal); refused {
		return false, nil
	}
	return first, err
}

// refusal is of a node that answers, and stores no marker.
type refusal struct{ error }

func warm(life uint64, id string) string {
	return fmt.Sprintf(warmValue, life, time.Now().UnixMilli(), id)
}

// stamp writes a mark over whatever says no more than worst.
func stamp(ctx context.Context, node *probe.Prober, life uint64, value string, worst Standing) (stored bool, err error) {
	flags := " ME"
	for range maxVouches {
		a, err := write(ctx, node, value, flags)
		if err != nil {
			return false, err
		}
		if err := a.in(life); err != nil {
			return false, err
		}
		s, _ := standing(a.value, life)
		switch {
		case a.stored || s > worst:
			return a.stored, nil
		case a.refused != "":
			return false, refusal{fmt.Errorf("answered %q to the marker", a.refused)}
		case a.cas == 0: // it was there a moment ago
			flags = " ME"
		default: // it is of another life, or garbage, or of a refill
			flags = guard(a.cas)
		}
	}
	return false, refusal{errors.New("the marker keeps changing")}
}

// Forsake has the node forget everything, and marks, in the same request, that a refill
// of life is to come, over whatever mark there is: other magents must not take it for
// warm. After an error either may have been done, or may be yet, for as long as the node
// has not read what was sent to it.
func Forsake(ctx context.Context, node *probe.Prober, life uint64, id string) error {
	_, err := forsake(ctx, node, life, id)
	return err
}

// forsake is Forsake, and says in which version the mark was stored.
func forsake(ctx context.Context, node *probe.Prober, life uint64, id string) (Reply, error) {
	a := asking((*answer).flush, (*answer).change, (*answer).stat)
	request := "flush_all\r\n" + store(markerKey, fmt.Sprintf(begunValue, life, id), " c") + "stats\r\n"
	if err := node.Ask(ctx, "flush_all and the marker", request, a.take); err != nil {
		return Reply{}, err
	}
	if err := a.in(life); err != nil {
		return Reply{}, err
	}
	if !a.stored {
		return Reply{}, fmt.Errorf("answered %q to the marker", a.refused)
	}
	return Reply{Life: life, Stored: true, CAS: a.made}, nil
}
