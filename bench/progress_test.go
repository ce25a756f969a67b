package bench

import (
	"errors"
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"magent/bench/load"
)

func TestProgressLine(t *testing.T) {
	p := load.Progress{
		Phase: load.PhaseMeasure, Elapsed: 12 * time.Second, Left: 48*time.Second + 300*time.Millisecond, Rate: 123456.7,
		P50: 480 * time.Microsecond, P99: 1234 * time.Microsecond, Errors: 1,
	}
	for _, c := range []struct {
		width  int
		change func(*load.Progress)
		want   string
	}{
		{80, nil, "measuring  123,457 req/s  p99 1.23 ms  1 error  48s left  p50 480 µs"},
		{69, nil, "measuring  123,457 req/s  p99 1.23 ms  1 error  48s left  p50 480 µs"},
		{68, nil, "measuring  123,457 req/s  p99 1.23 ms  1 error  48s left"},
		{30, nil, "measuring  123,457 req/s"},
		{5, nil, "measuring"},
		{120, func(p *load.Progress) { p.Wrong, p.Stale, p.Misses, p.Errors = 1000, 2, 3, 0 },
			"measuring  123,457 req/s  p99 1.23 ms  0 errors  1,000 WRONG  2 STALE  48s left  p50 480 µs  3 misses"},
		{80, func(p *load.Progress) { p.Left = 0 }, "measuring  123,457 req/s  p99 1.23 ms  1 error  for 12s  p50 480 µs"},
		{47, func(p *load.Progress) { p.Phase = load.PhaseDrain }, "waiting for the last answers  123,457 req/s"},
	} {
		q := p
		if c.change != nil {
			c.change(&q)
		}
		if got := progressLine(q, c.width); got != c.want {
			t.Errorf("in %d columns %q, want %q", c.width, got, c.want)
		}
	}
}

// openTerminal is a terminal of so many columns, and the end at which one reads what
// is written there.
func openTerminal(t *testing.T, columns uint16) (screen, terminal *os.File) {
	t.Helper()
	open := func(path string) *os.File {
		f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	screen = open("/dev/ptmx")
	fd := int(screen.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: columns}); err != nil {
		t.Fatal(err)
	}
	return screen, open(fmt.Sprintf("/dev/pts/%d", number))
}

func TestProgressOnATerminal(t *testing.T) {
	screen, terminal := openTerminal(t, 30)
	ticker := newTicker(terminal)
	if ticker == nil {
		t.Fatal("a terminal is taken for none")
	}
	ticker.show(load.Progress{Phase: load.PhaseWarmup, Rate: 1000})
	ticker.line("something happened")
	ticker.show(load.Progress{Phase: load.PhaseMeasure, Rate: 2000})
	ticker.end()
	want := clearLine + "warming up  1,000 req/s" + clearLine + "something happened\r\n" + clearLine + "measuring  2,000 req/s" + clearLine
	terminal.Close() // which ends what there is to read, with EIO
	if got, err := io.ReadAll(screen); !errors.Is(err, unix.EIO) || string(got) != want {
		t.Errorf("on the screen is %q, %v, want %q", got, err, want)
	}
}

// A pipe is no terminal: nothing is drawn there.
func TestNoProgressInAPipe(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if newTicker(w) != nil {
		t.Error("a pipe is taken for a terminal")
	}
}

func TestShort(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0.00 µs", 1500: "1.50 µs", 9994: "9.99 µs", 9996: "10.0 µs", 99949: "99.9 µs", 99960: "100 µs", 999 * time.Microsecond: "999 µs",
		1234 * time.Microsecond: "1.23 ms", 12340 * time.Microsecond: "12.3 ms", 430 * time.Millisecond: "430 ms", 1500 * time.Millisecond: "1.50 s",
		100 * time.Second: "100 s",
	} {
		if got := short(d); got != want {
			t.Errorf("%v is %q, want %q", d, got, want)
		}
	}
}

func TestThousands(t *testing.T) {
	for _, c := range []struct {
		x        float64
		decimals int
		want     string
	}{{0, 0, "0"}, {999, 0, "999"}, {1000, 0, "1,000"}, {1234567.89, 1, "1,234,567.9"}, {-1234, 0, "-1,234"}, {-999.5, 2, "-999.50"}} {
		if got := thousands(c.x, c.decimals); got != c.want {
			t.Errorf("%v is %q, want %q", c.x, got, c.want)
		}
	}
}
