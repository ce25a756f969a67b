package compare

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"magent/bench/process"
	"magent/bench/process/proctest"
)

// A reader reads at once, and ends; what goes wrong is said at its end.
func TestReader(t *testing.T) {
	var reads atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/metrics" {
			w.WriteHeader(http.StatusNotFound)
		}
		reads.Add(1)
	}))
	defer s.Close()
	top := Topology{Read: "/metrics", Operators: strings.TrimPrefix(s.URL, "http://")}
	end := top.read(t.Context())
	proctest.Eventually(t, "it reads", func() bool { return reads.Load() > 0 })
	if err := end(); err != nil {
		t.Error(err)
	}
	r := newReader(t.Context(), s.URL+"/nothing")
	proctest.Eventually(t, "it has an error", func() bool { return len(r.ended) == 1 })
	if err := r.close(); err == nil || !strings.HasSuffix(err.Error(), "/nothing: it answers 404 Not Found") {
		t.Errorf("of an error it says %v", err)
	}
	nobody := Topology{}
	if err := nobody.read(t.Context())(); err != nil {
		t.Errorf("who reads nothing has %v", err)
	}
}

// Who is to be read listens for operators, and is one process with who is not; what differs
// in more, or in nothing, is another. Each has a name of its own.
func TestReadSide(t *testing.T) {
	nodes := []*process.Process{{Addr: "127.0.0.1:1"}}
	w := Workload{Ours: Setting{Read: "/metrics"}, Against: []Setting{{}, {Flags: []string{"--x"}}, {Copies: 2}, {Flags: []string{"--x"}}}}
	sides := contestants(Config{Ours: Magent("magent", ""), Others: []Rival{Nutcracker("", 0)}}, w, nodes, nodes)
	if err := chooseOperators(sides); err != nil {
		t.Fatal(err)
	}
	proc := &process.Process{}
	for i, same := range []bool{false, true, false, false, false} {
		procs := make([]*process.Process, len(sides))
		procs[0] = proc
		if got := started(sides, procs, i) == proc; got != same {
			t.Errorf("%s is that of %s: %v", sides[i].name, sides[0].name, got)
		}
		if at := sides[i].topology.Operators; (at != "") != (same || i == 0) || at != "" && at != sides[0].topology.Operators {
			t.Errorf("%s has operators at %q", sides[i].name, at)
		}
	}
	procs := make([]*process.Process, len(sides))
	if procs[2] = proc; started(sides, procs, 4) != nil {
		t.Error("two sides that differ in nothing are one process")
	}
	args, err := magentRecipe("magent", "magent", sides[0].topology).Args(12000, "")
	if i := slices.Index(args, "--admin-listen"); err != nil || i < 0 || args[i+1] != sides[0].topology.Operators {
		t.Errorf("it is started with %q, %v", args, err)
	}
	for i, readers := range []bool{true, false, false} {
		r := &Row{Ours: sides[i].name}
		if amongReaders(r) != readers || amongSettings(r) == readers || amongRivals(r) {
			t.Errorf("%s is among readers, settings, rivals: %v, %v, %v", r.Ours, amongReaders(r), amongSettings(r), amongRivals(r))
		}
	}
}
