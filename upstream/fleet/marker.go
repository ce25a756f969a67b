package fleet

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"magent/upstream/probe"
)

// The values of a marker: of a refill that is complete, and of one that has begun, or is
// to. Both name the magent, for people.
const (
	warmValue  = "%016x warm at %d by %s"
	begunValue = "%016x begun by %s"
)

// Standing is what a node's marker says of the life that the node is in. One that names
// another life, or says nothing that can be understood, says nothing.
type Standing uint8

const (
	Unmarked Standing = iota
	Begun             // a refill has begun, or is to: there are holes
	Warm              // it was refilled, or vouched for
)

func (s Standing) String() string { return [...]string{"unmarked", "begun", "warm"}[s] }

// Mark is what a node's marker says.
type Mark struct {
	Life     uint64 // that the node is in
	Standing Standing
	At       time.Time // of Warm: the moment from which on it counts, which may have passed
}

// standing reads a marker's value, of a node that is in life. at is in Unix milliseconds.
func standing(value string, life uint64) (s Standing, at int64) {
	word := strings.Fields(value)
	switch {
	case len(word) < 2 || word[0] != fmt.Sprintf("%016x", life):
		return Unmarked, 0
	case word[1] == "begun":
		return Begun, 0
	case len(word) < 4 || word[1] != "warm" || word[2] != "at":
		return Unmarked, 0
	}
	at, err := strconv.ParseInt(word[3], 10, 64)
	if err != nil {
		return Unmarked, 0
	}
	return Warm, at
}

// Look asks a node for its life, and what its marker says of that.
func Look(ctx context.Context, node *probe.Prober) (Mark, error) {
	a, err := read(ctx, node)
	if err != nil {
		return Mark{}, err
	}
	life, err := a.life()
	if err != nil {
		return Mark{}, err
	}
	m := Mark{Life: life}
	s, at := standing(a.value, life)
	if m.Standing = s; s == Warm {
		m.At = time.UnixMilli(at)
	}
	return m, nil
}

// inspect asks a node for what a Machine wants to know of its marker.
func inspect(ctx context.Context, node *probe.Prober) (Reply, error) {
	a, err := read(ctx, node)
	if err != nil {
		return Reply{}, err
	}
	return a.marker()
}

// mark writes value to a node's marker as flags say.
func mark(ctx context.Context, node *probe.Prober, value, flags string) (Reply, error) {
	a, err := write(ctx, node, value, flags)
	if err != nil {
		return Reply{}, err
	}
	return a.marker()
}

func (a *answer) marker() (Reply, error) {
	life, err := a.life()
	s, at := standing(a.value, life)
	r := Reply{Life: life, Stored: a.stored, CAS: a.cas, Marked: s == Warm, At: at}
	if s == Begun {
		_, r.By, _ = strings.Cut(a.value, " begun by ")
	}
	if a.stored {
		r.CAS = a.made
	}
	return r, err
}

// read reads a node's marker.
func read(ctx context.Context, node *probe.Prober) (*answer, error) {
	a := asking((*answer).get, (*answer).stat)
	return a, node.Ask(ctx, "whether it is warm", "mg "+markerKey+" v c\r\nstats\r\n", a.take)
}

// write writes value to a node's marker as flags say, and reads what is there after that.
func write(ctx context.Context, node *probe.Prober, value, flags string) (*answer, error) {
	a := asking((*answer).change, (*answer).get, (*answer).stat)
	request := store(markerKey, value, flags) + "mg " + markerKey + " v c\r\nstats\r\n"
	return a, node.Ask(ctx, "the marker", request, a.take)
}
