package bench

import (
	"cmp"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"magent/bench/load"
)

// ticker shows how a run goes: on a terminal one line that is drawn again and again,
// elsewhere nothing. It may be called from several goroutines.
type ticker struct {
	out *os.File
	mu  sync.Mutex
}

// newTicker is nil if out is no terminal.
func newTicker(out *os.File) *ticker {
	if !term.IsTerminal(int(out.Fd())) {
		return nil
	}
	return &ticker{out: out}
}

const (
	clearLine = "\r\x1b[K"
	// usualWidth is assumed of a terminal that does not tell.
	usualWidth = 80
)

// show draws p in place of what was drawn before.
func (t *ticker) show(p load.Progress) {
	width, _, err := term.GetSize(int(t.out.Fd()))
	if err != nil || width <= 0 {
		width = usualWidth
	}
	t.print(clearLine + progressLine(p, width))
}

// line writes a line that stays.
func (t *ticker) line(text string) { t.print(clearLine + text + "\n") }

// end takes away what was drawn. There may be no ticker.
func (t *ticker) end() {
	if t != nil {
		t.print(clearLine)
	}
}

func (t *ticker) print(text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	fmt.Fprint(t.out, text)
}

// doing is each phase in words for people.
var doing = map[string]string{
	load.PhasePreload: "writing the keys", load.PhaseWarmup: "warming up", load.PhaseMeasure: "measuring", load.PhaseDrain: "waiting for the last answers",
}

// progressLine is p in less than width columns. What does not fit is left out, from the
// end: the line begins with what matters most.
func progressLine(p load.Progress, width int) string {
	parts := []string{cmp.Or(doing[p.Phase], p.Phase), thousands(p.Rate, 0) + " req/s", "p99 " + short(p.P99), plural(p.Errors, "error")}
	if p.Wrong > 0 {
		parts = append(parts, thousands(float64(p.Wrong), 0)+" WRONG")
	}
	if p.Stale > 0 {
		parts = append(parts, thousands(float64(p.Stale), 0)+" STALE")
	}
	if p.Left > 0 {
		parts = append(parts, p.Left.Round(time.Second).String()+" left")
	} else {
		parts = append(parts, "for "+p.Elapsed.Round(time.Second).String())
	}
	parts = append(parts, "p50 "+short(p.P50))
	if p.Misses > 0 {
		parts = append(parts, plural(p.Misses, "miss"))
	}
	line := parts[0]
	for _, part := range parts[1:] {
		if len([]rune(line))+2+len([]rune(part)) >= width {
			break
		}
		line += "  " + part
	}
	return line
}

// short is d to three digits, in the unit that suits it.
func short(d time.Duration) string {
	x, unit := float64(d)/1e3, "µs"
	switch {
	case d >= time.Second:
		x, unit = float64(d)/1e9, "s"
	case d >= time.Millisecond:
		x, unit = float64(d)/1e6, "ms"
	}
	return strconv.FormatFloat(x, 'f', digitsAfter(x), 64) + " " + unit
}

func digitsAfter(x float64) int {
	switch {
	case x < 9.995:
		return 2
	case x < 99.95:
		return 1
	}
	return 0
}

// thousands is x with a comma between each three digits before the point.
func thousands(x float64, decimals int) string {
	text := strconv.FormatFloat(x, 'f', decimals, 64)
	whole, rest, _ := strings.Cut(text, ".")
	sign := ""
	if strings.HasPrefix(whole, "-") {
		sign, whole = "-", whole[1:]
	}
	for at := len(whole) - 3; at > 0; at -= 3 {
		whole = whole[:at] + "," + whole[at:]
	}
	if rest != "" {
		rest = "." + rest
	}
	return sign + whole + rest
}

// plural is n things.
func plural(n int64, thing string) string {
	switch {
	case n == 1:
	case strings.HasSuffix(thing, "s"):
		thing += "es"
	default:
		thing += "s"
	}
	return thousands(float64(n), 0) + " " + thing
}
