package meter

import (
	"bytes"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Provenance is where, when and how figures were made: what every raw file begins with.
type Provenance struct {
	Date   time.Time `json:"date"`
	Commit string    `json:"commit"`
	// Command is what was typed, without where the program lay.
	Command []string `json:"command"`
	Kernel  string   `json:"kernel"`
	CPU     string   `json:"cpu"`
	Cores   int      `json:"cores"`
	// Virtual says that a hypervisor was seen.
	Virtual bool   `json:"virtual,omitempty"`
	Go      string `json:"go"`
	// Versions are the programs' that were measured, by name.
	Versions map[string]string `json:"versions"`
}

// Describe notes where and when command is running. Versions are the caller's to add.
func Describe(command []string) Provenance {
	info, _ := os.ReadFile("/proc/cpuinfo") // without it the file says less, that is all
	p := Provenance{
		Date: time.Now().UTC(), Commit: commit(), Command: command,
		Cores: runtime.NumCPU(), Go: runtime.Version(),
	}
	p.CPU, p.Virtual = cpuModel(info)
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		p.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	return p
}

// Dir is the name of the directory in which raw files of that time are kept.
func (p *Provenance) Dir() string { return p.Date.Format("20060102T150405") + "-" + p.Commit }

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
