"""The everyday work of pylibmc: HOST PORT PREFIX text|binary."""

import sys

import pylibmc

from work import big, kept, same, serve

host, port, prefix, protocol = sys.argv[1:]


def client():
    behaviors = {"cas": True, "tcp_nodelay": True, "receive_timeout": 20_000_000, "send_timeout": 20_000_000}
    return pylibmc.Client([f"{host}:{port}"], binary=protocol == "binary", behaviors=behaviors)


a, b = client(), client()
keep = kept(prefix)


def begin():
    same(a.set_multi(keep), [], "set_multi")
    same(a.set(prefix + "count", 1000), True, "set")
    same(a.set(prefix + "cas", [0]), True, "set")


def work(round):
    global a
    same(a.get_multi(list(keep)), keep, "get_multi")
    stores(round)
    counts(round)
    races(round)
    same(a.set(prefix + "big", big(round)), True, "set of a big value")
    same(b.get(prefix + "big"), big(round), "a big value")
    a.disconnect_all()
    if round % 4 == 0:
        a = client()


def stores(round):
    key, lock = prefix + "key", prefix + "lock"
    same(a.set(key, f"round {round}"), True, "set")
    same(b.get(key), f"round {round}", "get")
    same(a.append(key, "!"), True, "append")
    same(a.prepend(key, "<"), True, "prepend")
    same(b.get(key), f"<round {round}!", "what was appended to")
    same(a.touch(key, 1000), True, "touch")
    several = {f"{prefix}few{i}": [round, i] for i in range(10)}
    same(a.set_multi(several), [], "set_multi")
    same(b.get_multi(list(several) + [prefix + "none"]), several, "get_multi")
    same(a.delete_multi(list(several)), True, "delete_multi")
    same(b.get_multi(list(several)), {}, "what was deleted")
    same(a.add(lock, "mine", time=60), True, "add")
    same(a.add(lock, "yours", time=60), False, "add of what is there")
    same(a.replace(lock, {"still": "mine"}), True, "replace")
    same(a.get(lock), {"still": "mine"}, "what replaced it")
    same(a.delete(lock), True, "delete")
    same(a.delete(lock), False, "delete of what is gone")
    same(a.get(lock), None, "what was deleted")


def counts(round):
    same(a.incr(prefix + "count", 3), 1000 + 2 * (round - 1) + 3, "incr")
    same(b.decr(prefix + "count", 1), 1000 + 2 * round, "decr")


def races(round):
    key = prefix + "cas"
    value, token = a.gets(key)
    same(value, [2 * (round - 1)], "gets")
    same(b.set(key, [2 * round - 1]), True, "set")
    same(a.cas(key, "lost", token), False, "cas of a version that is past")
    tries = 0
    stored = False
    while not stored:
        value, token = a.gets(key)
        same(value, [2 * round - 1], "gets")
        stored = a.cas(key, [2 * round], token)
        tries += 1
        same(tries < 10, True, "cas succeeds at last")


serve(f"pylibmc {pylibmc.__version__}", begin, work)
