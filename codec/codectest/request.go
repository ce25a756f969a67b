// Package codectest is the stupid twin of the codec's parsers: it reads the same
// lines by splitting strings and asking math/big, regexp and encoding/base64, and
// was written from what memcached 1.6.18 does (its proto_text.c, util.c, base64.c
// and doc/protocol.txt), not from the parsers it is there to judge. It allocates
// and copies as it likes.
//
// It is for tests and holds no state; any goroutine may call it. It imports codec,
// for the names of things, and std.
package codectest

import (
	"strings"

	"magent/codec"
)

// Verdict is what a command line says, in copies.
type Verdict struct {
	Op      codec.Op
	Fault   codec.Fault // why it is refused; Op is then OpNone
	Quiet   bool        // noreply, or a single meta q
	Value   uint32      // bytes of the value of a store command
	Keys    []string    // as written; more than one for get, gets, gat and gats only
	Base64  bool        // the key is in base64
	Arg     string      // exptime of gat and touch, delta, cas unique, delay, level, words of stats
	Client  string      // client flags of a store command
	Expiry  string      // exptime of a store command
	Mode    byte        // second letter of the M flag
	Letters string      // first letters of the meta flags, in order, twice if there twice
}

// limits of memcached 1.6.18: KEY_MAX_LENGTH, MAX_TOKENS without the terminal
// one, and MFLAG_MAX_OPT_LENGTH without it.
const (
	maxKey        = 250
	maxTokens     = 23
	maxMetaTokens = 19
)

// Request judges a command line, newline included.
func Request(line []byte) Verdict {
	s := strings.TrimSuffix(string(line), "\n")
	if len(s) > 1 { // the CR of a line that has nothing else is not taken off
		s = strings.TrimSuffix(s, "\r")
	}
	s, _, _ = strings.Cut(s, "\x00") // a C string ends there
	all := words(s)
	few := all
	if len(few) > maxTokens {
		few = few[:maxTokens]
	}
	if len(few) == 0 || len(few[0]) < 2 {
		return refuse(codec.FaultError, false)
	}
	if len(few[0]) == 2 && few[0][0] == 'm' {
		return meta(few)
	}
	switch few[0] {
	case "get", "bget", "gets", "gat", "gats":
		return retrieval(all)
	case "set", "add", "replace", "append", "prepend", "cas":
		return storage(few)
	case "incr", "decr", "touch":
		return keyAndNumber(few)
	case "delete":
		return deletion(few)
	}
	return administration(few)
}

// words splits at spaces, of which any number may stand together. A tab is no space.
func words(s string) (list []string) {
	for _, w := range strings.Split(s, " ") {
		if w != "" {
			list = append(list, w)
		}
	}
	return list
}

func refuse(f codec.Fault, quiet bool) Verdict {
	return Verdict{Fault: f, Quiet: quiet}
}

// named finds the operation by its word.
func named(word string) codec.Op {
	for op := codec.OpNone + 1; op < codec.NumOps; op++ {
		if op.String() == word {
			return op
		}
	}
	panic("no operation is called " + word)
}

func retrieval(w []string) Verdict {
	if len(w) < 2 {
		return refuse(codec.FaultError, false)
	}
	word, keys := w[0], w[1:]
	if word == "bget" {
		word = "get"
	}
	v := Verdict{Op: named(word)}
	if word == "gat" || word == "gats" {
		if _, ok := Int(w[1]); !ok {
			return refuse(codec.FaultExptime, false)
		}
		v.Arg, keys = w[1], w[2:]
	}
	for _, key := range keys {
		if len(key) > maxKey {
			return refuse(codec.FaultFormat, false)
		}
	}
	v.Keys = keys
	return v
}

func storage(w []string) Verdict {
	need := 5
	if w[0] == "cas" {
		need = 6
	}
	if len(w) != need && len(w) != need+1 {
		return refuse(codec.FaultError, false)
	}
	quiet := w[len(w)-1] == "noreply"
	_, flags := Uint(w[2])
	_, exptime := Int(w[3])
	size, sized := Size(w[4])
	if len(w[1]) > maxKey || !flags || !exptime || !sized {
		return refuse(codec.FaultFormat, quiet)
	}
	v := Verdict{Op: named(w[0]), Quiet: quiet, Value: size, Keys: w[1:2], Client: w[2], Expiry: w[3]}
	if w[0] == "cas" {
		if _, ok := Uint(w[5]); !ok {
			return refuse(codec.FaultFormat, quiet)
		}
		v.Arg = w[5]
	}
	return v
}

func keyAndNumber(w []string) Verdict {
	if len(w) != 3 && len(w) != 4 {
		return refuse(codec.FaultError, false)
	}
	quiet := w[len(w)-1] == "noreply"
	if len(w[1]) > maxKey {
		return refuse(codec.FaultFormat, quiet)
	}
	if w[0] == "touch" {
		if _, ok := Int(w[2]); !ok {
			return refuse(codec.FaultExptime, quiet)
		}
	} else if _, ok := Uint(w[2]); !ok {
		return refuse(codec.FaultDelta, quiet)
	}
	return Verdict{Op: named(w[0]), Quiet: quiet, Keys: w[1:2], Arg: w[2]}
}

func deletion(w []string) Verdict {
	if len(w) < 2 || len(w) > 4 {
		return refuse(codec.FaultError, false)
	}
	quiet := w[len(w)-1] == "noreply" && len(w) > 2
	switch tail := strings.Join(w[2:], " "); tail {
	case "", "0", "noreply", "0 noreply":
	default:
		return refuse(codec.FaultDeleteUsage, quiet)
	}
	if len(w[1]) > maxKey {
		return refuse(codec.FaultFormat, quiet)
	}
	return Verdict{Op: codec.OpDelete, Quiet: quiet, Keys: w[1:2]}
}

func administration(w []string) Verdict {
	quiet := w[len(w)-1] == "noreply"
	switch w[0] {
	case "version", "quit":
		return Verdict{Op: named(w[0])}
	case "stats":
		return Verdict{Op: codec.OpStats, Arg: strings.Join(w[1:], " ")}
	case "shutdown":
		return refuse(codec.FaultShutdown, false)
	case "verbosity":
		if len(w) != 2 && len(w) != 3 {
			return refuse(codec.FaultError, false)
		}
		if _, ok := Uint(w[1]); !ok {
			return refuse(codec.FaultFormat, quiet)
		}
		return Verdict{Op: codec.OpVerbosity, Quiet: quiet, Arg: w[1]}
	case "flush_all":
		return flushAll(w, quiet)
	case "lru", "lru_crawler", "watch", "extstore": // memcached has them, the proxy has not
		return refuse(codec.FaultError, false)
	}
	// memcached sorts these by their first letter, and looks no further.
	if !strings.ContainsAny(w[0][:1], "acdgist") && strings.HasPrefix(w[len(w)-1], "HTTP/") {
		return refuse(codec.FaultClose, false)
	}
	return refuse(codec.FaultError, false)
}

func flushAll(w []string, quiet bool) Verdict {
	if len(w) > 3 {
		return refuse(codec.FaultError, false)
	}
	v := Verdict{Op: codec.OpFlushAll, Quiet: quiet}
	if len(w) == 1 || len(w) == 2 && quiet {
		return v
	}
	if _, ok := Int(w[1]); !ok {
		return refuse(codec.FaultExptime, quiet)
	}
	v.Arg = w[1]
	return v
}

func meta(w []string) Verdict {
	switch w[0] {
	case "mn":
		return Verdict{Op: codec.OpMetaNoop}
	case "me":
		if len(w) < 2 || len(w[1]) > maxKey {
			return refuse(codec.FaultFormat, false)
		}
		return Verdict{Op: codec.OpMetaDebug, Keys: w[1:2], Base64: len(w) > 2 && w[2] == "b"}
	case "mg", "ms", "md", "ma":
	default:
		return refuse(codec.FaultError, false)
	}
	tooMany := codec.FaultOptionsTooLong
	if w[0] == "mg" {
		tooMany = codec.FaultFlagsTooLong
	}
	switch {
	case len(w) < 2:
		return refuse(codec.FaultError, false)
	case len(w[1]) > maxKey, w[0] == "ms" && len(w) == 2:
		return refuse(codec.FaultFormat, false)
	case len(w) > maxMetaTokens:
		return refuse(tooMany, false)
	}
	v := Verdict{Op: named(w[0]), Keys: w[1:2]}
	flags := w[2:]
	if w[0] == "ms" {
		size, ok := Size(w[2])
		if !ok {
			return refuse(codec.FaultFormat, false)
		}
		v.Value, flags = size, w[3:]
	}
	// What the flags are worth is the node's to say, as long as we can read the line.
	for _, f := range flags {
		v.Letters += f[:1]
		if f[0] == 'M' && len(f) > 1 {
			v.Mode = f[1]
		}
	}
	v.Quiet = strings.Count(v.Letters, "q") == 1
	v.Base64 = strings.Contains(v.Letters, "b")
	return v
}
