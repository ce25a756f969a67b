// Package meter reads from /proc what processes and the whole host spend: CPU per
// request, context switches, and how much of the machine went to others.
//
// A reading is taken on the caller's goroutine and shares nothing. The package
// imports x/sys and nothing of the project.
package meter

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Usage is what one process spent while requests were measured.
type Usage struct {
	PID int `json:"pid"`
	// Ended says that it is no more. What it spent is known only if nobody has
	// collected its exit status yet, and else 0.
	Ended bool `json:"ended,omitempty"`
	// CPU, User and System are µs per request.
	CPU    float64 `json:"cpu_us"`
	User   float64 `json:"user_us"`
	System float64 `json:"system_us"`
	// Cores is CPU time over wall time: 1 is one core kept busy.
	Cores float64 `json:"cores"`
	// Voluntary and Involuntary are context switches, of threads alive at the
	// end of the run.
	Voluntary   int64 `json:"voluntary"`
	Involuntary int64 `json:"involuntary"`
}

// CPUShare is where the time of one CPU, or of all, went: shares of 1.
type CPUShare struct {
	Busy  float64 `json:"busy"`
	Idle  float64 `json:"idle"`
	Steal float64 `json:"steal"`
}

// Host is the machine while requests were measured.
type Host struct {
	All CPUShare   `json:"all"`
	CPU []CPUShare `json:"cpu"`
	// Noise is the share of all CPUs that went to neither this process nor
	// those named: other programs, the kernel's own threads, and steal; and what a
	// named one spent that has ended.
	Noise float64 `json:"noise"`
}

// procSample is one process's counters, from its start on.
type procSample struct {
	cpu                    time.Duration // user and system, all threads, the dead ones too
	userTicks, systemTicks uint64
	voluntary, involuntary int64
	started                uint64 // ticks after the host: tells it from a later one of its pid
	ended                  bool
}

// cpuClock is the clock of all CPU time of process pid. The encoding is that of
// clock_getcpuclockid(3) on Linux: the complement of the pid over three bits
// that say "scheduler time, whole process". It counts ns where /proc/PID/stat
// counts ticks of 10 ms, and needs no walk over the threads.
func cpuClock(pid int) int32 { return int32(^pid<<3 | 2) }

// readProc reads the counters of pid.
func readProc(pid int) (procSample, error) {
	var s procSample
	var ts unix.Timespec
	if err := unix.ClockGettime(cpuClock(pid), &ts); err != nil {
		return s, fmt.Errorf("meter: CPU clock of process %d: %w", pid, err)
	}
	s.cpu = time.Duration(ts.Nano())
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return s, fmt.Errorf("meter: %w", err)
	}
	if err = s.parseStat(stat); err != nil {
		return s, err
	}
	tasks, err := filepath.Glob(filepath.Join(dir, "task", "*", "status"))
	if err != nil {
		return s, fmt.Errorf("meter: %w", err)
	}
	for _, name := range tasks {
		status, err := os.ReadFile(name)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			continue // the thread ended meanwhile
		}
		if err != nil {
			return s, fmt.Errorf("meter: %w", err)
		}
		s.voluntary += statusNumber(status, "voluntary_ctxt_switches:")
		s.involuntary += statusNumber(status, "nonvoluntary_ctxt_switches:")
	}
	return s, nil
}

// parseStat finds state, utime, stime and starttime, fields 3, 14, 15 and 22 of
// proc_pid_stat(5). The second field, the name, may hold blanks and brackets: count from
// its end.
func (s *procSample) parseStat(b []byte) error {
	end := bytes.LastIndexByte(b, ')')
	f := bytes.Fields(b[end+1:])
	if end < 0 || len(f) < 20 {
		return fmt.Errorf("meter: cannot read /proc/PID/stat: %.80q", b)
	}
	s.ended = f[0][0] == 'Z' || f[0][0] == 'X'
	for i, to := range map[int]*uint64{11: &s.userTicks, 12: &s.systemTicks, 19: &s.started} {
		n, err := strconv.ParseUint(string(f[i]), 10, 64)
		if err != nil {
			return fmt.Errorf("meter: cannot read /proc/PID/stat: %w", err)
		}
		*to = n
	}
	return nil
}

func statusNumber(status []byte, field string) int64 {
	for line := range bytes.Lines(status) {
		if rest, ok := bytes.CutPrefix(line, []byte(field)); ok {
			n, _ := strconv.ParseInt(string(bytes.TrimSpace(rest)), 10, 64)
			return n
		}
	}
	return 0
}

// usage is what process pid spent from a to b, over requests and wall time.
func usage(pid int, a, b procSample, requests int64, wall time.Duration) Usage {
	cpu := b.cpu - a.cpu
	u := Usage{
		PID: pid, Ended: b.ended, Cores: cpu.Seconds() / wall.Seconds(),
		// Threads that ended took theirs with them.
		Voluntary: max(0, b.voluntary-a.voluntary), Involuntary: max(0, b.involuntary-a.involuntary),
	}
	if requests == 0 {
		return u
	}
	u.CPU = float64(cpu.Nanoseconds()) / 1000 / float64(requests)
	user, system := float64(b.userTicks-a.userTicks), float64(b.systemTicks-a.systemTicks)
	if user+system > 0 { // the ticks only split what the clock measured
		u.User = u.CPU * user / (user + system)
		u.System = u.CPU - u.User
	}
	return u
}

// cpuTicks is a cpu line of /proc/stat.
type cpuTicks struct{ idle, steal, total uint64 }

// parseHost reads the cpu lines of proc_stat(5): all CPUs first, then each.
func parseHost(b []byte) ([]cpuTicks, error) {
	var cpus []cpuTicks
	for lines := bufio.NewScanner(bytes.NewReader(b)); lines.Scan(); {
		f := strings.Fields(lines.Text())
		if len(f) < 9 || !strings.HasPrefix(f[0], "cpu") {
			continue
		}
		var t cpuTicks
		for i, field := range f[1:9] { // user nice system idle iowait irq softirq steal
			n, err := strconv.ParseUint(field, 10, 64)
			if err != nil {
				return nil, fmt.Errorf("meter: /proc/stat: %w", err)
			}
			t.total += n
			switch i {
			case 3, 4:
				t.idle += n
			case 7:
				t.steal = n
			}
		}
		cpus = append(cpus, t)
	}
	if len(cpus) == 0 {
		return nil, errors.New("meter: no cpu line in /proc/stat")
	}
	return cpus, nil
}

func share(a, b cpuTicks) CPUShare {
	total := float64(b.total - a.total)
	if total == 0 {
		return CPUShare{}
	}
	s := CPUShare{Idle: math.Max(0, float64(b.idle)-float64(a.idle)) / total, Steal: float64(b.steal-a.steal) / total}
	s.Busy = math.Max(0, 1-s.Idle-s.Steal)
	return s
}

// Sample is the state of everything that is measured, at one moment.
type Sample struct {
	at    time.Time
	pids  map[string]int
	procs map[string]procSample
	self  procSample
	host  []cpuTicks
}

// Take reads the counters of this process, of those named in procs, name → pid, and
// of the host. All of them must be there. The time is read last.
func Take(procs map[string]int) (s Sample, err error) {
	s.pids, s.procs = procs, make(map[string]procSample, len(procs))
	for name, pid := range procs {
		if s.procs[name], err = readProc(pid); err != nil {
			return s, fmt.Errorf("%w (%s)", err, name)
		}
		if s.procs[name].ended {
			return s, fmt.Errorf("meter: process %d has ended (%s)", pid, name)
		}
	}
	return s, s.finish()
}

// Again reads the counters of the same processes. Those that have ended are marked so.
func (s Sample) Again() (Sample, error) {
	b := Sample{pids: s.pids, procs: make(map[string]procSample, len(s.procs))}
	for name, before := range s.procs {
		now, err := readProc(s.pids[name])
		if err != nil || now.started != before.started { // it could be read, and now cannot
			now = before
			now.ended = true
		}
		b.procs[name] = now
	}
	return b, b.finish()
}

// finish reads what is not of others.
func (s *Sample) finish() (err error) {
	if s.self, err = readProc(os.Getpid()); err != nil {
		return err
	}
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return fmt.Errorf("meter: %w", err)
	}
	if s.host, err = parseHost(stat); err != nil {
		return err
	}
	s.at = time.Now()
	return nil
}

// Account is what was spent between two samples.
type Account struct {
	// Wall is the time between them.
	Wall time.Duration
	// Self is this process, all of it; Procs are those named.
	Self  Usage
	Procs map[string]Usage
	Host  Host
}

// Since is the account from a to s, which is a taken Again, charged to requests.
func (s Sample) Since(a Sample, requests int64) Account {
	acc := Account{Wall: s.at.Sub(a.at), Procs: make(map[string]Usage, len(s.procs))}
	acc.Self = usage(os.Getpid(), a.self, s.self, requests, acc.Wall)
	known := map[int]float64{acc.Self.PID: acc.Self.Cores} // a process may have two names
	for name, pid := range s.pids {
		u := usage(pid, a.procs[name], s.procs[name], requests, acc.Wall)
		acc.Procs[name] = u
		known[pid] = u.Cores
	}
	acc.Host.All = share(a.host[0], s.host[0])
	for i := 1; i < min(len(a.host), len(s.host)); i++ {
		acc.Host.CPU = append(acc.Host.CPU, share(a.host[i], s.host[i]))
	}
	acc.Host.Noise = noise(acc.Host.All, len(a.host)-1, known)
	return acc
}

// noise is what of n CPUs the processes known, pid → cores, did not use.
func noise(all CPUShare, n int, known map[int]float64) float64 {
	used := 0.0
	for _, cores := range known {
		used += cores
	}
	return math.Max(0, all.Busy+all.Steal-used/float64(max(n, 1)))
}
