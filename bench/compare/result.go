package compare

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"magent/bench/process"
)

// Result is the raw file of a comparison: where and how it was made, and every run of
// it. Fields came with time; a file without some says less.
type Result struct {
	Date   time.Time `json:"date"`
	Commit string    `json:"commit"`
	// Command is the whole of it; of old, only the flags.
	Command []string `json:"command"`
	Kernel  string   `json:"kernel"`
	CPU     string   `json:"cpu"`
	Cores   int      `json:"cores"`
	// Virtual says that a hypervisor was seen.
	Virtual bool `json:"virtual,omitempty"`
	// ProxyCPUs and LoadCPUs are what proxies, and load and nodes, were pinned to.
	ProxyCPUs string            `json:"cpus_proxy,omitempty"`
	LoadCPUs  string            `json:"cpus_load,omitempty"`
	Go        string            `json:"go"`
	Versions  map[string]string `json:"versions"`
	// Error is what ended it early, or kept workloads from being measured.
	Error string `json:"error,omitempty"`
	Rows  []Row  `json:"rows"`
}

const rawFile, textFile = "compare.json", "compare.txt"

// describe notes where and how the comparison is made.
func (o *Options) describe() *Result {
	info, _ := os.ReadFile("/proc/cpuinfo") // without it the file says less, that is all
	r := &Result{
		Date: time.Now().UTC(), Commit: commit(), Command: o.command(),
		Cores: runtime.NumCPU(), Go: runtime.Version(),
		ProxyCPUs: o.proxyCPUs, LoadCPUs: o.loadCPUs,
		Versions: map[string]string{"memcached": process.Version(o.memcached, "-V")},
	}
	r.CPU, r.Virtual = cpuModel(info)
	for _, side := range append([]Rival{o.cfg.Ours}, o.cfg.Others...) {
		if side.Version != nil {
			r.Versions[side.Name] = side.Version()
		}
	}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		r.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	return r
}

// commit names the source: as stamped into the binary, or else of the working
// directory.
func commit() string {
	var rev, dirty string
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision":
				rev = s.Value
			case s.Key == "vcs.modified" && s.Value == "true":
				dirty = "-dirty"
			}
		}
	}
	if rev == "" {
		out, err := exec.Command("git", "rev-parse", "HEAD").Output()
		if err != nil {
			return "unknown"
		}
		rev = strings.TrimSpace(string(out))
	}
	return rev[:min(len(rev), 12)] + dirty
}

// cpuModel reads /proc/cpuinfo: the model, and whether the CPU says that a hypervisor
// runs it, as it does to whoever asks with CPUID.
func cpuModel(info []byte) (model string, virtual bool) {
	for line := range bytes.Lines(info) {
		name, value, _ := strings.Cut(string(line), ":")
		switch strings.TrimSpace(name) {
		case "model name":
			model = strings.TrimSpace(value)
		case "flags":
			virtual = strings.Contains(value+" ", " hypervisor ")
		}
	}
	return model, virtual
}

// save writes the raw file and the tables into a directory of their own.
func (r *Result) save(under string) (dir string, err error) {
	dir = filepath.Join(under, r.Date.Format("20060102T150405")+"-"+r.Commit)
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
