package dump

import (
	"fmt"
	"hash/maphash"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestSample holds a Sample against the smallest of all hashes, sorted, whatever the order
// of the keys, and however often each is listed.
func TestSample(t *testing.T) {
	for range 50 {
		n, keys := rand.IntN(40), rand.IntN(100)
		s := NewSample(n)
		byHash := func(a, b string) int {
			if maphash.String(s.seed, a) < maphash.String(s.seed, b) {
				return -1
			}
			return 1
		}
		var all, listed []string
		for i := range keys {
			all = append(all, fmt.Sprint(i))
			for range 1 + rand.IntN(3) {
				listed = append(listed, all[i])
			}
		}
		rand.Shuffle(len(listed), func(i, j int) { listed[i], listed[j] = listed[j], listed[i] })
		for _, key := range listed {
			view := []byte(key)
			s.Add(Entry{Key: view})
			clear(view)
		}
		var got []string
		for i := range s.Len() {
			got = append(got, s.At(i))
		}
		slices.SortFunc(all, byHash)
		slices.SortFunc(got, byHash)
		if want := all[:min(max(1, n), keys)]; !slices.Equal(got, want) {
			t.Fatalf("%d of %d keys: %q, want %q", n, keys, got, want)
		}
	}
}

// TestSampleIsFair counts how often each of a hundred keys is among ten, of a thousand
// samples: 100 times, within six standard deviations of the binomial distribution.
func TestSampleIsFair(t *testing.T) {
	const samples, room, keys = 1000, 10, 100
	var taken [keys]int
	for range samples {
		s := NewSample(room)
		for i := range keys {
			s.Add(Entry{Key: []byte{byte(i)}})
		}
		for i := range s.Len() {
			taken[s.At(i)[0]]++
		}
	}
	const p = float64(room) / keys
	bound := 6 * math.Sqrt(samples*p*(1-p))
	for i, n := range taken {
		if math.Abs(float64(n)-samples*p) > bound {
			t.Errorf("key %d is in %d of %d samples, want %.0f ± %.0f", i, n, samples, samples*p, bound)
		}
	}
}
