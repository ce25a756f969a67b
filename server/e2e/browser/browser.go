//go:build !race

package browser

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"magent/bench/process/proctest"
)

// Page is a page in a tab of its own.
type Page struct {
	t   testing.TB
	ctx context.Context

	mu       sync.Mutex
	messages []string
}

// Open has a browser open the page at url in a tab that is so many pixels wide and high.
func Open(t testing.TB, url string, width, height int) *Page {
	t.Helper()
	// It has no sandbox as root, nor in many containers, and sees pages of our own only.
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath("chromium"), chromedp.NoSandbox, chromedp.WSURLReadTimeout(proctest.Patience))
	allocator, end := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, cancel := chromedp.NewContext(allocator)
	t.Cleanup(func() {
		cancel()
		end()
	})
	p := &Page{t: t, ctx: ctx}
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("this test needs chromium, Debian's package of that name: %v", err)
	}
	messages := chromedp.Console(ctx)
	go func() {
		for m, err := range messages {
			if err != nil {
				return
			}
			p.mu.Lock()
			p.messages = append(p.messages, m.String())
			p.mu.Unlock()
		}
	}()
	p.Resize(width, height)
	p.do(chromedp.Navigate(url))
	return p
}

func (p *Page) do(a chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, proctest.Patience)
	defer cancel()
	if err := chromedp.Do(ctx, a); err != nil {
		p.t.Fatal(err)
	}
}

// Messages is what the browser's console has said so far: of scripts that failed, and of
// what the page's policy forbids.
func (p *Page) Messages() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.messages...)
}

// Resize has the page be so many pixels wide and high.
func (p *Page) Resize(width, height int) {
	p.t.Helper()
	p.do(chromedp.EmulateViewport(int64(width), int64(height)))
}

// Prefer has the reader prefer light or dark.
func (p *Page) Prefer(scheme string) {
	p.t.Helper()
	p.do(func(ctx context.Context, t *chromedp.Target) (chromedp.Void, error) {
		return cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
	})
}

// Get is the value of a JavaScript expression.
func Get[T any](p *Page, expression string) T {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, proctest.Patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		p.t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// Wants waits until a JavaScript expression is true.
func (p *Page) Wants(expression string) {
	p.t.Helper()
	if !proctest.Within(proctest.Patience, func() bool { return Get[bool](p, expression) }) {
		p.t.Fatalf("waited %v in vain for %s; the page has\n%s", proctest.Patience, expression, Get[string](p, "document.body.innerText"))
	}
}

// Type types text into the field of this id, and sends the form that it is in.
func (p *Page) Type(id, text string) {
	p.t.Helper()
	p.do(chromedp.Steps(chromedp.SendKeys(chromedp.ID(id), text+"\r")))
}

// Picture is the page as a PNG, as far as it is on the screen.
func (p *Page) Picture() []byte {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, proctest.Patience)
	defer cancel()
	png, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err != nil {
		p.t.Fatal(err)
	}
	return png
}

// Dim is what on the page has less contrast than people with weak eyes need, by WCAG 2.2's
// criterion 1.4.3: 4.5 to 1, of each text with what is behind it.
func (p *Page) Dim() []string {
	p.t.Helper()
	return Get[[]string](p, fmt.Sprintf(dim, 4.5))
}

// dim is a script whose value is the texts that have less contrast than that.
const dim = `(() => {
	const channels = (css) => css.match(/[\d.]+/g).map(Number);
	const light = ([r, g, b]) => {
		const part = (c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
		return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
	};
	const behind = (e) => {
		for (; e; e = e.parentElement) {
			const c = channels(getComputedStyle(e).backgroundColor);
			if (c.length === 3 || c[3] === 1) return c;
		}
		return [255, 255, 255];
	};
	const found = [];
	const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	while (texts.nextNode()) {
		const e = texts.currentNode.parentElement, text = texts.currentNode.textContent.trim();
		if (!text || !e.checkVisibility() || e.closest("script, style")) continue;
		const [a, b] = [light(channels(getComputedStyle(e).color)), light(behind(e))].sort((x, y) => y - x);
		const contrast = (a + 0.05) / (b + 0.05);
		if (contrast < %v) found.push(contrast.toFixed(2) + " " + text);
	}
	return found;
})()`
