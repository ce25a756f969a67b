package admin

import (
	"context"
	"errors"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"
)

func difference() Diff {
	return Diff{Pool: "default", Compared: 9997, Different: 3, Mended: 2, Kinds: []DiffKind{
		{Kind: "missing", Copies: 2, Mended: 2, Examples: []DiffExample{{"a", []byte("a"), "10.0.0.2:11211"}, {`"b c"`, []byte("b c"), "cache-d"}}},
		{Kind: "value", Copies: 1, Examples: []DiffExample{{"v", []byte("v"), "cache-d"}}},
	}, Left: map[string]int{"it was being written": 2, "a node failed": 1}, Nodes: []string{"10.0.0.1:11211 is down"}}
}

func TestDiff(t *testing.T) {
	t.Parallel()
	f := &fake{status: example()}
	for _, where := range []string{socket(t), "127.0.0.1:0"} {
		c := client(t, serve(t, where, f))
		var told []DiffProgress
		d, err := c.Diff(context.Background(), DiffQuestion{Sample: 5, Keys: 1}, func(p DiffProgress) { told = append(told, p) })
		want := []DiffProgress{{Phase: "10.0.0.1:11211"}, {Phase: "cache-b", Compared: 1}}
		if err != nil || d.Compared != 5 || !reflect.DeepEqual(told, want) {
			t.Errorf("%+v, %v, after %+v", d, err, told)
		}
	}
	f.err = errors.New("a node has melted")
	for _, began := range []bool{true, false} {
		if !began {
			f.status.Nodes = nil
		}
		_, err := client(t, serve(t, socket(t), f)).Diff(context.Background(), DiffQuestion{}, func(DiffProgress) {})
		if err == nil || err.Error() != f.err.Error() {
			t.Errorf("begun %v: %v", began, err)
		}
	}
	addr := serve(t, "127.0.0.1:0", f)
	for body, want := range map[string]string{
		`{"sample": -1}`:          "a sample has 1 to 1000000 keys",
		`{"sample": 1000001}`:     "a sample has 1 to 1000000 keys",
		`{"pause_ms": 60001}`:     "the pause has 0 to 60000 ms",
		`{"keys_per_second": -1}`: "a rate is not negative",
		`{"all": true}`:           "unknown field",
	} {
		resp, err := http.Post("http://"+addr+"/diff", "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != 400 || !strings.Contains(string(text), want) {
			t.Errorf("%s: %d, %s", body, resp.StatusCode, text)
		}
	}
}

// endless is a fake whose comparison ends when nobody waits for it any more.
type endless struct {
	fake
	over chan error
}

func (e *endless) Diff(ctx context.Context, _ DiffQuestion, progress func(DiffProgress)) (Diff, error) {
	progress(DiffProgress{})
	<-ctx.Done()
	e.over <- ctx.Err()
	return Diff{}, ctx.Err()
}

func TestDiffEndsWithWhoAsked(t *testing.T) {
	t.Parallel()
	e := &endless{over: make(chan error, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	if _, err := client(t, serve(t, socket(t), e)).Diff(ctx, DiffQuestion{}, func(DiffProgress) { cancel() }); !errors.Is(err, context.Canceled) {
		t.Errorf("the client: %v", err)
	}
	if err := <-e.over; err == nil {
		t.Error("the proxy was not told")
	}
}

func TestDiffThatIsCutOff(t *testing.T) {
	t.Parallel()
	e := &endless{over: make(chan error, 1)}
	ln, err := Listen(socket(t))
	if err != nil {
		t.Fatal(err)
	}
	s := Serve(ln, e, Options{})
	_, err = client(t, ln.Addr().String()).Diff(context.Background(), DiffQuestion{}, func(DiffProgress) { go s.Close() })
	if err == nil || !strings.Contains(err.Error(), "has ended before the comparison did") {
		t.Errorf("%v", err)
	}
	<-e.over
}

func TestDiffForPeople(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	if err := WriteDiff(&out, difference()); err != nil {
		t.Fatal(err)
	}
	const want = `compared 9997 keys of pool default: 3 copies differ from their leads', 2 of them mended
KIND     COPIES  MENDED  SUCH AS
missing  2       2       a at 10.0.0.2:11211, "b c" at cache-d
value    1       0       v at cache-d
not compared: 1 keys: a node failed
not compared: 2 keys: it was being written
not asked: 10.0.0.1:11211 is down
`
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
	out.Reset()
	if err := WriteDiff(&out, Diff{Pool: "default", Compared: 4}); err != nil || out.String() != "compared 4 keys of pool default: none differs\n" {
		t.Errorf("%v, %s", err, &out)
	}
	for p, want := range map[DiffProgress]string{
		{Phase: "listing a", Listed: 5}:                                         "listing a: 5 keys listed, 0 compared, 0 differ",
		{Phase: "comparing", Listed: 50, Compared: 10, Total: 40, Different: 1}: "comparing: 50 keys listed, 10 of 40 compared (25 %), 1 differ",
	} {
		if p.String() != want {
			t.Errorf("%s, want %s", p, want)
		}
	}
}
