package e2e

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

var rewrite = flag.Bool("rewrite", false, "record the replies of testdata/transcripts anew, from memcached")

// A dialog is one client connection: what it sends and what memcached answers.
// testdata/transcripts holds them in this form:
//
//	# a comment
//	== name of the dialog
//	> a line to send; CRLF is added
//	>> bytes to send; nothing is added
//	< a line of the reply, in canonical form (see canon)
//	<< the same, ending in what is written here
//	! apart      the steps must not be sent in one go
//	! close      the peer closes when all has been answered
//
// A step is what is sent up to the next reply. Sent and received bytes are
// written with \\ \t \r \n \xHH, {1000*a} for a thousand a's, and, where sent,
// {now+60} for a time in the future and {cas KEY} for the token last seen of KEY.
type dialog struct {
	file, name    string
	steps         []step
	apart, closes bool
	copied        bool // it is had with a pool of several copies: see unpadded
}

type step struct {
	send  []byte
	casOf string // the key whose token replaces casMark in send
	want  []string
}

const casMark = "{cas}"

var nowMark = regexp.MustCompile(`\{now\+(\d+)\}`)

// fill gives the bytes of s their tokens and times.
func (s *step) fill(c *canon) []byte {
	data := bytes.Replace(s.send, []byte(casMark), c.token(s.casOf), 1)
	return nowMark.ReplaceAllFunc(data, func(mark []byte) []byte {
		n, _ := strconv.ParseInt(string(mark[len("{now+"):len(mark)-1]), 10, 64)
		return strconv.AppendInt(nil, time.Now().Unix()+n, 10)
	})
}

// stages are the pieces of d that are sent in one go each: the whole of d, or
// its steps if one must wait for the answer to another.
func (d *dialog) stages() []step {
	if d.apart || slices.ContainsFunc(d.steps, func(s step) bool { return s.casOf != "" }) {
		return d.steps
	}
	var all step
	for _, s := range d.steps {
		all.send = append(all.send, s.send...)
		all.want = append(all.want, s.want...)
	}
	return []step{all}
}

// size is the number of bytes d sends, casMarks standing for their tokens.
func (d *dialog) size() (n int) {
	for _, s := range d.steps {
		n += len(s.send)
	}
	return n
}

func loadTranscripts(tb testing.TB) []*dialog {
	tb.Helper()
	files, err := filepath.Glob("testdata/transcripts/*.txt")
	if err != nil || len(files) == 0 {
		tb.Fatalf("no transcripts: %v", err)
	}
	var all []*dialog
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			tb.Fatal(err)
		}
		dialogs, err := parseTranscript(strings.TrimSuffix(filepath.Base(file), ".txt"), string(text))
		if err != nil {
			tb.Fatal(err)
		}
		all = append(all, dialogs...)
	}
	return all
}

func parseTranscript(file, text string) (all []*dialog, err error) {
	var d *dialog
	for number, line := range strings.Split(text, "\n") {
		mark, rest, _ := strings.Cut(line, " ")
		if d == nil && mark != "==" && mark != "#" && mark != "" {
			return nil, fmt.Errorf("%s:%d: no dialog begun", file, number+1)
		}
		switch mark {
		case "", "#":
		case "==":
			d = &dialog{file: file, name: rest}
			all = append(all, d)
		case "!":
			d.apart = d.apart || rest == "apart"
			d.closes = d.closes || rest == "close"
		case ">", ">>", "<", "<<":
			if err := d.add(mark, rest); err != nil {
				return nil, fmt.Errorf("%s:%d: %w", file, number+1, err)
			}
		default:
			return nil, fmt.Errorf("%s:%d: what is %q?", file, number+1, mark)
		}
	}
	return all, nil
}

func (d *dialog) add(mark, text string) error {
	data, casOf, err := unescape(text)
	if err != nil {
		return err
	}
	if len(mark) == 1 {
		data = append(data, "\r\n"...)
	}
	if mark[0] == '<' {
		if len(d.steps) == 0 {
			return fmt.Errorf("a reply before any request")
		}
		last := &d.steps[len(d.steps)-1]
		last.want = append(last.want, string(data))
		return nil
	}
	if n := len(d.steps); n == 0 || len(d.steps[n-1].want) > 0 {
		d.steps = append(d.steps, step{})
	}
	last := &d.steps[len(d.steps)-1]
	last.send = append(last.send, data...)
	if casOf != "" {
		last.casOf = casOf
	}
	return nil
}

var escapes = regexp.MustCompile(`\\x[0-9a-f]{2}|\\.|\{(\d+)\*(.)\}|\{now\+\d+\}|\{cas ([^}]+)\}`)

func unescape(text string) (data []byte, casOf string, err error) {
	plain := map[string]byte{`\\`: '\\', `\t`: '\t', `\r`: '\r', `\n`: '\n'}
	at := 0
	for _, m := range escapes.FindAllStringSubmatchIndex(text, -1) {
		data = append(data, text[at:m[0]]...)
		token := text[m[0]:m[1]]
		group := func(i int) string { return text[m[2*i]:m[2*i+1]] }
		switch b, isPlain := plain[token]; {
		case isPlain:
			data = append(data, b)
		case strings.HasPrefix(token, `\x`) && len(token) == 4:
			n, _ := strconv.ParseUint(token[2:], 16, 8)
			data = append(data, byte(n))
		case m[2] >= 0:
			n, _ := strconv.Atoi(group(1))
			data = append(data, bytes.Repeat([]byte(group(2)), n)...)
		case nowMark.MatchString(token): // filled in when it is sent
			data = append(data, token...)
		case m[6] >= 0:
			casOf = group(3)
			data = append(data, casMark...)
		default:
			return nil, "", fmt.Errorf("bad escape %q", token)
		}
		at = m[1]
	}
	return append(data, text[at:]...), casOf, nil
}

// escape writes one line of a reply as a transcript does, mark included.
func escape(line string) string {
	mark := "<< "
	if strings.HasSuffix(line, "\r\n") {
		mark, line = "< ", strings.TrimSuffix(line, "\r\n")
	}
	var out strings.Builder
	for i := 0; i < len(line); {
		run := 1
		for i+run < len(line) && line[i+run] == line[i] {
			run++
		}
		printable := line[i] > ' ' && line[i] < 0x7f && line[i] != '\\'
		switch {
		case run > 20 && printable:
			fmt.Fprintf(&out, "{%d*%c}", run, line[i])
			i += run - 1
		case printable || line[i] == ' ':
			out.WriteByte(line[i])
		case line[i] == '\\':
			out.WriteString(`\\`)
		default:
			fmt.Fprintf(&out, `\x%02x`, line[i])
		}
		i++
	}
	return mark + out.String()
}

// rewriteTranscript puts the replies in got, one list for each step of each dialog
// of file, in the place of the recorded ones.
func rewriteTranscript(file string, got map[string][][]string) error {
	path := filepath.Join("testdata/transcripts", file+".txt")
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var out []string
	var replies [][]string
	sending := false
	flush := func() {
		if sending {
			for _, line := range replies[0] {
				out = append(out, escape(line))
			}
			replies, sending = replies[1:], false
		}
	}
	lines := strings.Split(string(text), "\n")
	for i, line := range lines {
		mark, rest, _ := strings.Cut(line, " ")
		// A step ends at its recorded reply, which in a new dialog may be any line.
		if mark == "<" || mark == "<<" || mark == "==" || mark == "" || mark == "!" {
			flush()
		}
		if mark == "<" || mark == "<<" {
			continue
		}
		if mark == "==" {
			replies = got[rest]
		}
		if mark == ">" || mark == ">>" {
			sending = true
		}
		if i < len(lines)-1 || line != "" {
			out = append(out, line)
		}
	}
	flush()
	return os.WriteFile(path, []byte(strings.Join(out, "\n")+"\n"), 0o644)
}
