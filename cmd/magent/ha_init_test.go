package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// initHere runs magent ha init with further flags, and gives all that it said.
func initHere(t *testing.T, dir string, more ...string) (status int, said string) {
	t.Helper()
	args := []string{"ha", "init", "--dir", dir, "--vip", "192.0.2.254/24", "--interface", "eth0", "--source", "192.0.2.10", "--peer", "192.0.2.20",
		"-s", "192.0.2.10,192.0.2.11", "-s", "192.0.2.12", "-b", "192.0.2.20"}
	r := magent(t, append(args, more...)...)
	return r.code, r.out + r.stderr
}

func TestInitWritesTheFiles(t *testing.T) {
	dir := t.TempDir()
	status, said := initHere(t, dir, "-kn", "9000", "-p12000", "--hedge", "auto", "--hash-tag", "{}", "--no-resync")
	if status != 0 {
		t.Fatal(said)
	}
	unit, err := os.ReadFile(filepath.Join(dir, "etc/systemd/system/magent.service"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		` serve --vip 192.0.2.254 --admin /run/magent/12000.sock --pidfile /run/magent/12000.pid -l 192.0.2.254,192.0.2.10 -p 12000 ` +
			`-s 192.0.2.10,192.0.2.11 -s 192.0.2.12 -b 192.0.2.20 --ketama=true --hash-tag "{}" --hedge auto --no-resync=true -n 9000` + "\n",
		"\nLimitNOFILE=10000\n",
	} {
		if !strings.Contains(string(unit), want) {
			t.Errorf("want %q in:\n%s", want, unit)
		}
	}
	for line := range strings.Lines(said) {
		if st, err := os.Stat(strings.TrimSpace(line)); err == nil && st.Mode().Perm()&0o022 != 0 {
			t.Errorf("%s has mode %v", line, st.Mode())
		}
	}
}

// With a file the unit names that, whose listeners and nodes count, and reloads it.
func TestInitWithAFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "magent.yml")
	text := "listen: [127.0.0.1:11999, {tls: 192.0.2.254:11998}, 192.0.2.254:12000]\ntls-cert: /c\ntls-key: /k\npools: {a: {copies: [[192.0.2.20], [192.0.2.10]]}}\nuser: cache\nmax-conns: 9000\n"
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	init := []string{"ha", "init", "--stdout", "--interface", "eth0", "--source", "192.0.2.10", "--peer", "192.0.2.20", "--vip"}
	r := magent(t, append(init, "192.0.2.254/24", "--config", path, "--loops", "2")...)
	for _, want := range []string{
		" serve --vip 192.0.2.254 --admin /run/magent/12000.sock --pidfile /run/magent/12000.pid --config " + path + " --loops 2\n",
		"\nExecReload=/bin/kill -HUP $MAINPID\n", "\nUser=cache\n", "\nLimitNOFILE=10000\n", "check process memcached",
	} {
		if r.code != 0 || !strings.Contains(r.out, want) {
			t.Errorf("status %d, %s, want %q in:\n%s", r.code, r.stderr, want, r.out)
		}
	}
	magent(t, append(init, "192.0.2.253/24", "--config", path)...).wantFault(t, "no listener of the file is at 192.0.2.253")
	magent(t, append(init, "192.0.2.254/24", "--config", path, "-s", "a")...).wantFault(t, "cannot stand beside --config")
	if err := os.WriteFile(path, []byte(strings.Replace(text, ", 192.0.2.254:12000]", "]", 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	magent(t, append(init, "192.0.2.254/24", "--config", path)...).wantFault(t, "no listener of the file without TLS")
}

// A unit says where files are, whatever directory it is started in.
func TestInitMakesPathsAbsolute(t *testing.T) {
	here, err := os.Getwd() // of the magent that runs, too
	if err != nil {
		t.Fatal(err)
	}
	status, said := initHere(t, t.TempDir(), "--stdout", "-f", "s", "--auth-file", "users", "--tls-port", "12001", "--tls-cert", "c.pem", "--tls-key", "k.pem",
		"--node-tls", "--node-tls-ca", "../ca.pem", "--admin-listen", "9000", "--admin-token-file", "/etc/token")
	for _, want := range []string{" -f " + here + "/s ", " --auth-file " + here + "/users ", " --tls-cert " + here + "/c.pem ",
		" --tls-key " + here + "/k.pem ", " --node-tls-ca " + filepath.Dir(here) + "/ca.pem ", " --admin-token-file /etc/token\n"} {
		if status != 0 || !strings.Contains(said, want) {
			t.Errorf("status %d, want %q in:\n%s", status, want, said)
		}
	}
	path := filepath.Join(t.TempDir(), "magent.yml")
	if err := os.WriteFile(path, []byte("listen: 0.0.0.0:12000\npools: {a: {copies: [[192.0.2.20], [192.0.2.10]]}}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	r := magent(t, "ha", "init", "--stdout", "--interface", "eth0", "--source", "192.0.2.10", "--peer", "192.0.2.20", "--vip", "192.0.2.254/24",
		"--config", path, "--auth-file", "users")
	if want := " --auth-file " + here + "/users\n"; r.code != 0 || !strings.Contains(r.out, want) {
		t.Errorf("status %d, %s, want %q in:\n%s", r.code, r.stderr, want, r.out)
	}
}

// TestInitTakesBothMachinesForNodes where no others are named, and in one order on both.
func TestInitTakesBothMachinesForNodes(t *testing.T) {
	for _, c := range []struct{ source, peer, want string }{
		{"192.0.2.10", "192.0.2.20", " -s 192.0.2.10 -b 192.0.2.20\n"},
		{"192.0.2.20", "192.0.2.10", " -s 192.0.2.10 -b 192.0.2.20\n"},
		{"2001:db8::b", "2001:db8::a", " -s [2001:db8::a] -b [2001:db8::b]\n"},
	} {
		vip := "192.0.2.254/24"
		if strings.Contains(c.source, ":") {
			vip = "2001:db8::fe/64"
		}
		r := magent(t, "ha", "init", "--stdout", "--vip", vip, "--interface", "eth0", "--source", c.source, "--peer", c.peer, "--priority", "150")
		if r.code != 0 || !strings.Contains(r.out, c.want) {
			t.Errorf("on %s: %q is not in\n%s%s", c.source, c.want, r.out, r.stderr)
		}
	}
}

// TestInitOverwritesNothing that it would change, unless it is told to; and then it
// writes nothing at all.
func TestInitOverwritesNothing(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "etc/keepalived/keepalived.conf")
	if status, said := initHere(t, dir); status != 0 {
		t.Fatal(said)
	}
	if status, said := initHere(t, dir); status != 0 {
		t.Errorf("the same again: %s", said)
	}
	first, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	status, said := initHere(t, dir, "--priority", "150")
	if status != 1 || !strings.Contains(said, path+" is there and differs") {
		t.Errorf("status %d, %s", status, said)
	}
	if now, err := os.ReadFile(path); err != nil || string(now) != string(first) {
		t.Errorf("it was changed: %v", err)
	}
	if status, said := initHere(t, dir, "--priority", "150", "--force"); status != 0 {
		t.Error(said)
	}
	if now, err := os.ReadFile(path); err != nil || !strings.Contains(string(now), "priority 150") {
		t.Errorf("it was not overwritten: %v\n%s", err, now)
	}
}

// TestInitGivesMagentTimeToStop: what waits for the end of magent waits long enough, in
// numbers that it takes.
func TestInitGivesMagentTimeToStop(t *testing.T) {
	for _, c := range []struct{ supervisor, wait, want string }{
		{"systemd", "1500ms", "TimeoutStopSec=10s\n"},
		{"systemd", "1m", `systemctl stop magent.service" with timeout 88 seconds`},
		{"monit", "1500ms", `TERM/10/KILL/2" with timeout 30 seconds`},
	} {
		if status, said := initHere(t, t.TempDir(), "--stdout", "--supervisor", c.supervisor, "--handover-wait", c.wait); status != 0 || !strings.Contains(said, c.want) {
			t.Errorf("%+v: status %d, %s", c, status, said)
		}
	}
}

func TestInitWarns(t *testing.T) {
	if status, said := initHere(t, t.TempDir(), "-b", "192.0.2.12"); status != 0 || !strings.Contains(said, "magent: warning: 192.0.2.12:11211 is in copies 0 and 1") {
		t.Errorf("status %d, %s", status, said)
	}
}

func TestInitPrints(t *testing.T) {
	dir := t.TempDir()
	status, said := initHere(t, dir, "--stdout")
	if status != 0 || !strings.Contains(said, "==> /etc/keepalived/keepalived.conf") {
		t.Errorf("status %d, %s", status, said)
	}
	if there, err := os.ReadDir(dir); err != nil || len(there) > 0 {
		t.Errorf("it wrote %v, %v", there, err)
	}
}

func TestInitRefuses(t *testing.T) {
	for want, more := range map[string][]string{
		`--vip takes an address with the length`:                      {"--vip", "192.0.2.253"},
		`the priority must be from 1 to 254, is 255`:                  {"--priority", "255"},
		`--peer takes an address, not "a.example"`:                    {"--peer", "a.example"},
		`--source takes an address, not "eth0"`:                       {"--source", "eth0"},
		`preempt must be never or warm, not "now"`:                    {"--preempt", "now"},
		`cannot be put into a file`:                                   {"--hash-tag", `"'`},
		`-p 0 will not do: it is where the machines ask each other`:   {"-p", "0", "--tls-port", "12001", "--tls-cert", "/c", "--tls-key", "/k"},
		`--priority takes a whole number`:                             {"--priority", "high"},
		`hedge must be above 0 and below the timeout of 250ms, is 1s`: {"--hedge", "1s"},
	} {
		if status, said := initHere(t, t.TempDir(), more...); status != 1 || !strings.Contains(said, want) {
			t.Errorf("%q: status %d, %s", more, status, said)
		}
	}
}

func TestUnknownWordOfHA(t *testing.T) {
	if r := magent(t, "ha", "fialover"); r.code != 1 || r.stderr != "magent: there is no magent ha fialover: there are init, check, failover and resume\n" {
		t.Errorf("status %d, %s", r.code, r.stderr)
	}
}
