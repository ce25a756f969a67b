//go:build !race

package refill

import (
	"fmt"
	"strconv"
	"testing"
)

// TestCopiesDoNotAllocate: what a Copier needs for a key it has from the keys before it.
// The race runtime allocates on its own account.
func TestCopiesDoNotAllocate(t *testing.T) {
	const n = 32
	copier := NewCopier(Limits{})
	var keys []Key
	var values, looks, batch []byte
	for i := range n {
		keys = append(keys, Key{Name: fmt.Appendf(nil, "key:%05d", i)})
		values = fmt.Appendf(values, "VA 3 f0 t90 c7 h0 kkey:%05d\r\nabc\r\n", i)
		looks = fmt.Appendf(looks, "HD c7 t90 kkey:%05d\r\n", i)
	}
	var spare [2][]byte
	answer := func(side Side, b []byte) {
		spare[side] = copier.Requests(side, spare[side])
		if err := copier.Answer(side, b, epoch); err != nil {
			t.Fatal(err)
		}
	}
	rounds := 0
	round := func() {
		for _, k := range keys {
			copier.Add(k, epoch)
		}
		answer(Source, values)
		rounds++
		batch = strconv.AppendInt(append(batch[:0], "HD c"...), int64(rounds*n), 10)
		batch = strconv.AppendInt(append(batch, " O"...), int64((rounds*n-1)%(defaultKeys+1)), 10)
		batch = append(batch, "\r\nMN\r\n"...)
		answer(Target, batch)
		answer(Source, looks)
	}
	for range 2 * defaultKeys / n { // makes what is kept
		round()
	}
	if allocs := testing.AllocsPerRun(100, round); allocs != 0 {
		t.Errorf("%v allocations for %d keys, want 0", allocs, n)
	}
	if got := copier.Counts().Ended[Copied]; got != uint64(rounds*n) {
		t.Errorf("%d keys of %d were copied", got, rounds*n)
	}
}
