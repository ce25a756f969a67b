package inspect

import (
	"crypto/sha256"
	"strings"
	"testing"
	"time"

	"magent/upstream/repair"
)

func TestNewKey(t *testing.T) {
	for _, c := range []struct {
		name, written string
		base64        bool
		fault         string
	}{
		{name: "user:1", written: "user:1"},
		{name: "caf\xc3\xa9\xff", written: "caf\xc3\xa9\xff"},
		{name: "a b", written: "YSBi", base64: true},
		{name: "\x00", written: "AA==", base64: true},
		{name: strings.Repeat("k", 250), written: strings.Repeat("k", 250)},
		{name: "", fault: "a byte at least"},
		{name: strings.Repeat("k", 251), fault: "250 bytes at most, this one has 251"},
		{name: strings.Repeat(" ", 190), fault: "256 bytes long"},
	} {
		k, err := NewKey([]byte(c.name))
		if c.fault != "" {
			if err == nil || !strings.Contains(err.Error(), c.fault) {
				t.Errorf("%.10q: %v, want %q", c.name, err, c.fault)
			}
			continue
		}
		if err != nil || string(k.Name) != c.name || string(k.Written) != c.written || k.Base64 != c.base64 {
			t.Errorf("%.10q: %+v, %v", c.name, k, err)
		}
	}
}

func TestCompare(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	item := func(set ...func(*Item)) *Item {
		i := &Item{Found: true, At: now, Size: 3, Sum: sha256.Sum256([]byte("abc")), Flags: 5, TTL: 100, CAS: 7}
		for _, f := range set {
			f(i)
		}
		return i
	}
	ttl := func(ttl int64) func(*Item) { return func(i *Item) { i.TTL = ttl } }
	at := func(d time.Duration) func(*Item) { return func(i *Item) { i.At = now.Add(d) } }
	mark := func(m repair.Marks) func(*Item) { return func(i *Item) { i.Marks = m } }
	placeholder := func(i *Item) { i.Size, i.Marks = 0, repair.MarkSent }
	none := &Item{At: now}
	for _, c := range []struct {
		what          string
		lead, replica *Item
		want          Difference
	}{
		{"the same", item(), item(), Same},
		{"other versions, and use", item(), item(func(i *Item) { i.CAS, i.Idle, i.Fetched = 9, time.Hour, true }), Same},
		{"nothing", none, none, Same},
		{"missing", item(), none, Missing},
		{"extra", none, item(), Extra},
		{"another value", item(), item(func(i *Item) { i.Sum[0]++ }), Value},
		{"another length", item(), item(func(i *Item) { i.Size++ }), Value},
		{"other flags", item(), item(func(i *Item) { i.Flags = 0 }), Flags},
		{"TTLs within the bound", item(), item(ttl(98)), Same},
		{"TTLs beyond it", item(), item(ttl(97)), TTL},
		{"TTLs beyond it upwards", item(), item(ttl(103)), TTL},
		{"TTLs as time has passed", item(), item(ttl(88), at(10*time.Second)), Same},
		{"TTLs as it has not", item(), item(ttl(87), at(10*time.Second)), TTL},
		{"the lead later", item(ttl(88), at(10*time.Second)), item(), Same},
		{"forever", item(ttl(repair.Forever)), item(), TTL},
		{"both forever", item(ttl(repair.Forever)), item(ttl(repair.Forever)), Same},
		{"stale at the lead", item(mark(repair.MarkStale)), item(), Extra},
		{"stale at the lead alone", item(mark(repair.MarkStale)), none, Same},
		{"stale at both", item(mark(repair.MarkStale)), item(mark(repair.MarkStale)), Same},
		{"stale at the replica", item(), item(mark(repair.MarkStale)), Value},
		{"a placeholder", item(placeholder), none, Same},
		{"just expired", item(ttl(0)), none, Same},
		{"refused", &Item{Refused: "SERVER_ERROR"}, item(), Unknown},
	} {
		if got := Compare(c.lead, c.replica); got != c.want {
			t.Errorf("%s: %s, want %s", c.what, got, c.want)
		}
	}
}
