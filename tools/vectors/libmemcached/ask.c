/*
 * Asks libmemcached where keys go. Reads questions, one a line:
 *   key <hex>                                        remember a key
 *   hash <name>                                      hash every key
 *   place ketama|modula <hash> <pool> host:port:weight ...   place every key
 * and writes the vectors in the format of tools/vectors. Weighted ketama is
 * asked for always, and the key hash set after it, since it sets md5.
 */
#include <libmemcached/memcached.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static struct { char bytes[256]; size_t len; } keys[128];
static int nkeys;

static void die(const char *what, const char *which) {
	fprintf(stderr, "ask: %s: %s\n", what, which);
	exit(1);
}

static void add_key(const char *hex) {
	unsigned byte;
	if (nkeys == 128) die("too many keys", hex);
	for (; sscanf(hex, "%2x", &byte) == 1; hex += 2)
		keys[nkeys].bytes[keys[nkeys].len++] = (char)byte;
	nkeys++;
}

static memcached_hash_t hash_named(const char *name) {
	for (int h = MEMCACHED_HASH_DEFAULT; h < MEMCACHED_HASH_CUSTOM; h++)
		if (!strcasecmp(name, libmemcached_string_hash(h))) return h;
	die("unknown hash", name);
	return MEMCACHED_HASH_MAX;
}

static void print_hashes(const char *name) {
	memcached_hash_t h = hash_named(name);
	printf("hash %s", name);
	for (int i = 0; i < nkeys; i++)
		printf(" %08x", memcached_generate_hash_value(keys[i].bytes, keys[i].len, h));
	printf("\n");
}

static void set(memcached_st *m, memcached_behavior_t b, uint64_t v) {
	if (memcached_behavior_set(m, b, v) != MEMCACHED_SUCCESS)
		die("behavior refused", memcached_last_error_message(m));
}

/* The servers are what is left of the line that main is cutting with strtok. */
static void print_places(const char *dist, const char *hash, const char *pool) {
	memcached_st *m = memcached_create(NULL);
	if (!strcmp(dist, "ketama")) set(m, MEMCACHED_BEHAVIOR_KETAMA_WEIGHTED, 1);
	else set(m, MEMCACHED_BEHAVIOR_DISTRIBUTION, MEMCACHED_DISTRIBUTION_MODULA);
	set(m, MEMCACHED_BEHAVIOR_HASH, hash_named(hash));
	for (char *s; (s = strtok(NULL, " "));) {
		char host[64];
		unsigned port, weight;
		if (sscanf(s, "%63[^:]:%u:%u", host, &port, &weight) != 3) die("not host:port:weight", s);
		if (memcached_server_add_with_weight(m, host, port, weight) != MEMCACHED_SUCCESS) die("server refused", s);
	}
	printf("place %s %s - %s ", dist, hash, pool);
	for (int i = 0; i < nkeys; i++)
		putchar("0123456789abcdefghijklmnopqrstuvwxyz"[memcached_generate_hash(m, keys[i].bytes, keys[i].len)]);
	printf("\n");
	memcached_free(m);
}

int main(void) {
	static char line[4096];
	while (fgets(line, sizeof line, stdin)) {
		line[strcspn(line, "\n")] = 0;
		char *verb = strtok(line, " "), *a = strtok(NULL, " ");
		if (!a) die("not a question", line);
		if (!strcmp(verb, "key")) add_key(a);
		else if (!strcmp(verb, "hash")) print_hashes(a);
		else {
			char *hash = strtok(NULL, " "), *pool = strtok(NULL, " ");
			print_places(a, hash, pool);
		}
	}
	return 0;
}
