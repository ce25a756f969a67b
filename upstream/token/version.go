package token

// Version is a memcached version, comparable with <: major, minor and patch in
// 20 bits each.
type Version uint64

// V is the Version major.minor.patch.
func V(major, minor, patch uint64) Version { return Version(major<<40 | minor<<20 | patch) }

// ParseVersion reads what a node answers to version, "1.6.18" or
// "1.6.45-5-gabcdef", without the word VERSION. A part that is missing is 0.
func ParseVersion(s string) (Version, bool) {
	var part [3]uint64
	i, n := 0, 0
	for ; n < len(part); n++ {
		start := i
		for i < len(s) && s[i] >= '0' && s[i] <= '9' {
			if part[n] = part[n]*10 + uint64(s[i]-'0'); part[n] >= 1<<20 {
				return 0, false
			}
			i++
		}
		if i == start {
			return 0, false
		}
		if i == len(s) || s[i] != '.' {
			break
		}
		i++
	}
	return V(part[0], part[1], part[2]), true
}

// SupportsE reports whether the node takes the version of an item from the
// request: ms, ma and md with the E flag.
func (v Version) SupportsE() bool { return v >= V(1, 6, 27) }
