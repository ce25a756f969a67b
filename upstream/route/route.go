// Package route owns placement: which node of a copy holds a key.
//
// It is pure: no I/O, no clock, no goroutine, no state that changes. A Picker
// is built once from a list of servers, is immutable from then on, and may be
// used by every loop at once. Pick neither keeps the key nor allocates.
//
// Every distribution but jump belongs to another program and exists so that a
// cache filled through that program is found again, key by key. The vectors in
// testdata were made by those programs; tools/vectors is how.
//
// It imports the standard library, go-jump and xxhash, and nothing else.
package route

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Server is one node of a copy as placement sees it.
type Server struct {
	// Host is the host as written, not as resolved: rings hash the text, so
	// "localhost" and "127.0.0.1" are different nodes.
	Host string
	// Port is 1 to 65535.
	Port int
	// Name is an alias, and may be empty. Where it is given, a ring hashes it
	// in place of the address, so that a node can move and keep its keys.
	Name string
	// Weight is the node's share relative to the others; 0 means 1. jump,
	// ketama and modula take weights; the others refuse any but 1.
	Weight int
}

// Spec names a distribution and what it hashes.
type Spec struct {
	// Distribution is one of Distributions.
	Distribution string
	// Hash is the key hash of ketama and modula, one of Hashes in any case;
	// empty means fnv1a_64. The other distributions fix theirs: leave it empty.
	Hash string
	// Tag is empty or two bytes, such as "{}". Then the bytes between the first
	// Tag[0] of a key and the first Tag[1] after it stand for the whole key, if
	// there is at least one. This is twemproxy's hash_tag.
	Tag string
}

// Picker maps a key to the index of the node that holds it, in [0, n) of the n
// servers it was built from. memcached knows no empty key; Pick bears one and
// answers in range.
type Picker interface {
	Pick(key []byte) int
}

// distribution is one row of the table that New and Distributions read.
type distribution struct {
	name string
	// hashed says that Spec.Hash applies.
	hashed bool
	// weighted says that weights other than 1 are allowed.
	weighted bool
	// id is what two nodes must not share: what the original hashes for a
	// node, or else its address.
	id func(Server) string
	// build makes the Picker of at least two checked servers.
	build func(hash keyHash, servers []Server) Picker
}

var distributions = []distribution{
	{"jump", false, true, address, newJump},
	{"ketama", true, true, ketamaName, newKetama},
	{"modula", true, true, ketamaName, newModula},
	{"magent-modulo", false, false, address, newMagentModulo},
	{"magent-ketama", false, false, magentName, newMagentKetama},
	{"magent06-ketama", false, false, magentName, newMagent06Ketama},
}

// Distributions lists the names that Spec.Distribution takes: jump, the choice
// for a new cache, then those of other programs.
func Distributions() []string {
	names := make([]string, len(distributions))
	for i, d := range distributions {
		names[i] = d.name
	}
	return names
}

// New builds the Picker of one copy. Its error names every fault that it found
// in servers, or the first one in spec.
//
// As in twemproxy, a single server gets every key unhashed.
func New(spec Spec, servers []Server) (Picker, error) {
	d, err := findDistribution(spec.Distribution)
	if err != nil {
		return nil, err
	}
	hash, err := d.keyHash(spec.Hash)
	if err != nil {
		return nil, err
	}
	if n := len(spec.Tag); n != 0 && n != 2 {
		return nil, fmt.Errorf("route: hash tag %q is %d bytes long, want two such as \"{}\"", spec.Tag, n)
	}
	servers, err = d.check(servers)
	if err != nil {
		return nil, err
	}
	if len(servers) == 1 {
		return single{}, nil
	}
	p := d.build(hash, servers)
	if spec.Tag != "" {
		p = &tagged{open: spec.Tag[0], close: spec.Tag[1], whole: p}
	}
	return p, nil
}

func findDistribution(name string) (distribution, error) {
	for _, d := range distributions {
		if d.name == name {
			return d, nil
		}
	}
	return distribution{}, fmt.Errorf("route: unknown distribution %q, known are %s", name, strings.Join(Distributions(), ", "))
}

func (d distribution) keyHash(name string) (keyHash, error) {
	if d.hashed {
		return findHash(name)
	}
	if name != "" {
		return nil, fmt.Errorf("route: %s has its own key hash, leave out %q", d.name, name)
	}
	return nil, nil
}

// check returns a copy of servers with weights filled in.
func (d distribution) check(servers []Server) ([]Server, error) {
	if len(servers) == 0 {
		return nil, errors.New("route: no servers")
	}
	var errs []error
	fault := func(i int, format string, args ...any) {
		errs = append(errs, fmt.Errorf("route: server %d (%s): %s", i+1, address(servers[i]), fmt.Sprintf(format, args...)))
	}
	checked := make([]Server, len(servers))
	first := make(map[string]int, len(servers))
	total := int64(0)
	for i, s := range servers {
		switch {
		case s.Host == "":
			fault(i, "no host")
		case s.Port < 1 || s.Port > math.MaxUint16:
			fault(i, "port %d is not in 1..65535", s.Port)
		}
		switch {
		case s.Weight == 0:
			s.Weight = 1
		case s.Weight < 0 || s.Weight > math.MaxInt32:
			fault(i, "weight %d is not in 1..%d", s.Weight, math.MaxInt32)
		case s.Weight > 1 && !d.weighted:
			fault(i, "%s knows no weights, this one has %d", d.name, s.Weight)
		}
		id := d.id(s)
		if j, ok := first[id]; ok {
			fault(i, "%q is already server %d", id, j+1)
		} else {
			first[id] = i
		}
		checked[i] = s
		total += int64(s.Weight)
	}
	if len(errs) == 0 && total > math.MaxInt32 {
		errs = append(errs, fmt.Errorf("route: the weights add up to more than %d", math.MaxInt32))
	}
	return checked, errors.Join(errs...)
}

// address is the server's as written, for errors and to tell servers apart.
func address(s Server) string { return s.Host + ":" + strconv.Itoa(s.Port) }

// single is the Picker of one node.
type single struct{}

func (single) Pick([]byte) int { return 0 }

// tagged lets a part of the key stand for the whole, see Spec.Tag.
type tagged struct {
	open, close byte
	whole       Picker
}

func (t *tagged) Pick(key []byte) int { return t.whole.Pick(t.part(key)) }

// part is what stands for key.
func (t *tagged) part(key []byte) []byte {
	if i := bytes.IndexByte(key, t.open); i >= 0 {
		if n := bytes.IndexByte(key[i+1:], t.close); n > 0 {
			return key[i+1 : i+1+n]
		}
	}
	return key
}

// hasher is every Picker that goes by a hash of the key.
type hasher interface {
	// sum is the hash that places key.
	sum(key []byte) uint64
}

// Hashed is which part of key p goes by, a view, and what the distribution's hash makes
// of it. ok is false if it goes by nothing, as there is one server.
func Hashed(p Picker, key []byte) (part []byte, hash uint64, ok bool) {
	if t, tag := p.(*tagged); tag {
		p, key = t.whole, t.part(key)
	}
	h, ok := p.(hasher)
	if !ok {
		return key, 0, false
	}
	return key, h.sum(key), true
}
