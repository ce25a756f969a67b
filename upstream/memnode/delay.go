package memnode

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"time"
)

// Delay is a duration, or the law by which one is drawn.
type Delay struct {
	Law   law
	A, B  time.Duration
	Shape float64 // of pareto
}

// law is a word of the language, or "" for what is written without one.
type law string

const (
	uniform law = ""       // from A to B
	expo    law = "exp"    // mean A
	normal  law = "normal" // mean A, standard deviation B
	pareto  law = "pareto" // least A, and Shape
)

// maxDelay bounds every duration that is written or drawn.
const maxDelay = 24 * time.Hour

// kept is the share of a law's draws that can come; the longest are left out.
const kept = 0.9999

// String prints the delay as the language writes it.
func (d Delay) String() string {
	switch {
	case d.Law == uniform && d.A != d.B:
		return fmt.Sprintf("%v..%v", d.A, d.B)
	case d.Law == uniform:
		return d.A.String()
	case d.Law == normal:
		return fmt.Sprintf("%s %v %v", d.Law, d.A, d.B)
	case d.Law == pareto:
		return fmt.Sprintf("%s %v %s", d.Law, d.A, strconv.FormatFloat(d.Shape, 'g', -1, 64))
	}
	return fmt.Sprintf("%s %v", d.Law, d.A)
}

// draw takes the next delay from r: by inversion of the law's distribution function.
func (d Delay) draw(r *rand.Rand) time.Duration {
	if d.Law == uniform {
		return d.A + time.Duration(r.Int64N(int64(d.B-d.A)+1))
	}
	u, a, b := kept*r.Float64(), float64(d.A), float64(d.B)
	var x float64
	switch d.Law {
	case expo:
		x = -a * math.Log1p(-u)
	case normal:
		x = a + b*math.Sqrt2*math.Erfinv(2*u-1)
	case pareto:
		x = a * math.Pow(1-u, -1/d.Shape)
	}
	return time.Duration(min(max(x, 0), float64(maxDelay)))
}
