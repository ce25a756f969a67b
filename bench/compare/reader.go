package compare

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

// readEvery is how often a reader reads. A run that takes a second has one read in it.
const readEvery = time.Second

// reader reads a page of a proxy's operators again and again, as a Prometheus does, or a
// browser, on a goroutine of its own in this process.
type reader struct {
	url    string
	cancel context.CancelFunc
	ended  chan error // gets one
}

func newReader(ctx context.Context, url string) *reader {
	ctx, cancel := context.WithCancel(ctx)
	r := &reader{url: url, cancel: cancel, ended: make(chan error, 1)}
	go func() { r.ended <- r.run(ctx) }()
	return r
}

// close ends it. The error is of the first read that failed.
func (r *reader) close() error {
	r.cancel()
	if err := <-r.ended; err != nil {
		return fmt.Errorf("reading %s: %w", r.url, err)
	}
	return nil
}

func (r *reader) run(ctx context.Context) error {
	c := http.Client{Transport: new(http.Transport)}
	defer c.CloseIdleConnections()
	next := time.NewTicker(readEvery)
	defer next.Stop()
	for {
		if err := r.read(ctx, &c); err != nil && ctx.Err() == nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-next.C:
		}
	}
}

func (r *reader) read(ctx context.Context, c *http.Client) error {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url, nil)
	if err != nil {
		return err
	}
	a, err := c.Do(q)
	if err != nil {
		return err
	}
	defer a.Body.Close()
	if _, err = io.Copy(io.Discard, a.Body); err == nil && a.StatusCode != http.StatusOK {
		err = fmt.Errorf("it answers %s", a.Status)
	}
	return err
}
