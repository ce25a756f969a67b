package probe

import (
	"bytes"
	"encoding/binary"
	"hash/fnv"
	"slices"
	"strconv"
	"time"
)

// Identity is what the stats of a node say of the process behind its address. The
// zero value has heard nothing.
type Identity struct {
	number [len(facts)]uint64
	heard  [len(facts)]bool
}

// facts are the stats that make a life. time and uptime are counted by one clock,
// read once for both, so that their difference stays exactly the same for as long as
// the process lives, whatever is done to the machine's clock.
// (server_stats in memcached.c of memcached 1.6.)
var facts = [...]string{"pid", "time", "uptime"}

// Stat takes one line of the stats, with or without its end. It allocates nothing.
func (id *Identity) Stat(line []byte) {
	var word [3][]byte
	n := 0
	for w := range bytes.FieldsSeq(line) {
		if n == len(word) {
			return
		}
		word[n] = w
		n++
	}
	if n < len(word) || string(word[0]) != "STAT" {
		return
	}
	i := slices.Index(facts[:], string(word[1]))
	if i < 0 {
		return
	}
	v, err := strconv.ParseUint(string(word[2]), 10, 64)
	id.number[i], id.heard[i] = v, err == nil
}

// Life tells the process from those that had, or will have, the node's address before
// and after it; every proxy finds the same number. ok is false if the stats did not
// say enough.
func (id *Identity) Life() (life uint64, ok bool) {
	if slices.Contains(id.heard[:], false) {
		return 0, false
	}
	pid, began := id.number[0], id.number[1]-id.number[2]
	h := fnv.New64a()
	h.Write(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, pid), began))
	return h.Sum64(), true
}

// Time is what time it was by the node's clock, in Unix seconds; ok is false if the stats
// did not say.
func (id *Identity) Time() (at int64, ok bool) { return int64(id.number[1]), id.heard[1] }

// Uptime is for how long the process has lived, in whole seconds of its own clock; 0
// if the stats did not say.
func (id *Identity) Uptime() time.Duration { return time.Duration(id.number[2]) * time.Second }
