// Package clients has the client libraries that people use do their everyday work through
// the proxy, in the language of each, while nodes are killed and come back. What each does
// is in the file with its name; the test here starts them all, asks each for one round
// after another, and kills the nodes meanwhile.
package clients
