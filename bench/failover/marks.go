package failover

import (
	"cmp"
	"fmt"
	"image/color"
	"math"
	"slices"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// A signpost is a vertical line at a moment. One with a name has a number above each
// panel, and a line in the legend that says what the number stands for.
type signpost struct {
	at    Millis
	name  string
	color color.Color
	dash  []vg.Length
}

// signposts are the steps, and when all was well again, in order.
func (r *Result) signposts() (posts []signpost) {
	for _, m := range r.Marks {
		post := signpost{m.From, "", grey, dashes(1, 3)}
		switch at := m.returned(); {
		case m.Error != "":
			post = signpost{m.From, m.Name + " (failed)", grey, nil}
		case m.Fails:
			post = signpost{m.From, m.Name, vermillion, nil}
		case at >= 0:
			post = signpost{at, m.Name, green, nil}
		}
		posts = append(posts, post)
	}
	if after := r.trusted(); after > 0 {
		posts = append(posts, signpost{r.Back + after, "warm", green, dashes(4, 4)})
	}
	slices.SortStableFunc(posts, func(a, b signpost) int { return cmp.Compare(a.at, b.at) })
	return posts
}

// marks are drawn over the whole height of a panel, whatever its scale, with their
// numbers above it. The time without what failed is shaded.
type marks struct {
	posts    []signpost
	from, to Millis // of the shade; from is Never for none
	style    text.Style
}

func (r *Result) marks(style text.Style) *marks {
	until := r.Length
	if r.Back >= r.Fault && r.Back >= 0 {
		until = r.Back
	}
	return &marks{posts: r.signposts(), from: r.Fault, to: until, style: style}
}

// Plot makes marks a plot.Plotter.
func (m *marks) Plot(c draw.Canvas, p *plot.Plot) {
	x := func(at Millis) vg.Length { return c.X(p.X.Norm(math.Min(seconds(at), p.X.Max))) }
	if m.from >= 0 {
		c.FillPolygon(shade, []vg.Point{{X: x(m.from), Y: c.Min.Y}, {X: x(m.from), Y: c.Max.Y}, {X: x(m.to), Y: c.Max.Y}, {X: x(m.to), Y: c.Min.Y}})
	}
	style := m.style
	style.Color, style.XAlign, style.YAlign = color.Black, text.XCenter, text.YBottom
	var group [2]int // the first and the last of marks too near each other for a number each
	var from, to vg.Length
	label := func() string {
		if group[0] == group[1] {
			return strconv.Itoa(group[0])
		}
		return fmt.Sprintf("%d–%d", group[0], group[1])
	}
	flush := func() {
		if group[0] > 0 {
			c.FillText(style, vg.Point{X: (from + to) / 2, Y: c.Max.Y + vg.Points(3)}, label())
		}
	}
	for _, post := range m.posts {
		here := x(post.at)
		c.StrokeLine2(draw.LineStyle{Color: post.color, Width: vg.Points(1.2), Dashes: post.dash}, here, c.Min.Y, here, c.Max.Y)
		if post.name == "" {
			continue
		}
		next := group[1] + 1
		if group[0] > 0 && here-(from+to)/2 < (style.Width(label())+style.Width(strconv.Itoa(next)))/2*widest+vg.Points(8) {
			group[1], to = next, here
			continue
		}
		flush()
		group, from, to = [2]int{next, next}, here, here
	}
	flush()
}

// legendMost is how many lines the legend has at most, apart from that of dotted lines.
const legendMost = 10

// legend is what the numbers and the dotted lines stand for.
func (r *Result) legend() (lines []string) {
	dotted := ""
	for _, post := range r.signposts() {
		if post.name == "" {
			dotted = "dotted: the steps between"
			continue
		}
		lines = append(lines, fmt.Sprintf("%d at %.2f s: %s", len(lines)+1, seconds(post.at), post.name))
	}
	if n := len(lines) - legendMost; n > 0 {
		lines = append(lines[:legendMost-1], fmt.Sprintf("and %d more", n+1))
	}
	if dotted != "" {
		lines = append(lines, dotted)
	}
	return lines
}

// A heading is the name of a drill and its legend, above the panels.
type heading struct {
	name         string
	lines        []string
	title, style text.Style
	width        vg.Length
	columns      int // of lines: two if all are short
}

func (r *Result) heading(title, style text.Style) *heading {
	title.XAlign, title.YAlign = text.XLeft, text.YTop
	style.XAlign, style.YAlign = text.XLeft, text.YTop
	h := &heading{name: r.Name, lines: r.legend(), title: title, style: style, width: plotWidth - 2*headMargin, columns: 2}
	for _, line := range h.lines {
		if fit(line, style, h.width/2) != line {
			h.columns = 1
		}
	}
	return h
}

const headMargin vg.Length = 8 // points

// rows is how many lines there are in each column.
func (h *heading) rows() int { return (len(h.lines) + h.columns - 1) / h.columns }

func (h *heading) height() vg.Length {
	return headMargin + h.title.Font.Size*1.6 + h.style.Font.Size*1.4*vg.Length(h.rows())
}

// draw draws h at the top of dc, and returns what is left of it.
func (h *heading) draw(dc draw.Canvas) draw.Canvas {
	left, y := dc.Min.X+headMargin, dc.Max.Y-headMargin
	dc.FillText(h.title, vg.Point{X: left, Y: y}, fit(h.name, h.title, h.width))
	y -= h.title.Font.Size * 1.6
	column := h.width / vg.Length(h.columns)
	for i, line := range h.lines {
		at := vg.Point{X: left + column*vg.Length(i/h.rows()), Y: y - h.style.Font.Size*1.4*vg.Length(i%h.rows())}
		dc.FillText(h.style, at, fit(line, h.style, column))
	}
	return draw.Crop(dc, 0, 0, 0, -h.height())
}

// widest is how much wider a viewer's font may be than ours.
const widest = 1.3

// fit is line, on one line and no wider than width: what is too much is left out.
func fit(line string, style text.Style, width vg.Length) string {
	line = strings.Join(strings.Fields(line), " ")
	if style.Width(line)*widest <= width {
		return line
	}
	runes := []rune(line)
	for len(runes) > 0 && style.Width(string(runes)+"…")*widest > width {
		runes = runes[:len(runes)-1]
	}
	return string(runes) + "…"
}
