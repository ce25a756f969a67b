package admin

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"text/tabwriter"
	"time"
)

// TopQuestion is for how long is to be counted, and how much of it is to be told.
type TopQuestion struct {
	Millis  int `json:"for_ms"`
	Keys    int `json:"keys"`
	Clients int `json:"clients"`
}

// maxTop bounds how long is counted, in milliseconds, and maxTold how many keys, and
// clients, are told.
const (
	maxTop  = 60_000
	maxTold = 1000
)

// For is how long is counted.
func (q *TopQuestion) For() time.Duration { return time.Duration(q.Millis) * time.Millisecond }

// fault says what is wrong with q; "" if nothing is.
func (q *TopQuestion) fault() string {
	switch {
	case q.Millis < 1 || q.Millis > maxTop:
		return fmt.Sprintf("it is counted for 1 to %d ms", maxTop)
	case q.Keys < 0 || q.Keys > maxTold || q.Clients < 0 || q.Clients > maxTold:
		return fmt.Sprintf("at most %d keys and clients are told", maxTold)
	}
	return ""
}

// Top is which keys were asked for most, and who asked most, while it was counted.
type Top struct {
	Seconds   float64      `json:"seconds"`  // that it was counted
	Requests  uint64       `json:"requests"` // commands of clients
	Keys      uint64       `json:"keys"`     // keys in them, each as often as it came
	Hot       []HotKey     `json:"hot"`      // the one that came most often first
	Addresses int          `json:"addresses"`
	Clients   []BusyClient `json:"clients"` // the one that sent most commands first
}

// HotKey is a key that came often: between Least and Most times.
type HotKey struct {
	Key      string `json:"key"` // quoted where it is no plain text
	KeyBytes []byte `json:"key_base64"`
	Pool     string `json:"pool"` // that serves it; empty: it depends on where it is asked for
	Lead     string `json:"lead"` // the node that leads it; empty: nobody does, or nobody knows
	Least    uint64 `json:"least"`
	Most     uint64 `json:"most"`
	Writes   uint64 `json:"writes"` // of Least: those that were no plain reads
}

// BusyClient is the clients of one address.
type BusyClient struct {
	Address     string `json:"address"`
	Connections int    `json:"connections"` // that were there at some time
	Requests    uint64 `json:"requests"`
	In          uint64 `json:"bytes_in"`  // from the clients
	Out         uint64 `json:"bytes_out"` // to them
}

// top answers when it has been counted.
func (h *handler) top(w http.ResponseWriter, r *http.Request) {
	var q TopQuestion
	if !asked(w, r, &q) {
		return
	}
	unhurry(w)
	top, err := h.proxy.Top(r.Context(), q)
	if err != nil {
		refuse(w, http.StatusConflict, "%v", err)
		return
	}
	answer(w, http.StatusOK, top)
}

// Top has it counted which keys are asked for most, and who asks most.
func (c *Client) Top(ctx context.Context, q TopQuestion) (t Top, err error) {
	unhurried := *c
	unhurried.http.Timeout = 0
	return t, unhurried.do(ctx, http.MethodPost, "/top", q, &t)
}

// WriteTop writes t for people.
func WriteTop(w io.Writer, t Top) error {
	seconds := max(t.Seconds, 1e-3)
	rate := func(n uint64) float64 { return float64(n) / seconds }
	fmt.Fprintf(w, "%.0f requests/s for %.0f keys/s, from %d addresses, in %.1f s\n", rate(t.Requests), rate(t.Keys), t.Addresses, t.Seconds)
	if len(t.Hot) > 0 {
		fmt.Fprintln(w)
		tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(tw, "KEY\tPER SECOND\tSHARE\tWRITES\tPOOL\tLEAD")
		for _, k := range t.Hot {
			fmt.Fprintf(tw, "%s\t%s\t%.1f %%\t%.0f %%\t%s\t%s\n", k.Key, between(rate(k.Least), rate(k.Most)),
				percent(k.Least, t.Keys), percent(k.Writes, k.Least), dash(k.Pool), dash(k.Lead))
		}
		if err := tw.Flush(); err != nil {
			return err
		}
	}
	if len(t.Clients) > 0 {
		fmt.Fprintln(w)
		tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(tw, "CLIENT\tCONNECTIONS\tREQUESTS/S\tKB/S IN\tKB/S OUT")
		for _, c := range t.Clients {
			fmt.Fprintf(tw, "%s\t%d\t%.0f\t%.1f\t%.1f\n", c.Address, c.Connections, rate(c.Requests), rate(c.In)/1e3, rate(c.Out)/1e3)
		}
		return tw.Flush()
	}
	return nil
}

// between is a rate of which the bounds are known.
func between(least, most float64) string {
	a, b := fmt.Sprintf("%.0f", least), fmt.Sprintf("%.0f", most)
	if a == b {
		return a
	}
	return a + " to " + b
}

func percent(part, whole uint64) float64 { return 100 * float64(part) / float64(max(1, whole)) }
