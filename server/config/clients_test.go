package config

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"magent/codec"
)

func TestAllows(t *testing.T) {
	for _, c := range []struct {
		list    string
		in, out []string
	}{
		{list: "10.0.0.0/8,192.0.2.7", in: []string{"10.255.0.1", "192.0.2.7", "::ffff:10.1.2.3"}, out: []string{"11.0.0.0", "192.0.2.8", "::1"}},
		{list: "2001:db8::/32", in: []string{"2001:db8::1", "2001:db8::1%eth0"}, out: []string{"2001:db9::", "10.0.0.1"}},
		{list: "::ffff:10.1.0.0/112", in: []string{"10.1.2.3"}, out: []string{"10.2.0.0"}},
		{list: "0.0.0.0/0", in: []string{"127.0.0.1"}, out: []string{"::1"}},
	} {
		var list prefixes
		if err := list.Set(c.list); err != nil {
			t.Fatal(err)
		}
		limits := Clients{Allow: list}
		for _, a := range c.in {
			if !limits.Allows(netip.MustParseAddr(a)) {
				t.Errorf("%s does not allow %s", c.list, a)
			}
		}
		for _, a := range c.out {
			if limits.Allows(netip.MustParseAddr(a)) {
				t.Errorf("%s allows %s", c.list, a)
			}
		}
	}
	if limits := (Clients{}); !limits.Allows(netip.MustParseAddr("192.0.2.1")) {
		t.Error("without a list somebody is not allowed")
	}
}

// sameBits is the twin of netip.Prefix.Contains: it compares bit by bit.
func sameBits(a, b netip.Addr, bits int) bool {
	if a.BitLen() != b.BitLen() {
		return false
	}
	x, y := a.AsSlice(), b.AsSlice()
	for i := range bits {
		if (x[i/8]^y[i/8])>>(7-i%8)&1 != 0 {
			return false
		}
	}
	return true
}

// FuzzNetworks: a list that is taken is printed as one that says the same, and lets in
// who has the bits of one of its networks, and nobody else.
func FuzzNetworks(f *testing.F) {
	for _, s := range []string{"10.0.0.0/8", "10.0.0.0/8,192.0.2.7,::1", "::ffff:10.1.0.0/112", "::ffff:0.0.0.0/96", "::/0", "1.2.3.4/", "fe80::1%a", "10.1.2.3/8", ",", "1.2.3.4/032"} {
		f.Add(s, []byte{10, 1, 2, 3})
	}
	f.Fuzz(func(t *testing.T, text string, address []byte) {
		var list, again prefixes
		if list.Set(text) != nil {
			return
		}
		if n := strings.Count(text, ",") + 1; len(list) != n {
			t.Fatalf("%q has %d networks, not %d", text, len(list), n)
		}
		if err := again.Set(list.String()); err != nil || !slices.Equal(list, again) {
			t.Fatalf("%q is printed as %q: %v", text, list.String(), err)
		}
		a, ok := netip.AddrFromSlice(address)
		if !ok {
			return
		}
		want := slices.ContainsFunc(list, func(p netip.Prefix) bool { return sameBits(p.Addr(), a.Unmap(), p.Bits()) })
		if limits := (Clients{Allow: list}); limits.Allows(a) != want {
			t.Fatalf("%q lets %s in: %v", text, a, !want)
		}
	})
}

// FuzzDeny: a list that is taken is printed as one that says the same; one that is valid
// denies what it names, which has one meaning, and never quit.
func FuzzDeny(f *testing.F) {
	for _, s := range []string{"flush_all", "flush_all,shutdown", "Get, gets", "quit", ",", "set,set", "watch"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var list, again commands
		if list.Set(text) != nil {
			return
		}
		if err := again.Set(list.String()); err != nil || !slices.Equal(list, again) {
			t.Fatalf("%q is printed as %q: %v", text, list.String(), err)
		}
		c := Clients{Deny: list}
		if len(c.validate()) > 0 {
			return
		}
		ops := c.Denied()
		if slices.Contains(ops, codec.OpQuit) || slices.Contains(ops, codec.OpNone) {
			t.Fatalf("%q denies %v", text, ops)
		}
		for _, name := range list {
			if name != neverServed && !slices.ContainsFunc(ops, func(op codec.Op) bool { return op.String() == name }) {
				t.Fatalf("%q does not deny %s", text, name)
			}
		}
		if len(ops) > len(list) {
			t.Fatalf("%q denies more than it names: %v", text, ops)
		}
	})
}
