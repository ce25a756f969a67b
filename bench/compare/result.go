package compare

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"magent/bench/meter"
	"magent/bench/process"
)

// Result is the raw file of a comparison: where and how it was made, and every run of
// it. Fields came with time; a file without some says less. Of old, Command was the
// flags alone.
type Result struct {
	meter.Provenance
	// ProxyCPUs and LoadCPUs are what proxies, and load and nodes, were pinned to.
	ProxyCPUs string `json:"cpus_proxy,omitempty"`
	LoadCPUs  string `json:"cpus_load,omitempty"`
	// Error is what ended it early, or kept workloads from being measured.
	Error string `json:"error,omitempty"`
	Rows  []Row  `json:"rows"`
}

const rawFile, textFile = "compare.json", "compare.txt"

// describe notes where and how the comparison is made.
func (o *Options) describe() *Result {
	r := &Result{Provenance: meter.Describe(o.command()), ProxyCPUs: o.proxyCPUs, LoadCPUs: o.loadCPUs}
	r.Versions = map[string]string{"memcached": process.Version(o.memcached, "-V")}
	for _, side := range append([]Rival{o.cfg.Ours}, o.cfg.Others...) {
		if side.Version != nil {
			r.Versions[side.Name] = side.Version()
		}
	}
	return r
}

// save writes the raw file and the tables into a directory of their own.
func (r *Result) save(under string) (dir string, err error) {
	dir = filepath.Join(under, r.Dir())
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return dir, fmt.Errorf("compare: %w", err)
	}
	raw, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return dir, fmt.Errorf("compare: %w", err)
	}
	var tables strings.Builder
	WriteTables(&tables, r.Rows)
	return dir, errors.Join(
		os.WriteFile(filepath.Join(dir, rawFile), append(raw, '\n'), 0o644),
		os.WriteFile(filepath.Join(dir, textFile), []byte(tables.String()), 0o644))
}

// Load reads the raw file in dir, of any age. What can be computed from the runs in it
// is computed again.
func Load(dir string) (*Result, error) {
	raw, err := os.ReadFile(filepath.Join(dir, rawFile))
	if err != nil {
		return nil, fmt.Errorf("compare: %w", err)
	}
	var r Result
	if err := json.Unmarshal(raw, &r); err != nil {
		return nil, fmt.Errorf("compare: %s: %w", dir, err)
	}
	for i := range r.Rows {
		row := &r.Rows[i]
		for _, p := range row.Pairs {
			if p.Ours == nil || p.Theirs == nil {
				return nil, fmt.Errorf("compare: %s: %s against %s: a round lacks a side", dir, row.Workload, row.Theirs)
			}
		}
		if len(row.Pairs) == 0 {
			return nil, fmt.Errorf("compare: %s: %s against %s: no rounds", dir, row.Workload, row.Theirs)
		}
		row.sum()
	}
	return &r, nil
}
