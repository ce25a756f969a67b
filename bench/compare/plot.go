package compare

import (
	"bytes"
	"fmt"
	"image/color"
	"math"
	"slices"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// chart is a kind of plot: workloads along the x axis, and for each of its sides one
// mark per figure, with a line from the smallest to the largest of the rounds.
type chart struct {
	name, title, unit string
	figures           []figure
	bars, log         bool
}

// figure is one figure of a side, drawn in the side's colour.
type figure struct {
	of    func(Side) Spread
	glyph draw.GlyphDrawer
}

var charts = []chart{
	{
		name: "cpu", title: "CPU of the proxy per request; lines from the smallest to the largest of the rounds", unit: "µs", bars: true,
		figures: []figure{{of: func(s Side) Spread { return s.Proxy }}},
	},
	{
		name: "latency", title: "Latency, p50 (dots) and p99 (triangles); lines from the smallest to the largest of the rounds", unit: "ms", log: true,
		figures: []figure{
			{of: func(s Side) Spread { return s.P50.over(1000) }, glyph: draw.CircleGlyph{}},
			{of: func(s Side) Spread { return s.P99.over(1000) }, glyph: draw.PyramidGlyph{}},
		},
	},
}

// Colours that the colour-blind tell apart too (Okabe and Ito, Color Universal Design).
var palette = []color.RGBA{
	{0, 114, 178, 255}, {230, 159, 0, 255}, {120, 120, 120, 255}, {0, 158, 115, 255}, {213, 94, 0, 255}, {204, 121, 167, 255},
}

// A point is 4/3 of a pixel: the plots are 800 pixels wide.
const (
	plotWidth  = 600
	plotHeight = 270
	plotIndent = 40
	lineHeight = 15
	textSize   = 9
)

// svg draws the chart of sides, which are in the order of their workloads.
func (c chart) svg(sides []Side) ([]byte, error) {
	workloads, names := c.axes(sides)
	if len(names) == 0 {
		return nil, fmt.Errorf("compare: no side has what %q shows", c.title)
	}
	p := plot.New()
	p.Y.Label.Text = c.unit
	p.Y.Tick.Marker = plot.TickerFunc(ticks)
	if c.log {
		p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plot.TickerFunc(logTicks)
	}
	grid := plotter.NewGrid()
	grid.Vertical.Width, grid.Horizontal.Color = 0, color.Gray{Y: 220}
	p.Add(grid)
	legend := plot.NewLegend()
	for i, name := range names {
		thumb, err := c.add(p, sides, workloads, name, i, len(names))
		if err != nil {
			return nil, fmt.Errorf("compare: plot of %s: %w", name, err)
		}
		legend.Add(name, thumb)
	}
	p.NominalX(workloads...)
	p.X.Min, p.X.Max = -0.5, float64(len(workloads))-0.5
	if c.log {
		p.Y.Min, p.Y.Max = p.Y.Min/1.2, p.Y.Max*1.2
	} else {
		p.Y.Min, p.Y.Max = 0, p.Y.Max*1.05
	}
	return c.render(p, &legend, len(names))
}

// axes lists the workloads, and the sides that have something to show.
func (c chart) axes(sides []Side) (workloads, names []string) {
	for _, s := range sides {
		if !slices.Contains(workloads, s.Workload) {
			workloads = append(workloads, s.Workload)
		}
		if c.figures[0].of(s).Median > 0 && !slices.Contains(names, s.Name) {
			names = append(names, s.Name)
		}
	}
	return workloads, names
}

// marks are a figure of one side: where, how high, and the ends of the range.
type marks struct {
	plotter.XYs
	plotter.YErrors
}

// add draws side number i of n, by name, over all workloads, and returns what shows it
// in the legend.
func (c chart) add(p *plot.Plot, sides []Side, workloads []string, name string, i, n int) (thumb plot.Thumbnailer, err error) {
	const share = 0.8 // of a workload's room: the rest keeps workloads apart
	width := share / float64(n*len(c.figures))
	for k := len(c.figures) - 1; k >= 0; k-- {
		slot := float64(i*len(c.figures)+k) + 0.5
		var m marks
		for _, s := range sides {
			v := c.figures[k].of(s)
			if s.Name != name || v.Median == 0 {
				continue
			}
			x := float64(slices.Index(workloads, s.Workload)) - share/2 + slot*width
			m.XYs = append(m.XYs, plotter.XY{X: x, Y: v.Median})
			m.YErrors = append(m.YErrors, struct{ Low, High float64 }{v.Median - v.Min, v.Max - v.Median})
		}
		if thumb, err = c.mark(p, m, c.figures[k].glyph, palette[i%len(palette)], width*0.9); err != nil {
			return nil, err
		}
	}
	return thumb, nil
}

// mark draws one figure.
func (c chart) mark(p *plot.Plot, m marks, glyph draw.GlyphDrawer, ink color.RGBA, width float64) (plot.Thumbnailer, error) {
	ends, err := plotter.NewYErrorBars(m)
	if err != nil {
		return nil, err
	}
	ends.CapWidth, ends.Width = 4, 0.75
	if c.bars {
		var bars []plotter.XYer
		for _, at := range m.XYs {
			l, r := at.X-width/2, at.X+width/2
			bars = append(bars, plotter.XYs{{X: l}, {X: l, Y: at.Y}, {X: r, Y: at.Y}, {X: r}})
		}
		shape, err := plotter.NewPolygon(bars...)
		if err != nil {
			return nil, err
		}
		shape.Color, shape.Width = ink, 0
		p.Add(shape, ends)
		return shape, nil
	}
	dots, err := plotter.NewScatter(m)
	if err != nil {
		return nil, err
	}
	dots.GlyphStyle = draw.GlyphStyle{Color: ink, Radius: 3, Shape: glyph}
	ends.Color = ink
	p.Add(ends, dots)
	return dots, nil
}

// render draws p below its title and its legend of so many lines, where they cover
// nothing. All text has one face, and takes the place of it where a reader lacks that.
func (c chart) render(p *plot.Plot, legend *plot.Legend, lines int) ([]byte, error) {
	face := font.Font{Typeface: "Liberation", Variant: "Sans", Size: textSize}
	for _, s := range []*text.Style{
		&p.X.Tick.Label, &p.Y.Tick.Label, &p.Y.Label.TextStyle, &legend.TextStyle,
	} {
		s.Font = face
	}
	above := vg.Length(lines+1)*lineHeight + 6
	canvas := vgsvg.New(plotWidth, plotHeight+above)
	all := draw.New(canvas)
	all.SetColor(color.White)
	all.Fill(all.Rectangle.Path())
	p.Draw(draw.Crop(all, 4, -10, 4, -above))
	title := legend.TextStyle
	title.YAlign = text.YTop
	all.FillText(title, vg.Point{X: all.Min.X + plotIndent, Y: all.Max.Y - 4}, c.title)
	legend.Top, legend.Left = true, true
	legend.Padding = lineHeight - legend.TextStyle.Rectangle("M").Max.Y
	legend.Draw(draw.Crop(all, plotIndent, 0, 0, -lineHeight-6))
	var b bytes.Buffer
	if _, err := canvas.WriteTo(&b); err != nil {
		return nil, fmt.Errorf("compare: %w", err)
	}
	return bytes.ReplaceAll(b.Bytes(), []byte("font-family:Liberation Sans"),
		[]byte("font-family:Liberation Sans,Arial,Helvetica,sans-serif")), nil
}

// ticks are multiples of 1, 2 or 5 times a power of ten: six to twelve or so.
func ticks(low, high float64) (marks []plot.Tick) {
	step := math.Pow(10, math.Floor(math.Log10(high-low)))
	for _, finer := range []float64{2, 2.5, 2} {
		if (high-low)/step < 5 {
			step /= finer
		}
	}
	for i := math.Ceil(low / step); i*step <= high; i++ {
		marks = append(marks, plot.Tick{Value: i * step, Label: strconv.FormatFloat(i*step, 'g', 6, 64)})
	}
	return marks
}

// logTicks are 1, 2 and 5 in every power of ten.
func logTicks(low, high float64) (marks []plot.Tick) {
	for e := math.Floor(math.Log10(low)); e <= math.Ceil(math.Log10(high)); e++ {
		for _, step := range []float64{1, 2, 5} {
			if v := step * math.Pow(10, e); v >= low && v <= high {
				marks = append(marks, plot.Tick{Value: v, Label: strconv.FormatFloat(v, 'g', 3, 64)})
			}
		}
	}
	return marks
}
