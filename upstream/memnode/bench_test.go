package memnode

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"testing"
)

// BenchmarkNode measures one connection with depth requests in flight at a time.
func BenchmarkNode(b *testing.B) {
	for _, op := range []string{"get", "set", "mg"} {
		for _, value := range []int{100, 4096} {
			for _, depth := range []int{1, 64} {
				b.Run(fmt.Sprintf("op=%s/value=%d/pipeline=%d", op, value, depth), func(b *testing.B) {
					benchmark(b, op, value, depth)
				})
			}
		}
	}
}

func benchmark(b *testing.B, op string, size, depth int) {
	n := startNode(b, Config{})
	nc, err := net.Dial("tcp", n.Addr())
	if err != nil {
		b.Fatal(err)
	}
	defer nc.Close()
	body := bytes.Repeat([]byte("v"), size)
	set := fmt.Sprintf("set key:0001 0 0 %d\r\n%s\r\n", size, body)
	request, reply := set, "STORED\r\n"
	roundTrip(b, nc, []byte(set), make([]byte, len("STORED\r\n")))
	switch op {
	case "get":
		request, reply = "get key:0001\r\n", fmt.Sprintf("VALUE key:0001 0 %d\r\n%s\r\nEND\r\n", size, body)
	case "mg":
		request, reply = "mg key:0001 v\r\n", fmt.Sprintf("VA %d\r\n%s\r\n", size, body)
	}
	batch, answer := bytes.Repeat([]byte(request), depth), make([]byte, len(reply)*depth)
	b.SetBytes(int64(len(request) + len(reply)))
	b.ReportAllocs()
	done := 0
	for b.Loop() {
		if done++; done == depth {
			roundTrip(b, nc, batch, answer)
			done = 0
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "req/s")
}

func roundTrip(b *testing.B, nc net.Conn, send, receive []byte) {
	if _, err := nc.Write(send); err != nil {
		b.Fatal(err)
	}
	if _, err := io.ReadFull(nc, receive); err != nil {
		b.Fatal(err)
	}
}
