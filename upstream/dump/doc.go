// Package dump tells which keys a node holds, by memcached's own list of them: the
// answer to "lru_crawler metadump".
//
//	node ──▶ Crawl ──▶ Parser ──▶ func(Entry) ──▶ Hottest, Sample
//
// Parser reads the list, Crawl fetches it, and Hottest keeps the hottest keys of it in
// bounded memory, pass after pass, until all have had their turn; Sample keeps some keys
// of several lists. All but Crawl do no I/O, know no clock and belong to one goroutine;
// Crawl runs on its caller's, and blocks. The package imports std, codec/text and dial.
//
// # What the list is worth
//
// There are two walks (crawler.c). "metadump all" follows the LRU lists, in which items
// move while it does. On a busy node it leaves out one key in ten and names as many
// twice, and it passes by whatever a request holds at that moment; the next list leaves
// out others. "metadump hash", since 1.6.9, goes through the hash table and holds the lock
// of a bucket while it names what is there. It names every item once that is there from
// beginning to end, so Crawl asks for that. Items about to expire are listed; expired and
// flushed ones are not. There is no order in the list.
//
// # What a node suffers by it
//
// One list is made at a time; whoever asks for another hears BUSY, as does one who asks
// while the node looks for expired items. The list is made as fast as it is taken, at up
// to a million keys a second, and it is its reader's duty to take it without delay, and to
// its end:
//
//   - While the node waits for its reader, the thread of it that is asked for another
//     list stands still, with all of its clients.
//   - Before 1.6.19 the lock of the bucket is held while the node waits for its reader.
//     Once the sockets are full, a reader that stands still makes all of the node stand
//     still.
//   - From 1.6.19 to 1.6.43 a reader that takes nothing for a second may make the node
//     write past the end of a buffer.
//   - Before 1.6.26 a reader that hangs up while the last of the list is written may make
//     the node crash.
package dump
