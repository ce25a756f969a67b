package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"text/tabwriter"
)

// DiffQuestion is which keys are to be compared, and how.
type DiffQuestion struct {
	Pool   string `json:"pool"`             // may be empty if there is only one
	Sample int    `json:"sample"`           // so many keys; 0: all
	Repair bool   `json:"repair"`           // have those that differ repaired from their leads
	Pause  int    `json:"pause_ms"`         // between the looks at a key that seems to differ
	Keys   int    `json:"keys_per_second"`  // compared at most; 0: no bound
	Bytes  int    `json:"bytes_per_second"` // of values read at most; 0: no bound
}

// maxSample bounds a sample, in keys, and maxPause a pause, in milliseconds.
const (
	maxSample = 1_000_000
	maxPause  = 60_000
)

// fault says what is wrong with q; "" if nothing is.
func (q *DiffQuestion) fault() string {
	switch {
	case q.Sample < 0 || q.Sample > maxSample:
		return fmt.Sprintf("a sample has 1 to %d keys; 0 is all keys", maxSample)
	case q.Pause < 0 || q.Pause > maxPause:
		return fmt.Sprintf("the pause has 0 to %d ms", maxPause)
	case q.Keys < 0 || q.Bytes < 0:
		return "a rate is not negative"
	}
	return ""
}

// DiffProgress is how far a comparison is.
type DiffProgress struct {
	Phase     string `json:"phase"`
	Listed    uint64 `json:"listed"`    // keys, by all nodes so far
	Compared  uint64 `json:"compared"`  // keys
	Total     uint64 `json:"total"`     // keys that are to be compared; 0: nobody knows
	Different uint64 `json:"different"` // copies of keys
}

// Diff is what became of a comparison.
type Diff struct {
	Pool      string         `json:"pool"`
	Compared  uint64         `json:"compared"`  // keys
	Different uint64         `json:"different"` // copies that differ from the lead's, before any repair
	Mended    uint64         `json:"mended"`    // of these, those that did not after it
	Kinds     []DiffKind     `json:"kinds"`
	Left      map[string]int `json:"not_compared"` // keys that were not compared, by why
	Nodes     []string       `json:"not_asked"`    // nodes that were not asked, and why, in words
}

// DiffKind is the copies that differ in one way.
type DiffKind struct {
	Kind     string        `json:"kind"` // missing, extra, value, flags, ttl
	Copies   uint64        `json:"copies"`
	Mended   uint64        `json:"mended"`
	Examples []DiffExample `json:"examples"`
}

// DiffExample is one copy that differs.
type DiffExample struct {
	Key      string `json:"key"` // quoted where it is no plain text
	KeyBytes []byte `json:"key_base64"`
	Node     string `json:"node"`
}

// diffLine is a line of the answer: how far it is, over and over, and then one of the
// others.
type diffLine struct {
	Progress *DiffProgress `json:"progress,omitempty"`
	Diff     *Diff         `json:"diff,omitempty"`
	Error    string        `json:"error,omitempty"`
}

// diff answers line by line, as it takes as long as it takes. It ends when who asked has
// gone.
func (h *handler) diff(w http.ResponseWriter, r *http.Request) {
	var q DiffQuestion
	if !asked(w, r, &q) {
		return
	}
	unhurry(w)
	begun := false
	tell := func(l diffLine) {
		if !begun {
			w.Header().Set("Content-Type", "application/x-ndjson")
			begun = true
		}
		_ = errors.Join(json.NewEncoder(w).Encode(l), http.NewResponseController(w).Flush()) // who has gone does not mind
	}
	d, err := h.proxy.Diff(r.Context(), q, func(p DiffProgress) { tell(diffLine{Progress: &p}) })
	switch {
	case err == nil:
		tell(diffLine{Diff: &d})
	case begun:
		tell(diffLine{Error: err.Error()})
	default:
		refuse(w, http.StatusConflict, "%v", err)
	}
}

// Diff has the copies of keys compared, and calls progress now and then. It ends with ctx.
func (c *Client) Diff(ctx context.Context, q DiffQuestion, progress func(DiffProgress)) (Diff, error) {
	unhurried := *c
	unhurried.http.Timeout = 0
	resp, err := unhurried.send(ctx, http.MethodPost, "/diff", q)
	if err != nil {
		return Diff{}, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
		return Diff{}, errors.Join(err, c.refused(text, resp.StatusCode))
	}
	for lines := json.NewDecoder(resp.Body); ; {
		var l diffLine
		switch err := lines.Decode(&l); {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return Diff{}, fmt.Errorf("%s has ended before the comparison did", c.where)
		case err != nil:
			return Diff{}, c.explain(err)
		case l.Error != "":
			return Diff{}, errors.New(l.Error)
		case l.Diff != nil:
			return *l.Diff, nil
		case l.Progress != nil:
			progress(*l.Progress)
		}
	}
}

// WriteDiff writes d for people.
func WriteDiff(w io.Writer, d Diff) error {
	result := "none differs"
	if d.Different > 0 {
		result = fmt.Sprintf("%d copies differ from their leads'", d.Different)
	}
	if d.Mended > 0 {
		result += fmt.Sprintf(", %d of them mended", d.Mended)
	}
	fmt.Fprintf(w, "compared %d keys of pool %s: %s\n", d.Compared, d.Pool, result)
	if len(d.Kinds) > 0 {
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, "KIND\tCOPIES\tMENDED\tSUCH AS")
		for _, k := range d.Kinds {
			var such []string
			for _, e := range k.Examples {
				such = append(such, e.Key+" at "+e.Node)
			}
			fmt.Fprintf(t, "%s\t%d\t%d\t%s\n", k.Kind, k.Copies, k.Mended, strings.Join(such, ", "))
		}
		if err := t.Flush(); err != nil {
			return err
		}
	}
	var whys []string
	for why := range d.Left {
		whys = append(whys, why)
	}
	slices.Sort(whys)
	for _, why := range whys {
		fmt.Fprintf(w, "not compared: %d keys: %s\n", d.Left[why], why)
	}
	for _, n := range d.Nodes {
		fmt.Fprintf(w, "not asked: %s\n", n)
	}
	return nil
}

// String is p in a line, for people.
func (p DiffProgress) String() string {
	done := fmt.Sprintf("%d compared", p.Compared)
	if p.Total > 0 {
		done = fmt.Sprintf("%d of %d compared (%.0f %%)", p.Compared, p.Total, 100*float64(p.Compared)/float64(p.Total))
	}
	return fmt.Sprintf("%s: %d keys listed, %s, %d differ", p.Phase, p.Listed, done, p.Different)
}
