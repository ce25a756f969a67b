package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"
)

// Client asks a magent at its endpoint. Any goroutine may use it.
type Client struct {
	where string
	http  http.Client
}

// maxAnswer bounds what is read of an answer, in bytes: some 500 for each node.
const maxAnswer = 16 << 20

// NewClient is for the magent whose endpoint is at where, a path or an address. Nothing is
// connected to yet.
func NewClient(where string) (*Client, error) {
	network, address, err := Endpoint(where)
	if err != nil {
		return nil, err
	}
	return newClient(where, network, address), nil
}

func newClient(where, network, address string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	return &Client{where: where, http: http.Client{
		Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true},
		Timeout:   time.Minute,
	}}
}

// Status asks how the magent and its nodes are.
func (c *Client) Status(ctx context.Context) (s Status, err error) {
	return s, c.do(ctx, http.MethodGet, "/status", nil, &s)
}

// Events asks for the latest events after number, oldest first; one that was started anew
// since, and counts from 1, for all there are.
func (c *Client) Events(ctx context.Context, after uint64) ([]Event, error) {
	var t told
	err := c.do(ctx, http.MethodGet, fmt.Sprintf("/events?after=%d", after), nil, &t)
	if err == nil && t.Last < after {
		err = c.do(ctx, http.MethodGet, "/events", nil, &t)
	}
	return t.Events, err
}

// Explain asks where a key is and what the nodes hold of it.
func (c *Client) Explain(ctx context.Context, q Question) (e Explanation, err error) {
	query := url.Values{"key": {string(q.Key)}}
	if q.Value {
		query.Set("value", "1")
	}
	if q.Pool != "" {
		query.Set("pool", q.Pool)
	}
	return e, c.do(ctx, http.MethodGet, "/explain?"+query.Encode(), nil, &e)
}

// Resync has node refilled from the node called from. It does not wait for the end.
func (c *Client) Resync(ctx context.Context, node, from string) error {
	return c.do(ctx, http.MethodPost, "/resync", resync{node, from}, nil)
}

// Drain has node drained, or no more.
func (c *Client) Drain(ctx context.Context, node string, on bool) error {
	return c.do(ctx, http.MethodPost, "/drain", drain{node, &on}, nil)
}

// Ready asks whether clients are served. That they are not is no error.
func (c *Client) Ready(ctx context.Context) (r Ready, err error) {
	text, status, err := c.ask(ctx, http.MethodGet, "/readyz", nil)
	if err != nil {
		return r, err
	}
	known := status == http.StatusOK || status == http.StatusServiceUnavailable
	if !known || json.Unmarshal(text, &r) != nil || r.Ready != (status == http.StatusOK) {
		return r, fmt.Errorf("%s does not answer as a magent of this version", c.where)
	}
	return r, nil
}

// Failover has the virtual addresses given up, and waits until they are.
func (c *Client) Failover(ctx context.Context, leave bool) error {
	unhurried := *c
	unhurried.http.Timeout = 0
	return unhurried.do(ctx, http.MethodPost, "/failover", failover{leave}, nil)
}

// Resume has the magent be ready again after a Failover.
func (c *Client) Resume(ctx context.Context) error {
	return c.do(ctx, http.MethodPost, "/resume", struct{}{}, nil)
}

// Reload has the magent read its configuration file anew, and waits until that is in force.
func (c *Client) Reload(ctx context.Context) error {
	unhurried := *c
	unhurried.http.Timeout = 0
	return unhurried.do(ctx, http.MethodPost, "/reload", struct{}{}, nil)
}

// do makes one request, with body unless it is nil, and has the answer put into out
// unless that is nil. A refusal is an error in the magent's words.
func (c *Client) do(ctx context.Context, method, path string, body, out any) error {
	text, status, err := c.ask(ctx, method, path, body)
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return c.refused(text, status)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(text, out); err != nil {
		return fmt.Errorf("%s does not answer as a magent of this version: %w", c.where, err)
	}
	return nil
}

// refused is the error of an answer that is no success, in the magent's words.
func (c *Client) refused(text []byte, status int) error {
	var no refusal
	if json.Unmarshal(text, &no) != nil || no.Error == "" {
		return fmt.Errorf("%s answers %d %s: it is no magent", c.where, status, http.StatusText(status))
	}
	return errors.New(no.Error)
}

// ask makes one request, with body unless it is nil, and returns the answer.
func (c *Client) ask(ctx context.Context, method, path string, body any) (answer []byte, status int, err error) {
	resp, err := c.send(ctx, method, path, body)
	if err != nil {
		return nil, 0, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, 0, c.explain(err)
	}
	return text, resp.StatusCode, nil
}

// send makes one request, with body unless it is nil. The answer is to be read and closed.
func (c *Client) send(ctx context.Context, method, path string, body any) (*http.Response, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://localhost"+path, bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(r)
	if err != nil {
		return nil, c.explain(err)
	}
	return resp, nil
}

// explain says why nobody answers, and what that may come of.
func (c *Client) explain(err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	err = cause(err)
	advice := ""
	switch {
	case errors.Is(err, os.ErrPermission):
		advice = "; root, and the user that magent runs as, may ask it"
	case errors.Is(err, os.ErrNotExist):
		advice = "; -p says which port its clients use, or --admin where it is asked"
	}
	return fmt.Errorf("no magent answers at %s: %w%s", c.where, err, advice)
}
