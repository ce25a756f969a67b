package admin

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
)

// Addresses that others than this machine's users may reach, and the token that these
// must show there: "Authorization: Bearer TOKEN" (RFC 6750). It is sent in the clear, so
// the network between is to be one that is trusted.

// minToken is the fewest bytes of a token: 128 bits, if it is drawn at random and written
// in hexadecimal digits, make 32.
const minToken = 16

// ReadToken reads a token from the file at path, without the white space around it.
func ReadToken(path string) (string, error) {
	st, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("cannot read the token in %s: %w", path, cause(err))
	}
	if st.Mode()&0o004 != 0 {
		return "", fmt.Errorf("any user may read the token in %s: chmod it to 600", path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("cannot read the token in %s: %w", path, cause(err))
	}
	token := strings.TrimSpace(string(text))
	switch {
	case len(token) < minToken:
		return "", fmt.Errorf("the token in %s has %d characters, and needs %d or more: openssl rand -hex 32 makes one", path, len(token), minToken)
	case strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }):
		return "", fmt.Errorf("the token in %s must be one line of ASCII letters, digits and signs", path)
	}
	return token, nil
}

// ListenTCP opens the endpoint at an address from TCPAddress.
func ListenTCP(address string) (net.Listener, error) {
	ln, err := new(net.ListenConfig).Listen(context.Background(), "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s for admin: %w", address, cause(err))
	}
	return ln, nil
}

// TCPAddress is the address that where means: a port, which then is one of 127.0.0.1, or an
// IP address with a port. With no token it must be a loopback address.
func TCPAddress(where, token string) (string, error) {
	port := strings.TrimPrefix(where, ":")
	if n, err := strconv.ParseUint(port, 10, 16); err == nil && n > 0 {
		return net.JoinHostPort("127.0.0.1", port), nil
	}
	host, port, err := net.SplitHostPort(where)
	_, notIP := netip.ParseAddr(host)
	switch {
	case err != nil || port == "" || notIP != nil && host != "localhost":
		return "", fmt.Errorf("the address for admin must be a port, or an IP address with a port such as 10.0.0.10:11311, not %q", where)
	case token == "" && !loopback(host):
		return "", fmt.Errorf("%s can be reached from elsewhere, and who reaches it may drain nodes: it needs --admin-token-file", where)
	}
	return where, nil
}

// NewRemoteClient is for the magent whose endpoint is at address, host:port, of any
// machine, and that wants to be shown this token.
func NewRemoteClient(address, token string) (*Client, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil || host == "" || port == "" {
		return nil, fmt.Errorf("with a token, admin must be an address such as 10.0.0.10:11311, not %q", address)
	}
	c := newClient(address, "tcp", address)
	c.http.Transport = bearer{token, c.http.Transport}
	return c, nil
}

// bearer shows a token with every request.
type bearer struct {
	token string
	next  http.RoundTripper
}

// RoundTrip is http.RoundTripper's; r is not changed.
func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+b.token)
	return b.next.RoundTrip(r)
}

// shows is nil if r shows token, and an error for who sent it otherwise.
func shows(r *http.Request, token string) error {
	scheme, got, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return errors.New("show the token of this magent: Authorization: Bearer TOKEN")
	}
	// Of equal length, so that the time it takes tells nothing of the token, nor its length.
	a, b := sha256.Sum256([]byte(got)), sha256.Sum256([]byte(token))
	if subtle.ConstantTimeCompare(a[:], b[:]) == 0 {
		return errors.New("that is not the token of this magent")
	}
	return nil
}
