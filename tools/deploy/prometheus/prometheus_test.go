// Package prometheus holds what a Prometheus and a Grafana need to watch magents: alerts,
// their tests, and a dashboard. Its tests check these against the metrics that there are,
// with promtool. They run on their own goroutine, and may import anything.
package prometheus

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"magent/server"
	"magent/server/metrics"
	"magent/upstream/health"
)

// promtool runs Debian's, and fails the test if it is not content.
func promtool(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("promtool", args...).CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// eventful is a magent that shows what others show only now and then.
type eventful struct{}

func (eventful) Snapshot() server.Snapshot {
	return server.Snapshot{Nodes: []server.NodeSnapshot{{Name: "a", State: "warming", Version: "1.6.18",
		Report: health.Report{Falls: map[string]uint64{"timeout": 1}},
		Refill: &server.Refill{Done: 1, Total: 2, Keys: 1, Since: time.Now().Add(-time.Minute)}}}}
}

// series is the names of all series there are, with the labels that each has.
func series(t *testing.T) map[string][]string {
	t.Helper()
	w := httptest.NewRecorder()
	metrics.NewHandler(eventful{}, metrics.Build{Version: "1", Commit: "2"}, func() metrics.Reloads { return metrics.Reloads{} }).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	names := map[string][]string{"up": nil}
	label := regexp.MustCompile(`(\w+)="`)
	for line := range strings.Lines(w.Body.String()) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		name := line[:strings.IndexAny(line, "{ ")]
		names[name] = nil
		if base, ok := strings.CutSuffix(name, "_bucket"); ok {
			names[base] = []string{"kind", "node"} // of a native histogram
		}
		for _, m := range label.FindAllStringSubmatch(line, -1) {
			names[name] = append(names[name], m[1])
		}
	}
	if len(names) < 80 {
		t.Fatalf("only %d series are shown", len(names))
	}
	return names
}

var (
	quoted   = regexp.MustCompile(`"[^"]*"`)
	selector = regexp.MustCompile(`([a-z_]+)(\{[^}]*\})?`)
	matcher  = regexp.MustCompile(`([a-z_]+)\s*[=!]`)
	grouping = regexp.MustCompile(`\b(by|on|without|ignoring)\s*\(([^)]*)\)`)
)

// names finds in expr what is to be a metric, and complains of what is none, and of labels
// that it does not have.
func check(t *testing.T, where, expr string, known map[string][]string) {
	t.Helper()
	grouped := grouping.FindAllStringSubmatch(expr, -1)
	bare := grouping.ReplaceAllString(quoted.ReplaceAllString(expr, `""`), "")
	labels := []string{"job", "instance"}
	found := 0
	for _, m := range selector.FindAllStringSubmatch(bare, -1) {
		if !strings.HasPrefix(m[1], "magent_") && !strings.HasPrefix(m[1], "process_") && !strings.HasPrefix(m[1], "go_") && m[1] != "up" {
			continue // a function, an operator or a duration
		}
		found++
		has, ok := known[m[1]]
		if !ok {
			t.Errorf("%s: there is no metric %s", where, m[1])
		}
		labels = append(labels, has...)
		for _, l := range matcher.FindAllStringSubmatch(m[2], -1) {
			if !slices.Contains(append(has, "job", "instance"), l[1]) {
				t.Errorf("%s: %s has no label %s", where, m[1], l[1])
			}
		}
	}
	if found == 0 {
		t.Errorf("%s: %s asks for no metric", where, expr)
	}
	for _, g := range grouped {
		if strings.Contains(g[2], "node") && !strings.Contains(g[2], "pool") {
			t.Errorf("%s: a node may be in several pools, which %s makes one of", where, g[0])
		}
		for l := range strings.FieldsFuncSeq(g[2], func(r rune) bool { return r == ',' || r == ' ' }) {
			if !slices.Contains(labels, l) {
				t.Errorf("%s: nothing in %s has the label %s", where, expr, l)
			}
		}
	}
}

var (
	alertName = regexp.MustCompile(`(?m)^      - alert: (\w+)\n        expr: (?:\|\n((?: {10}.*\n)+)|(.*)\n)`)
	fires     = regexp.MustCompile(`alertname: (\w+)\n +exp_alerts:\n`)
	rests     = regexp.MustCompile(`alertname: (\w+)\n +exp_alerts: \[\]`)
)

func TestAlerts(t *testing.T) {
	promtool(t, "check", "rules", "--lint=all", "--lint-fatal", "alerts.yml")
	promtool(t, "test", "rules", "alerts_test.yml")
	rules, tests, operations := read(t, "alerts.yml"), read(t, "alerts_test.yml"), read(t, "../../../OPERATIONS.md")
	known := series(t)
	alerts := alertName.FindAllStringSubmatch(rules, -1)
	if n := strings.Count(rules, "alert:"); n != len(alerts) || n < 10 {
		t.Fatalf("%d alerts are read of %d", len(alerts), n)
	}
	tested := func(cases *regexp.Regexp, name string) bool {
		return slices.ContainsFunc(cases.FindAllStringSubmatch(tests, -1), func(m []string) bool { return m[1] == name })
	}
	for _, a := range alerts {
		check(t, a[1], a[2]+a[3], known)
		if !tested(fires, a[1]) || !tested(rests, a[1]) {
			t.Errorf("alerts_test.yml: %s is to fire in one case, and not in another", a[1])
		}
		if !strings.Contains(operations, "\n| `"+a[1]+"` |") {
			t.Errorf("OPERATIONS.md, Alerts: there is no line for %s", a[1])
		}
	}
	told := regexp.MustCompile("(?m)^\\| `(Magent\\w+)`")
	for _, m := range told.FindAllStringSubmatch(operations, -1) {
		if !slices.ContainsFunc(alerts, func(a []string) bool { return a[1] == m[1] }) {
			t.Errorf("OPERATIONS.md, Alerts: there is no alert %s", m[1])
		}
	}
}

// dashboard is what is checked of one of Grafana's.
type dashboard struct {
	Panels []struct {
		ID                       int
		Type, Title, Description string
		Datasource               struct{ UID string }
		GridPos                  struct{ X, Y, W, H int }
		Targets                  []struct{ Expr string }
	}
	Annotations struct{ List []struct{ Expr string } }
	Templating  struct {
		List []struct{ Name, Type, Definition string }
	}
}

func TestDashboard(t *testing.T) {
	var d dashboard
	if err := json.Unmarshal([]byte(read(t, "dashboard.json")), &d); err != nil {
		t.Fatal(err)
	}
	exprs := map[string]string{}
	ids, taken := map[int]bool{}, map[[2]int]string{}
	for _, p := range d.Panels {
		for i, target := range p.Targets {
			exprs[fmt.Sprintf("%s, %c", p.Title, 'A'+i)] = target.Expr
		}
		if ids[p.ID] {
			t.Errorf("%s: another panel has the id %d", p.Title, p.ID)
		}
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" || x >= 24 {
					t.Errorf("%s lies on %s, or beside the page", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		if p.Type != "row" && (p.Description == "" || len(p.Targets) == 0 || p.Datasource.UID != "${datasource}") {
			t.Errorf("%s: a panel has a description, something to show, and the source that is chosen", p.Title)
		}
	}
	for i, a := range d.Annotations.List {
		exprs[fmt.Sprint("annotation ", i)] = a.Expr
	}
	if len(exprs) < 40 {
		t.Fatalf("only %d expressions are found", len(exprs))
	}
	checkAll(t, exprs)
	known := series(t)
	for name := range known { // who adds a metric shows it, or says here why not
		if base, hidden := family(name), map[string]bool{"magent_chunks": true, "magent_node_info": true, "magent_loops_silent": true,
			"magent_node_state_timestamp_seconds": true, "magent_node_flaps": true, "magent_node_held_seconds": true,
			"magent_node_drained": true, "magent_node_probes_total": true}; strings.HasPrefix(base, "magent_") && !hidden[base] &&
			!slices.ContainsFunc(slices.Collect(maps.Values(exprs)), func(e string) bool { return strings.Contains(e, base) }) {
			t.Errorf("no panel shows %s", base)
		}
	}
	for _, v := range d.Templating.List {
		if name, _, ok := strings.Cut(strings.TrimPrefix(v.Definition, "label_values("), ","); v.Type == "query" {
			name, _, _ = strings.Cut(name, "{")
			if _, is := known[name]; !ok || !is {
				t.Errorf("the variable %s asks for %s", v.Name, v.Definition)
			}
		}
	}
}

// family is the name of the metric that a series is of.
func family(series string) string {
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		series = strings.TrimSuffix(series, suffix)
	}
	return series
}

// checkAll looks at expressions of a dashboard, by where they stand: at their names, and,
// with promtool, at their syntax. What Grafana puts into them is put there first.
func checkAll(t *testing.T, exprs map[string]string) {
	t.Helper()
	known := series(t)
	fill := strings.NewReplacer("$__rate_interval", "5m", "$job", "magent", "$instance", ".*")
	rules := strings.Builder{}
	rules.WriteString("groups:\n  - name: dashboard\n    rules:\n")
	for i, where := range slices.Sorted(maps.Keys(exprs)) {
		expr := fill.Replace(exprs[where])
		check(t, where, expr, known)
		if strings.Contains(expr, "$") {
			t.Errorf("%s: an unknown variable in %s", where, expr)
		}
		fmt.Fprintf(&rules, "      - record: expression:%d\n        expr: %q\n", i, expr)
	}
	path := filepath.Join(t.TempDir(), "dashboard.yml")
	if err := os.WriteFile(path, []byte(rules.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, "check", "rules", path)
}
