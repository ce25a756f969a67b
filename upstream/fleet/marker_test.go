package fleet

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"magent/upstream/memnode"
)

func TestStanding(t *testing.T) {
	const life = 0x1234
	for value, want := range map[string]struct {
		Standing
		at int64
	}{
		"":                                                {},
		"0000000000001234":                                {},
		"0000000000001234 begun":                          {Begun, 0},
		"0000000000001234 strange by me/7/9":              {},
		fmt.Sprintf(begunValue, life, "me/7/9"):           {Begun, 0},
		fmt.Sprintf(begunValue, life+1, "me/7/9"):         {},
		fmt.Sprintf(warmValue, life, 1700000000123, ""):   {Warm, 1700000000123},
		fmt.Sprintf(warmValue, life+1, 1700000000123, ""): {},
		"0000000000001234 warm by me/7/9":                 {},
		"0000000000001234 warm at noon by me/7/9":         {},
		"1234 warm at 1700000000123 by me/7/9":            {},
	} {
		if s, at := standing(value, life); s != want.Standing || at != want.at {
			t.Errorf("%q: %v at %d, want %v at %d", value, s, at, want.Standing, want.at)
		}
	}
}

// startNode runs an in-process node.
func startNode(t *testing.T, fault string) string {
	t.Helper()
	n, err := memnode.Start(memnode.Config{Fault: fault})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n.Addr()
}

// both are memcached and the node that stands for it elsewhere.
func both(t *testing.T, test func(t *testing.T, addr string)) {
	t.Run("memcached", func(t *testing.T) { t.Parallel(); test(t, startMemcached(t).addr) })
	t.Run("memnode", func(t *testing.T) { t.Parallel(); test(t, startNode(t, "")) })
}

// put stores value in a marker, or elsewhere.
func put(t *testing.T, addr, key, value string) {
	t.Helper()
	if got := do(t, addr, strings.TrimSuffix(store(key, value, ""), "\r\n")); got != "HD" {
		t.Fatal(got)
	}
}

func TestVouch(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	both(t, func(t *testing.T, addr string) {
		node, life := prober(t, addr), look(t, addr).Life
		if got := look(t, addr); got != (Mark{Life: life}) {
			t.Errorf("an empty node is marked %v", got)
		}
		for _, before := range []string{"", "what is this?", fmt.Sprintf(warmValue, life+1, 7, "you"), fmt.Sprintf(begunValue, life+1, "you")} {
			if before != "" {
				put(t, addr, markerKey, before)
				if got := look(t, addr); got != (Mark{Life: life}) {
					t.Errorf("%q is %v", before, got)
				}
			}
			began := time.Now().Truncate(time.Millisecond)
			err := Vouch(ctx, node, life, "me")
			if got := look(t, addr); err != nil || got.Life != life || got.Standing != Warm || got.At.Before(began) || got.At.After(time.Now()) {
				t.Errorf("over %q: %v, %v", before, err, got)
			}
			do(t, addr, "md "+markerKey)
		}
		for before, want := range map[string]Mark{
			fmt.Sprintf(begunValue, life, "you"):   {life, Begun, time.Time{}},
			fmt.Sprintf(warmValue, life, 7, "you"): {life, Warm, time.UnixMilli(7)},
		} {
			put(t, addr, markerKey, before)
			err := Vouch(ctx, node, life, "me")
			if got := look(t, addr); err != nil || got != want {
				t.Errorf("over %q: %v, %v", before, err, got)
			}
		}
		if err := Vouch(ctx, node, life+1, "me"); !errors.Is(err, ErrOtherLife) {
			t.Errorf("in another life: %v", err)
		}
	})
}

// Who accepts a node takes a refill of it for complete. Of those who expect one the first
// is told so.
func TestAcceptAndExpect(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	both(t, func(t *testing.T, addr string) {
		node, life := prober(t, addr), look(t, addr).Life
		put(t, addr, markerKey, fmt.Sprintf(warmValue, life+1, 7, "you"))
		for i, id := range []string{"me", "you", "me"} {
			first, err := Expect(ctx, node, life, id)
			if got := look(t, addr); err != nil || first != (i == 0) || got.Standing != Begun {
				t.Errorf("%d: %s is the first: %v, %v; %v", i, id, first, err, got)
			}
		}
		for range 2 {
			if err := Accept(ctx, node, life, "me"); err != nil || look(t, addr).Standing != Warm {
				t.Errorf("%v, %v", err, look(t, addr))
			}
		}
		before := look(t, addr)
		first, err := Expect(ctx, node, life, "me")
		if got := look(t, addr); err != nil || first || got != before {
			t.Errorf("what is warm: %v, %v, %v", first, err, got)
		}
		if _, err := Expect(ctx, node, life+1, "me"); !errors.Is(err, ErrOtherLife) {
			t.Errorf("in another life: %v", err)
		}
	})
}

func TestNodeStoresNoMarker(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	full := startNode(t, `(on ms (reply "SERVER_ERROR out of memory storing object"))`)
	want := `answered "SERVER_ERROR out of memory storing object" to the marker`
	if err := Vouch(ctx, prober(t, full), look(t, full).Life, "me"); err == nil || err.Error() != want {
		t.Errorf("vouching: %v", err)
	}
	if err := Forsake(ctx, prober(t, full), look(t, full).Life, "me"); err == nil || err.Error() != want {
		t.Errorf("forsaking: %v", err)
	}
	if first, err := Expect(ctx, prober(t, full), look(t, full).Life, "me"); first || err != nil {
		t.Errorf("expecting: %v, %v", first, err)
	}
	odd := startNode(t, `(on ms (reply "NS"))`)
	if err := Vouch(ctx, prober(t, odd), look(t, odd).Life, "me"); err == nil {
		t.Error("a node that stores nothing, and has nothing, is vouched for")
	}
}

// flush_all goes by whole seconds, and by versions within a second: what is stored right
// behind it stays, and what was right before goes, wherever in a second that is.
func TestForsake(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	both(t, func(t *testing.T, addr string) {
		node, life := prober(t, addr), look(t, addr).Life
		request := store("before", "x", "") + "flush_all\r\n" + store(markerKey, fmt.Sprintf(begunValue, life, "you"), "") +
			store("behind", "x", "") + "mg before\r\nmg behind\r\n" + "mg " + markerKey + "\r\nstats\r\n"
		first, last := 0, 0
		for rounds := 0; rounds < 500 || last < first+2; rounds++ {
			var got []string
			clock := func(line []byte) (end, ok bool) {
				if len(got) < 7 {
					got = append(got, string(line))
				} else if text, ok := strings.CutPrefix(string(line), "STAT time "); ok {
					last, _ = strconv.Atoi(text)
				}
				return string(line) == "END", true
			}
			if err := node.Ask(ctx, "all at once", request, clock); err != nil {
				t.Fatal(err)
			}
			if first == 0 {
				first = last
			}
			if text := strings.Join(got, " "); text != "HD OK HD HD EN HD HD" {
				t.Fatalf("at %d: %s", last, text)
			}
			put(t, addr, "before", "x")
			if err := Forsake(ctx, node, life, "me"); err != nil {
				t.Fatal(err)
			}
			put(t, addr, "behind", "x")
			if before, behind, m := do(t, addr, "mg before"), do(t, addr, "mg behind"), look(t, addr); before != "EN" || behind != "HD" || m != (Mark{Life: life, Standing: Begun}) {
				t.Fatalf("at %d: %s, %s, %v", last, before, behind, m)
			}
		}
		if err := Forsake(ctx, node, life+1, "me"); !errors.Is(err, ErrOtherLife) {
			t.Errorf("in another life: %v", err)
		}
	})
}

// A refill that was under way when its target was forsaken is done again.
func TestForsakenWhileRefilled(t *testing.T) {
	t.Parallel()
	node, source := startMemcached(t), startMemcached(t)
	m := startMagent(t, node.addr, source.addr)
	life := within(t, "it refills", m.begun)
	if err := Forsake(context.Background(), prober(t, node.addr), life, "another"); err != nil {
		t.Fatal(err)
	}
	m.finish <- nil
	if again := within(t, "it refills what was forsaken", m.begun); again != life {
		t.Errorf("life %x became %x", life, again)
	}
	m.finish <- nil
	m.ends(t, life)
	if got := look(t, node.addr); got != (Mark{life, Warm, m.at}) {
		t.Errorf("marked %v", got)
	}
}
