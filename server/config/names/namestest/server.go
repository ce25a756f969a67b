// Package namestest is a DNS server for tests: it listens on the loopback address, and answers
// from records that a test may change at any time. It has goroutines of its own, and imports
// std and the DNS library.
package namestest

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"
)

// Server is a server that runs until its test ends.
type Server struct {
	ResolvConf string // the path of a file that names it

	mu      sync.Mutex
	records []dns.RR
	code    int
	failing []uint16 // the kinds of record that are answered with code; none: all
}

// Start starts a server with records such as "a.test. 1 IN A 127.0.0.1".
func Start(t testing.TB, records ...string) *Server {
	t.Helper()
	s := new(Server)
	s.Set(t, records...)
	packets, stream := listen(t)
	at := stream.Addr().String()
	for _, srv := range []*dns.Server{{PacketConn: packets, Handler: s}, {Listener: stream, Handler: s}} {
		go srv.ActivateAndServe()
	}
	t.Cleanup(func() {
		packets.Close()
		stream.Close()
	})
	s.ResolvConf = filepath.Join(t.TempDir(), "resolv.conf")
	text := "search test\noptions timeout:2 attempts:2\nnameserver [127.0.0.1]:" + at[strings.LastIndex(at, ":")+1:] + "\n"
	if err := os.WriteFile(s.ResolvConf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return s
}

// listen finds a port that is free for both.
func listen(t testing.TB) (packets net.PacketConn, stream net.Listener) {
	t.Helper()
	for {
		stream, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if packets, err = net.ListenPacket("udp", stream.Addr().String()); err == nil {
			return packets, stream
		}
		stream.Close()
	}
}

// Set has it answer from these records, and no others.
func (s *Server) Set(t testing.TB, records ...string) {
	t.Helper()
	var all []dns.RR
	for _, text := range records {
		rr, err := dns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, rr)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.records, s.code = all, dns.RcodeSuccess
}

// Fail has it answer everything with a code of package dns; or only questions for these kinds of
// record.
func (s *Server) Fail(code int, kinds ...uint16) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.code, s.failing = code, kinds
}

// ServeDNS is dns.Handler's. What is an alias is answered with what that stands for.
func (s *Server) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := new(dns.Msg).SetReply(q)
	name, kind := q.Question[0].Name, q.Question[0].Qtype
	if len(s.failing) == 0 || slices.Contains(s.failing, kind) {
		a.Rcode = s.code
	}
	if a.Rcode == dns.RcodeSuccess {
		a.Answer = s.find(name, kind)
		if len(a.Answer) == 0 && !s.knows(name) {
			a.Rcode = dns.RcodeNameError
		}
	}
	if _, udp := w.RemoteAddr().(*net.UDPAddr); udp {
		size := dns.MinMsgSize
		if o := q.IsEdns0(); o != nil {
			size = int(o.UDPSize())
		}
		a.Truncate(size)
	}
	_ = w.WriteMsg(a) // who has gone does not mind
}

func (s *Server) knows(name string) bool {
	for _, rr := range s.records {
		if rr.Header().Name == name {
			return true
		}
	}
	return false
}

func (s *Server) find(name string, kind uint16) (found []dns.RR) {
	for _, rr := range s.records {
		if rr.Header().Name != name {
			continue
		}
		if alias, ok := rr.(*dns.CNAME); ok && kind != dns.TypeCNAME {
			return append([]dns.RR{rr}, s.find(alias.Target, kind)...)
		}
		if rr.Header().Rrtype == kind {
			found = append(found, rr)
		}
	}
	return found
}
