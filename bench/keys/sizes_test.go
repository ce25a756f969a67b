package keys

import (
	"math/rand/v2"
	"strings"
	"testing"
)

func TestSizes(t *testing.T) {
	for _, c := range []struct {
		text string
		max  int
		want map[int]float64 // size → probability
	}{
		{"32", 32, map[int]float64{32: 1}},
		{"5-5", 5, map[int]float64{5: 1}},
		{"10-13", 13, map[int]float64{10: 0.25, 11: 0.25, 12: 0.25, 13: 0.25}},
		{"32:90,1024:9,65536:1", 65536, map[int]float64{32: 0.9, 1024: 0.09, 65536: 0.01}},
		{"65536:1,32:3", 65536, map[int]float64{32: 0.75, 65536: 0.25}},
		{"7:5", 7, map[int]float64{7: 1}},
	} {
		s, err := ParseSizes(c.text)
		if err != nil {
			t.Error(err)
			continue
		}
		if again, err := ParseSizes(s.String()); err != nil || again.String() != s.String() {
			t.Errorf("%s: prints as %s, which is read as %v, %v", c.text, s, again, err)
		}
		if s.Max() != c.max {
			t.Errorf("%s: at most %d, want %d", c.text, s.Max(), c.max)
		}
		r := rand.NewPCG(3, 4)
		seen := map[int]int{}
		for range 100_000 {
			seen[s.Next(r)]++
		}
		var counts []int
		var exact []float64
		for size, p := range c.want {
			counts, exact = append(counts, seen[size]), append(exact, p)
			delete(seen, size)
		}
		if len(seen) > 0 {
			t.Errorf("%s: drew others, too: %v", c.text, seen)
		}
		fits(t, c.text, counts, exact)
	}
	s := Fixed(100)
	if s.Next(nil) != 100 || s.Max() != 100 || s.String() != "100" {
		t.Errorf("100 bytes are %d, %d, %s", s.Next(nil), s.Max(), s)
	}
	if none := (Sizes{}); none.Next(nil) != 0 || none.Max() != 0 || none.String() != "" {
		t.Errorf("no sizes: %d, %d, %q", none.Next(nil), none.Max(), none.String())
	}
}

func TestTTLs(t *testing.T) {
	for _, text := range []string{"0", "60", "10-20", "0-2592000"} {
		ttls, err := ParseTTLs(text)
		if err != nil || ttls.String() != text {
			t.Errorf("%s is read as %s, %v", text, ttls, err)
		}
		r := rand.NewPCG(5, 6)
		for range 1000 {
			if ttl := ttls.Next(r); ttl < ttls.Min || ttl > ttls.Max {
				t.Fatalf("%s: drew %d", text, ttl)
			}
		}
	}
	r := rand.NewPCG(5, 6)
	counts := make([]int, 11)
	for range 10_000 {
		counts[TTLs{Min: 10, Max: 20}.Next(r)-10]++
	}
	fits(t, "TTLs of 10-20", counts, probabilities(Pattern{}, 11))
}

// What cannot be read is named.
func TestSizeFaults(t *testing.T) {
	for text, want := range map[string]string{
		"":              `""`,
		"0":             `"0" is not a number from 1`,
		"-5":            `""`,
		"12x":           `"12x"`,
		"5-":            `""`,
		"9-5":           `range "9-5" ends before it begins`,
		"1073741825":    `"1073741825" is not a number from 1 to 1073741824`,
		"32:90,1024":    `"1024" of a list has no weight`,
		"32:90,":        `"" of a list has no weight`,
		"32:0":          `weight of value size 32: "0"`,
		"32:-1":         `weight of value size 32: "-1"`,
		"a:1":           `"a"`,
		"10-20:3,5:1":   `"10-20"`,
		"32:2147483648": `"2147483648"`,
	} {
		if s, err := ParseSizes(text); err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "keys: ") {
			t.Errorf("ParseSizes(%q) = %s, %v, want %s in the error", text, s, err, want)
		}
	}
	for text, want := range map[string]string{
		"":        `""`,
		"2592001": `"2592001" is not a number from 0 to 2592000`,
		"20-10":   `range "20-10"`,
		"1:2":     `"1:2"`,
	} {
		if ttls, err := ParseTTLs(text); err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "keys: TTL") {
			t.Errorf("ParseTTLs(%q) = %s, %v, want %s in the error", text, ttls, err, want)
		}
	}
}
