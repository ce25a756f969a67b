package memnode

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

var rewrite = flag.Bool("rewrite", false, "write the transcripts anew, with the answers of the real memcached")

// TestTranscripts plays every conversation of testdata/transcripts against the
// real memcached and against a node, each one fresh, and demands the answers of
// the file to the byte, CAS numbers included. In a file:
//
//	# comment
//	> a line to send, with CRLF; Go's escapes; {x*1000} repeats
//	+ more of the same write
//	>- +- the same without CRLF
//	< a line that must come, without its CRLF
//	<EOF the connection must end
//	---- a new connection
//
// Times are not compared: what depends on the clock is written as N. A node must
// answer the same when everything comes at once, and when it comes byte by byte.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/transcripts/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no transcripts", err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".txt")
		args := calm
		if name == "metadump" {
			args = nil
		}
		if *rewrite {
			record(t, file, startReal(t, args...))
		}
		talks := read(t, file)
		t.Run(name+"/real", func(t *testing.T) { play(t, talks, startReal(t, args...), (*client).Write) })
		t.Run(name+"/memnode", func(t *testing.T) { play(t, talks, startNode(t, Config{}).Addr(), (*client).Write) })
		switch name {
		case "large", "longline", "metadump", "unfinished": // how it is cut matters, or takes long
		default:
			t.Run(name+"/bytes", func(t *testing.T) { play(t, talks, startNode(t, Config{}).Addr(), writeBytes) })
			t.Run(name+"/pipelined", func(t *testing.T) {
				play(t, merged(talks), startNode(t, Config{}).Addr(), (*client).Write)
			})
		}
	}
}

// exchange is one write and the lines that answer it.
type exchange struct {
	at     string // file:line
	send   []byte
	expect []string
}

// read returns the exchanges of each connection of a file.
func read(t testing.TB, file string) (talks [][]exchange) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines("----\n" + string(text)) {
		line = strings.TrimSuffix(line, "\n")
		at := fmt.Sprintf("%s:%d", file, n)
		n++
		last := len(talks) - 1
		switch line[:min(1, len(line))] {
		case "-":
			talks = append(talks, nil)
		case ">":
			talks[last] = append(talks[last], exchange{at: at, send: unescape(t, line)})
		case "+":
			x := &talks[last][len(talks[last])-1]
			x.send = append(x.send, unescape(t, line)...)
		case "<":
			x := &talks[last][len(talks[last])-1]
			x.expect = append(x.expect, line)
		}
	}
	return talks
}

// merged makes one exchange of each connection.
func merged(talks [][]exchange) (out [][]exchange) {
	for _, talk := range talks {
		var all exchange
		for _, x := range talk {
			all.at = x.at
			all.send = append(all.send, x.send...)
			all.expect = append(all.expect, x.expect...)
		}
		out = append(out, []exchange{all})
	}
	return out
}

func writeBytes(c *client, b []byte) (int, error) {
	for i := range b {
		if n, err := c.Write(b[i : i+1]); err != nil {
			return i + n, err
		}
	}
	return len(b), nil
}

func play(t *testing.T, talks [][]exchange, addr string, write func(*client, []byte) (int, error)) {
	for _, talk := range talks {
		c := dial(t, addr)
		ended := false
		for _, x := range talk {
			if _, err := write(c, x.send); err != nil && !ended {
				t.Fatalf("%s: %v", x.at, err)
			}
			for _, want := range x.expect {
				got := reply(c.line())
				if got != want {
					t.Fatalf("%s: got  %s\nwant %s", x.at, got, want)
				}
				ended = got == "<EOF"
			}
		}
		if !ended { // nothing may be left
			c.do("mn\r\n", "MN\r\n")
		}
	}
}

// record keeps what a file sends and writes what addr answers.
func record(t *testing.T, file, addr string) {
	const silence = 40 * time.Millisecond
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	c := dial(t, addr)
	var out, sent []byte
	answer := func() {
		c.Write(sent)
		for got := ""; len(sent) > 0 && got != "<EOF"; {
			c.SetReadDeadline(time.Now().Add(silence))
			raw := c.line()
			if strings.Contains(raw, "timeout") {
				break
			}
			got = reply(raw)
			out = fmt.Appendf(out, "%s\n", got)
		}
		sent = sent[:0]
	}
	for line := range strings.Lines(string(text)) {
		if line[0] == '<' {
			continue
		}
		if line[0] != '+' {
			answer()
		}
		if line[0] == '-' {
			c = dial(t, addr)
		}
		if line[0] == '>' || line[0] == '+' {
			sent = append(sent, unescape(t, strings.TrimSuffix(line, "\n"))...)
		}
		out = append(out, line...)
	}
	answer()
	if err := os.WriteFile(file, out, 0o644); err != nil {
		t.Fatal(err)
	}
}

var repeated = regexp.MustCompile(`\{(.+?)\*(\d+)\}`)

// unescape turns a line to send of a transcript into bytes.
func unescape(t testing.TB, line string) []byte {
	end := "\r\n"
	text, raw := strings.CutPrefix(line[1:], "-")
	if raw {
		end = ""
	}
	text = strings.TrimPrefix(text, " ")
	s, err := strconv.Unquote(`"` + strings.ReplaceAll(text, `"`, `\"`) + `"`)
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	s = repeated.ReplaceAllStringFunc(s, func(m string) string {
		part := repeated.FindStringSubmatch(m)
		n, _ := strconv.Atoi(part[2])
		return strings.Repeat(part[1], n)
	})
	return []byte(s + end)
}

var clockWords = regexp.MustCompile(`( t| l| la=)[0-9]+\b|( exp=)-?[0-9]{2,}\b`)

// reply writes a received line as a transcript does.
func reply(line string) string {
	if strings.HasSuffix(line, "<EOF>") {
		return "<EOF"
	}
	text, crlf := strings.CutSuffix(line, "\r\n")
	if !crlf {
		text = strings.TrimSuffix(text, "\n") + `\n`
	}
	if len(text) > 400 {
		text = fmt.Sprintf("%s... %d bytes", text[:20], len(text))
	}
	q := strconv.Quote(text)
	q = strings.ReplaceAll(q[1:len(q)-1], `\"`, `"`)
	if !crlf {
		q = strings.Replace(q, `\\n`, `\n`, 1)
	}
	return "< " + string(clockWords.ReplaceAll([]byte(q), []byte("${1}${2}N")))
}

// TestStatsShape demands the names that memcached's stats has, in its order, and
// the values that tests and proxies rely on.
func TestStatsShape(t *testing.T) {
	script := "set a 0 0 1\r\n1\r\nget a b\r\nincr a 1\r\ntouch a 0\r\ntouch x 0\r\ndelete a\r\ndelete a\r\n" +
		"set b 0 0 3\r\nabc\r\ncas b 0 0 1 1\r\nx\r\ncas c 0 0 1 1\r\nx\r\nme b\r\nset big 0 0 1048576\r\n" +
		string(bytes.Repeat([]byte("x"), 1<<20)) + "\r\nflush_all 1000\r\nmg b v\r\nmg b T0\r\nmg z T0\r\nma q N0\r\ngat 0 b\r\nmn\r\n"
	stats := func(addr string) (names []string, values map[string]string) {
		c := dial(t, addr)
		c.send("%s", script)
		c.upTo("MN\r\n")
		c.send("stats\r\n")
		values = make(map[string]string)
		for _, l := range c.upTo("END\r\n") {
			if w := strings.Fields(l); w[0] == "STAT" {
				names = append(names, w[1])
				values[w[1]] = strings.Join(w[2:], " ")
			}
		}
		return names, values
	}
	n := startNode(t, Config{})
	gotNames, got := stats(n.Addr())
	wantNames, want := stats(startReal(t))
	if g, w := strings.Join(gotNames, "\n"), strings.Join(wantNames, "\n"); g != w {
		t.Errorf("stats names: got\n%s\nwant\n%s", g, w)
	}
	for _, name := range strings.Fields("version pointer_size max_connections curr_connections total_connections cmd_get cmd_set " +
		"cmd_flush cmd_touch cmd_meta get_hits get_misses delete_misses delete_hits incr_misses incr_hits cas_misses cas_hits " +
		"cas_badval touch_hits touch_misses store_too_large limit_maxbytes bytes curr_items total_items evictions bytes_read bytes_written") {
		if got[name] != want[name] {
			t.Errorf("STAT %s: got %s, want %s", name, got[name], want[name])
		}
	}
	if got["pid"] == strconv.Itoa(os.Getpid()) || got["pid"] == "" {
		t.Errorf("pid %q is the test's own", got["pid"])
	}
}
