package server

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestMergedStats merges what real memcacheds said. A file of testdata/stats is the
// lines of each node behind "-- node" and what becomes of them behind "-- merged",
// which -rewrite writes.
func TestMergedStats(t *testing.T) {
	files, err := filepath.Glob("testdata/stats/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no statistics", err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		recorded, want, _ := strings.Cut(string(b), "-- merged\n")
		var nodes [][]byte
		for _, part := range strings.Split(recorded, "-- node ")[1:] {
			_, lines, _ := strings.Cut(part, "\n")
			nodes = append(nodes, crlf(lines))
		}
		what := strings.TrimSuffix(filepath.Base(file), ".txt")
		if what == "general" {
			what = ""
		}
		got := strings.ReplaceAll(string(mergeStats(what, nodes)), "\r\n", "\n")
		if *rewrite {
			if err := os.WriteFile(file, []byte(recorded+"-- merged\n"+got), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if got != want {
			t.Errorf("%s: got\n%s", file, got)
		}
		for i, lines := range nodes {
			alone := [][]byte{nil, lines, {}}
			if got := mergeStats(what, alone); string(got) != string(lines) {
				t.Errorf("%s: node %d alone is changed to\n%s", file, i+1, got)
			}
		}
	}
}

// crlf has lines end as they do on the wire.
func crlf(lines string) []byte { return []byte(strings.ReplaceAll(lines, "\n", "\r\n")) }

func TestMergeRules(t *testing.T) {
	for _, c := range []struct{ what, name, nodes, want string }{
		{"", "cmd_get", "1 2 39", "42"},
		{"", "cmd_get", "0 0", "0"},
		{"", "rusage_user", "0.900000 0.100001 1.000000", "2.000001"},
		{"", "rusage_user", "0.000001 0.000002", "0.000003"},
		{"", "uptime", "7 3 5", "3"},
		{"", "pid", "7 3 5", "7"},
		{"", "version", "1.6.18 1.6.45", "1.6.18"},
		{"", "version", "1.6 1.7", "1.6"},
		{"", "hash_power_level", "16 17 16", "17"},
		{"", "accepting_conns", "0 1 0", "1"},
		{"", "accepting_conns", "0 0", "0"},
		{"", "of_tomorrow", "1 2", "3"},
		{"", "of_tomorrow", "yes no", "yes"},
		{"", "of_tomorrow", "-1 -2", "-1"},
		{"", "of_tomorrow", "1 yes 2", "1"},
		{"", "of_tomorrow", "yes 1", "yes"},
		{"", "of_tomorrow", "1.5 1.25", "1.5"},
		{"", "of_tomorrow", "1. .5", "1."},
		{"", "bytes", "18446744073709551615 1", "18446744073709551615"},
		{"", "bytes", "18446744073709551614 1", "18446744073709551615"},
		{"", "bytes", "99999999999999999999 1", "99999999999999999999"},
		{"items", "items:4:number", "3 4", "7"},
		{"items", "items:4:age", "30 4", "30"},
		{"items", "items:4:evicted_time", "30 4 0", "4"},
		{"items", "items:4:evicted_time", "0 0", "0"},
		{"slabs", "4:chunk_size", "96 96", "96"},
		{"slabs", "4:total_pages", "1 2", "3"},
		{"slabs", "total_malloced", "1048576 1048576", "2097152"},
		{"settings", "maxbytes", "64 64", "128"},
		{"settings", "tcpport", "11211 11212", "11211"},
		{"settings", "slab_automove_ratio", "0.80 0.80", "0.80"},
		{"sizes", "96", "3 4", "7"},
		{"sizes", "sizes_status", "disabled enabled", "disabled"},
	} {
		var nodes [][]byte
		for _, v := range strings.Fields(c.nodes) {
			nodes = append(nodes, fmt.Appendf(nil, "STAT %s %s\r\n", c.name, v))
		}
		want := fmt.Sprintf("STAT %s %s\r\n", c.name, c.want)
		if got := string(mergeStats(c.what, nodes)); got != want {
			t.Errorf("stats %s: of %s: got %q, want %q", c.what, c.nodes, got, want)
		}
	}
}

// What is no "STAT name value" does no harm; classes that not all nodes have find
// their place.
func TestMergeOddLines(t *testing.T) {
	for _, c := range []struct {
		what  string
		nodes []string
		want  string
	}{
		{"", []string{"STAT a 1\n", "b\nSTAT\nSTAT \nSTAT a\nSTAT c  d e\n", "\n"}, "STAT a 1\nb\nSTAT\nSTAT \nSTAT c  d e\n\n"},
		{"", []string{"", ""}, ""},
		{"", nil, ""},
		{"slabs", []string{"STAT 3:used 1\nSTAT active_slabs 1\nSTAT total_malloced 5\n", "STAT 1:used 1\nSTAT 3:used 2\nSTAT 10:used 3\nSTAT active_slabs 3\n"},
			"STAT 1:used 1\nSTAT 3:used 3\nSTAT 10:used 3\nSTAT active_slabs 3\nSTAT total_malloced 5\n"},
		{"items", []string{"STAT items:10:number 1\n", "STAT items:9:number 1\n"}, "STAT items:9:number 1\nSTAT items:10:number 1\n"},
		{"conns", []string{"STAT 5:addr tcp:1\nSTAT x\n", "STAT 5:addr tcp:2\n"}, "STAT 5:addr tcp:1\nSTAT x\nSTAT 1000005:addr tcp:2\n"},
		{"conns", []string{"", "STAT 5:addr tcp:1\n", "STAT 5:addr tcp:2\n"}, "STAT 1000005:addr tcp:1\nSTAT 2000005:addr tcp:2\n"},
	} {
		var nodes [][]byte
		for _, lines := range c.nodes {
			nodes = append(nodes, crlf(lines))
		}
		if got := string(mergeStats(c.what, nodes)); got != string(crlf(c.want)) {
			t.Errorf("stats %s of %q: got %q, want %q", c.what, c.nodes, got, crlf(c.want))
		}
	}
}
