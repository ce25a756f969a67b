package e2e

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"magent/server/e2e/harness"
	"magent/server/secret/secrettest"
)

// BenchmarkTLS measures what a get of 100 bytes costs the proxy's process, over 32 connections:
// without a listener with TLS, beside one, and over it.
//
//	go test ./server/e2e -run '^$' -bench TLS -benchtime 3s
func BenchmarkTLS(b *testing.B) {
	ca := secrettest.New(b)
	pair := ca.Issue("proxy", "localhost", "localhost")
	node := harness.Memcached(b)
	for _, side := range []string{"none", "beside", "1.2", "1.3"} {
		flags := []string{"-s", node.Addr, "--loops", "1"}
		if side != "none" {
			flags = append(flags, "--tls-port", "1", "--tls-cert", pair.Cert, "--tls-key", pair.Key)
		}
		proxy := child(b, "proxy", flags...)
		at := saysWhere(b, proxy)
		cfg := (*tls.Config)(nil)
		if strings.HasPrefix(side, "1.") {
			at, cfg = saysWhere(b, proxy), ca.Client("localhost", secrettest.Pair{})
		}
		if side == "1.2" {
			cfg.MaxVersion = tls.VersionTLS12
		}
		for _, depth := range []int{1, 16} {
			b.Run(fmt.Sprintf("tls=%s/pipeline=%d", side, depth), func(b *testing.B) { benchmarkGets(b, proxy.pid, at, cfg, depth) })
		}
		proxy.end()
	}
}

// BenchmarkBinaryNodes is the same with a node that speaks binary alone, and one that speaks
// text.
func BenchmarkBinaryNodes(b *testing.B) {
	for _, side := range []string{"text", "binary"} {
		flags := []string{"-s", harness.Memcached(b).Addr, "--loops", "1"}
		if side == "binary" {
			flags = []string{"-s", harness.Memcached(b, "-B", "binary").Addr, "--loops", "1", "--node-binary"}
		}
		proxy := child(b, "proxy", flags...)
		at := saysWhere(b, proxy)
		for _, depth := range []int{1, 16} {
			b.Run(fmt.Sprintf("nodes=%s/pipeline=%d", side, depth), func(b *testing.B) { benchmarkGets(b, proxy.pid, at, nil, depth) })
		}
		proxy.end()
	}
}

func saysWhere(b *testing.B, proxy *proc) string {
	b.Helper()
	addr, err := proxy.said.ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	return strings.TrimSpace(addr)
}

func benchmarkGets(b *testing.B, pid int, addr string, cfg *tls.Config, depth int) {
	const conns = 32
	value := strings.Repeat("v", 100)
	answer := strings.Repeat("VALUE k 0 100\r\n"+value+"\r\nEND\r\n", depth)
	var all []net.Conn
	for range conns {
		c, err := net.DialTimeout("tcp", addr, harness.Patience)
		if err != nil {
			b.Fatal(err)
		}
		if cfg != nil {
			c = tls.Client(c, cfg)
		}
		defer c.Close()
		all = append(all, c)
	}
	if _, err := io.WriteString(all[0], "set k 0 0 100\r\n"+value+"\r\n"); err != nil {
		b.Fatal(err)
	}
	if _, err := io.ReadFull(all[0], make([]byte, len("STORED\r\n"))); err != nil {
		b.Fatal(err)
	}
	rounds := max(1, b.N/conns/depth)
	before := spent(b, pid)
	b.ResetTimer()
	var done sync.WaitGroup
	for _, c := range all {
		done.Go(func() {
			request, got := []byte(strings.Repeat("get k\r\n", depth)), make([]byte, len(answer))
			for range rounds {
				if _, err := c.Write(request); err != nil {
					b.Error(err)
					return
				}
				if _, err := io.ReadFull(c, got); err != nil || string(got) != answer {
					b.Errorf("%.40q, %v", got, err)
					return
				}
			}
		})
	}
	done.Wait()
	b.StopTimer()
	b.ReportMetric(float64(spent(b, pid)-before)/float64(time.Microsecond)/float64(rounds*conns*depth), "proxy-µs/req")
}

// spent is the CPU time of a process: fields 14 and 15 of its stat (proc(5)), in hundredths of
// a second.
func spent(b *testing.B, pid int) time.Duration {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	var user, system int64
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	if _, err := fmt.Sscan(string(fields[11])+" "+string(fields[12]), &user, &system); err != nil {
		b.Fatal(err)
	}
	return time.Duration(user+system) * (time.Second / 100)
}
