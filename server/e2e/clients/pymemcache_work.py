"""The everyday work of pymemcache: HOST PORT PREFIX."""

import sys

import pymemcache
from pymemcache.client.base import Client, PooledClient

from work import big, kept, same, serve

host, port, prefix = sys.argv[1], int(sys.argv[2]), sys.argv[3]
options = dict(connect_timeout=20, timeout=20, no_delay=True, encoding="utf-8")
a = Client((host, port), default_noreply=False, **options)
b = PooledClient((host, port), max_pool_size=2, **options)  # it says noreply
keep = {k: v.encode() for k, v in kept(prefix).items()}


def begin():
    same(a.set_many(keep), [], "set_many")
    same(a.set(prefix + "count", "1000"), True, "set")
    same(a.set(prefix + "cas", "0"), True, "set")


def work(round):
    same(a.get_many(keep), keep, "get_many")
    stores(round)
    counts(round)
    races(round)
    same(a.set(prefix + "big", big(round)), True, "set of a big value")
    same(b.get(prefix + "big"), big(round), "a big value")
    a.close()  # the next command connects again


def stores(round):
    key, lock = prefix + "key", prefix + "lock"
    b.set(key, f"round {round}")  # its answer is not waited for; the next of the pool is behind it
    same(b.get(key), b"round %d" % round, "what was set with noreply")
    same(a.append(key, "!"), True, "append")
    same(a.prepend(key, "<"), True, "prepend")
    same(a.get(key), b"<round %d!" % round, "what was appended to")
    same(a.touch(key, 1000), True, "touch")
    same(a.gets_many([key])[key][0], b"<round %d!" % round, "what was touched")
    same(a.add(lock, "mine", expire=60), True, "add")
    same(a.add(lock, "yours", expire=60), False, "add of what is there")
    same(a.replace(lock, "still mine"), True, "replace")
    same(a.delete(lock), True, "delete")
    same(a.delete(lock), False, "delete of what is gone")
    same(a.get(lock), None, "what was deleted")
    same(a.replace(lock, "nobody's"), False, "replace of what is gone")


def counts(round):
    same(a.incr(prefix + "count", 3), 1000 + 2 * (round - 1) + 3, "incr")
    same(a.decr(prefix + "count", 1), 1000 + 2 * round, "decr")


def races(round):
    key = prefix + "cas"
    value, token = a.gets(key)
    same(value, b"%d" % (2 * (round - 1)), "gets")
    b.set(key, str(2 * round - 1), noreply=False)
    same(a.cas(key, "lost", token), False, "cas of a version that is past")
    tries = 0
    stored = False
    while not stored:
        value, token = a.gets(key)
        same(value, b"%d" % (2 * round - 1), "gets")
        stored = a.cas(key, str(2 * round), token)
        tries += 1
        same(tries < 10, True, "cas succeeds at last")


serve("pymemcache " + pymemcache.__version__, begin, work)
