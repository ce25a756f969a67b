package failover

import (
	"bufio"
	"context"
	"encoding/json"
	"net"
	"strings"
	"testing"
	"time"
)

// seen is a drill of 4 s whose node, back after 2 s, was called up at that time.
func seen(up time.Duration) *Result {
	return Analyse(Observation{
		Length: 4 * time.Second, Marks: []Mark{fault(1000 * ms), comeback(2000 * ms)},
		Samples: steady(4*time.Second, nil), Watched: true, Up: up,
	})
}

// Where a proxy was asked, it is warm when the proxy says so, whatever clients saw.
func TestWatched(t *testing.T) {
	r := seen(2700 * ms)
	is(t, "up", r.UpAfter, 700*ms)
	is(t, "warm to clients", r.WarmAfter, 0)
	if back, warm := r.phase("back"), r.phase("warm"); back.Requests != 700 || warm.Requests != 1300 || warm.From != Millis(2700*ms) {
		t.Errorf("back %+v, warm %+v", back, warm)
	}
	for up, want := range map[time.Duration]string{
		2700 * ms: "700.0 ms after the return, when the proxy called it up",
		-1:        "not before the end: the proxy did not call up",
		4001 * ms: "not before the end",
	} {
		var b strings.Builder
		if err := seen(up).Write(&b); err != nil || !strings.Contains(b.String(), "warm               "+want) {
			t.Errorf("up at %v: %v\n%s", up, err, b.String())
		}
	}
	if posts := r.signposts(); posts[len(posts)-1].at != Millis(2700*ms) {
		t.Errorf("%+v", posts)
	}
}

// A node that is not up at the end is the worst of a table; results of another time, in
// which nobody had asked, have no such line.
func TestWatchedInTable(t *testing.T) {
	row := Row{Scenario: "kill", Results: []*Result{seen(2300 * ms), seen(-1), seen(2100 * ms)}}
	s := Set{Rows: []Row{row}}
	if got := strings.Join(s.Lines()[1], "|"); got != "||||until the proxy calls it up|300.0 ms|not before the end|–|–" {
		t.Error(got)
	}
	var old Result
	if err := json.Unmarshal([]byte(`{"name":"kill"}`), &old); err != nil || old.UpAfter != Never {
		t.Errorf("%v, %v", old.UpAfter, err)
	}
	s.Rows[0].Results = []*Result{&old}
	if got := s.Lines(); len(got) != 2 || got[1][4] != longestGap.Name {
		t.Errorf("%q", got)
	}
}

// The proxy is asked from the return on, and until the drill ends.
func TestWatch(t *testing.T) {
	for answer, want := range map[string]bool{"up": true, "warming": false} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		asked := make(chan bool, 1)
		go func() {
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			for r := bufio.NewReader(c); ; {
				if line, err := r.ReadString('\n'); err != nil || line != "stats nodes\r\n" {
					return
				}
				c.Write([]byte("STAT n:1:state " + answer + "\r\nEND\r\n"))
				select {
				case asked <- true:
				default:
				}
			}
		}()
		w := &watch{proxy: l.Addr().String(), node: "n:1"}
		ctx, cancel := context.WithCancel(t.Context())
		var heard []string
		told := w.told(ctx, func(m Mark) { heard = append(heard, m.Name) })
		told(Mark{Name: "kill", Fails: true})
		if w.begun {
			t.Error("it is asked before the return")
		}
		told(Mark{Name: "restart", Returns: true})
		<-asked
		if !want {
			cancel()
		}
		up, watched := w.end()
		cancel()
		if !watched || up.IsZero() == want || len(heard) != 2 {
			t.Errorf("%s: up at %v, %v; told of %q", answer, up, watched, heard)
		}
	}
	var none *watch
	if up, watched := none.end(); watched || !up.IsZero() {
		t.Errorf("without a watch: %v, %v", up, watched)
	}
}
