package probe

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"maps"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

func TestLife(t *testing.T) {
	// life is spelled out, so that it stays what every proxy finds.
	const pid, began = 4711, 1700000100 - 40
	h := fnv.New64a()
	h.Write(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, pid), began))
	for _, c := range []struct {
		stats string
		ok    bool
	}{
		{"STAT pid 4711\r\nSTAT uptime 40\r\nSTAT time 1700000100\r\nSTAT version 1.6.18", true},
		{"STAT time 1700000200\nSTAT pid 4711\nSTAT uptime 140", true},
		{"STAT pid 4711\r\nSTAT uptime 40", false},
		{"STAT pid 4711\r\nSTAT uptime 40\r\nSTAT time soon", false},
		{"STAT pid 4711\r\nSTAT uptime -40\r\nSTAT time 1700000100", false},
		{"STAT pid 4711\r\nSTAT uptime 40 s\r\nSTAT time 1700000100", false},
		{"", false},
	} {
		var id Identity
		for line := range strings.Lines(c.stats) {
			id.Stat([]byte(line))
		}
		life, ok := id.Life()
		if ok != c.ok || ok && life != h.Sum64() || !ok && life != 0 {
			t.Errorf("%q: life %x, %v", c.stats, life, ok)
		}
	}
}

func TestStatAllocatesNothing(t *testing.T) {
	var id Identity
	lines := [][]byte{[]byte("STAT pid 4711\r\n"), []byte("STAT uptime 40\r\n"), []byte("STAT time 17000000100\r\n"), []byte("STAT libevent 2.1.12-stable\r\n")}
	if n := testing.AllocsPerRun(100, func() {
		for _, l := range lines {
			id.Stat(l)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzIdentity(f *testing.F) {
	f.Add([]byte("STAT pid 4711\r\nSTAT uptime 40\r\nSTAT time 1700000100\r\nEND\r\n"))
	f.Add([]byte("STAT pid 4711\nSTAT\tuptime  40\nSTAT time 1 2\nSTAT time 99999999999999999999"))
	f.Fuzz(func(t *testing.T, in []byte) {
		var id Identity
		heard := map[string]uint64{}
		for line := range bytes.Lines(in) {
			id.Stat(line)
			f := strings.Fields(string(line))
			if len(f) != 3 || f[0] != "STAT" {
				continue
			}
			delete(heard, f[1])
			if n, err := strconv.ParseUint(f[2], 10, 64); err == nil {
				heard[f[1]] = n
			}
		}
		all := true
		for i, fact := range facts {
			n, ok := heard[fact]
			if all = all && ok; ok != id.heard[i] || ok && n != id.number[i] {
				t.Fatalf("%q is heard as %+v, not %v", in, id, heard)
			}
		}
		if _, ok := id.Life(); ok != all {
			t.Fatalf("%q makes a life: %v", in, ok)
		}
	})
}

// answers of memcached 1.6.18 to stats conns: over IPv4, IPv6, both by one socket of
// two families, and a unix socket; and one of 1.4.
var answers = []struct {
	conns string
	want  []string
}{
	{"STAT 10:addr tcp:127.0.0.1:50910\r\nSTAT 10:listen_addr tcp:127.0.0.1:34079\r\nSTAT 10:state conn_nread\r\nSTAT 10:secs_since_last_cmd 0\r\n" +
		"STAT 11:addr tcp:127.0.0.1:34079\r\nSTAT 11:state conn_listening\r\nSTAT 11:secs_since_last_cmd 0\r\n" +
		"STAT 12:addr tcp:127.0.0.1:50916\r\nSTAT 12:listen_addr tcp:127.0.0.1:34079\r\nSTAT 12:state conn_parse_cmd\r\nSTAT 12:secs_since_last_cmd 0\r\n",
		[]string{"127.0.0.1:50910", "127.0.0.1:50916"}},
	{"STAT 22:addr tcp6:[::1]:49226\r\nSTAT 22:listen_addr tcp6:[::1]:36267\r\nSTAT 22:state conn_read\r\nSTAT 22:secs_since_last_cmd 7\r\n",
		[]string{"[::1]:49226"}},
	{"STAT 22:addr tcp6:[::ffff:192.0.2.1]:49226\r\nSTAT 22:listen_addr tcp6:[::ffff:192.0.2.2]:11211\r\nSTAT 22:state conn_read\r\nSTAT 22:secs_since_last_cmd 7\r\n",
		[]string{"192.0.2.1:49226"}},
	{"STAT 23:addr ?:<AF 0>\r\nSTAT 23:listen_addr unix:/run/m/s\r\nSTAT 23:state conn_nread\r\nSTAT 23:secs_since_last_cmd 0\r\n" +
		"STAT 24:UDP UDP\r\nSTAT 24:addr udp:127.0.0.1:11211\r\nSTAT 24:state conn_read\r\nSTAT 24:secs_since_last_cmd 0\r\n", nil},
	{"STAT 5:addr tcp:10.0.0.1:40000\r\nSTAT 5:state conn_waiting\r\nSTAT 5:secs_since_last_cmd 1\r\n", []string{"10.0.0.1:40000"}},
}

// listed is what a listing makes of the lines of in.
func listed(in []byte) Clients {
	l := listing{clients: make(Clients)}
	for line := range bytes.Lines(in) {
		l.stat(bytes.TrimRight(line, "\r\n"))
	}
	return l.clients
}

func TestListing(t *testing.T) {
	for _, a := range answers {
		want := make(Clients)
		for _, s := range a.want {
			want[netip.MustParseAddrPort(s)] = true
		}
		if got := listed([]byte(a.conns)); !maps.Equal(got, want) {
			t.Errorf("%q lists %v, want %v", a.conns, got, want)
		}
	}
}

func TestClientsKnowEveryWriting(t *testing.T) {
	c := listed([]byte("STAT 1:addr tcp6:[fe80::1]:80\r\nSTAT 1:state conn_read\r\n" + "STAT 2:addr tcp:192.0.2.1:81\r\nSTAT 2:state conn_read\r\n"))
	for _, a := range []*net.TCPAddr{
		{IP: net.ParseIP("fe80::1"), Port: 80, Zone: "eth0"},
		{IP: net.IPv4(192, 0, 2, 1), Port: 81}, // 16 bytes long
		{IP: net.IPv4(192, 0, 2, 1).To4(), Port: 81},
	} {
		if !c.Has(a) {
			t.Errorf("%v is not in %v", a, c)
		}
	}
	for _, a := range []net.Addr{&net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 80}, &net.UnixAddr{Name: "192.0.2.1:81"}, nil} {
		if c.Has(a) {
			t.Errorf("%v is in %v", a, c)
		}
	}
}

func FuzzListing(f *testing.F) {
	for _, a := range answers {
		f.Add([]byte(a.conns))
	}
	// An addr and a state of one connection, nothing about connections in between but
	// what is neither.
	client := regexp.MustCompile(`(?m)^STAT (\d+):addr tcp6?:(\S+)\r\n(?:STAT \d+:(?:listen_addr|secs_since_last_cmd) \S+\r\n)*STAT (\d+):state (\S+)\r$`)
	f.Fuzz(func(t *testing.T, in []byte) {
		got := listed(in)
		for a := range got {
			if !a.IsValid() || plain(a) != a {
				t.Fatalf("%q lists %v", in, a)
			}
			if !bytes.Contains(in, fmt.Append(nil, ":", a.Port())) && !bytes.Contains(in, []byte(":0")) {
				t.Fatalf("%q lists %v of another port", in, a)
			}
		}
		for _, m := range client.FindAllSubmatch(append(in, "\r\n"...), -1) {
			a, err := netip.ParseAddrPort(string(m[2]))
			if err == nil && string(m[1]) == string(m[3]) && string(m[4]) != "conn_listening" && !got[plain(a)] {
				t.Fatalf("%q does not list %v: %v", in, a, got)
			}
		}
	})
}

func TestIdentityTellsTheTime(t *testing.T) {
	var id Identity
	if at, ok := id.Time(); ok {
		t.Errorf("who has heard nothing says that it is %d", at)
	}
	id.Stat([]byte("STAT time 1700000000\r\n"))
	if at, ok := id.Time(); !ok || at != 1_700_000_000 {
		t.Errorf("%d, %v", at, ok)
	}
}
