package invariants

import (
	"bytes"
	"testing"
)

// TestCheck runs in both worlds: `make check` builds it with the tag and without.
func TestCheck(t *testing.T) {
	if got := panics(func() { Check(true, "holds") }); got {
		t.Error("Check panicked though the condition holds")
	}
	if got := panics(func() { Check(false, "broken") }); got != Enabled {
		t.Errorf("Check(false) panicked: %v, want %v", got, Enabled)
	}
}

func TestPoison(t *testing.T) {
	b := []byte("get k\r\n")
	want := bytes.Clone(b)
	if Enabled {
		want = bytes.Repeat([]byte{garbage}, len(b))
	}
	Poison(b)
	if !bytes.Equal(b, want) {
		t.Errorf("got %q, want %q", b, want)
	}
}

func panics(f func()) (yes bool) {
	defer func() { yes = recover() != nil }()
	f()
	return false
}
