package main

import (
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	programs "magent/bench/process"
	"magent/bench/process/proctest"
)

// addressed is a magent in a network of its own, which has a virtual address.
type addressed struct {
	*process
	admin string
}

const virtualAddress = "192.0.2.254"

// startAddressed launches one in front of a node that is away.
func startAddressed(t *testing.T, args ...string) *addressed {
	t.Helper()
	a := &addressed{admin: adminPath(t)}
	script := fmt.Sprintf(`ip link set lo up && ip addr add %s/32 dev lo && exec "$0" "$@"`, virtualAddress)
	args = append([]string{"-rn", "sh", "-c", script, binary, "serve", "-s", "127.0.0.1:1", "--admin", a.admin, "--vip", virtualAddress}, args...)
	a.process = launch(t, exec.Command("unshare", args...))
	a.waitFor("unix", a.admin)
	return a
}

// loses has the address leave.
func (a *addressed) loses() {
	a.t.Helper()
	enter := []string{"-t", strconv.Itoa(a.Process.Pid), "-U", "-n", "--preserve-credentials"}
	out, err := exec.Command("nsenter", append(enter, "ip", "addr", "del", virtualAddress+"/32", "dev", "lo")...).CombinedOutput()
	if err != nil {
		a.t.Fatalf("%v: %s", err, out)
	}
}

// says waits until magent ready gives such a reason.
func (a *addressed) says(reason string) {
	a.t.Helper()
	proctest.Eventually(a.t, "not ready: "+reason, func() bool {
		r := magent(a.t, "ready", "--admin", a.admin)
		return r.code == 1 && strings.Contains(r.stderr, reason)
	})
}

// ends wants it to end in good order, with a line in its log.
func (a *addressed) ends(line string) {
	a.t.Helper()
	if code := a.ended(); code != 0 || !strings.Contains(a.stderr.String(), line) {
		a.t.Errorf("exit status %d, and the log has no %q: %s", code, line, a.stderr)
	}
}

// A magent that is told to stop waits for its address to leave, and no longer than it may.
// A second signal ends it at once.
func TestTermGivesTheAddressUp(t *testing.T) {
	a := startAddressed(t, "--handover-wait", "1h")
	a.Process.Signal(syscall.SIGTERM)
	a.says("it is stopping")
	a.loses()
	a.ends("the address has left")

	a = startAddressed(t, "--handover-wait", "100ms")
	a.Process.Signal(syscall.SIGTERM)
	a.ends(virtualAddress + " has not left this machine within 100ms")

	a = startAddressed(t, "--handover-wait", "1h")
	a.Process.Signal(syscall.SIGTERM)
	a.says("it is stopping")
	a.Process.Signal(syscall.SIGTERM)
	if a.ended(); a.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM {
		t.Errorf("it ends by %v", a.ProcessState)
	}

	a = startAddressed(t, "--handover-wait", "1h")
	a.loses() // the other machine has it
	a.Process.Signal(syscall.SIGTERM)
	a.ends(`"msg":"stopping"`)
}

func TestFailoverByHand(t *testing.T) {
	a := startAddressed(t, "--handover-wait", "300ms")
	magent(t, "ha", "failover", "--admin", a.admin).wantFault(t, virtualAddress+" has not left this machine within 300ms", "is ready again")
	a.Process.Signal(syscall.SIGTERM)
	a.ends(`"msg":"stopping"`)

	for _, leave := range []bool{false, true} {
		a = startAddressed(t, "--handover-wait", "1h")
		args := []string{"ha", "failover", "--admin", a.admin}
		if leave {
			args = append(args, "--leave")
		}
		over := make(chan result, 1)
		go func() { over <- magent(t, args...) }()
		a.says("its address was given up by hand")
		a.loses()
		if r := <-over; r.code != 0 || !strings.HasPrefix(r.out, "the address has left this machine") {
			t.Errorf("exit status %d, %s%s", r.code, r.out, r.stderr)
		}
		if leave {
			a.ends(`"msg":"stopping"`)
			continue
		}
		if r := magent(t, "ha", "resume", "--admin", a.admin); r.code != 0 {
			t.Errorf("exit status %d: %s", r.code, r.stderr)
		}
		if r := magent(t, "ready", "--admin", a.admin); strings.Contains(r.stderr, "by hand") {
			t.Errorf("after resume it says %s", r.stderr)
		}
	}
}

// What keepalived sees when both nodes are killed, and one of them is started again.
func TestReadyFollowsTheNodes(t *testing.T) {
	nodes := []*proctest.Process{proctest.Memcached(t, programs.MemcachedConfig{}), proctest.Memcached(t, programs.MemcachedConfig{})}
	path := adminPath(t)
	startServe(t, freeAddr(t), "--admin", path, "-s", nodes[0].Addr, "-b", nodes[1].Addr, "--retry-timeout", "50ms")
	becomes := func(code int, args ...string) (r result) {
		t.Helper()
		proctest.Eventually(t, fmt.Sprintf("magent ready %q exits with %d", args, code), func() bool {
			r = magent(t, append([]string{"ready", "--admin", path, "--timeout", "10s"}, args...)...)
			return r.code == code
		})
		return r
	}
	becomes(0, "--warm")
	nodes[0].Kill()
	becomes(1, "--warm")
	becomes(0)
	nodes[1].Kill()
	if r := becomes(1); r.out != "" || !strings.HasPrefix(r.stderr, "magent: not ready: ") || strings.Count(r.stderr, "\n") != 1 {
		t.Errorf("it says %q, and %q", r.out, r.stderr)
	}
	if r := magent(t, "status", "--admin", path); !strings.Contains(r.out, ", not ready: ") {
		t.Errorf("the status is\n%s", r.out)
	}
	nodes[1].Restart()
	becomes(0)
}
