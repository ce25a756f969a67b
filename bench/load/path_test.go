package load

import (
	"fmt"
	"strconv"
	"testing"

	"magent/bench/keys"
	"magent/bench/wire"
)

// pathOf is a worker with one connection and no socket, and what answers its requests as
// a cache would that holds every key.
type pathOf struct {
	w       *worker
	values  [][]byte // the answer to a get, by key
	numbers uint64
	in      []byte
}

func newPath(cfg Config) *pathOf {
	cfg.Targets, cfg.Conns, cfg.Requests = []string{"x:1"}, 1, 1
	s := newShared(cfg.withDefaults())
	p := &pathOf{w: newWorker(s, 0, -1)}
	p.w.add(0, -1, nil)
	p.w.phase = measuring
	for k := range s.space.Len() {
		v := append([]byte("VALUE "), s.space.AppendKey(nil, k)...)
		v = fmt.Appendf(v, " %d %d", s.space.Flags(k), s.cfg.Values.Max())
		v = s.space.AppendValue(append(v, "\r\n"...), k, keys.Mark{Run: s.mark, Seq: 1 << 31}, s.cfg.Values.Max())
		p.values = append(p.values, append(v, "\r\n"...))
	}
	return p
}

// turn asks n requests, answers and settles them.
func (p *pathOf) turn(n int) error {
	c := &p.w.conns[0]
	for range n {
		p.w.ask(c, 1, 1)
	}
	c.out = c.out[:0]
	p.in = p.in[:0]
	for i := range n {
		f := &c.flights.slots[(c.flights.head+i)&(len(c.flights.slots)-1)]
		switch f.Op {
		case wire.Get:
			for k := range int(f.Keys) {
				p.in = append(p.in, p.values[p.w.key(f, k)]...)
			}
			p.in = append(p.in, "END\r\n"...)
		case wire.Incr:
			p.numbers++
			p.in = append(strconv.AppendUint(p.in, p.numbers, 10), "\r\n"...)
		default:
			p.in = append(p.in, "STORED\r\n"...)
		}
	}
	return p.w.replies(c, p.in, 1000)
}

func paths() map[string]Config {
	return map[string]Config{
		"op=get":                {},
		"op=get/keys=20":        {MultiGet: 20},
		"op=get/ledger=yes":     {Mix: Mix{wire.Get: 1 << 20, wire.Delete: 1}},
		"op=get/pattern=zipf":   {ReadKeys: keys.Pattern{Kind: keys.Zipf}},
		"op=set":                {Mix: Mix{wire.Set: 1}},
		"op=mixed":              {Mix: Mix{wire.Set: 1, wire.Get: 9, wire.Incr: 1}},
		"op=get/samples=yes":    {Samples: true},
		"op=get/progress=yes":   {Progress: func(Progress) {}},
		"op=get/keys=20/ledger": {MultiGet: 20, Mix: Mix{wire.Get: 1 << 20, wire.Delete: 1}},
	}
}

func BenchmarkPath(b *testing.B) {
	for name, cfg := range paths() {
		b.Run(name, func(b *testing.B) {
			p := newPath(cfg)
			const depth = 16
			for b.Loop() {
				if err := p.turn(depth); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/depth, "ns/req")
		})
	}
}
