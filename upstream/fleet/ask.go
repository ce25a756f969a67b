package fleet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"magent/upstream/probe"
)

// answer collects what nodes say to the questions, each of which is one or two of these
// commands in one request:
//
//	ms   HD, NS, EX, NF with flags behind, or SERVER_ERROR
//	md   HD, EX, NF
//	mg   VA LEN cCAS and the value in a line of its own, or EN
//	stats
//
// (doc/protocol.txt of memcached 1.6.)
type answer struct {
	left   []func(*answer, []byte) (done, ok bool) // for the commands that are not answered yet
	stored bool
	valued bool // the line of VA has been
	value  string
	cas    uint64
	stats  probe.Identity
}

// take takes a line for the command whose turn it is.
func (a *answer) take(line []byte) (last, ok bool) {
	done, ok := a.left[0](a, line)
	if done {
		a.left = a.left[1:]
	}
	return len(a.left) == 0, ok
}

func (a *answer) change(line []byte) (done, ok bool) {
	word, flags, _ := bytes.Cut(line, []byte(" "))
	switch string(word) {
	case "HD":
		a.stored = true
		a.version(bytes.Fields(flags))
		return true, true
	case "NS", "EX", "NF", "SERVER_ERROR":
		return true, true
	}
	return true, false
}

func (a *answer) get(line []byte) (done, ok bool) {
	if a.valued {
		a.value = string(line)
		return true, true
	}
	word := bytes.Fields(line)
	switch {
	case len(word) == 1 && string(word[0]) == "EN":
		return true, true
	case len(word) < 2 || string(word[0]) != "VA":
		return true, false
	}
	a.valued = true
	a.version(word[2:])
	return false, true
}

func (a *answer) version(flags [][]byte) {
	for _, flag := range flags {
		if flag[0] == 'c' {
			a.cas, _ = strconv.ParseUint(string(flag[1:]), 10, 64) // 0 is nobody's version
		}
	}
}

func (a *answer) stat(line []byte) (done, ok bool) {
	if string(line) == "END" {
		return true, true
	}
	a.stats.Stat(line)
	return false, bytes.HasPrefix(line, []byte("STAT "))
}

// errNoLife is of a node whose stats lack a pid, or a time.
var errNoLife = errors.New("its stats do not tell its life")

func (a *answer) life() (uint64, error) {
	life, ok := a.stats.Life()
	if !ok {
		return 0, errNoLife
	}
	return life, nil
}

// Marked asks a node for its life, and whether its marker says that it has been
// refilled in this life.
func Marked(ctx context.Context, node *probe.Prober) (life uint64, warm bool, err error) {
	a := answer{left: []func(*answer, []byte) (bool, bool){(*answer).get, (*answer).stat}}
	if err := node.Ask(ctx, "whether it is warm", "mg "+markerKey+" v\r\nstats\r\n", a.take); err != nil {
		return 0, false, err
	}
	life, err = a.life()
	return life, err == nil && warmIn(a.value, life), err
}

// mark writes value to a node's marker as flags say, and says whether it was written, in
// which version, and which life of the node that was.
func mark(ctx context.Context, node *probe.Prober, value, flags string) (Reply, error) {
	a := answer{left: []func(*answer, []byte) (bool, bool){(*answer).change, (*answer).stat}}
	if err := node.Ask(ctx, "the marker", store(markerKey, value, flags)+"stats\r\n", a.take); err != nil {
		return Reply{}, err
	}
	life, err := a.life()
	return Reply{Life: life, Stored: a.stored, CAS: a.cas}, err
}

// lease writes the lease as flags say, and says whether it was written, whose it is
// after that, empty for nobody's, and in which version.
func lease(ctx context.Context, node *probe.Prober, key, id string, ttl time.Duration, flags string) (Reply, error) {
	a := answer{left: []func(*answer, []byte) (bool, bool){(*answer).change, (*answer).get}}
	request := store(key, id, fmt.Sprintf(" T%d%s", ttl/time.Second, flags)) + "mg " + key + " v c\r\n"
	err := node.Ask(ctx, "the lease", request, a.take)
	return Reply{Stored: a.stored, Holder: a.value, CAS: a.cas}, err
}

// release deletes the lease if it is still in version cas.
func release(ctx context.Context, node *probe.Prober, key string, cas uint64) error {
	a := answer{left: []func(*answer, []byte) (bool, bool){(*answer).change}}
	return node.Ask(ctx, "the lease's end", fmt.Sprintf("md %s C%d\r\n", key, cas), a.take)
}

func store(key, value, flags string) string {
	return fmt.Sprintf("ms %s %d%s\r\n%s\r\n", key, len(value), flags, value)
}
