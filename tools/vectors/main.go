// Vectors asks other programs where they place keys, and writes down what they
// say: the vectors that upstream/route is tested against.
//
//	go run ./tools/vectors > upstream/route/testdata/twemproxy.txt
//	go run ./tools/vectors -peer libmemcached > upstream/route/testdata/libmemcached.txt
//
// The first runs nutcracker (Debian: nutcracker) before fake nodes on fixed
// loopback addresses, 127.77.0.x ports 11211 to 12139, since rings hash
// addresses; a get answers with the node that it reached. The second compiles
// tools/vectors/libmemcached/ask.c with cc (Debian: libmemcached-dev) and
// talks to no one.
//
// The output has one item a line; fields are separated by one space:
//
//	key "\x80"                                 a key, as a Go string
//	pool aliases 127.77.0.1:11211:2:alpha ...  a list of servers, host:port:weight:alias
//	place ketama md5 {} aliases 0120...        distribution, hash, tag ("-" for none), pool;
//	                                           then a digit in base 36 for each key: its node
//	hash md5 0cc175b9 ...                      for each key the hash itself (libmemcached only)
package main

import (
	"bufio"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
)

func main() {
	peer := flag.String("peer", "twemproxy", "who to ask: twemproxy or libmemcached")
	flag.Parse()
	if err := run(*peer); err != nil {
		fmt.Fprintln(os.Stderr, "vectors:", err)
		os.Exit(1)
	}
}

func run(peer string) error {
	out := bufio.NewWriter(os.Stdout)
	fmt.Fprintf(out, "# Made by tools/vectors -peer %s; its doc comment explains the format.\n", peer)
	var err error
	switch peer {
	case "twemproxy":
		err = askTwemproxy(out)
	case "libmemcached":
		err = askLibmemcached(out)
	default:
		err = fmt.Errorf("unknown peer %q, known are twemproxy, libmemcached", peer)
	}
	if err != nil {
		return err
	}
	return out.Flush()
}

// server is one node of a pool; alias may be empty.
type server struct {
	host   string
	port   int
	weight int
	alias  string
}

func (s server) addr() string { return fmt.Sprintf("%s:%d", s.host, s.port) }

// pool is a list of servers under a name.
type pool struct {
	name    string
	servers []server
}

func (p pool) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "pool %s", p.name)
	for _, s := range p.servers {
		fmt.Fprintf(&b, " %s:%d:%s", s.addr(), s.weight, s.alias)
	}
	return b.String()
}

// pools are the lists that every distribution and hash is asked about. The two
// nodes of the tied ones were searched for: each has a point at 614804454.
var pools = []pool{
	{"equal", []server{
		{"127.77.0.1", 11212, 1, ""}, {"127.77.0.1", 11213, 1, ""}, {"127.77.0.1", 11214, 1, ""}}},
	{"default_port", []server{
		{"127.77.0.1", 11211, 1, ""}, {"127.77.0.2", 11211, 1, ""}, {"127.77.0.2", 11212, 1, ""}, {"127.77.0.3", 11211, 1, ""}}},
	{"weighted", []server{
		{"127.77.0.1", 11211, 1, ""}, {"127.77.0.1", 11212, 2, ""}, {"127.77.0.2", 11213, 3, ""}, {"127.77.0.3", 11211, 10, ""}, {"127.77.0.1", 11214, 7, ""}}},
	{"aliases", []server{
		{"127.77.0.1", 11211, 2, "alpha"}, {"127.77.0.1", 11212, 1, "beta"}, {"127.77.0.2", 11211, 3, "gamma"}, {"127.77.0.2", 11213, 1, ""}}},
	{"starved", []server{
		{"127.77.0.1", 11212, 1000, ""}, {"127.77.0.1", 11213, 1, ""}, {"127.77.0.1", 11214, 999, ""}}},
	{"single", []server{{"127.77.0.1", 11212, 1, ""}}},
	{"many", manyServers(25)},
	{"tied", []server{{"127.77.0.9", 12074, 1, ""}, {"127.77.0.9", 12139, 1, ""}}},
	{"tied_reversed", []server{{"127.77.0.9", 12139, 1, ""}, {"127.77.0.9", 12074, 1, ""}}},
}

// manyServers makes n servers of one weight. At 25 of them the float32 arithmetic
// of the originals shows: each has 156 points, not 160.
func manyServers(n int) []server {
	servers := make([]server, n)
	for i := range servers {
		servers[i] = server{"127.77.0.9", 11211 + i, 1, ""}
	}
	return servers
}

// keys has each length around the block sizes of the hashes, bytes from 0x80 up
// at each place of a tail, the longest key there may be, and hash tags whole,
// empty, broken and nested. The last two lie right below the point of the tied
// pools.
func keys() []string {
	long := strings.Repeat("0123456789", 25)
	return []string{
		"a", "x", "~", "\x80", "\xff", "ab", "a\xe9", "abc", "ab\xe9", "\x80\x81\x82", "abcd", "\xfc\xfd\xfe\xff",
		"abcde", "abcdef", "abc\xe9\xe8\xe7g", "abcdefgh", "abcdefghi\xff", "abcdefghijk", "abcdefghijkl", "abcdefghijklm",
		"foo", "bar", "key1", "key2", "key10", "user:1001", "session:abcdef", "hello_world", "caf\u00e9", "\u65e5\u672c\u8a9e",
		"memcached", "0123456789abcdef01234567", long, long[:128] + strings.Repeat("\xbf", 122),
		"{user:1001}:name", "{user:1001}:mail", "a{b}c{d}", "{}key", "a{}b{c}", "{open", "shut}", "}{x}y", "{{x}}", "{\xe9}z",
		"217:tied:key", "255:tied:key",
	}
}

// digit writes node i as one character.
func digit(i int) string { return strconv.FormatInt(int64(i), 36) }

// header writes the keys and pools.
func header(out *bufio.Writer, pools []pool) {
	for _, k := range keys() {
		fmt.Fprintf(out, "key %+q\n", k)
	}
	for _, p := range pools {
		fmt.Fprintln(out, p)
	}
}
