package compare

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"magent/bench/meter"
	"magent/bench/process"
)

// attached is a proxy that somebody else started and pinned, as --rival names it.
type attached struct {
	name  string
	addr  string
	pid   int
	nodes []int // pids
	proc  *process.Process
}

var attachedForm = regexp.MustCompile(`^([A-Za-z0-9][A-Za-z0-9._-]*)=(\d{1,5}):(\d{1,9})((?::\d{1,9})*)$`)

// parseAttached reads NAME=PORT:PID[:NODEPID...]. The name must not be one of taken.
func parseAttached(text string, taken []string) (*attached, error) {
	m := attachedForm.FindStringSubmatch(text)
	if m == nil {
		return nil, fmt.Errorf("--rival %q is not of the form NAME=PORT:PID[:NODEPID...], with letters, digits and ._- in the name", text)
	}
	if slices.Contains(taken, m[1]) {
		return nil, fmt.Errorf("--rival %s: the name %s is taken", text, m[1])
	}
	port, _ := strconv.Atoi(m[2]) // digits, few enough
	if port < 1 || port > 65535 {
		return nil, fmt.Errorf("--rival %s: there is no port %d", text, port)
	}
	a := &attached{name: m[1], addr: net.JoinHostPort("127.0.0.1", m[2])}
	a.pid, _ = strconv.Atoi(m[3])
	for pid := range strings.SplitSeq(strings.TrimPrefix(m[4], ":"), ":") {
		if n, err := strconv.Atoi(pid); err == nil {
			a.nodes = append(a.nodes, n)
		}
	}
	return a, nil
}

const attachedTimeout = 2 * time.Second

// attach takes hold of a's process. It fails if that, or its nodes, cannot be charged, or
// if its port does not answer a get.
func (a *attached) attach() (err error) {
	if a.proc, err = process.Attach(a.pid, a.addr); err != nil {
		return fmt.Errorf("--rival %s: no process %d: %w", a.name, a.pid, err)
	}
	for _, pid := range append([]int{a.pid}, a.nodes...) {
		if _, err := meter.Take(map[string]int{a.name: pid}); err != nil {
			return fmt.Errorf("--rival %s: no process %d to charge: %w", a.name, pid, err)
		}
	}
	if err := a.answers(); err != nil {
		return fmt.Errorf("--rival %s: %s does not answer a get as memcached would: %w", a.name, a.addr, err)
	}
	return nil
}

// answers asks for a key that nobody has.
func (a *attached) answers() error {
	c, err := net.DialTimeout("tcp", a.addr, attachedTimeout)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(attachedTimeout)); err != nil {
		return err
	}
	if _, err := c.Write([]byte("get magent-bench-rival\r\n")); err != nil {
		return err
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err == nil && line != "END\r\n" {
		err = fmt.Errorf("it says %q", line)
	}
	return err
}

// pinnedElsewhere says so if a's proxy may run on other CPUs than ours; empty cpus are
// all.
func (a *attached) pinnedElsewhere(cpus []int) string {
	var want, got unix.CPUSet
	for _, c := range cpus {
		want.Set(c)
	}
	if err := unix.SchedGetaffinity(a.pid, &got); err != nil || len(cpus) == 0 || got == want {
		return ""
	}
	return fmt.Sprintf("%s is not pinned as the other proxies are, to CPUs %v: its figures compare with nothing", a.name, cpus)
}

// rival makes a a side of the comparison. It is never stopped.
func (a *attached) rival() Rival {
	return Rival{
		Name: a.name, Attached: true, NodePIDs: a.nodes,
		Start:   func(context.Context, Topology) (*process.Process, error) { return a.proc, nil },
		Version: func() string { return a.proc.Name + ", started by others" },
	}
}
