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

// answer collects what nodes say to the questions, each of which is one or more of these
// commands in one request:
//
//	ms         HD, NS, EX, NF with flags behind, or SERVER_ERROR
//	md         HD, EX, NF
//	mg         VA LEN cCAS and the value in a line of its own, or EN
//	flush_all  OK
//	stats
//
// (doc/protocol.txt of memcached 1.6.)
type answer struct {
	left    []part // for the commands that are not answered yet
	stored  bool   // by ms, or md
	made    uint64 // the version that ms has made, if it asked for that
	refused string // the error of ms
	valued  bool   // the line of VA has been
	length  int    // of the value that is to follow it
	value   string
	cas     uint64 // of value; 0: there is none
	garbage bool   // the value is not one line, or longer than maxValue: none that a magent has written
	stats   probe.Identity
}

// part takes a line of the answer to one command.
type part func(*answer, []byte) (done, ok bool)

func asking(p ...part) *answer { return &answer{left: p} }

// maxValue is how long a value may be, in bytes.
const maxValue = 64 << 10

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
		a.made = version(bytes.Fields(flags))
		return true, true
	case "SERVER_ERROR":
		a.refused = string(line)
		return true, true
	case "NS", "EX", "NF":
		return true, true
	}
	return true, false
}

func (a *answer) get(line []byte) (done, ok bool) {
	if a.valued {
		a.value = string(line)
		a.garbage = len(line) != a.length
		return true, !a.garbage
	}
	word := bytes.Fields(line)
	switch {
	case len(word) == 1 && string(word[0]) == "EN":
		return true, true
	case len(word) < 2 || string(word[0]) != "VA":
		return true, false
	}
	n, err := strconv.Atoi(string(word[1]))
	a.valued, a.length, a.garbage = true, n, err == nil && n > maxValue
	a.cas = version(word[2:])
	return false, err == nil && !a.garbage
}

// version is that in the flags of an answer; 0, which is nobody's: none.
func version(flags [][]byte) (cas uint64) {
	for _, flag := range flags {
		if flag[0] == 'c' {
			cas, _ = strconv.ParseUint(string(flag[1:]), 10, 64)
		}
	}
	return cas
}

func (a *answer) flush(line []byte) (done, ok bool) { return true, string(line) == "OK" }

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

// ErrOtherLife is of a node that is not in the life that was spoken of any more.
var ErrOtherLife = errors.New("the node is in another life")

// in is ErrOtherLife if the answer is not of life.
func (a *answer) in(life uint64) error {
	now, err := a.life()
	if err == nil && now != life {
		err = ErrOtherLife
	}
	return err
}

// lease writes the lease as flags say, and says whether it was written, whose it is
// after that, empty for nobody's, and in which version.
func lease(ctx context.Context, node *probe.Prober, key, id string, ttl time.Duration, flags string) (Reply, error) {
	a := asking((*answer).change, (*answer).get)
	request := store(key, id, fmt.Sprintf(" T%d%s", ttl/time.Second, flags)) + "mg " + key + " v c\r\n"
	if err := node.Ask(ctx, "the lease", request, a.take); err != nil {
		return Reply{}, err
	}
	if !a.stored && a.value == "" && a.refused != "" { // another source may have room
		return Reply{}, fmt.Errorf("answered %q to the lease", a.refused)
	}
	return Reply{Stored: a.stored, Holder: a.value, CAS: a.cas}, nil
}

// release deletes the lease if it is still in version cas.
func release(ctx context.Context, node *probe.Prober, key string, cas uint64) error {
	a := asking((*answer).change)
	return node.Ask(ctx, "the lease's end", fmt.Sprintf("md %s C%d\r\n", key, cas), a.take)
}

func store(key, value, flags string) string {
	return fmt.Sprintf("ms %s %d%s\r\n%s\r\n", key, len(value), flags, value)
}
