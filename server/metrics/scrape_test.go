package metrics

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	"magent/server/e2e/harness"
)

// call is a command, what is answered, and what that counts as.
type call struct {
	text    string
	answer  string
	command string
	results map[string]float64
}

// calls is what one client does over and over, with keys that nobody else has.
func calls(client int) []call {
	k := "k" + strconv.Itoa(client)
	one := func(result string) map[string]float64 { return map[string]float64{result: 1} }
	return []call{
		{"set " + k + " 0 0 1\r\nx\r\n", "STORED\r\n", "set", one("ok")},
		{"get " + k + "\r\n", "VALUE " + k + " 0 1\r\nx\r\nEND\r\n", "get", one("hit")},
		{"get none\r\n", "END\r\n", "get", one("miss")},
		{"get " + k + " none " + k + "\r\n", strings.Repeat("VALUE "+k+" 0 1\r\nx\r\n", 2) + "END\r\n", "get", map[string]float64{"hit": 2, "miss": 1}},
		{"gat 0 " + k + "\r\n", "VALUE " + k + " 0 1\r\nx\r\nEND\r\n", "gat", one("hit")},
		{"mg " + k + " v\r\n", "VA 1\r\nx\r\n", "mg", one("hit")},
		{"mg none v\r\n", "EN\r\n", "mg", one("miss")},
		{"mg none v q\r\n", "", "mg", one("miss")},
		{"touch " + k + " 0\r\n", "TOUCHED\r\n", "touch", one("ok")},
		{"touch none 0\r\n", "NOT_FOUND\r\n", "touch", one("not_found")},
		{"add " + k + " 0 0 1\r\ny\r\n", "NOT_STORED\r\n", "add", one("not_stored")},
		{"cas " + k + " 0 0 1 1\r\ny\r\n", "EXISTS\r\n", "cas", one("exists")},
		{"ms " + k + " 1 ME\r\ny\r\n", "NS\r\n", "ms", one("not_stored")},
		{"incr " + k + " 1\r\n", "CLIENT_ERROR cannot increment or decrement non-numeric value\r\n", "incr", one("error")},
		{"set " + k + " 0 0 1 noreply\r\n7\r\n", "", "set", one("ok")},
		{"incr " + k + " 1\r\n", "8\r\n", "incr", one("ok")},
		{"md " + k + "\r\n", "HD\r\n", "md", one("ok")},
		{"md " + k + "\r\n", "NF\r\n", "md", one("not_found")},
		{"delete " + k + "\r\n", "NOT_FOUND\r\n", "delete", one("not_found")},
		{"nonsense\r\n", "ERROR\r\n", "", one("error")},
		{"mn\r\n", "MN\r\n", "mn", one("ok")},
	}
}

// scrape gives what is shown, by name and labels as they are written.
func scrape(url string) (map[string]float64, error) {
	resp, err := http.Get(url)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s, %v: %s", resp.Status, err, text)
	}
	got := make(map[string]float64)
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		at := strings.LastIndexByte(line, ' ')
		if got[line[:at]], err = strconv.ParseFloat(strings.TrimSpace(line[at:]), 64); err != nil {
			return nil, err
		}
	}
	return got, nil
}

// sum is that of all series of a metric that have these labels, as they are written.
func sum(got map[string]float64, name string, labels ...string) (total float64) {
series:
	for series, n := range got {
		if family, _, _ := strings.Cut(series, "{"); family != name {
			continue
		}
		for _, l := range labels {
			if !strings.Contains(series, l) {
				continue series
			}
		}
		total += n
	}
	return total
}

// grown is an error if a counter has fallen from before to now, or more was answered
// than asked.
func grown(before, now map[string]float64) error {
	for series, n := range before {
		name, _, _ := strings.Cut(series, "{")
		if strings.HasSuffix(name, "_total") && strings.HasPrefix(name, "magent_") && now[series] < n {
			return fmt.Errorf("%s falls from %v to %v", series, n, now[series])
		}
	}
	for _, c := range []string{"set", "incr", "mn"} {
		if asked, done := sum(now, "magent_commands_total", `command="`+c+`"`), sum(now, "magent_answers_total", `command="`+c+`"`); done > asked {
			return fmt.Errorf("%v %s are answered of %v", done, c, asked)
		}
	}
	return nil
}

// work has client make its calls some times over, each time as one pipeline.
func work(addr string, client, times int) error {
	c, err := harness.Dial(addr)
	if err != nil {
		return err
	}
	defer c.Close()
	var request, want strings.Builder
	for _, call := range calls(client) {
		request.WriteString(call.text)
		want.WriteString(call.answer)
	}
	for range times {
		if err := c.Send([]byte(request.String())); err != nil {
			return err
		}
		if got, err := c.Full(want.Len()); err != nil || string(got) != want.String() {
			return fmt.Errorf("%q, %v, want %q", got, err, want.String())
		}
	}
	return nil
}

// While clients work, whoever scrapes sees counters that grow; when they are done, sums
// that are what they have done.
func TestScrapeUnderLoad(t *testing.T) {
	const clients = 8
	times := 200
	if testing.Short() {
		times = 30
	}
	p := harness.Proxy(t, harness.Topology{Copies: 2, Nodes: 2, Loops: 2})
	s := httptest.NewServer(NewHandler(p.Server, Build{Version: "1.2.3", Commit: "abc"}, noReloads))
	defer s.Close()

	failed := make(chan error, clients+1)
	var workers sync.WaitGroup
	for i := range clients {
		workers.Go(func() { failed <- work(p.Addr, i, times) })
	}
	over, scraped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(scraped)
		var before map[string]float64
		for done := false; !done; {
			select {
			case <-over:
				done = true
			default:
			}
			now, err := scrape(s.URL)
			if err = errors.Join(err, grown(before, now)); err != nil {
				failed <- err
				return
			}
			before = now
		}
		failed <- nil
	}()
	workers.Wait()
	close(over)
	<-scraped
	for range clients + 1 {
		if err := <-failed; err != nil {
			t.Fatal(err)
		}
	}
	got, err := scrape(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	judge(t, got, clients, float64(clients*times))
}

// judge compares what is shown with what clients have done, each as often as times says
// of all of them.
func judge(t *testing.T, got map[string]float64, clients int, times float64) {
	t.Helper()
	commands, answers := map[string]float64{}, map[string]float64{}
	in, out, reads, writes := 0.0, 0.0, 0.0, 0.0
	for i := range clients {
		for _, c := range calls(i) {
			n := times / float64(clients)
			in += n * float64(len(c.text))
			out += n * float64(len(c.answer))
			commands[c.command] += n
			for result, k := range c.results {
				answers[fmt.Sprintf(`{command="%s",result="%s"}`, c.command, result)] += k * n
				switch c.command {
				case "get", "gat", "mg":
					reads += k * n
				case "", "mn":
				default:
					writes += k * n
				}
			}
		}
	}
	want := map[string]float64{
		"magent_client_received_bytes_total": in, "magent_client_sent_bytes_total": out,
		"magent_clients_accepted_total": float64(clients), "magent_loops": 2, "magent_loops_silent": 0,
		`magent_answer_duration_seconds_count{kind="read"}`: reads, `magent_answer_duration_seconds_count{kind="write"}`: writes,
		`magent_answer_duration_seconds_bucket{kind="read",le="+Inf"}`: reads,
	}
	for c, n := range commands {
		want[`magent_commands_total{command="`+c+`"}`] = n
	}
	for labels, n := range answers {
		want["magent_answers_total"+labels] = n
	}
	for series, n := range want {
		if got[series] != n {
			t.Errorf("%s %v, want %v", series, got[series], n)
		}
	}
	for name, all := range map[string]map[string]float64{"magent_commands_total": commands, "magent_answers_total": answers} {
		total := 0.0
		for _, n := range all {
			total += n
		}
		if s := sum(got, name); s != total {
			t.Errorf("all %s are %v, want %v", name, s, total)
		}
	}
	if n := sum(got, "magent_node_request_duration_seconds_count"); n < reads+writes {
		t.Errorf("nodes were asked %v times for %v", n, reads+writes)
	}
	if n := sum(got, "magent_node_state", `state="up"`) + sum(got, "magent_node_state", `state="slow"`); n != 4 {
		t.Errorf("%v of 4 nodes are up or slow", n)
	}
	for _, name := range []string{"go_goroutines", "process_open_fds", "magent_node_received_bytes_total", "magent_node_sent_bytes_total", "magent_node_probes_total"} {
		if sum(got, name) == 0 {
			t.Errorf("there is no %s", name)
		}
	}
	if sum(got, "magent_build_info", `version="1.2.3"`, `commit="abc"`) != 1 {
		t.Error("the version is not shown")
	}
}
