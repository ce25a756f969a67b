package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"magent/bench/process/proctest"
	"magent/tools/deploy"
)

// checkedMachine has two magents, each as one machine's, in a network of its own: where
// the other machine is, is for keepalived to find out.
const checkedMachine = `
ip link add eth0 type veth peer name other && ip link set lo up && ip link set eth0 up && ip link set other up
for a in 10 20 254; do ip address add 192.0.2.$a/24 dev eth0; done
for p in 11211 11212; do memcached -u nobody -l 127.0.0.1 -p $p & done
magent serve -l 192.0.2.254,192.0.2.10 -p 12000 --admin ./a --vip 192.0.2.254 -s 127.0.0.1:11211 -b 127.0.0.1:11212 2>/dev/null &
magent serve -l 192.0.2.20 -p 12000 --admin ./b -s 127.0.0.1:11211 -b $BACKUP 2>/dev/null &
until magent ready --admin ./a 2>/dev/null && magent ready --admin ./b 2>/dev/null; do sleep 0.02; done >/dev/null
magent ha init --vip 192.0.2.254/24 --interface eth0 --source 192.0.2.10 --peer 192.0.2.20 --dir . --admin $PWD/a \
    -p 12000 -s 127.0.0.1:11211 -b 127.0.0.1:11212 >/dev/null || exit 9
magent ha check --conf etc/keepalived/keepalived.conf
`

func TestCheckOfAMachine(t *testing.T) {
	for backup, want := range map[string][]string{
		"127.0.0.1:11212": {"ok nodes both magents name the same 2 nodes"},
		"localhost:11212": {"mend nodes the magents name them differently: only here 127.0.0.1:11212 (copy 1), only there localhost:11212 (copy 1);"},
	} {
		t.Run(backup, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			cmd := exec.Command("bash", "-c", checkedMachine)
			cmd.Dir = dir
			cmd.Env = []string{"BACKUP=" + backup, "PATH=" + filepath.Dir(binary) + ":/usr/bin:/bin:/usr/sbin:/sbin"}
			cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Setpgid: true}
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			p := launch(t, cmd)
			end := func() { syscall.Kill(-p.Process.Pid, syscall.SIGKILL) }
			t.Cleanup(end)
			hung := time.AfterFunc(proctest.Patience, end)
			defer hung.Stop()
			lines := bufio.NewScanner(out)
			var found []string
			for len(found) < len(deploy.Judge(&deploy.Facts{})) && lines.Scan() {
				found = append(found, strings.Join(strings.Fields(lines.Text()), " "))
			}
			for _, w := range append(want, "ok its file "+"etc/keepalived/keepalived.conf", "ok magent it is ready", "ok interface eth0 is up",
				"ok port magent is there", "ok peer the magent of 192.0.2.20 answers", "ok listen ", "ok files magent has ", "ok keepalived version ") {
				if !slices.ContainsFunc(found, func(line string) bool { return strings.HasPrefix(line, w) }) {
					t.Errorf("want a line that begins with %q; got\n%s\n%s", w, strings.Join(found, "\n"), p.stderr)
				}
			}
		})
	}
}

// TestCheckRecalls what init noted, and goes by what was typed all the same.
func TestCheckRecalls(t *testing.T) {
	dir := t.TempDir()
	if status, said := initHere(t, dir, "--vip", "2001:db8::fe/64", "--router-id", "9", "-p", "12000"); status != 0 {
		t.Fatal(said)
	}
	var h haCheck
	fs := pflag.NewFlagSet("check", pflag.ContinueOnError)
	h.bind(fs)
	if err := fs.Parse([]string{"--conf", filepath.Join(dir, deploy.KeepalivedConf), "--router-id", "8"}); err != nil {
		t.Fatal(err)
	}
	if err := h.recall(fs); err != nil {
		t.Fatal(err)
	}
	got, err := h.facts()
	want := &deploy.Facts{VIPs: []netip.Prefix{netip.MustParsePrefix("192.0.2.254/24"), netip.MustParsePrefix("2001:db8::fe/64")},
		Interface: "eth0", Peer: netip.MustParseAddr("192.0.2.20"), Port: 12000, Admin: "/run/magent/12000.sock", RouterID: 8, Conf: h.conf}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v\ngot  %+v\nwant %+v", err, got, want)
	}
}

func TestCheckReadsAdverts(t *testing.T) {
	four := []byte{0x31, 254, 150, 2, 0, 20, 0, 0, 192, 0, 2, 254, 192, 0, 2, 253}
	six := append([]byte{0x31, 7, 100, 1, 0, 8, 0, 0}, netip.MustParseAddr("2001:db8::fe").AsSlice()...)
	for _, c := range []struct {
		packet []byte
		six    bool
		want   string
	}{
		{four, false, "{invalid IP 254 [192.0.2.254 192.0.2.253]} true"},
		{six, true, "{invalid IP 7 [2001:db8::fe]} true"},
		{four[:15], false, "{invalid IP 0 []} false"},
		{four[:7], false, "{invalid IP 0 []} false"},
		{append([]byte{0x21}, four[1:]...), false, "{invalid IP 0 []} false"}, // VRRPv2
		{nil, false, "{invalid IP 0 []} false"},
	} {
		a, ok := parseAdvert(c.packet, c.six)
		if got := fmt.Sprint(a, ok); got != c.want {
			t.Errorf("% x: got %s, want %s", c.packet, got, c.want)
		}
	}
}

func TestCheckReadsKeepalivedsVersion(t *testing.T) {
	for text, want := range map[string]string{
		"Keepalived v2.2.7 (01/16,2022)\n\nCopyright(C) 2001-2022": "2.2.7",
		"keepalived: something else":                               "unknown",
	} {
		if got := keepalivedVersion(text); got != want {
			t.Errorf("%q: got %s", text, got)
		}
	}
}

// TestCheckOfOthers: who answers as something else than a magent, or not at all, is said
// to.
func TestCheckOfOthers(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), proctest.Patience)
	defer cancel()
	if nodes, err := nodesAt(ctx, newNode(t).Addr()); err == nil || !strings.HasPrefix(err.Error(), "it does not say its nodes as a magent does") {
		t.Errorf("of a memcached: %v, %v", nodes, err)
	}
	if _, err := nodesAt(ctx, freeAddr(t)); err == nil {
		t.Error("nobody listens there")
	}
	if err := canListen(ctx, netip.MustParseAddr("127.0.0.1"), occupy(t).Addr().(*net.TCPAddr).Port); err == nil {
		t.Error("the port is taken")
	}
	if err := canListen(ctx, netip.MustParseAddr("192.0.2.254"), 0); err != nil {
		t.Errorf("an address that is elsewhere: %v", err)
	}
}
