package secret

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"
)

// Serving is the files by which a magent proves to clients who it is, and has them prove it,
// all in PEM.
type Serving struct {
	Cert, Key string // the certificate, with those between it and the root behind it
	// ClientCA has the roots that certificates of clients come from, which a client then
	// must have. Empty: nobody is asked for one.
	ClientCA string
	// ClientNames are who of these may come in: by the common name or by an alternative one,
	// as it is written. Empty: all.
	ClientNames []string
}

// OpenServing opens the files of s. Versions before TLS 1.2 are not spoken.
func OpenServing(s Serving) (*File[*tls.Config], error) {
	return Open(s.read, files(s.Cert, s.Key, s.ClientCA)...)
}

func (s *Serving) read() (*tls.Config, error) {
	cert, err := tls.LoadX509KeyPair(s.Cert, s.Key)
	if err != nil {
		return nil, fmt.Errorf("%s and %s: %w", s.Cert, s.Key, err)
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}, DynamicRecordSizingDisabled: true}
	if s.ClientCA == "" {
		return c, nil
	}
	if c.ClientCAs, err = roots(s.ClientCA); err != nil {
		return nil, err
	}
	c.ClientAuth = tls.RequireAndVerifyClientCert
	c.SessionTicketsDisabled = true // who comes is to show what he has now
	if len(s.ClientNames) > 0 {
		c.VerifyConnection = s.allows
	}
	return c, nil
}

// allows is nil if the client, whose certificate is good, is one of those who may come in.
func (s *Serving) allows(state tls.ConnectionState) error {
	if len(state.PeerCertificates) == 0 {
		return errors.New("it has shown no certificate")
	}
	names := namesOf(state.PeerCertificates[0])
	if !slices.ContainsFunc(names, func(n string) bool { return slices.Contains(s.ClientNames, n) }) {
		return fmt.Errorf("it is %q, who may not come in", names)
	}
	return nil
}

// namesOf is who a certificate says its owner is.
func namesOf(c *x509.Certificate) (names []string) {
	if c.Subject.CommonName != "" {
		names = append(names, c.Subject.CommonName)
	}
	names = slices.Concat(names, c.DNSNames, c.EmailAddresses)
	for _, u := range c.URIs {
		names = append(names, u.String())
	}
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	return names
}

// Asking is the files by which a magent tells nodes from others, and proves to them who it
// is, all in PEM.
type Asking struct {
	CA        string // roots that certificates of nodes come from; empty: the system's
	Cert, Key string // of this magent; empty: nodes ask for none
}

// OpenAsking opens the files of a. Versions before TLS 1.2 are not spoken.
func OpenAsking(a Asking) (*File[*tls.Config], error) {
	return Open(a.read, files(a.CA, a.Cert, a.Key)...)
}

func (a *Asking) read() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, DynamicRecordSizingDisabled: true}
	var err error
	if a.CA != "" {
		if c.RootCAs, err = roots(a.CA); err != nil {
			return nil, err
		}
	}
	if a.Cert != "" {
		cert, err := tls.LoadX509KeyPair(a.Cert, a.Key)
		if err != nil {
			return nil, fmt.Errorf("%s and %s: %w", a.Cert, a.Key, err)
		}
		c.Certificates = []tls.Certificate{cert}
	}
	return c, nil
}

func roots(path string) (*x509.CertPool, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s has no certificate in it", path)
	}
	return pool, nil
}

// files is those of paths that are given.
func files(paths ...string) []string {
	return slices.DeleteFunc(paths, func(p string) bool { return p == "" })
}
