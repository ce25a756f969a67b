package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"magent/server/admin"
)

// toldProxy is what an admin endpoint in a test stands for.
type toldProxy struct {
	status   admin.Status
	overview admin.Overview
	events   []admin.Event
	told     chan string
}

func (p *toldProxy) Status() admin.Status     { return p.status }
func (p *toldProxy) Overview() admin.Overview { return p.overview }
func (p *toldProxy) Events(after uint64) ([]admin.Event, uint64) {
	return p.events[min(int(after), len(p.events)):], uint64(len(p.events))
}

func (p *toldProxy) Ready() admin.Ready { return p.status.Ready }
func (p *toldProxy) Healthy() error     { return nil }

func (p *toldProxy) Explain(_ context.Context, q admin.Question) (admin.Explanation, error) {
	p.told <- fmt.Sprintf("explain %q %v in %q", q.Key, q.Value, q.Pool)
	return admin.Explanation{Key: admin.Text(q.Key), KeyBytes: q.Key}, nil
}

func (p *toldProxy) Diff(_ context.Context, q admin.DiffQuestion, progress func(admin.DiffProgress)) (admin.Diff, error) {
	p.told <- fmt.Sprintf("diff %+v", q)
	progress(admin.DiffProgress{Phase: "comparing"})
	d := admin.Diff{Pool: "default", Compared: 7, Different: 2, Mended: 1}
	if q.Repair {
		d.Mended = 2
	}
	return d, nil
}

func (p *toldProxy) Top(_ context.Context, q admin.TopQuestion) (admin.Top, error) {
	p.told <- fmt.Sprintf("top %+v", q)
	return admin.Top{Seconds: 2, Requests: 100, Keys: 200}, nil
}

func (p *toldProxy) Failover(_ context.Context, leave bool) error {
	p.told <- fmt.Sprintf("failover, leave %v", leave)
	return nil
}

func (p *toldProxy) Resume() error {
	p.told <- "resume"
	return nil
}

func (p *toldProxy) Resync(node, from string) error {
	p.told <- fmt.Sprintf("resync %s from %s", node, from)
	return nil
}

func (p *toldProxy) Drain(node string, on bool) error {
	if node != "a" {
		return errors.New("there is no node " + node)
	}
	p.told <- fmt.Sprintf("drain %s %v", node, on)
	return nil
}

// types runs a command as the command line does, and returns what it prints.
func types(t *testing.T, cmd *cobra.Command, args ...string) (string, error) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout := os.Stdout
	os.Stdout = w
	defer func() { os.Stdout = stdout }()
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs(args)
	failed := cmd.Execute()
	w.Close()
	text, err := io.ReadAll(r) // some lines, which the pipe holds
	if err != nil {
		t.Fatal(err)
	}
	return string(text), failed
}

func TestAdminCommands(t *testing.T) {
	dir, err := os.MkdirTemp("", "admin")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	where := filepath.Join(dir, "s")
	ln, err := admin.Listen(where)
	if err != nil {
		t.Fatal(err)
	}
	stuck := admin.Ready{Ready: true, Cold: []string{"a is down"}}
	began := time.Now().Add(-time.Hour)
	p := &toldProxy{told: make(chan string, 1), status: admin.Status{Version: "1.2.3", Since: began.UTC().Round(0), Ready: stuck,
		Nodes: []admin.Node{{Name: "a", State: "up", Cause: "start", Since: began.UTC().Round(0)}}}}
	s := admin.Serve(ln, p, admin.Options{})
	defer s.Close()

	text, err := types(t, newStatus(), "--admin", where)
	if err != nil || !strings.HasPrefix(text, "magent 1.2.3, up 1h0m, ready\nNODE ") || strings.Count(text, "\n") != 3 {
		t.Errorf("status: %v\n%s", err, text)
	}
	var got admin.Status
	text, err = types(t, newStatus(), "--admin", where, "--json")
	if err != nil || json.Unmarshal([]byte(text), &got) != nil || !reflect.DeepEqual(got, p.status) {
		t.Errorf("status --json: %v\n%s", err, text)
	}
	for _, c := range []struct {
		cmd        *cobra.Command
		args       []string
		told, says string
	}{
		{newResync(), []string{"a", "--from", "b"}, "resync a from b", "a is being refilled from b"},
		{newDrain(), []string{"a"}, "drain a true", "a is drained"},
		{newDrain(), []string{"a", "--undo"}, "drain a false", "a is no longer drained"},
		{newHAFailover(), nil, "failover, leave false", "the address has left this machine: this magent is not ready"},
		{newHAFailover(), []string{"--leave"}, "failover, leave true", "the address has left this machine, and so does this magent"},
		{newExplain(), []string{"a b"}, `explain "a b" false in ""`, "key        \"a b\" (3 bytes)"},
		{newExplain(), []string{"--base64", "YQBi", "--value"}, `explain "a\x00b" true in ""`, `key        "a\x00b" (3 bytes)`},
		{newExplain(), []string{"k", "--json", "--pool", "p"}, `explain "k" false in "p"`, "{\n  \"key\": \"k\",\n  \"key_base64\": \"aw==\","},
		{newDiff(), []string{"--repair", "--rate", "5,1k"}, "diff {Pool: Sample:10000 Repair:true Pause:200 Keys:5 Bytes:1024}", "compared 7 keys of pool default: 2 copies differ from their leads', 2 of them mended"},
		{newDiff(), []string{"--all", "--pause", "1s", "--repair", "--json", "--pool", "p"}, "diff {Pool:p Sample:0 Repair:true Pause:1000 Keys:20000 Bytes:67108864}", "{\n  \"pool\": \"default\",\n  \"compared\": 7,"},
		{newTop(), nil, "top {Millis:2000 Keys:20 Clients:10}", "50 requests/s for 100 keys/s, from 0 addresses, in 2.0 s\n"},
		{newTop(), []string{"--for", "5s", "--keys", "1", "--clients", "2", "--json"}, "top {Millis:5000 Keys:1 Clients:2}", "{\n  \"seconds\": 2,\n"},
		{newHAResume(), nil, "resume", "this magent takes the address again"},
	} {
		text, err := types(t, c.cmd, append(c.args, "--admin", where)...)
		if err != nil || !strings.HasPrefix(text, c.says) {
			t.Errorf("%s %v: %v, %s", c.cmd.Name(), c.args, err, text)
			continue
		}
		if told := <-p.told; told != c.told {
			t.Errorf("%s %v: the proxy is told %s", c.cmd.Name(), c.args, told)
		}
	}
	if text, err := types(t, newReady(), "--admin", where); err != nil || text != "ready\n" {
		t.Errorf("ready: %v, %q", err, text)
	}
	text, err = types(t, newDiff(), "--sample", "3", "--admin", where)
	if told := <-p.told; err != exitStatus(1) || !strings.HasPrefix(text, "compared 7 keys") || told != "diff {Pool: Sample:3 Repair:false Pause:200 Keys:20000 Bytes:67108864}" {
		t.Errorf("a diff that finds something ends with %v, having said %s and asked %s", err, text, told)
	}
	refusedCommands(t, where)
}

// Events are told as lines, for people and for programs.
func TestEventsCommand(t *testing.T) {
	where := adminPath(t)
	ln, err := admin.Listen(where)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now().Add(-time.Hour)
	p := &toldProxy{}
	p.events = []admin.Event{{Number: 1, At: began, Kind: "state", What: "node down", Node: "a", Cause: "refused", More: "was=up"}, {Number: 2, At: began, What: "ready"}}
	at := began.Local().Format("2006-01-02 15:04:05.000")
	s := admin.Serve(ln, p, admin.Options{})
	defer s.Close()
	text, err := types(t, newEvents(), "--admin", where)
	if want := at + "  node down: a: refused, was=up\n" + at + "  ready\n"; err != nil || text != want {
		t.Errorf("events: %v\n%swant\n%s", err, text, want)
	}
	var first admin.Event
	text, err = types(t, newEvents(), "--admin", where, "--json")
	if line, _, _ := strings.Cut(text, "\n"); err != nil || json.Unmarshal([]byte(line), &first) != nil || first.Cause != "refused" {
		t.Errorf("events --json: %v\n%s", err, text)
	}
}

// refusedCommands are those that end with a sentence on standard error.
func refusedCommands(t *testing.T, where string) {
	t.Helper()
	for _, c := range []struct {
		cmd  *cobra.Command
		args []string
		want string
	}{
		{newReady(), []string{"--admin", where, "--warm"}, "not warm: a is down"},
		{newReady(), []string{"--admin", where + "-none"}, "not ready: no magent answers at "},
		{newReady(), []string{"--admin", where, "--timeout", "1ns"}, "not ready: no answer in 1ns"},
		{newExplain(), nil, "say which key"},
		{newExplain(), []string{"a", "b"}, "is to be quoted"},
		{newExplain(), []string{"a b", "--base64"}, `"a b" is not base64`},
		{newDiff(), []string{"--all", "--sample", "5"}, "it is either --sample or --all"},
		{newDiff(), []string{"--sample", "0"}, "--sample must be a number of keys"},
		{newDiff(), []string{"--sample", "2000000", "--admin", where}, "a sample has 1 to 1000000 keys"},
		{newTop(), []string{"--for", "2m", "--admin", where}, "it is counted for 1 to 60000 ms"},
		{newTop(), []string{"--for", "0s", "--admin", where}, "1ms at least"},
		{newHAFailover(), []string{"now"}, `unexpected argument "now"`},
		{newResync(), []string{"a", "--admin", where}, "--from must say"},
		{newResync(), []string{"--from", "b", "--admin", where}, "say which node"},
		{newDrain(), []string{"a", "b", "--admin", where}, `unexpected argument "b"`},
		{newDrain(), []string{"z", "--admin", where}, "there is no node z"},
		{newStatus(), []string{"--admin", where + "-none"}, "no magent answers"},
		{newStatus(), []string{"--admin", "10.0.0.1:11311"}, "loopback"},
		{newStatus(), []string{"-p", "1"}, "/run/magent-1.sock"},
	} {
		if text, err := types(t, c.cmd, c.args...); err == nil || text != "" || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %v: %v, %q; want %q", c.cmd.Name(), c.args, err, text, c.want)
		}
	}
}

func TestFit(t *testing.T) {
	const text = "héllo\n\nlonger line\nlast\n"
	for _, c := range []struct {
		width, height int
		want          string
	}{
		{80, 24, text},
		{6, 24, "héllo\n\nlonger\nlast\n"},
		{5, 3, "héllo\n\nlonge\n"},
		{1, 1, "h\n"},
	} {
		if got := fit(text, c.width, c.height); got != c.want {
			t.Errorf("%d by %d: %q, want %q", c.width, c.height, got, c.want)
		}
	}
}
