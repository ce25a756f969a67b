package server

import (
	"bytes"
	"cmp"
	"slices"

	"magent/server/config"
)

// routes says which lane of a loop serves a key that comes to one listener. It is immutable.
type routes struct {
	lanes []*lane // each of them once: who is told what concerns all keys, the first speaks for them
	only  *lane   // serves every key; nil: it goes by what they begin with
	first [256][]way
	rest  *lane // serves what no way fits; nil: nobody does
	// spread has every lane be asked, whatever the key: for requests of our own, which are
	// to find out how all are.
	spread bool
}

// way is the keys that begin with prefix; those with the same first byte stand together, the
// longest first.
type way struct {
	prefix []byte
	lane   *lane
}

func newRoutes(lanes []*lane, all []config.Route) *routes {
	if len(all) == 0 {
		return &routes{lanes: lanes[:1], only: lanes[0]}
	}
	r := &routes{}
	for _, route := range all {
		l := lanes[slices.IndexFunc(lanes, func(l *lane) bool { return l.conf.Name == route.Pool })]
		if !slices.Contains(r.lanes, l) {
			r.lanes = append(r.lanes, l)
		}
		if route.Prefix == "" {
			r.rest = l
			continue
		}
		ways := &r.first[route.Prefix[0]]
		*ways = append(*ways, way{[]byte(route.Prefix), l})
	}
	for i := range r.first {
		slices.SortStableFunc(r.first[i], func(a, b way) int { return cmp.Compare(len(b.prefix), len(a.prefix)) })
	}
	if len(r.lanes) == 1 && r.rest != nil {
		r.only = r.rest
	}
	return r
}

// lane is the lane that serves key, as placement sees it; nil if none does.
func (r *routes) lane(key []byte) *lane {
	if r.only != nil {
		return r.only
	}
	return r.find(key)
}

func (r *routes) find(key []byte) *lane {
	if r.spread {
		return r.lanes[hashKey(key)%uint32(len(r.lanes))]
	}
	if len(key) > 0 {
		for _, w := range r.first[key[0]] {
			if bytes.HasPrefix(key, w.prefix) {
				return w.lane
			}
		}
	}
	return r.rest
}
