<?php
// The everyday work of PHP's extension memcached: HOST PORT PREFIX text|binary.
//
// The test writes a line for each round that it wants and reads one when it is done. It is
// answered on STDOUT itself: what goes through PHP's output would count as the headers of a
// page, behind which no session begins.

declare(strict_types=1);

const KEPT = 100;
const BIG = 1000000;

[, $host, $port, $prefix, $protocol] = $argv;

function fail(string $what): never
{
    fwrite(STDERR, "$what\n");
    exit(1);
}

set_error_handler(fn (int $level, string $what) => fail("PHP warns: $what"));

function same(mixed $got, mixed $want, string $what): void
{
    global $a;
    if ($got !== $want) {
        fail("$what: " . substr(var_export($got, true), 0, 200) . ', want ' . substr(var_export($want, true), 0, 200)
            . '; the client says: ' . $a->getResultMessage() . ' ' . $a->getLastErrorMessage());
    }
}

function client(): Memcached
{
    global $host, $port, $protocol;
    $c = new Memcached();
    $c->setOptions([
        Memcached::OPT_BINARY_PROTOCOL => $protocol === 'binary',
        Memcached::OPT_TCP_NODELAY => true,
        Memcached::OPT_COMPRESSION => false, // what is appended to must not be
        Memcached::OPT_CONNECT_TIMEOUT => 20000,
        Memcached::OPT_POLL_TIMEOUT => 20000,
    ]);
    $c->addServer($host, (int) $port);
    return $c;
}

function big(int $round): string
{
    mt_srand($round);
    $block = '';
    for ($i = 0; $i < 1000; $i++) {
        $block .= pack('V', mt_rand());
    }
    return substr(str_repeat($block, intdiv(BIG, 4000) + 1), 0, BIG);
}

function stores(int $round): void
{
    global $a, $b, $prefix;
    $key = $prefix . 'key';
    $lock = $prefix . 'lock';
    same($a->set($key, "round $round"), true, 'set');
    same($b->get($key), "round $round", 'get');
    same($a->append($key, '!'), true, 'append');
    same($a->prepend($key, '<'), true, 'prepend');
    same($b->get($key), "<round $round!", 'what was appended to');
    same($a->touch($key, 1000), true, 'touch');
    same($a->set($key, ['round' => $round, 'of' => 1.5]), true, 'set of an array');
    same($b->get($key), ['round' => $round, 'of' => 1.5], 'an array');
    same($a->add($lock, 'mine', 60), true, 'add');
    same($a->add($lock, 'yours', 60), false, 'add of what is there');
    same($a->replace($lock, 'still mine'), true, 'replace');
    same($a->delete($lock), true, 'delete');
    same($a->delete($lock), false, 'delete of what is gone');
    same($b->get($lock), false, 'what was deleted');
    same($b->getResultCode(), Memcached::RES_NOTFOUND, 'why it is not there');
}

function manies(array $keep): void
{
    global $a, $b, $prefix;
    same($a->getMulti(array_keys($keep)), $keep, 'getMulti');
    same($a->getDelayed(array_keys($keep), true), true, 'getDelayed');
    $found = [];
    while ($item = $a->fetch()) {
        $found[$item['key']] = $item['value'];
    }
    same(count($found), count($keep), 'how many getDelayed finds');
    ksort($found);
    ksort($keep);
    same($found, $keep, 'what getDelayed finds');
    $few = [$prefix . 'few1' => 'one', $prefix . 'few2' => [2]];
    same($a->setMulti($few), true, 'setMulti');
    same($b->getMulti(array_keys($few)), $few, 'what setMulti has set');
    same(array_unique(array_values($a->deleteMulti(array_keys($few)))), [true], 'deleteMulti');
    same($b->getMulti(array_keys($few)), [], 'what deleteMulti has deleted');
}

function counts(int $round): void
{
    global $a, $b, $prefix, $protocol;
    same($a->increment($prefix . 'count', 3), 1000 + 2 * ($round - 1) + 3, 'increment');
    same($b->decrement($prefix . 'count', 1), 1000 + 2 * $round, 'decrement');
    if ($protocol === 'binary') { // only there an initial value can be told
        same($a->increment($prefix . 'made', 1, 5), 4 + $round, 'increment with an initial value');
    }
}

function races(int $round): void
{
    global $a, $b, $prefix;
    $key = $prefix . 'cas';
    $seen = $a->get($key, null, Memcached::GET_EXTENDED);
    same($seen['value'], 2 * ($round - 1), 'get with its version');
    same($b->set($key, 2 * $round - 1), true, 'set');
    same($a->cas($seen['cas'], $key, 'lost'), false, 'cas of a version that is past');
    same($a->getResultCode(), Memcached::RES_DATA_EXISTS, 'why it failed');
    for ($tries = 0; $tries < 10; $tries++) {
        $seen = $a->get($key, null, Memcached::GET_EXTENDED);
        same($seen['value'], 2 * $round - 1, 'get with its version');
        if ($a->cas($seen['cas'], $key, 2 * $round)) {
            return;
        }
    }
    fail('cas never succeeds');
}

// sessions is what pages of a site do: each begins the visitor's session, which is locked
// meanwhile, and leaves it with more in it.
function sessions(int $round): void
{
    global $prefix;
    session_id($prefix . 'visitor');
    session_start();
    same($_SESSION['pages'] ?? 0, $round - 1, 'pages that the session has seen');
    $_SESSION['pages'] = $round;
    $_SESSION['cart'][] = "article $round";
    session_write_close();
    $_SESSION = [];
    session_start();
    same($_SESSION['pages'], $round, 'pages, one page later');
    same(count($_SESSION['cart']), $round, 'what is in the cart');
    session_write_close();
    session_id($prefix . 'guest' . $round);
    session_start();
    same($_SESSION, [], 'a new session');
    $_SESSION['user'] = $round;
    session_regenerate_id(true);
    session_write_close();
    session_start();
    same($_SESSION, ['user' => $round], 'a session that was given another name');
    session_destroy();
}

ini_set('session.save_handler', 'memcached');
ini_set('session.save_path', "$host:$port");
ini_set('session.use_cookies', '0');
ini_set('session.use_strict_mode', '0');
ini_set('session.cache_limiter', '');
ini_set('memcached.sess_binary_protocol', $protocol === 'binary' ? '1' : '0');
ini_set('memcached.sess_locking', '1');

$a = client();
$b = client();
$keep = [];
for ($i = 0; $i < KEPT; $i++) {
    $keep[$prefix . "kept$i"] = str_repeat("value $i ", $i + 1);
}
same($a->setMulti($keep), true, 'setMulti');
same($a->set($prefix . 'count', 1000), true, 'set');
same($a->set($prefix . 'cas', 0), true, 'set');
fwrite(STDOUT, 'php ' . PHP_VERSION . ', memcached ' . phpversion('memcached') . "\n");
for ($round = 1; fgets(STDIN) !== false; $round++) {
    manies($keep);
    stores($round);
    counts($round);
    races($round);
    sessions($round);
    same($a->set($prefix . 'big', big($round)), true, 'set of a big value');
    same($b->get($prefix . 'big') === big($round), true, 'a big value is the same');
    $a->quit(); // the next command connects again
    if ($round % 4 === 0) {
        $b = client();
    }
    fwrite(STDOUT, "done $round\n");
}
