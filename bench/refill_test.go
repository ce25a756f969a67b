package bench

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"magent/bench/load"
	"magent/bench/refill"
	"magent/bench/wire"
)

func refillingOf(t *testing.T, args ...string) *refilling {
	t.Helper()
	r := &refilling{settings: settings{flags: newFlags(pflag.NewFlagSet("refill", pflag.ContinueOnError))}, self: "/self"}
	r.bind()
	if err := r.set.Parse(args); err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	return r
}

func TestFlagsMakeARefill(t *testing.T) {
	usual := refill.Config{
		Magent: "/self", Memcached: "memcached", IdleFlags: []string{"--resync-rate=0"}, Keys: 500_000, Prefix: "refill:", Values: parsedSizes(t, "32-100"),
		Rate: 10_000, Conns: 16, Mix: load.Mix{wire.Set: 1, wire.Get: 9}, Before: 10 * time.Second, Down: time.Second, After: 2 * time.Second,
		Patience: 2 * time.Minute, Rounds: 3,
	}
	bounds := refill.Bounds{MinRate: 100_000, MinRatio: 0.6, MaxP99Ratio: 2}
	for args, want := range map[string]func(*refill.Config, *refill.Bounds){
		"": func(*refill.Config, *refill.Bounds) {},
		"--keys 9 --data-size 7 --rate 50.5 -c 3 --ratio 0:1 --before 0.5 --down 0 --after 1": func(c *refill.Config, _ *refill.Bounds) {
			c.Keys, c.Values, c.Rate, c.Conns, c.Mix = 9, parsedSizes(t, "7"), 50.5, 3, load.Mix{wire.Get: 1}
			c.Before, c.Down, c.After = 500*time.Millisecond, 0, time.Second
		},
		"--data-size-list 7:1,9:2 --magent /m --memcached /n --magent-flag=--hedge=auto --seed 5": func(c *refill.Config, _ *refill.Bounds) {
			c.Values, c.Magent, c.Memcached, c.Flags, c.Seed = parsedSizes(t, "7:1,9:2"), "/m", "/n", []string{"--hedge=auto"}, 5
		},
		"--idle-rate default --patience 1 --rounds 9 --data-size-range 5-6": func(c *refill.Config, _ *refill.Bounds) {
			c.IdleFlags, c.Patience, c.Rounds, c.Values = nil, time.Second, 9, parsedSizes(t, "5-6")
		},
		"--idle-rate 1000,1000000 --min-rate 1 --min-ratio 0 --max-p99-ratio 3.5": func(c *refill.Config, b *refill.Bounds) {
			c.IdleFlags, *b = []string{"--resync-rate=1000,1000000"}, refill.Bounds{MinRate: 1, MaxP99Ratio: 3.5}
		},
	} {
		r := refillingOf(t, append(strings.Fields(args), "--cpus-proxy", "all", "--cpus-load", "all")...)
		got, err := r.plan()
		c, b := usual, bounds
		want(&c, &b)
		if err != nil || !reflect.DeepEqual(got, c) || r.bounds != b {
			t.Errorf("%s\ngives %+v, %+v, %v\nwant  %+v, %+v", args, got, r.bounds, err, c, b)
		}
	}
	if r := refillingOf(t); !slices.Equal(r.proxyCPUs, []int{0}) || !slices.Equal(r.loadCPUs, []int{1}) {
		t.Errorf("pinned to %v, load to %v", r.proxyCPUs, r.loadCPUs)
	}
}

func TestBadFlagsOfARefill(t *testing.T) {
	for args, words := range map[string][]string{
		"--keys 0 --rounds x --min-rate -1 --cpus-load 1- --ratio 0:0": {"--keys takes", "--rounds takes", "--min-rate takes", "--cpus-load takes", "--ratio takes"},
		"--before 0 --patience 0 --data-size 1 --data-size-list 1:1":   {"--before must be above 0", "--patience must be above 0", "give one of them"},
	} {
		_, err := refillingOf(t, strings.Fields(args)...).plan()
		faultsOf(t, args, err, words)
	}
}
