#!/bin/bash
# The everyday work of libmemcached's programs: HOST PORT PREFIX text|binary.
#
# The test writes a line for each round that it wants and reads one when it is done. Every
# command is a connection of its own.

set -euo pipefail
server=$1:$2 prefix=$3
binary=(); [ "$4" = text ] || binary=(--binary)
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

# tool runs one of the programs. What it says goes where it always does.
tool() { local name=$1; shift; "memc$name" --servers="$server" "${binary[@]}" "$@"; }

fail() { echo "$*" >&2; exit 1; }

# holds demands that a key has what the file of its name has.
holds() { tool cat "$1" --file=got || fail "memccat $1 finds nothing"; cmp -s got "$1" || fail "memccat $1 finds something else"; }

seq 1 40000 > "${prefix}kept"
tool cp "${prefix}kept"
memccp --version | sed 's/.*(\(.*\)).*/\1/; s/ v/ /'
round=0
while read -r; do
	round=$((round + 1))
	holds "${prefix}kept"
	seq "$round" 1000 $((round + 100000)) > "${prefix}few"
	head -c 1000000 /dev/zero | tr '\0' "$((round % 10))" > "${prefix}big"
	tool cp "${prefix}few" "${prefix}big"
	holds "${prefix}few"
	holds "${prefix}big"
	tool exist "${prefix}few" || fail "memcexist does not find what is there"
	tool touch --expire=1000 "${prefix}few" || fail "memctouch does not find what is there"
	tool rm "${prefix}few" || fail "memcrm does not find what is there"
	! tool exist "${prefix}few" 2>/dev/null || fail "memcexist finds what was removed"
	tests=(get set mget)
	test=${tests[round % 3]}
	# Its exit status is 0 whatever happens.
	said=$(tool slap --test="$test" --concurrency=2 --execute-number=100 2>&1)
	grep -q "Time to $test *200 keys" <<< "$said" && ! grep -qi error <<< "$said" || fail "memcslap: $said"
	echo "done $round"
done
