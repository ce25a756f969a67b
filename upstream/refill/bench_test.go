package refill

import (
	"bufio"
	"bytes"
	"fmt"
	"runtime"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"magent/upstream/repair"
)

const benchKeys = 200_000

// benchNames is the keys that are copied, made before anything is timed.
func benchNames() [][]byte {
	names := make([][]byte, benchKeys)
	for i := range names {
		names[i] = fmt.Appendf(nil, "user:%08d:profile", i)
	}
	return names
}

// loaded is a memcached with these keys, and an empty one.
func loaded(b *testing.B, names [][]byte, value int) (source, target place) {
	source, target = memcached(b), memcached(b)
	c, v := source.client(b), bytes.Repeat([]byte("x"), value)
	var lines []byte
	for i, name := range names {
		lines = fmt.Appendf(lines, "ms %s %d F7 T%d\r\n%s\r\n", name, len(v), 3600+i%1000, v)
	}
	c.pour(lines, benchKeys)
	return source, target
}

// BenchmarkRun copies from one memcached to another: as Run does, and by nothing but
// an mg and an ms for each key, in pipelines, with no check of anything. A paced one has
// its turns counted in what a key costs.
func BenchmarkRun(b *testing.B) {
	names := benchNames()
	source, target := loaded(b, names, 100)
	for _, bm := range []struct {
		name string
		keys int
		copy func(b *testing.B, names [][]byte, source, target place)
	}{{"raw", benchKeys, copyRaw}, {"verified", benchKeys, copyVerified(Rate{})}, {"paced", 30_000, copyVerified(Rate{Keys: 15_000})}} {
		b.Run("copy="+bm.name+"/value=100", func(b *testing.B) {
			flush := target.client(b)
			var took, spent time.Duration
			for b.Loop() {
				b.StopTimer()
				flush.say("flush_all")
				b.StartTimer()
				began, before := time.Now(), processors(b)
				bm.copy(b, names[:bm.keys], source, target)
				took += time.Since(began)
				spent += processors(b) - before
			}
			keys := float64(b.N * bm.keys)
			b.ReportMetric(keys/took.Seconds(), "keys/s")
			b.ReportMetric(float64(spent)/keys, "cpu-ns/key")
		})
	}
}

// processors is what this process has had of them.
func processors(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func copyVerified(rate Rate) func(b *testing.B, names [][]byte, source, target place) {
	return func(b *testing.B, names [][]byte, source, target place) {
		keys := make([]Key, len(names))
		for i, name := range names {
			keys[i] = Key{Name: name, Size: 200}
		}
		cfg := Config{Source: source.dial, Target: target.dial, Keys: each(keys), Rate: rate, Thread: runtime.LockOSThread}
		counts, err := Run(b.Context(), cfg)
		if err != nil || counts.Ended[Copied] != uint64(len(names)) {
			b.Fatalf("%+v, %v", counts, err)
		}
	}
}

func copyRaw(b *testing.B, names [][]byte, source, target place) {
	from, to := source.client(b), target.client(b)
	go func() {
		w := bufio.NewWriterSize(from.c, 64<<10)
		for _, name := range names {
			w.WriteString("mg ")
			w.Write(name)
			w.WriteString(" v f t k\r\n")
		}
		w.Flush()
	}()
	go func() {
		w := bufio.NewWriterSize(to.c, 64<<10)
		var out []byte
		for range names {
			line, _ := from.r.ReadSlice('\n')
			a := repair.ParseReply(line)
			key := line[bytes.LastIndexByte(line, 'k')+1 : len(line)-2]
			out = append(append(out[:0], "ms "...), key...)
			out = strconv.AppendUint(append(out, ' '), uint64(a.Size), 10)
			out = strconv.AppendUint(append(out, " F"...), a.Flags, 10)
			out = strconv.AppendInt(append(out, " T"...), a.TTL, 10)
			out = append(out, "\r\n"...)
			value, _ := from.r.Peek(int(a.Size) + 2)
			out = append(out, value...)
			from.r.Discard(len(value))
			w.Write(out)
		}
		w.Flush()
	}()
	for range names {
		if line, err := to.r.ReadSlice('\n'); err != nil || string(line) != "HD\r\n" {
			b.Fatalf("%q, %v", line, err)
		}
	}
}
