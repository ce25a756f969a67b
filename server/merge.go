package server

import (
	"bytes"
	"strconv"
)

// mergeStats makes one node's statistics out of several: names keep the order of
// the first that has them, numbers are summed, what cannot be is the first's.
func mergeStats(_ string, nodes [][]byte) []byte {
	type stat struct {
		name, value []byte
		sum         uint64
		numeric     bool
	}
	var stats []stat
	at := map[string]int{}
	for _, lines := range nodes {
		for line := range bytes.Lines(lines) {
			name, value, _ := bytes.Cut(bytes.TrimRight(bytes.TrimPrefix(line, []byte("STAT ")), "\r\n"), []byte(" "))
			n, err := strconv.ParseUint(string(value), 10, 64)
			i, known := at[string(name)]
			if !known {
				at[string(name)] = len(stats)
				stats = append(stats, stat{name, value, n, err == nil})
				continue
			}
			stats[i].sum += n
			stats[i].numeric = stats[i].numeric && err == nil
		}
	}
	var out []byte
	for _, s := range stats {
		out = append(append(append(out, "STAT "...), s.name...), ' ')
		if s.numeric {
			out = strconv.AppendUint(out, s.sum, 10)
		} else {
			out = append(out, s.value...)
		}
		out = append(out, "\r\n"...)
	}
	return out
}
