package config

import (
	"fmt"
	"strings"

	"github.com/spf13/pflag"
)

// Access is who may come in, and how. Files are named by their paths.
type Access struct {
	// AuthFile has users in memcached's form, user:password on each line: a client has to
	// say who it is. Empty: it has not.
	AuthFile string

	// TLSCert and TLSKey are what the listeners with TLS show, in PEM.
	TLSCert, TLSKey string
	// ClientCA has the roots, in PEM, of the certificates that clients of these listeners
	// must show; empty: none. ClientNames are who of those may come in; empty: all.
	ClientCA    string
	ClientNames []string
}

// NodeAccess is how nodes let this magent in. Files are named by their paths.
type NodeAccess struct {
	// AuthFile has one user:password: who this magent is to nodes that ask, which memcached
	// does with -Y, and with -S, which goes with Binary. Empty: they do not ask.
	AuthFile string
	Binary   bool // nodes speak the binary protocol and nothing else

	TLS     bool   // nodes speak it
	TLSCA   string // has the roots of their certificates, in PEM; empty: those of the system
	TLSName string // whose certificate each of them shows; empty: that of its host, as written
	// TLSCert and TLSKey are what they are shown, in PEM; empty: nothing.
	TLSCert, TLSKey string
}

// Paths is where the files of Access and of each pool's are, those that are not given
// included.
func (c *Config) Paths() []*string {
	a := &c.Access
	all := []*string{&a.AuthFile, &a.TLSCert, &a.TLSKey, &a.ClientCA}
	for i := range c.Pools {
		n := &c.Pools[i].Access
		all = append(all, &n.AuthFile, &n.TLSCA, &n.TLSCert, &n.TLSKey)
	}
	return all
}

// validate looks at what belongs together; secure says that a listener has TLS.
func (a *Access) validate(secure bool) (errs []error) {
	switch {
	case secure && (a.TLSCert == "" || a.TLSKey == ""):
		errs = append(errs, at("tls-cert", "TLS needs a certificate and its key"))
	case !secure && (a.TLSCert != "" || a.TLSKey != "" || a.ClientCA != ""):
		errs = append(errs, at("tls-cert", "there is a certificate, and no listener has TLS"))
	}
	if len(a.ClientNames) > 0 && a.ClientCA == "" {
		errs = append(errs, at("tls-client-names", "names of clients need the roots of their certificates"))
	}
	return errs
}

func (a *NodeAccess) validate(copies int) (errs []error) {
	if a.Binary && copies > 1 {
		errs = append(errs, at("node-binary", "nodes that speak the binary protocol alone can have one copy: they do not tell which keys they have, or for how long, so that none can be refilled"))
	}
	if !a.TLS && (a.TLSCA != "" || a.TLSName != "" || a.TLSCert != "" || a.TLSKey != "") {
		errs = append(errs, at("node-tls-cert", "there are certificates for nodes, and nodes have no TLS"))
	}
	if (a.TLSCert == "") != (a.TLSKey == "") {
		errs = append(errs, at("node-tls-key", "a certificate for nodes needs its key, and a key its certificate"))
	}
	return errs
}

// bindAccess defines the flags of who may come in.
func (f *Flags) bindAccess(fs *pflag.FlagSet) {
	a := &f.access
	fs.StringVar(&a.AuthFile, "auth-file", "", "ask clients who they are: the users are in the file at this `path`, as those of memcached's -Y are")
	fs.StringVar(&a.TLSCert, "tls-cert", "", "show clients the certificate at this `path`, in PEM, read again when it changes")
	fs.StringVar(&a.TLSKey, "tls-key", "", "its key is at this `path`")
	fs.StringVar(&a.ClientCA, "tls-client-ca", "", "clients with TLS must have certificates of the roots at this `path`, in PEM")
	fs.StringSliceVar(&a.ClientNames, "tls-client-names", nil, "of these let in who has one of these `names`, with commas")
}

// bindNodeAccess defines those of how the nodes of a pool let this magent in.
func bindNodeAccess(fs *pflag.FlagSet, p *Pool) {
	n := &p.Access
	fs.StringVar(&n.AuthFile, "node-auth-file", n.AuthFile, "tell nodes, which run with -Y or -S, who comes: one user:password in the file at this `path`")
	fs.BoolVar(&n.Binary, "node-binary", n.Binary, "nodes speak the binary protocol alone, as they do with -S; for one copy")
	fs.BoolVar(&n.TLS, "node-tls", n.TLS, "speak TLS with the nodes")
	fs.StringVar(&n.TLSCA, "node-tls-ca", n.TLSCA, "their certificates come from the roots at this `path`, in PEM; default is the system's")
	fs.StringVar(&n.TLSName, "node-tls-name", n.TLSName, "they are all of this `name`; default is the host of each, as written")
	fs.StringVar(&n.TLSCert, "node-tls-cert", n.TLSCert, "show them the certificate at this `path`, in PEM")
	fs.StringVar(&n.TLSKey, "node-tls-key", n.TLSKey, "its key is at this `path`")
}

// secureListens gives one listener with TLS per address of -l.
func (f *Flags) secureListens() (ls []Listen, err error) {
	switch {
	case f.tlsPort == 0:
		return nil, nil
	case f.tlsPort < 0 || f.tlsPort > 65535:
		return nil, fmt.Errorf("--tls-port %d is not a port: want 0 to 65535", f.tlsPort)
	case f.tlsPort == f.port:
		return nil, fmt.Errorf("--tls-port %d is -p as well: a port has TLS, or has not", f.tlsPort)
	}
	for text := range strings.SplitSeq(f.listen, ",") {
		n, err := ParseNode(text, f.tlsPort)
		if err != nil {
			return nil, fmt.Errorf("-l %w", err)
		}
		ls = append(ls, Listen{Network: "tcp", Address: n.Address(), TLS: true})
	}
	return ls, nil
}
