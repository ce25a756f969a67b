package compare

import (
	"fmt"
	"slices"
	"strings"

	"magent/bench/keys"
	"magent/bench/load"
	"magent/bench/wire"
)

// Workload is one row of the comparison: a load, what the proxies stand in
// front of, and what is promised for it.
type Workload struct {
	Name string
	// Title says in words what the load is.
	Title string
	// Load is what to send; address, duration and processes come from Compare.
	Load load.Config
	// Nodes is the length of every copy. Default 1.
	Nodes int
	// Ours is how our proxy is set up.
	Ours Setting
	// Against are other ways to set it up. If there are any, they take the
	// place of the rivals, which keep no copies.
	Against []Setting
	// Must and Aim bound the median ratio of CPU per request, ours over the
	// reference's, and MustP50 that of the median latency; 0 promises nothing.
	Must, Aim, MustP50 float64
}

// Setting is a way to set our proxy up.
type Setting struct {
	// Copies is how many complete copies it keeps: 1 or 2. Default 1.
	Copies int
	// Flags are further flags of its command line.
	Flags []string
	// Read is the path of what its operators may ask for, and is asked for each second
	// while it is measured; empty: nobody asks.
	Read string
	// Dialect is what clients speak to it.
	Dialect wire.Dialect
}

// String says what tells the setting from others.
func (s Setting) String() string {
	words := []string{"1 copy"}
	if s.Copies > 1 {
		words[0] = fmt.Sprintf("%d copies", s.Copies)
	}
	if s.Dialect != wire.Text {
		words = append(words, s.Dialect.String())
	}
	words = append(words, s.Flags...)
	if s.Read != "" {
		words = append(words, s.Read, eachSecond)
	}
	return strings.Join(words, " ")
}

// eachSecond ends what a Setting with a Read is called.
const eachSecond = "each second"

// Workloads are the standard ones. Values are 100 bytes, keys 20, the key space
// 10000 keys, all of them stored, unless said otherwise.
//
// Mind the nodes' version where gets are pipelined: memcached 1.6.18 sends the
// reply to each get by itself, 1.6.45 those to a whole batch at once. With the
// former, the node is the bottleneck of get-c50-p16 and hands the proxies their
// replies one by one.
func Workloads() []Workload {
	parallel, ackLead := []string{"--writes", "parallel"}, []string{"--ack", "lead"}
	// A set's other settings: one copy, which the bounds hold against, and what
	// --writes and --ack give those who choose otherwise.
	sets := []Setting{{}, twoCopies(parallel...), twoCopies(ackLead...), twoCopies(slices.Concat(parallel, ackLead)...)}
	all := []Workload{
		{Name: "get-c50", Title: "get, 50 connections",
			Load: load.Config{Conns: 50}, Must: 1.00, Aim: 0.90},
		{Name: "get-c50-p16", Title: "get, 50 connections × 16 pipelined",
			Load: load.Config{Conns: 50, Pipeline: 16}, Must: 0.30, Aim: 0.22},
		{Name: "mixed-c1000", Title: "1:9 set:get, 1000 connections",
			Load: load.Config{Conns: 1000, Mix: oneInTen}, Must: 0.85, Aim: 0.68},
		// 1000 keys of 32 KiB: more would measure the preload and the cache.
		{Name: "mixed-32k", Title: "1:9 set:get of 32 KiB, 50 connections",
			Load: load.Config{Conns: 50, Mix: oneInTen, Values: keys.Fixed(32 << 10), Keys: keys.Config{Max: 999}}, Must: 1.00, Aim: 0.85},
		{Name: "set-1copy", Title: "set, 50 connections",
			Load: load.Config{Conns: 50, Mix: load.Mix{wire.Set: 1}}},
		{Name: "multiget20", Title: "get of 20 keys over three nodes, 50 connections",
			Load: load.Config{Conns: 50, MultiGet: 20}, Nodes: 3},
		// What a second copy costs. Fifty connections keep two CPUs busy, and
		// their latency is little but the rate turned over; one leaves both
		// some rest, and its latency is the round trips.
		{Name: "set-2copies", Title: "set, 50 connections",
			Load: load.Config{Conns: 50, Mix: load.Mix{wire.Set: 1}}, Ours: twoCopies(), Against: sets, Must: 1.6},
		{Name: "set-2copies-c1", Title: "set, 1 connection",
			Load: load.Config{Conns: 1, Mix: load.Mix{wire.Set: 1}}, Ours: twoCopies(), Against: sets, MustP50: 2},
		{Name: "mixed-2copies", Title: "1:9 set:get, 1000 connections",
			Load: load.Config{Conns: 1000, Mix: oneInTen}, Ours: twoCopies(), Against: []Setting{twoCopies(parallel...)}, Must: 1.1},
		// A read goes to one node however many copies there are.
		{Name: "get-2copies", Title: "get, 50 connections",
			Load: load.Config{Conns: 50}, Ours: twoCopies(), Against: []Setting{{}}, Must: 1.05},
		{Name: "gets-2copies", Title: "gets, 50 connections",
			Load: load.Config{Conns: 50, Mix: load.Mix{wire.Gets: 1}}, Ours: twoCopies(), Against: []Setting{{}}, Must: 1.05},
		// What it costs to be looked at.
		{Name: "get-scraped", Title: "get, 50 connections",
			Load: load.Config{Conns: 50}, Ours: Setting{Read: "/metrics"}, Against: []Setting{{}}, Must: 1.01},
		{Name: "get-watched", Title: "get, 50 connections",
			Load: load.Config{Conns: 50}, Ours: Setting{Read: "/overview"}, Against: []Setting{{}}},
	}
	all = append(all, binaryWorkloads()...)
	for i := range all {
		all[i].Load.Keys.Size = 20
	}
	return all
}

// binaryWorkloads have binary clients beside clients of text that ask for the same. They
// pipeline, so that what the proxy does itself is not lost beside what the kernel does. A
// binary get tells the version, which is what a gets does in text.
func binaryWorkloads() (all []Workload) {
	for _, w := range []Workload{
		{Name: "binary-get", Title: "get"},
		{Name: "binary-set", Title: "set", Load: load.Config{Mix: load.Mix{wire.Set: 1}}},
		{Name: "binary-get-2copies", Title: "get", Ours: twoCopies()},
		{Name: "binary-set-2copies", Title: "set", Load: load.Config{Mix: load.Mix{wire.Set: 1}}, Ours: twoCopies()},
	} {
		w.Title += ", 50 connections × 16 pipelined, binary and text"
		w.Load.Conns, w.Load.Pipeline = 50, 16
		w.Against = []Setting{w.Ours}
		w.Ours.Dialect, w.Must = wire.Binary, 1.10
		all = append(all, w)
	}
	return all
}

// oneInTen is a set among ten requests.
var oneInTen = load.Mix{wire.Set: 1, wire.Get: 9}

func twoCopies(flags ...string) Setting { return Setting{Copies: 2, Flags: flags} }

// bounded are those of ws that promise something.
func bounded(ws []Workload) []Workload {
	return slices.DeleteFunc(slices.Clone(ws), func(w Workload) bool { return w.Must == 0 && w.MustP50 == 0 })
}

// pick returns the standard workloads named; no names, all of them.
func pick(names []string) ([]Workload, error) {
	all := Workloads()
	if len(names) == 0 {
		return all, nil
	}
	known := make([]string, len(all))
	var picked []Workload
	for _, name := range names {
		found := false
		for i, w := range all {
			if known[i] = w.Name; w.Name == name {
				picked, found = append(picked, w), true
			}
		}
		if !found {
			return nil, fmt.Errorf("no workload %q; there are %s", name, strings.Join(known, ", "))
		}
	}
	return picked, nil
}
