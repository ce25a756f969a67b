package admin

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"
)

// Question is what somebody wants to know of a key.
type Question struct {
	Key   []byte // as it is, not in base64
	Value bool   // show the beginning of the value, too
	Pool  string // whose replicas are asked; empty: the one that serves the key
}

// Explanation is where a key is, who answers for it, and what is held of it.
type Explanation struct {
	Key       string    `json:"key"` // quoted where it is no plain text
	KeyBytes  []byte    `json:"key_base64"`
	Pool      string    `json:"pool"`
	Placement Placement `json:"placement"`
	Lead      string    `json:"lead"`            // the node that writes go to first; empty: nobody leads
	Why       string    `json:"why"`             // it does, or nobody does, in words
	Reads     string    `json:"reads,omitempty"` // the node that plain reads go to, if not to the lead
	Replicas  []Replica `json:"replicas"`        // in copy order
	Verdict   Verdict   `json:"verdict"`
	Note      string    `json:"note,omitempty"` // what else is to be known of this key
}

// Placement is how a key's nodes are found.
type Placement struct {
	Distribution string  `json:"distribution"`
	Hash         string  `json:"hash,omitempty"` // its name, where the distribution leaves a choice
	Part         string  `json:"part,omitempty"` // what is hashed, if not the whole key; quoted as Key
	Value        *uint64 `json:"value"`          // what the hash comes to; nil: nothing is hashed, as each copy has one node
}

// Verdict is whether the replicas hold the same.
type Verdict string

const (
	Agree   Verdict = "agree"   // all of them
	Differ  Verdict = "differ"  // and did so at three looks
	Alone   Verdict = "alone"   // there is one replica
	Unknown Verdict = "unknown" // some could not be asked, and those that could agree
)

// Replica is what one replica of a key is, and holds.
type Replica struct {
	Copy   int       `json:"copy"`
	Place  int       `json:"place"` // of the node in the list of its copy, from 1
	Of     int       `json:"of"`    // nodes in that
	Node   string    `json:"node"`
	State  string    `json:"state"`
	Cause  string    `json:"cause"` // of the state, in words
	Since  time.Time `json:"since"`
	Drain  bool      `json:"drain"`
	Debt   Debt      `json:"debt"`
	Item   *Item     `json:"item"`              // nil: it holds nothing, or Error says why nobody knows
	Error  string    `json:"error,omitempty"`   // why it was not asked, or did not answer
	Differ string    `json:"differs,omitempty"` // how it differs from the lead: missing, extra, value, flags or ttl
}

// Debt is whether a node has missed a write of the key, as far as this magent knows.
type Debt string

const (
	NoDebt     Debt = "none"
	Owed       Debt = "owed"
	SomeDebt   Debt = "too much to tell" // more was missed than is remembered
	NobodyOwes Debt = ""                 // in a pool of one copy
)

// Item is what a node holds of a key.
type Item struct {
	Size    int    `json:"size"`
	SHA256  string `json:"sha256"` // of the value
	Flags   uint64 `json:"flags"`
	TTL     int64  `json:"ttl_seconds"` // -1: it does not expire
	Version uint64 `json:"cas"`         // by the node's own count
	Idle    int64  `json:"idle_seconds"`
	Fetched bool   `json:"fetched"`         // it was read since it was stored
	Stale   bool   `json:"stale,omitempty"` // it was invalidated, and not made anew yet
	Front   []byte `json:"front_base64,omitempty"`
}

// Text is key for people: as it is, or quoted as in Go if it has other characters in it
// than those that can be seen.
func Text(key []byte) string {
	s := string(key)
	if utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !strconv.IsPrint(r) || r == '"' || r == ' ' }) {
		return s
	}
	return strconv.Quote(s)
}

// WriteExplanation writes e for people.
func WriteExplanation(w io.Writer, e Explanation) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "key\t%s (%d bytes)\n", e.Key, len(e.KeyBytes))
	fmt.Fprintf(t, "pool\t%s\n", e.Pool)
	fmt.Fprintf(t, "placement\t%s\n", e.Placement)
	fmt.Fprintf(t, "lead\t%s\n", strings.TrimPrefix(e.Lead+": "+e.Why, ": "))
	if e.Reads != "" {
		fmt.Fprintf(t, "reads\t%s: the lead is slow\n", e.Reads)
	}
	if e.Note != "" {
		fmt.Fprintf(t, "note\t%s\n", e.Note)
	}
	fmt.Fprintln(t)
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(t, "COPY\tPLACE\tNODE\tSTATE\tDEBT\tBYTES\tSHA-256\tFLAGS\tTTL\tVERSION\tACCESSED\tREAD")
	for i := range e.Replicas {
		r := &e.Replicas[i]
		fmt.Fprintf(t, "%d\t%d of %d\t%s\t%s\t%s\t%s\n", r.Copy, r.Place, r.Of, r.Node, r.state(), dash(string(r.Debt)), r.held())
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(w, "\n%s\n", e.judgement())
	for _, r := range e.Replicas {
		if r.Error != "" {
			fmt.Fprintf(w, "What %s holds is not known: %s.\n", r.Node, r.Error)
		}
		if r.Item != nil && r.Item.Front != nil {
			fmt.Fprintf(w, "%s: %s\n", r.Node, r.Item.front())
		}
	}
	return nil
}

// String is p for people.
func (p Placement) String() string {
	text := p.Distribution
	if p.Hash != "" {
		text += " of " + p.Hash
	}
	if p.Value == nil {
		return text + ": each copy has one node"
	}
	text += fmt.Sprintf(": hash %d", *p.Value)
	if p.Part != "" {
		text += " of " + p.Part
	}
	return text
}

func (r *Replica) state() string {
	if r.Drain {
		return r.State + ", drained"
	}
	return r.State
}

// noColumns stands behind the first column of what a replica holds, if that is all.
var noColumns = strings.Repeat("\t-", 6)

// held is the columns of what r holds.
func (r *Replica) held() string {
	it := r.Item
	switch {
	case r.Error != "":
		return "?" + noColumns
	case it == nil:
		return "nothing" + noColumns
	}
	ttl := "never ends"
	if it.TTL >= 0 {
		ttl = age(time.Duration(it.TTL) * time.Second)
	}
	read := "no"
	if it.Fetched {
		read = "yes"
	}
	if it.Stale {
		read += ", stale"
	}
	return fmt.Sprintf("%d\t%.16s\t%d\t%s\t%d\t%s ago\t%s", it.Size, it.SHA256, it.Flags, ttl, it.Version, age(time.Duration(it.Idle)*time.Second), read)
}

// front is the beginning of the value, quoted.
func (i *Item) front() string {
	text := strconv.Quote(string(i.Front))
	if len(i.Front) < i.Size {
		text += fmt.Sprintf(" and %d bytes more", i.Size-len(i.Front))
	}
	return text
}

// judgement is the verdict in a sentence.
func (e *Explanation) judgement() string {
	switch e.Verdict {
	case Agree:
		return "The copies agree."
	case Alone:
		return "There is one copy."
	case Unknown:
		return "Whether the copies agree is not known."
	}
	var all []string
	for _, r := range e.Replicas {
		if r.Differ != "" {
			all = append(all, r.Node+" differs from the lead: "+explained[r.Differ])
		}
	}
	return "The copies differ, at three looks: " + strings.Join(all, "; ") + "."
}

// explained is what the kinds of differences mean.
var explained = map[string]string{
	"missing": "it has no such item",
	"extra":   "it has an item, and the lead has none",
	"value":   "another value",
	"flags":   "other client flags",
	"ttl":     "another TTL",
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
