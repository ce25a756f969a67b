package compare

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

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
	top.Read = "/nothing"
	end = top.read(t.Context())
	proctest.Eventually(t, "it reads", func() bool { return reads.Load() > 1 })
	if err := end(); err == nil || !strings.HasSuffix(err.Error(), "/nothing: it answers 404 Not Found") {
		t.Errorf("of an error it says %v", err)
	}
	nobody := Topology{}
	if err := nobody.choose(); err != nil || nobody.Operators != "" || nobody.read(t.Context())() != nil {
		t.Errorf("who reads nothing has %+v, %v", nobody, err)
	}
}

// Who is to be read listens for operators, and has a name of its own.
func TestReadSide(t *testing.T) {
	top := Topology{Read: "/metrics"}
	if err := top.choose(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := net.SplitHostPort(top.Operators); err != nil {
		t.Fatal(err)
	}
	args, err := magentRecipe("magent", "magent", top).Args(12000, "")
	if i := slices.Index(args, "--admin-listen"); err != nil || i < 0 || args[i+1] != top.Operators {
		t.Errorf("it is started with %q, %v", args, err)
	}
	for _, c := range []struct {
		ours    string
		readers bool
	}{{fmt.Sprint("magent, ", Setting{Read: "/metrics"}), true}, {fmt.Sprint("magent, ", twoCopies("--x")), false}, {"magent", false}} {
		r := &Row{Ours: c.ours}
		if in := [3]bool{amongReaders(r), amongSettings(r), amongRivals(r)}; in[0] != c.readers || in[1] && in[0] || !in[0] && !in[1] && !in[2] {
			t.Errorf("%s is in the blocks of readers, settings, rivals: %v", c.ours, in)
		}
	}
}
