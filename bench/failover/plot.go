package failover

import (
	"fmt"
	"image/color"
	"io"
	"math"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// The colours can be told apart by those who see fewer of them: Okabe and Ito, Color
// Universal Design, 2002. No two lines of a panel have the same dashes either.
var (
	blue       = color.NRGBA{0x00, 0x72, 0xb2, 0xff}
	vermillion = color.NRGBA{0xd5, 0x5e, 0x00, 0xff}
	green      = color.NRGBA{0x00, 0x9e, 0x73, 0xff}
	purple     = color.NRGBA{0xcc, 0x79, 0xa7, 0xff}
	grey       = color.NRGBA{0x80, 0x80, 0x80, 0xff}
	shade      = color.NRGBA{0xd5, 0x5e, 0x00, 0x18}
)

const (
	plotWidth, plotHeight = 10 * vg.Inch, 8 * vg.Inch
	// leastLatency is where the scale of latencies begins, in ms: it has no 0.
	leastLatency = 0.01
)

// Plot draws the timeline as SVG: the rate of good answers, the 99th percentile, and
// what was not good, above each other, with the fault and the return marked.
func (r *Result) Plot(w io.Writer) error {
	panels := []*plot.Plot{r.ratePanel(), r.latencyPanel(), r.badPanel()}
	head := r.heading(panels[0].Title.TextStyle, panels[0].Legend.TextStyle)
	c := vgsvg.New(plotWidth, plotHeight+head.height())
	r.draw(panels, head.draw(draw.New(c)))
	if _, err := c.WriteTo(w); err != nil {
		return fmt.Errorf("failover: the plot: %w", err)
	}
	return nil
}

func (r *Result) draw(panels []*plot.Plot, dc draw.Canvas) {
	rows := make([][]*plot.Plot, len(panels))
	end := math.Max(seconds(r.Length), 0.1)
	if n := len(r.Timeline); n > 0 {
		end = math.Max(end, seconds(r.Timeline[n-1].At)+binWidth.Seconds())
	}
	for i, p := range panels {
		p.Add(r.marks(p.Legend.TextStyle))
		p.X.Min, p.X.Max = 0, end
		p.X.Tick.Marker = round(10)
		rows[i] = []*plot.Plot{p}
	}
	panels[len(panels)-1].X.Label.Text = "seconds since the load began"
	// The numbers of the marks are above each panel.
	tiles := draw.Tiles{Rows: len(rows), Cols: 1, PadY: vg.Points(18), PadTop: vg.Points(18), PadBottom: vg.Points(6), PadLeft: vg.Points(6), PadRight: vg.Points(14)}
	for i, row := range plot.Align(rows, tiles, dc) {
		panels[i].Draw(row[0])
	}
}

// round marks an axis at about so many numbers that have one digit: 1, 2 or 5 and zeros.
type round int

// Ticks makes round a plot.Ticker.
func (n round) Ticks(low, high float64) (ticks []plot.Tick) {
	size := math.Pow(10, math.Floor(math.Log10((high-low)/float64(n))))
	for _, m := range [...]float64{1, 2, 5, 10} {
		if step := m * size; (high-low)/step <= float64(n) {
			for i := math.Ceil(low / step); i*step <= high; i++ {
				ticks = append(ticks, plot.Tick{Value: i * step, Label: fmt.Sprintf("%.6g", i*step)})
			}
			return ticks
		}
	}
	return nil
}

func seconds(m Millis) float64 { return time.Duration(m).Seconds() }

// panel is an empty one, in a font without serifs.
func panel(label string) *plot.Plot {
	p := plot.New()
	p.Y.Label.Text = label
	p.Legend.Top = true
	p.Legend.Left = true
	p.Legend.XOffs, p.Legend.YOffs = vg.Points(8), -vg.Points(16)
	p.Legend.Padding = vg.Points(1)
	p.Legend.ThumbnailWidth = vg.Points(24)
	for _, s := range []*text.Style{&p.Title.TextStyle, &p.X.Label.TextStyle, &p.Y.Label.TextStyle, &p.X.Tick.Label, &p.Y.Tick.Label, &p.Legend.TextStyle} {
		s.Font.Typeface, s.Font.Variant = "Liberation", "Sans"
	}
	grid := plotter.NewGrid()
	grid.Vertical.Width = 0
	grid.Horizontal.Color = color.NRGBA{0xe0, 0xe0, 0xe0, 0xff}
	p.Add(grid)
	return p
}

// ratePanel draws how many good answers came. Of the last bin, and of what came after
// requests had ceased to be due, there is no rate.
func (r *Result) ratePanel() *plot.Plot {
	p := panel("good answers per second")
	top := r.Rate
	r.line(p, "", blue, nil, func(b *Bin) float64 {
		if b.At+Millis(binWidth) > r.Length {
			return math.NaN()
		}
		rate := float64(b.Good) / binWidth.Seconds()
		top = math.Max(top, rate)
		return rate
	})
	p.Y.Min, p.Y.Max, p.Y.Tick.Marker = 0, 1.15*top, round(5)
	return p
}

func (r *Result) latencyPanel() *plot.Plot {
	p := panel("latency, ms")
	top := 10 * leastLatency
	ms := func(m Millis) float64 {
		if m < 0 {
			return math.NaN()
		}
		v := math.Max(leastLatency, float64(m)/float64(time.Millisecond))
		top = math.Max(top, v)
		return v
	}
	r.line(p, "slowest", grey, dashes(2, 2), func(b *Bin) float64 { return ms(b.Slowest) })
	r.line(p, "p99", blue, nil, func(b *Bin) float64 { return ms(b.P99) })
	p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	// Whole decades, with room for the legend.
	p.Y.Min, p.Y.Max = leastLatency, math.Pow(10, math.Ceil(math.Log10(top)+0.5))
	return p
}

func (r *Result) badPanel() *plot.Plot {
	p := panel(fmt.Sprintf("answers in %d ms", binWidth.Milliseconds()))
	top := 5.0
	count := func(n int) float64 {
		top = math.Max(top, float64(n))
		return float64(n)
	}
	r.line(p, "errors", vermillion, nil, func(b *Bin) float64 { return count(b.Errors()) })
	r.line(p, "misses", blue, dashes(6, 3), func(b *Bin) float64 { return count(b.Misses) })
	r.line(p, "stale or wrong", purple, dashes(2, 2), func(b *Bin) float64 { return count(b.Stale + b.Wrong) })
	p.Y.Min, p.Y.Max, p.Y.Tick.Marker = 0, 1.6*top, round(5)
	return p
}

func dashes(points ...float64) []vg.Length {
	d := make([]vg.Length, len(points))
	for i, p := range points {
		d[i] = vg.Points(p)
	}
	return d
}

// line draws what of says of each bin, with a break where that is NaN.
func (r *Result) line(p *plot.Plot, name string, c color.Color, dash []vg.Length, of func(*Bin) float64) {
	style := draw.LineStyle{Color: c, Width: vg.Points(1.4), Dashes: dash}
	var run plotter.XYs
	flush := func() {
		if len(run) > 0 {
			p.Add(&plotter.Line{XYs: run, LineStyle: style, StepStyle: plotter.MidStep})
		}
		run = nil
	}
	for i := range r.Timeline {
		b := &r.Timeline[i]
		y := of(b)
		if math.IsNaN(y) {
			flush()
			continue
		}
		run = append(run, plotter.XY{X: seconds(b.At) + binWidth.Seconds()/2, Y: y})
	}
	flush()
	if name != "" {
		p.Legend.Add(name, &plotter.Line{LineStyle: style})
	}
}
