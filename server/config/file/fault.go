package file

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Fault is one thing that is wrong with a file.
type Fault struct {
	Line, Column int    // from 1; 0: it is in no line, but in what is missing
	Text         string // a sentence that says what was meant, if that can be told
}

// Faults is all that is wrong with a file, in the order of its lines. It is an error.
type Faults struct {
	Name string // of the file
	All  []Fault

	lines []string
}

// Error says each fault with its place, and the line that it is in:
//
//	magent.yml:7:5: pool main has no "time-out": is timeout meant?
//	   7 |     time-out: 250ms
//	     |     ^
func (f *Faults) Error() string {
	var b strings.Builder
	for i, one := range f.All {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(f.Line(one))
		if line, column := f.excerpt(one); line != "" {
			fmt.Fprintf(&b, "\n%4d | %s\n     | %*s", one.Line, line, column, "^")
		}
	}
	return b.String()
}

// Line is a fault with its place.
func (f *Faults) Line(one Fault) string {
	if one.Line == 0 {
		return f.Name + ": " + one.Text
	}
	return fmt.Sprintf("%s:%d:%d: %s", f.Name, one.Line, one.Column, one.Text)
}

// excerptWidth is how much of a long line is shown.
const excerptWidth = 100

// excerpt is the line of a fault, or what is around it there, and the column of that.
func (f *Faults) excerpt(one Fault) (line string, column int) {
	if one.Line == 0 || one.Line > len(f.lines) {
		return "", 0
	}
	text := []rune(printable(f.lines[one.Line-1]))
	column = min(max(one.Column, 1), len(text)+1)
	if cut := column - excerptWidth/2; len(text) > excerptWidth && cut > 0 {
		text, column = text[cut:], column-cut
	}
	return string(text[:min(len(text), excerptWidth)]), column
}

// printable is a line of which every character takes one column, and none moves a terminal's cursor.
func printable(line string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t' || r == '\r':
			return ' '
		case r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == utf8.RuneError:
			return '?'
		}
		return r
	}, line)
}

// sort puts faults in the order of the file; those that are nowhere come last.
func (f *Faults) sort() {
	slices.SortStableFunc(f.All, func(a, b Fault) int {
		if (a.Line == 0) != (b.Line == 0) {
			return cmp.Compare(b.Line, a.Line)
		}
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}

// nearest is the name that was meant by text; "" if none is near.
func nearest(text string, names []string) string {
	text = strings.ReplaceAll(strings.ToLower(text), "_", "-")
	best, least := "", 1+max(1, len(text)/3)
	for _, name := range names {
		if d := distance(text, name); d < least {
			best, least = name, d
		}
	}
	return best
}

// distance is how many letters have to be put in, left out, changed, or swapped with the next to
// make b of a: optimal string alignment.
func distance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row[0] = i + 1
		for j := range len(b) {
			change := 1
			if a[i] == b[j] {
				change = 0
			}
			row[j+1] = min(last[j]+change, last[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}

// list is names as a sentence has them: a, b and c.
func list(names []string) string {
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	end := len(names) - 1
	return strings.Join(names[:end], ", ") + " and " + names[end]
}
