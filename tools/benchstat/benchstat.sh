#!/usr/bin/env bash
# Compares the Go benchmarks of the working tree with those of a base. make benchstat
# sets what it reads:
#
#   BASE       a commit; if empty the newest release, a tag v*, that HEAD comes from
#   BENCHES    words: packages (./server, ./upstream/...), and regular expressions of
#              benchmarks (Request/proto=text/op=get); all there are if empty
#   COUNT      rounds, in each of which both sides are measured
#   BENCHTIME  of each benchmark in each round
#
# The tests of each package are compiled once per side. Who is first changes with each
# round, so that a machine that becomes slower or faster does so for both. The figures
# stay in bin/benchstat, to be looked at from other sides:
#
#   go tool benchstat -col /copies bin/benchstat/head.txt
set -euo pipefail
cd "$(git rev-parse --show-toplevel)"

fail() {
	echo "benchstat: $*" >&2
	exit 1
}

base=$BASE
if [[ -z $base ]]; then
	base=$(git -c versionsort.suffix=- tag --list 'v[0-9]*' --merged HEAD --sort=-version:refname | sed 1q)
	[[ -n $base ]] || fail "there is no release yet, no tag v* before HEAD: name a commit, as in make benchstat BASE=HEAD~10"
fi
commit=$(git rev-parse --verify --quiet "$base^{commit}") || fail "BASE=$base is no commit here"

files=() names=()
read -ra words <<<"$BENCHES"
for word in "${words[@]}"; do
	case $word in
	./*...) files+=(":(glob)${word%...}**/*_test.go") ;;
	./*) files+=(":(glob)${word%/}/*_test.go") ;;
	*) names+=("$word") ;;
	esac
done
mapfile -t packages < <(git grep -l --untracked '^func Benchmark' -- "${files[@]:-*_test.go}" | sed 's|^|./|; s|/[^/]*$||' | sort -u)
((${#packages[@]} > 0)) || fail "no package has a benchmark: BENCHES=$BENCHES"
pattern=$(IFS='|' && echo "${names[*]:-.}")

tmp=$(mktemp -d)
cleanup() {
	git worktree remove --force "$tmp/base" 2>/dev/null || git worktree prune
	rm -rf "$tmp"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
git worktree add --quiet --detach "$tmp/base" "$commit"
declare -A tree=([base]=$tmp/base [head]=$PWD)

out=$PWD/bin/benchstat
mkdir -p "$out"
for side in base head; do
	: >"$out/$side.txt"
	for package in "${packages[@]}"; do
		mkdir -p "$tmp/$side.tests/$package"
		if [[ -d ${tree[$side]}/$package ]]; then # a new one has no base
			(cd "${tree[$side]}" && go test -c -o "$tmp/$side.tests/$package/test" "$package")
		fi
	done
done

# measure SIDE PACKAGE runs the benchmarks there once, if there are tests.
measure() {
	local test=$tmp/$1.tests/$2/test
	[[ -x $test ]] || return 0
	if ! (cd "${tree[$1]}/$2" && "$test" -test.run '^$' -test.bench "$pattern" -test.benchtime "$BENCHTIME" -test.benchmem) >"$tmp/figures"; then
		cat "$tmp/figures" >&2
		fail "a benchmark of $2 failed in ${tree[$1]}"
	fi
	cat "$tmp/figures" >>"$out/$1.txt"
}

sides=(base head)
for ((round = 1; round <= COUNT; round++)); do
	for package in "${packages[@]}"; do
		echo "benchstat: round $round of $COUNT, $package" >&2
		for side in "${sides[@]}"; do
			measure "$side" "$package"
		done
	done
	sides=("${sides[1]}" "${sides[0]}")
done
grep -q '^Benchmark' "$out/head.txt" || fail "no benchmark of ${packages[*]} matches $pattern"
go tool benchstat -filter '.unit:(sec/op OR B/op OR allocs/op)' "$base=$out/base.txt" "head=$out/head.txt"
