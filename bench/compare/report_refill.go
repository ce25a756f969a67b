package compare

import (
	"fmt"
	"path/filepath"
	"strings"

	"magent/bench/refill"
)

// refillBlocks are what is written of refills: by name, like blocks.
var refillBlocks = map[string]func(dir string, s *refill.Set) (text string, files map[string][]byte, err error){
	"refill":      refillTable,
	"refill-plot": refillPlot,
	"refill-host": refillHost,
}

// refills is the mark that begins a block of refills, and its text.
func (f *filler) refills(name, dir string) (string, error) {
	if f.newer(dir, refill.RawFile) {
		dir = f.newest
		f.moved = append(f.moved, name)
	}
	set, err := refill.Load(filepath.Join(f.base, dir))
	if err != nil {
		return "", err
	}
	text, files, err := refillBlocks[name](dir, set)
	if err != nil {
		return "", err
	}
	return f.begun(name, dir, text, files), nil
}

func refillTable(_ string, s *refill.Set) (string, map[string][]byte, error) {
	return table{head: refill.Head, rows: s.Lines()}.markdown(), nil, nil
}

func refillPlot(dir string, s *refill.Set) (string, map[string][]byte, error) {
	svg, err := s.SVG()
	if err != nil {
		return "", nil, err
	}
	text := fmt.Sprintf("![A node is killed, comes back empty and is refilled: the timeline of the worst round](%s/%s)\n", dir, refill.PlotFile)
	return text, map[string][]byte{refill.PlotFile: svg}, nil
}

func refillHost(dir string, s *refill.Set) (string, map[string][]byte, error) {
	var b strings.Builder
	provenance(&b, dir, refill.RawFile, s.Provenance, commandLine(s.Command))
	item(&b, "Keys: %d, with values of %s bytes. magent has %s while it is idle.", s.Keys, s.Values, orOwn(s.IdleFlags))
	item(&b, "Load: %s.", s.Load)
	item(&b, "Pinned: magent and the raw copy to %s, load and nodes to %s.", cpuList(s.ProxyCPUs), cpuList(s.LoadCPUs))
	rounds := "rounds"
	if len(s.Rounds) == 1 {
		rounds = "round"
	}
	item(&b, "%d %s.", len(s.Rounds), rounds)
	if s.Error != "" {
		item(&b, "**Not complete**: %s", strings.ReplaceAll(s.Error, "\n", "; "))
	}
	return b.String(), nil, nil
}

func orOwn(flags string) string {
	if flags == "" {
		return "its own rate"
	}
	return "`" + flags + "`"
}

func cpuList(cpus []int) string {
	if len(cpus) == 0 {
		return "any CPU"
	}
	return "CPU " + strings.Trim(strings.ReplaceAll(fmt.Sprint(cpus), " ", ","), "[]")
}
