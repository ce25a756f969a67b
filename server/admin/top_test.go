package admin

import (
	"strings"
	"testing"
)

func TestTopForPeople(t *testing.T) {
	t.Parallel()
	top := Top{Seconds: 2, Requests: 1000, Keys: 2000, Addresses: 3,
		Hot: []HotKey{
			{Key: "user:1", Pool: "default", Lead: "10.0.0.1:11211", Least: 1000, Most: 1000, Writes: 250},
			{Key: `"a b"`, Least: 100, Most: 120},
		},
		Clients: []BusyClient{{Address: "10.0.0.9", Connections: 7, Requests: 900, In: 20_000, Out: 2_000_000}, {Address: "unix socket", Connections: 1, Requests: 100}}}
	var out strings.Builder
	if err := WriteTop(&out, top); err != nil {
		t.Fatal(err)
	}
	const want = `500 requests/s for 1000 keys/s, from 3 addresses, in 2.0 s

KEY     PER SECOND  SHARE   WRITES  POOL     LEAD
user:1  500         50.0 %  25 %    default  10.0.0.1:11211
"a b"   50 to 60    5.0 %   0 %     -        -

CLIENT       CONNECTIONS  REQUESTS/S  KB/S IN  KB/S OUT
10.0.0.9     7            450         10.0     1000.0
unix socket  1            50          0.0      0.0
`
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
	out.Reset()
	if err := WriteTop(&out, Top{}); err != nil || out.String() != "0 requests/s for 0 keys/s, from 0 addresses, in 0.0 s\n" {
		t.Errorf("%v, %q", err, out.String())
	}
}
