// Package secrettest makes certificates for tests, in files of the test's directory. It
// imports std only.
package secrettest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Authority is who issues certificates.
type Authority struct {
	t     testing.TB
	dir   string
	cert  *x509.Certificate
	key   *ecdsa.PrivateKey
	count int64
}

// New is an authority of its own.
func New(t testing.TB) *Authority {
	t.Helper()
	a := &Authority{t: t, dir: t.TempDir(), key: newKey(t)}
	template := &x509.Certificate{Subject: pkix.Name{CommonName: "root"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	a.cert = a.sign(template, template, &a.key.PublicKey)
	a.save("root.pem", "CERTIFICATE", a.cert.Raw)
	return a
}

// Path is where the root is, in PEM.
func (a *Authority) Path() string { return filepath.Join(a.dir, "root.pem") }

// Pool is the root.
func (a *Authority) Pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

// Pair is a certificate and its key, in PEM.
type Pair struct{ Cert, Key string }

// Issue makes a certificate for name, which is its common name, and, if hosts are given, for
// those, which are names or addresses. It is in files named by file, which it overwrites as
// who is careful does: by others that take their place.
func (a *Authority) Issue(file, name string, hosts ...string) Pair {
	a.t.Helper()
	template := &x509.Certificate{Subject: pkix.Name{CommonName: name}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	key := newKey(a.t)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	return Pair{
		Cert: a.save(file+".pem", "CERTIFICATE", a.sign(template, a.cert, &key.PublicKey).Raw),
		Key:  a.save(file+".key", "PRIVATE KEY", der),
	}
}

// Client is the configuration of a client that knows the root, of a server named name, and
// shows pair if it is not empty.
func (a *Authority) Client(name string, pair Pair) *tls.Config {
	a.t.Helper()
	c := &tls.Config{RootCAs: a.Pool(), ServerName: name}
	if pair.Cert != "" {
		cert, err := tls.LoadX509KeyPair(pair.Cert, pair.Key)
		if err != nil {
			a.t.Fatal(err)
		}
		c.Certificates = []tls.Certificate{cert}
	}
	return c
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (a *Authority) sign(template, parent *x509.Certificate, key *ecdsa.PublicKey) *x509.Certificate {
	a.t.Helper()
	a.count++
	template.SerialNumber = big.NewInt(a.count)
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert
}

func (a *Authority) save(name, kind string, der []byte) string {
	a.t.Helper()
	path := filepath.Join(a.dir, name)
	next := path + ".next"
	err := os.WriteFile(next, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
	if err == nil {
		err = os.Rename(next, path)
	}
	if err != nil {
		a.t.Fatal(err)
	}
	return path
}
