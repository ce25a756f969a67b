//go:build !race

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"magent/bench/keys"
	"magent/bench/load"
	"magent/bench/process/proctest"
	"magent/bench/wire"
	"magent/server/admin"
	"magent/server/e2e/browser"
)

var picture = flag.String("picture", "", "the picture of the status page is written to this `file`")

// The page is read on a screen of a desk, and on a telephone.
const (
	deskWidth, deskHeight     = 1440, 900
	pocketWidth, pocketHeight = 390, 844
	pictureHeight             = 1150
)

// Whoever has the status page open sees a node killed, come back and be refilled, as it
// happens; on a screen and on a telephone, in the light and in the dark.
func TestStatusPage(t *testing.T) {
	if testing.Short() {
		return // it takes ten seconds
	}
	nodes := memcacheds(t, 4)
	p := showsPage(t, nodes)
	lead := nodes[0].Addr
	row := fmt.Sprintf(`document.querySelector("[data-node='%s']")`, lead)
	shows := func(class, text string) string {
		return fmt.Sprintf(`%s.querySelector(".%s").textContent.includes(%q)`, row, class, text)
	}
	copied := func(part float64) string {
		return fmt.Sprintf(`((bar) => bar !== null && bar.value > %v * bar.max)(%s.querySelector("progress"))`, part, row)
	}
	event := func(what string) string {
		return fmt.Sprintf(`[...document.querySelectorAll("#events tbody tr")].some((e) => e.innerText.includes(%q) && e.innerText.includes(%q))`, what, lead)
	}
	browser.Get[bool](p, `window.opened = true`) // and not loaded again
	p.Wants(shows("state", "● up"))
	p.Wants(`/[1-9].*\/s/.test(document.querySelector("#clients dd").textContent)`)
	p.Wants(`!/–/.test(document.querySelector("#clients").innerText + document.querySelector("[data-pool] dl").innerText)`) // all that is counted is shown
	if *picture != "" {
		p.Wants(`document.querySelector("polyline").points.length >= 15`)
	}
	nodes[0].Freeze() // so that it has something to answer for when it dies
	p.Wants(row + `.querySelector("[data-label='In flight']").textContent !== "0"`)
	nodes[0].Kill()
	p.Wants(shows("state", "✕ down"))
	p.Wants(`document.title === "1 down: magent"`)
	p.Wants(event("node down"))
	p.Wants(event("requests were moved"))
	nodes[0].Restart()
	p.Wants(shows("state", "◔ warming"))
	p.Wants(event("this magent refills a node"))
	p.Wants(copied(0) + " && " + shows("refill", "to go"))
	if *picture != "" {
		p.Wants(copied(0.4))
		p.Resize(deskWidth, pictureHeight)
		if err := os.WriteFile(*picture, p.Picture(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	readable(t, p)
	p.Wants(event("node refilled"))
	p.Wants(shows("state", "● up") + ` && document.title === "magent"`)
	if !browser.Get[bool](p, `window.opened === true`) {
		t.Error("the page was loaded anew")
	}
	for _, m := range p.Messages() {
		if !strings.Contains(m, "401") { // which it was answered without the token
			t.Errorf("the browser says: %s", m)
		}
	}
}

// showsPage starts a magent under load in front of two copies of two nodes, and has the token
// typed that its page asks for.
func showsPage(t *testing.T, nodes []*proctest.Process) *browser.Page {
	t.Helper()
	const secret = "a-token-of-32-characters-or-so.."
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	addr, remote := freeAddr(t), freeAddr(t)
	startServe(t, addr, "-s", nodes[0].Addr, "-s", nodes[1].Addr, "-b", nodes[2].Addr, "-b", nodes[3].Addr,
		"--timeout", "2s", "--connect-timeout", "2s", "--resync-rate", "64000", "--admin-listen", remote, "--admin-token-file", token)
	rate := 4000.0
	if *picture != "" {
		rate *= 5
	}
	t.Cleanup(keepsBusy(t, addr, rate))
	p := browser.Open(t, "http://"+remote+"/", deskWidth, deskHeight)
	p.Wants(`!document.getElementById("ask").hidden`)
	p.Type("token", "not-the-token-of-this")
	p.Wants(`document.getElementById("trouble").textContent.includes("that is not the token")`)
	if shown := browser.Get[int](p, `document.querySelectorAll("[data-node]").length`); shown != 0 {
		t.Errorf("without the token %d nodes are shown", shown)
	}
	p.Type("token", secret)
	p.Wants(`document.querySelectorAll("[data-node]").length === 4 && document.getElementById("ask").hidden`)
	return p
}

// readable wants the page to be read on a screen and on a telephone, without moving it
// sideways, in the light and in the dark.
func readable(t *testing.T, p *browser.Page) {
	t.Helper()
	for _, scheme := range []string{"dark", "light"} {
		p.Prefer(scheme)
		for _, size := range [][2]int{{pocketWidth, pocketHeight}, {800, 600}, {1366, 768}, {deskWidth, deskHeight}} {
			p.Resize(size[0], size[1])
			if width := browser.Get[int](p, widest); width > size[0] {
				t.Errorf("a page of %d pixels is %d wide", size[0], width)
			}
			if wild := browser.Get[int](p, unnamed); wild > 0 {
				t.Errorf("%d cells have no head, or no name where there are no columns", wild)
			}
			if dim := p.Dim(); len(dim) > 0 {
				t.Errorf("%s, %d pixels wide: what can hardly be read: %q", scheme, size[0], dim)
			}
		}
	}
}

// widest is how wide the page would be without moving anything on it sideways.
const widest = `Math.max(document.documentElement.scrollWidth, ...[...document.querySelectorAll("section")].map((s) => innerWidth - s.clientWidth + s.scrollWidth))`

// unnamed is how many cells of tables a reader who hears the page, or has no room for
// columns, is not told the meaning of; and heads that are of nothing.
const unnamed = `[...document.querySelectorAll("td")].filter((td) =>
	td.getAttribute("role") !== "cell" || td.closest("table").tHead.rows[0].cells[td.cellIndex].textContent !== td.dataset.label).length +
	document.querySelectorAll("th:not([scope])").length`

// keepsBusy has clients make so many requests a second at addr until the end. The nodes then
// have something to be refilled with.
func keepsBusy(t *testing.T, addr string, rate float64) (end func()) {
	t.Helper()
	c := load.Config{Targets: []string{addr}, Conns: 16, Rate: rate, Mix: load.Mix{wire.Get: 9, wire.Set: 1},
		Keys: keys.Config{Prefix: "page", Max: 19999}, Duration: time.Hour, Timeout: proctest.Patience}
	if err := load.Preload(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background()) // the test's ends before its cleanups
	done := make(chan struct{})
	go func() {
		defer close(done)
		if _, err := load.Run(ctx, c); !errors.Is(err, context.Canceled) {
			t.Errorf("clients: %v", err)
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// Whatever is in a name, or in the words of a node, is text on the page.
func TestStatusPageEscapes(t *testing.T) {
	if testing.Short() {
		return // a browser starts
	}
	const evil = `<img src=x onerror="window.hurt=1"><script>window.hurt=1</script>&lt;b&gt;"'` + "`${1}"
	at := time.Now()
	node := admin.Node{Name: evil, State: evil, Cause: evil, Since: at, Refill: &admin.Refill{Phase: evil, Done: 1, Total: 2}}
	ready := admin.Ready{Reasons: []string{evil}}
	proxy := &toldProxy{
		overview: admin.Overview{Version: evil, Started: at, Now: at, Ready: ready, Events: 1, Pools: []admin.Pool{{Name: "one",
			Copies: []admin.Copy{{Nodes: []admin.Member{{Node: node, ProbeError: evil}}}}}, {Name: evil, Copies: []admin.Copy{}}}},
		events: []admin.Event{{Number: 1, At: at, Kind: "state", What: evil, Pool: evil, Node: evil, Cause: evil, More: evil}},
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := admin.Serve(ln, proxy, admin.Options{})
	defer s.Close()
	p := browser.Open(t, "http://"+ln.Addr().String()+"/status.html", pocketWidth, pocketHeight)
	p.Wants(`document.querySelectorAll("#events tbody tr").length === 1`)
	if n := browser.Get[int](p, `document.querySelectorAll("main img, main script, section img, section script, header img").length`); n != 0 {
		t.Errorf("%d elements are made of text", n)
	}
	if browser.Get[bool](p, `"hurt" in window`) {
		t.Error("what is in a text is run")
	}
	if n := browser.Get[int](p, `document.querySelectorAll("[data-pool]").length`); n != 2 {
		t.Errorf("%d pools are shown", n)
	}
	if text := browser.Get[string](p, `document.body.innerText`); strings.Count(text, evil) < 10 {
		t.Errorf("the page has\n%s", text)
	}
	if width := browser.Get[int](p, `document.documentElement.scrollWidth`); width > pocketWidth {
		t.Errorf("a page of %d pixels is %d wide", pocketWidth, width)
	}
	if all := p.Messages(); len(all) > 0 {
		t.Errorf("the browser says: %q", all)
	}
}
