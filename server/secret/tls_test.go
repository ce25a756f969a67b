package secret_test

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"magent/server/secret"
	"magent/server/secret/secrettest"
)

// What is wrong with certificates is said with the files that it is in.
func TestCertificatesThatAreNone(t *testing.T) {
	ca := secrettest.New(t)
	a, b := ca.Issue("a", "a"), ca.Issue("b", "b")
	none := filepath.Join(t.TempDir(), "none")
	if err := os.WriteFile(none, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	serving := func(s secret.Serving) error { _, err := secret.OpenServing(s); return err }
	asking := func(s secret.Asking) error { _, err := secret.OpenAsking(s); return err }
	for _, c := range []struct {
		err  error
		want []string // in it; none: there is none
	}{
		{serving(secret.Serving{Cert: a.Cert, Key: a.Key}), nil},
		{serving(secret.Serving{Cert: a.Cert, Key: a.Key, ClientCA: ca.Path(), ClientNames: []string{"x"}}), nil},
		{serving(secret.Serving{Cert: a.Cert, Key: b.Key}), []string{a.Cert, b.Key, "does not match"}},
		{serving(secret.Serving{Cert: a.Cert, Key: none}), []string{none}},
		{serving(secret.Serving{Cert: none + "x", Key: a.Key}), []string{none + "x", "no such file"}},
		{serving(secret.Serving{Cert: a.Cert, Key: a.Key, ClientCA: none}), []string{none, "has no certificate"}},
		{asking(secret.Asking{}), nil},
		{asking(secret.Asking{CA: ca.Path(), Cert: a.Cert, Key: a.Key}), nil},
		{asking(secret.Asking{CA: none}), []string{none, "has no certificate"}},
		{asking(secret.Asking{Cert: b.Cert, Key: a.Key}), []string{b.Cert, a.Key, "does not match"}},
	} {
		if (c.err == nil) != (c.want == nil) {
			t.Errorf("%v, want %q", c.err, c.want)
			continue
		}
		for _, w := range c.want {
			if !strings.Contains(c.err.Error(), w) {
				t.Errorf("%v does not say %s", c.err, w)
			}
		}
	}
}

// A certificate whose key is not there yet changes nothing; with the key it does.
func TestCertificatesComeInPairs(t *testing.T) {
	ca := secrettest.New(t)
	pair := ca.Issue("a", "a")
	f, err := secret.OpenServing(secret.Serving{Cert: pair.Cert, Key: pair.Key})
	if err != nil {
		t.Fatal(err)
	}
	before, now := f.Get(), time.Now()
	next := ca.Issue("b", "b")
	move := func(from, to string) {
		t.Helper()
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	move(next.Cert, pair.Cert)
	if changed, err := f.Look(now); changed || err == nil || f.Get() != before {
		t.Errorf("half a pair counts: %v, %v", changed, err)
	}
	move(next.Key, pair.Key)
	if changed, err := f.Look(now.Add(time.Second)); !changed || err != nil || f.Get() == before {
		t.Errorf("a pair does not: %v, %v", changed, err)
	}
	if f.Get().MinVersion != tls.VersionTLS12 {
		t.Error("it would speak what is older than TLS 1.2")
	}
}
